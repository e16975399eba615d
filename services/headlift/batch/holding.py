"""One run at a time works on a place: two would do every item twice and write each other's tables over."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from headlift.batch.places import Place
from headlift.errors import ConflictError, HeadliftError, NotFoundError

_NAME = "driver.json"
_BEAT_S = 10.0
_DEAD_S = 45.0  # without a beat; longer than a slow S3 takes


@contextmanager
def held(out: Place, *, beat_s: float = _BEAT_S, dead_s: float = _DEAD_S) -> Iterator[None]:
    """Hold a place for this process as long as the block.

    A note there is written anew every ``beat_s``. A run that was killed leaves its note; on the same machine the next
    run sees that its process is gone, from another one it waits until the note is ``dead_s`` old.

    Raises:
        ConflictError: Another run holds it.
        StoreError: The place cannot be read or written.
    """
    token = secrets.token_hex(8)
    _refuse_if_held(out, dead_s)
    _write(out, token)
    if _read(out).get("token") != token:  # two began at once, and the other came last
        _refuse_if_held(out, dead_s)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(beat_s):
            with suppress(HeadliftError):  # a place that fails shows in the run itself
                _write(out, token)

    thread = threading.Thread(target=beat, name="holding", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with suppress(HeadliftError):
            if _read(out).get("token") == token:
                out.delete(_NAME)


def _write(out: Place, token: str) -> None:
    own = psutil.Process()
    note = {
        "token": token, "host": socket.gethostname(), "pid": own.pid, "began": own.create_time(), "beat": time.time(),
    }  # fmt: skip
    out.write(_NAME, json.dumps(note).encode())


def _read(out: Place) -> dict[str, Any]:
    """The note; empty where there is none, or it is not ours to read."""
    try:
        note = json.loads(out.read(_NAME))
    except (NotFoundError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _refuse_if_held(out: Place, dead_s: float) -> None:
    note = _read(out)
    quiet_s = time.time() - float(note.get("beat", 0.0))
    if quiet_s > dead_s or _is_gone(note):
        return
    raise ConflictError(
        f"Another run works on this place (process {note['pid']} on {note['host']}, {max(quiet_s, 0.0):.0f} s ago); "
        f"wait for its end, or {dead_s:.0f} s after it was killed.",
        reason="BATCH_RUNNING",
        field="out",
    )


def _is_gone(note: dict[str, Any]) -> bool:
    """Whether the process that wrote a note has ended, as far as can be seen from here."""
    if note.get("host") != socket.gethostname():
        return False
    try:
        # Containers number their processes alike in every life; the time of birth tells them apart.
        return bool(abs(psutil.Process(int(note["pid"])).create_time() - float(note["began"])) > 1.0)
    except psutil.Error:
        return True
