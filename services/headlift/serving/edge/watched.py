"""Files that are read again when they change, so that keys and certificates turn over without a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from headlift.errors import HeadliftError, InvalidInputError

T = TypeVar("T")
_log = logging.getLogger(__name__)
LOOK_EVERY_S = 1.0


class Watched(Generic[T]):
    """What some files say. Thread-safe.

    The files are looked at when their value is asked for, at most once a second. What cannot be read later (half of a
    new pair of key and certificate, say) changes nothing but the log: what was read before goes on to hold.
    """

    def __init__(
        self, paths: Sequence[Path], parse: Callable[..., T], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read ``paths``; ``parse`` takes their contents and raises InvalidInputError.

        Raises:
            InvalidInputError: A file is missing, cannot be read or makes no sense.
        """
        self._paths = tuple(paths)
        self._parse = parse
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at = clock()
        self._seen = self._stamp()
        self._value = self._read()

    @property
    def value(self) -> T:
        """The latest that could be read."""
        with self._lock:
            if self._clock() - self._looked_at >= LOOK_EVERY_S:
                self._looked_at = self._clock()
                self._look()
            return self._value

    def _look(self) -> None:
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._value = self._read()
        except HeadliftError as error:
            _log.error("kept what was read before: %s", error.message)
        else:
            _log.info("read %s again", ", ".join(p.name for p in self._paths))

    def _stamp(self) -> tuple[tuple[int, ...] | None, ...]:
        return tuple(map(_stamp, self._paths))

    def _read(self) -> T:
        return self._parse(*(read(p) for p in self._paths))


def read(path: Path) -> bytes:
    """A file's bytes. InvalidInputError: it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.", reason="NO_FILE") from None


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
