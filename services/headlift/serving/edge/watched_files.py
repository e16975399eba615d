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
CHECK_EVERY_S = 1.0


class WatchedFiles(Generic[T]):
    """The parsed contents of some files. Thread-safe.

    Files are checked when the value is asked for, at most once a second. A change that cannot be parsed (half of a new
    pair of key and certificate, say) is logged, and the value before it stays.
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
        self._checked_at = clock()
        self._loaded = self._stamp()
        self._value = self._read()

    @property
    def value(self) -> T:
        """The latest value that could be parsed."""
        with self._lock:
            if self._clock() - self._checked_at >= CHECK_EVERY_S:
                self._checked_at = self._clock()
                self._reload()
            return self._value

    def _reload(self) -> None:
        stamp = self._stamp()
        if stamp == self._loaded:
            return
        self._loaded = stamp
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
