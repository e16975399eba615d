"""One run at a time works on a place, and a dead run locks nothing."""

import json
import subprocess
import sys
import threading
import time

import psutil
import pytest

from headlift.batch.lock import exclusive_lock
from headlift.batch.places import Folder
from headlift.errors import ConflictError


def lock_file(**changes):
    own = psutil.Process()
    return json.dumps(
        {"host": "elsewhere", "pid": own.pid, "began": own.create_time(), "beat": time.time()} | changes
    ).encode()


@pytest.fixture
def place(tmp_path):
    return Folder(tmp_path)


def test_a_second_run_is_refused_until_the_first_has_ended(place):
    with exclusive_lock(place):
        with pytest.raises(ConflictError, match="Another run") as caught, exclusive_lock(place):
            pytest.fail("two at once")
        assert caught.value.reason == "BATCH_RUNNING"
    with exclusive_lock(place):
        assert len(list(place.names("drivers"))) == 1
    assert not list(place.names())


def test_a_run_that_failed_locks_nothing(place):
    with pytest.raises(RuntimeError), exclusive_lock(place):
        raise RuntimeError
    assert not list(place.names())


def test_a_run_of_another_machine_locks_a_place_while_its_heartbeat_goes_on(place):
    place.write("drivers/one.json", lock_file())
    with pytest.raises(ConflictError, match="elsewhere"), exclusive_lock(place):
        pass
    place.write("drivers/one.json", lock_file(beat=time.time() - 100))
    with exclusive_lock(place):
        pass


def test_a_killed_run_of_this_machine_locks_nothing(place):
    code = (
        "import sys, time; from pathlib import Path; from headlift.batch.lock import exclusive_lock\n"
        "from headlift.batch.places import Folder\n"
        "with exclusive_lock(Folder(Path(sys.argv[1]))): print('locked', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(place.uri)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(ConflictError), exclusive_lock(place):
            pass
        other.kill()
    with exclusive_lock(place):
        pass


def test_the_heartbeat_goes_on(place):
    def heartbeat():
        (own,) = place.names("drivers")
        return json.loads(place.read(own))["beat"]

    with exclusive_lock(place, heartbeat_s=0.02):
        first, until = heartbeat(), time.monotonic() + 10
        while heartbeat() == first:
            assert time.monotonic() < until


def test_of_two_that_begin_at_once_never_both_go_on(place):
    start, over = threading.Barrier(2), threading.Barrier(2)
    went_on = []

    def begin(who):
        start.wait()
        try:
            with exclusive_lock(place):
                went_on.append(who)
                over.wait()
        except ConflictError:
            over.wait()

    for _ in range(20):
        threads = [threading.Thread(target=begin, args=(who,)) for who in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(went_on) <= 1
        went_on.clear()
        assert not list(place.names("drivers"))


@pytest.mark.parametrize("damaged", [b"", b"[]", b"{}", b'{"host": 3}'])
def test_a_damaged_lock_file_locks_nothing(place, damaged):
    place.write("drivers/one.json", damaged)
    with exclusive_lock(place):
        pass
