"""What the C library keeps of memory that was freed, and when Python looks for what it can free."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_M_ARENA_MAX = -8  # of glibc's malloc.h
_ARENAS = 2


def share_arenas() -> None:
    """Let all threads of this process share two arenas of glibc's malloc; elsewhere nothing happens.

    By default up to eight a core are made, one for each pool thread, and each keeps what its largest request freed:
    85 MB of a server with one network. Call before threads are started.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    mallopt(_M_ARENA_MAX, _ARENAS)


@contextmanager
def imports_uncollected() -> Iterator[None]:
    """No garbage collection inside the block, and none ever of what the block leaves behind.

    Modules live as long as the process: going through torch's objects time and again, while the server's own modules
    are made, is .8 s of its start.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
