"""Blobs as files, for the embedded server.

A blob is written beside its place and moved into it, so that a reader, another writer or a power cut never sees
half of one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from headlift.errors import StoreError, StoreFullError
from headlift.store.blobs import Durability, Entry, OnAccess, check_key, ignore_access, kind_of

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TEMPORARY = ".writing"  # a leading dot: no key can have this name
_RETRIES = 8  # of a write whose folder is pruned meanwhile; each lost race needs another delete in the same folder
_ABANDONED_S = 3600.0  # a blob takes seconds to write: what is older was left by a crash


class FileStore:
    """A BlobStore in one directory; safe with many threads and processes at once."""

    def __init__(self, root: Path, *, on_access: OnAccess = ignore_access) -> None:
        """Open, and make where it is missing. ``on_access``: see OnAccess; under a TieredStore leave that to it.

        Raises:
            StoreError: The directory cannot be made or written.
        """
        self._root, self._on_access = root, on_access
        self._temporary = root / _TEMPORARY
        try:
            self._temporary.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._sweep()
        except OSError as error:
            raise _failure("opened", error) from error

    def put(self, key: str, blob: bytes, *, durability: Durability = Durability.DURABLE) -> None:
        """See BlobStore.put; files are always durable."""
        path = self._path(key)
        temporary = None
        try:
            handle, temporary = tempfile.mkstemp(dir=self._temporary)
            with os.fdopen(handle, "wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
            self._move(temporary, path)
            temporary = None
            _sync_directory(path.parent)
            self._on_access("durable", kind_of(key), "written", len(blob))
        except OSError as error:
            raise _failure("written", error) from error
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)

    def get(self, key: str) -> bytes | None:
        """See BlobStore.get."""
        try:
            blob = self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            self._on_access("durable", kind_of(key), "miss", 0)
            return None
        except OSError as error:
            raise _failure("read", error) from error
        self._on_access("durable", kind_of(key), "hit", len(blob))
        return blob

    def get_again(self, key: str, damaged: bytes) -> bytes | None:
        """See BlobStore.get_again: the disk is asked once more."""
        self._on_access("durable", kind_of(key), "corrupt", len(damaged))
        blob = self.get(key)
        return blob if blob != damaged else None

    def exists(self, key: str) -> bool:
        """See BlobStore.exists."""
        return self._path(key).is_file()

    def delete(self, key: str) -> bool:
        """See BlobStore.delete; directories that become empty go too."""
        path = self._path(key)
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise _failure("deleted", error) from error
        self._prune(path.parent)
        return True

    def delete_all(self, prefix: str) -> int:
        """See BlobStore.delete_all."""
        return sum(self.delete(key) for key in list(self.list(prefix)))

    def list(self, prefix: str) -> Iterator[str]:
        """See BlobStore.list; what appears or goes meanwhile may or may not be named."""
        return (key for key, _ in self._walk(self._path(prefix), prefix))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See BlobStore.entries."""
        for key, file in self._walk(self._path(prefix), prefix):
            with contextlib.suppress(FileNotFoundError):
                yield Entry(key, file.stat().st_mtime)

    def _sweep(self) -> None:
        """Remove files that crashes left; young ones may be another process's."""
        for entry in os.scandir(self._temporary):
            with contextlib.suppress(FileNotFoundError):
                if entry.stat().st_mtime < time.time() - _ABANDONED_S:
                    os.unlink(entry.path)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _move(self, temporary: str, path: Path) -> None:
        """Move into place; a delete elsewhere may prune the directory between its making and the move."""
        for attempt in range(_RETRIES):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.replace(temporary, path)
            except (FileNotFoundError, FileExistsError):  # mkdir raises the latter where the folder is pruned meanwhile
                if attempt == _RETRIES - 1:
                    raise
            else:
                return

    def _prune(self, directory: Path) -> None:
        while directory != self._root:
            try:
                directory.rmdir()
            except OSError:  # not empty, or gone
                return
            directory = directory.parent

    def _walk(self, directory: Path, key: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        try:
            # "a-b/c" comes before "a/c" in the order of bytes: a folder counts with its slash.
            entries = sorted(os.scandir(directory), key=lambda e: e.name + "/" * e.is_dir(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _failure("listed", error) from error
        for entry in entries:
            name = f"{key}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path), name)
            else:
                yield name, entry


def _sync_directory(directory: Path) -> None:
    """Make a rename durable."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except FileNotFoundError:  # pruned by a delete that came after: nothing is left to make durable
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _failure(verb: str, error: OSError) -> StoreError:
    """An error for callers, without paths."""
    if error.errno in _FULL:
        return StoreFullError("The store has no space left; nothing was written. Delete heads or give it more space.")
    return StoreError(f"The store could not be {verb}: {os.strerror(error.errno or errno.EIO)}.")
