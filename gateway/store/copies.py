"""Copies of remote objects in a folder that the processes of a machine share, bounded in bytes. Everything blocks.

A copy has the name of its object and is renamed into place when it is complete. Whoever reads one keeps it open: to
remove it then does no harm. The time of a file's modification says when it was last used.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.store.objects import checked_key

#: Folders beside those of the days: downloads under way, and marks of deletions, so that none of those is kept then.
_INCOMING, _GONE = "incoming", "gone"
_MARK_KEPT_S = 3600.0
#: Room that is made at a time, as a share of all: looking through 4 GiB of CT takes 50 ms.
_SHARE = 16


class Copies:
    """The copies below `root`."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._added = 0

    def prepare(self) -> None:
        """Make the folder, and remove what dead processes left and what is too much."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (_INCOMING, _GONE):
            (self._root / name).mkdir(mode=0o700, exist_ok=True)
        self.trim()

    def begin(self, key: str) -> Incoming:
        """Begin to write a copy."""
        return Incoming(self._path(key), self._root / _INCOMING / secrets.token_hex(16))

    def add(self, incoming: Incoming) -> None:
        """Keep a complete copy, unless its object was deleted meanwhile; make room for others now and then."""
        incoming.place()
        if self._mark(incoming.target).exists():  # set before the copy was looked for
            incoming.target.unlink(missing_ok=True)
        self._added += incoming.size
        if self._added > self._max_bytes // _SHARE // 4:  # others add, too
            self.trim()

    def touch(self, key: str) -> None:
        """Note that a copy was used."""
        with contextlib.suppress(OSError):
            os.utime(self._path(key))

    def drop(self, key: str) -> None:
        """Remove the copy of an object that is deleted, and keep those that are on their way from coming back."""
        target = self._path(key)
        self._mark(target).touch(mode=0o600)
        target.unlink(missing_ok=True)

    def trim(self) -> None:
        """Remove what was not used for longest until there is room; one process at a time."""
        self._added = 0
        with _locked(self._root / "lock") as is_mine:
            if is_mine:
                self._remove_abandoned()
                self._remove_oldest()

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)

    def _mark(self, target: Path) -> Path:
        return self._root / _GONE / target.name

    def _remove_abandoned(self) -> None:
        for path in (self._root / _INCOMING).iterdir():
            with _locked(path) as is_mine:
                if is_mine:
                    path.unlink(missing_ok=True)
        for path in (self._root / _GONE).iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _MARK_KEPT_S:
                    path.unlink()

    def _remove_oldest(self) -> None:
        found = sorted(_files(self._root))
        excess = sum(size for _, size, _ in found) - (self._max_bytes - self._max_bytes // _SHARE)
        for _, size, path in found:
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= size
            with contextlib.suppress(OSError):  # it is not empty
                path.parent.rmdir()
                path.parent.parent.rmdir()


class Incoming:
    """A copy that is being written. Its lock tells that its process lives."""

    def __init__(self, target: Path, path: Path) -> None:
        self.target = target
        self.size = 0
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # who looks for abandoned ones was quicker
            self.close()
            raise

    def write(self, data: bytes) -> None:
        """Append."""
        view = memoryview(data)
        self.size += len(view)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def place(self) -> None:
        """Give it the name of its object."""
        self.target.parent.parent.mkdir(mode=0o700, exist_ok=True)
        self.target.parent.mkdir(mode=0o700, exist_ok=True)
        self._path.rename(self.target)

    def close(self) -> None:
        """Let go of it; it is gone if it was not placed."""
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)


def _files(root: Path) -> Iterator[tuple[float, int, Path]]:
    """When each copy was last used, its bytes and where it is."""
    for minute in root.glob("[0-9]*/[0-9]*"):
        with contextlib.suppress(FileNotFoundError), os.scandir(minute) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat()
                    yield status.st_mtime, status.st_size, Path(entry.path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether a file that nobody else has locked is ours for the block."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
