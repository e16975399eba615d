"""Few arenas: asked of the C library itself."""

import gc
import platform
import subprocess
import sys

import pytest

from headlift.serving.memory import imports_uncollected

_COUNT = """
import ctypes, tempfile, threading
from headlift.serving.memory import share_arenas
if {shared}:
    share_arenas()
libc, gate = ctypes.CDLL(None), threading.Barrier(9)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
def work():
    gate.wait()
    libc.malloc(5000)
    gate.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
gate.wait()
gate.wait()
with tempfile.NamedTemporaryFile() as file:
    stream = libc.fopen(file.name.encode(), b"w")
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(file.read().count(b"<heap nr="))
"""


def arenas(shared: bool) -> int:
    code = _COUNT.format(shared=shared)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc")
def test_threads_share_two_arenas() -> None:
    assert arenas(shared=False) > 2
    assert arenas(shared=True) == 2


def test_what_a_block_imports_is_never_gone_through_again() -> None:
    before = gc.get_freeze_count()
    with imports_uncollected():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]  # type: ignore[var-annotated]
    try:
        assert gc.isenabled()
        assert gc.get_freeze_count() - before >= len(kept)
    finally:
        gc.unfreeze()
