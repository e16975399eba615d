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

_NOTES = "drivers"
_BEAT_S = 10.0
_DEAD_S = 45.0  # without a beat; longer than a slow S3 takes


@contextmanager
def held(out: Place, *, beat_s: float = _BEAT_S, dead_s: float = _DEAD_S) -> Iterator[None]:
    """Hold a place for this process as long as the block.

    Every run writes a note of its own, again every ``beat_s``, and only then looks for others: of two that begin at
    once at least one sees the other. A run that was killed leaves its note; on the same machine the next run sees that
    its process is gone, from another one it waits until the note is ``dead_s`` old.

    Raises:
        ConflictError: Another run holds it.
        StoreError: The place cannot be read or written.
    """
    own = f"{_NOTES}/{secrets.token_hex(8)}.json"
    over = threading.Event()

    def beat() -> None:
        while not over.wait(beat_s):
            with suppress(HeadliftError):  # a place that fails shows in the run itself
                _write(out, own)

    thread = threading.Thread(target=beat, name="holding", daemon=True)
    _write(out, own)
    try:
        _refuse_if_held(out, own, dead_s)
        thread.start()
        yield
    finally:
        over.set()
        if thread.is_alive():
            thread.join()
        with suppress(HeadliftError):
            out.delete(own)


def _write(out: Place, name: str) -> None:
    own = psutil.Process()
    note = {"host": socket.gethostname(), "pid": own.pid, "began": own.create_time(), "beat": time.time()}
    out.write(name, json.dumps(note).encode())


def _refuse_if_held(out: Place, own: str, dead_s: float) -> None:
    """Remove the notes of dead runs. ConflictError: one is alive."""
    for name in list(out.names(_NOTES)):
        if name == own:
            continue
        note = _read(out, name)
        quiet_s = time.time() - float(note.get("beat", 0.0))
        if quiet_s > dead_s or _is_gone(note):
            out.delete(name)
            continue
        raise ConflictError(
            f"Another run works on this place (process {note['pid']} on {note['host']}, {max(quiet_s, 0.0):.0f} s "
            f"ago); wait for its end, or {dead_s:.0f} s after it was killed.",
            reason="BATCH_RUNNING",
            field="out",
        )


def _read(out: Place, name: str) -> dict[str, Any]:
    """A note; empty where it has gone meanwhile, or is none."""
    try:
        note = json.loads(out.read(name))
    except (NotFoundError, ValueError):
        return {}
    return note if isinstance(note, dict) and note.keys() >= {"host", "pid", "began", "beat"} else {}


def _is_gone(note: dict[str, Any]) -> bool:
    """Whether the process that wrote a note has ended, as far as can be seen from here."""
    if note["host"] != socket.gethostname():
        return False
    try:
        # Containers number their processes alike in every life; the time of birth tells them apart.
        return bool(abs(psutil.Process(int(note["pid"])).create_time() - float(note["began"])) > 1.0)
    except psutil.Error:
        return True
