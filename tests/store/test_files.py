import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from headlift.errors import StoreError
from headlift.store.files import FileStore


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path / "store")


def test_what_was_put_is_got_listed_and_deleted(store):
    store.put("tenants/a/heads/h1/record", b"1")
    store.put("tenants/a/heads/h2/record", b"2")
    store.put("tenants/b/heads/h3/record", b"3")
    assert store.get("tenants/a/heads/h1/record") == b"1"
    assert list(store.list("tenants/a")) == ["tenants/a/heads/h1/record", "tenants/a/heads/h2/record"]
    assert store.delete("tenants/a/heads/h1/record")
    assert not store.delete("tenants/a/heads/h1/record")
    assert store.get("tenants/a/heads/h1/record") is None
    assert list(store.list("tenants/a")) == ["tenants/a/heads/h2/record"]


def test_a_deleted_blob_leaves_no_file_and_no_directory(store, tmp_path):
    store.put("tenants/a/heads/h1/record", b"1")
    store.delete("tenants/a/heads/h1/record")
    assert [p.name for p in (tmp_path / "store").rglob("*")] == [".writing"]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "..",
        "a/../b",
        "a//b",
        "/etc/passwd",
        "a/./b",
        "A",
        "a\\b",
        "a/",
        "a\0b",
        ".writing/x",
        "é",
        "a" * 200,
        "a\n",
    ],
)
def test_no_key_leaves_the_directory(store, key):
    for act in (store.get, store.exists, store.delete, lambda k: store.put(k, b""), lambda k: list(store.list(k))):
        with pytest.raises(StoreError) as caught:
            act(key)
        assert caught.value.reason == "BAD_KEY"


def test_a_directory_is_no_blob(store):
    store.put("a/b", b"1")
    assert store.get("a") is None
    assert not store.exists("a")
    assert store.get("a/b/c") is None


def test_readers_never_see_half_a_blob_while_writers_replace_it(store):
    blobs = [bytes([i]) * 200_000 for i in range(4)]
    store.put("k", blobs[0])
    stop, torn = threading.Event(), []

    def write(blob):
        while not stop.is_set():
            store.put("k", blob)

    def read():
        while not stop.is_set():
            got = store.get("k")
            if got not in blobs:
                torn.append(got)

    threads = [threading.Thread(target=write, args=(b,)) for b in blobs] + [threading.Thread(target=read)]
    for t in threads:
        t.start()
    threading.Event().wait(0.7)
    stop.set()
    for t in threads:
        t.join()
    assert not torn


def test_writers_and_deleters_of_neighbours_do_not_disturb_each_other(store):
    def churn(i):
        for _ in range(60):
            store.put(f"t/d/{i}", b"x")
            assert store.get(f"t/d/{i}") == b"x"
            assert store.delete(f"t/d/{i}")

    failures = []

    def guarded(i):
        try:
            churn(i)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_a_full_disk_refuses_and_leaves_the_old_blob_and_nothing_else(tmp_path):
    # A real limit of the system on file size stands for the full disk: write() fails half way through.
    script = """
import resource, signal, sys
from pathlib import Path
from headlift.errors import StoreFullError
from headlift.store.files import FileStore
store = FileStore(Path(sys.argv[1]))
store.put("t/blob", b"old")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.put("t/blob", bytes(1_000_000))
except StoreFullError as error:
    assert sys.argv[1] not in error.message
else:
    sys.exit("not refused")
assert store.get("t/blob") == b"old"
assert sorted(p.name for p in Path(sys.argv[1]).rglob("*")) == [".writing", "blob", "t"]
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "s")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_crash_while_writing_leaves_no_partial_blob(tmp_path):
    script = """
import os, sys
from pathlib import Path
from headlift.store.files import FileStore
store = FileStore(Path(sys.argv[1]))
store.put("t/blob", b"old")
os.fsync = lambda handle: os._exit(9)  # the power goes before the data is safe
store.put("t/blob", b"new")
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "s")], check=False)
    assert done.returncode == 9
    assert FileStore(tmp_path / "s").get("t/blob") == b"old"


def test_what_a_crash_left_half_written_is_removed_once_it_is_old(tmp_path):
    store = FileStore(tmp_path / "s")
    for name, age_s in (("old", 7200), ("young", 10)):
        path = tmp_path / "s" / ".writing" / name
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age_s,) * 2)
    store = FileStore(tmp_path / "s")
    assert [p.name for p in (tmp_path / "s" / ".writing").iterdir()] == ["young"]
    assert list(store.list("tenants")) == []


@pytest.mark.skipif(os.getuid() == 0 and not Path("/proc/version").exists(), reason="needs /proc")
def test_a_place_that_cannot_be_written_is_a_store_error_without_a_path():
    with pytest.raises(StoreError) as caught:
        FileStore(Path("/proc/headlift"))
    assert "/proc" not in caught.value.message
