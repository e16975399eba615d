"""One run at a time works on a place, and a dead run holds nothing."""

import json
import subprocess
import sys
import threading
import time

import psutil
import pytest

from headlift.batch.holding import held
from headlift.batch.places import Folder
from headlift.errors import ConflictError


def note(**changes):
    own = psutil.Process()
    return json.dumps(
        {"host": "elsewhere", "pid": own.pid, "began": own.create_time(), "beat": time.time()} | changes
    ).encode()


@pytest.fixture
def place(tmp_path):
    return Folder(tmp_path)


def test_a_second_run_is_refused_until_the_first_has_ended(place):
    with held(place):
        with pytest.raises(ConflictError, match="Another run") as caught, held(place):
            pytest.fail("two at once")
        assert caught.value.reason == "BATCH_RUNNING"
    with held(place):
        assert len(list(place.names("drivers"))) == 1
    assert not list(place.names())


def test_a_run_that_failed_holds_nothing(place):
    with pytest.raises(RuntimeError), held(place):
        raise RuntimeError
    assert not list(place.names())


def test_a_run_of_another_machine_holds_a_place_while_it_beats(place):
    place.write("drivers/one.json", note())
    with pytest.raises(ConflictError, match="elsewhere"), held(place):
        pass
    place.write("drivers/one.json", note(beat=time.time() - 100))
    with held(place):
        pass


def test_a_killed_run_of_this_machine_holds_nothing(place):
    code = (
        "import sys, time; from pathlib import Path; from headlift.batch.holding import held\n"
        "from headlift.batch.places import Folder\n"
        "with held(Folder(Path(sys.argv[1]))): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(place.uri)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConflictError), held(place):
            pass
        other.kill()
    with held(place):
        pass


def test_it_goes_on_beating(place):
    def beat():
        (own,) = place.names("drivers")
        return json.loads(place.read(own))["beat"]

    with held(place, beat_s=0.02):
        first, until = beat(), time.monotonic() + 10
        while beat() == first:
            assert time.monotonic() < until


def test_of_two_that_begin_at_once_never_both_go_on(place):
    start, over = threading.Barrier(2), threading.Barrier(2)
    went_on = []

    def begin(who):
        start.wait()
        try:
            with held(place):
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
def test_a_damaged_note_holds_nothing(place, damaged):
    place.write("drivers/one.json", damaged)
    with held(place):
        pass
