"""A lock on a batch's output: two runs at once would do every item twice and overwrite each other's tables."""

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

_LOCK_FILES = "drivers"
_HEARTBEAT_S = 10.0
_EXPIRY_S = 45.0  # without a heartbeat; longer than a slow S3 takes


@contextmanager
def exclusive_lock(out: Place, *, heartbeat_s: float = _HEARTBEAT_S, expiry_s: float = _EXPIRY_S) -> Iterator[None]:
    """Lock a place for this process as long as the block.

    Every run writes a lock file of its own, again every ``heartbeat_s``, and only then looks for others: of two that
    begin at once at least one sees the other. A run that was killed leaves its file; on the same machine the next run
    sees that its process is gone, from another one it waits until the file is ``expiry_s`` old. Redis is not needed,
    unlike for the leases of ``headlift.store``.

    Raises:
        ConflictError: Another run has the lock.
        StoreError: The place cannot be read or written.
    """
    own = f"{_LOCK_FILES}/{secrets.token_hex(8)}.json"
    released = threading.Event()

    def heartbeat() -> None:
        while not released.wait(heartbeat_s):
            with suppress(HeadliftError):  # a place that fails shows in the run itself
                _write_lock_file(out, own)

    thread = threading.Thread(target=heartbeat, name="batch-lock", daemon=True)
    _write_lock_file(out, own)
    try:
        _refuse_if_locked(out, own, expiry_s)
        thread.start()
        yield
    finally:
        released.set()
        if thread.is_alive():
            thread.join()
        with suppress(HeadliftError):
            out.delete(own)


def _write_lock_file(out: Place, name: str) -> None:
    own = psutil.Process()
    content = {"host": socket.gethostname(), "pid": own.pid, "began": own.create_time(), "beat": time.time()}
    out.write(name, json.dumps(content).encode())


def _refuse_if_locked(out: Place, own: str, expiry_s: float) -> None:
    """Remove the lock files of dead runs. ConflictError: one is alive."""
    for name in list(out.names(_LOCK_FILES)):
        if name == own:
            continue
        holder = _read_lock_file(out, name)
        age_s = time.time() - float(holder.get("beat", 0.0))
        if age_s > expiry_s or _is_dead(holder):
            out.delete(name)
            continue
        raise ConflictError(
            f"Another run works on this place (process {holder['pid']} on {holder['host']}, {max(age_s, 0.0):.0f} s "
            f"ago); wait for its end, or {expiry_s:.0f} s after it was killed.",
            reason="BATCH_RUNNING",
            field="out",
        )


def _read_lock_file(out: Place, name: str) -> dict[str, Any]:
    """Empty where the file has gone meanwhile, or is none of ours."""
    try:
        content = json.loads(out.read(name))
    except (NotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) and content.keys() >= {"host", "pid", "began", "beat"} else {}


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the process that wrote a lock file has ended, as far as can be seen from here."""
    if holder["host"] != socket.gethostname():
        return False
    try:
        # Containers number their processes alike in every life; the time of birth tells them apart.
        return bool(abs(psutil.Process(int(holder["pid"])).create_time() - float(holder["began"])) > 1.0)
    except psutil.Error:
        return True
