"""A file that is being written, past the page cache: what is stored shall not push out of memory what viewers look at.

A gateway takes in more than memory holds, and what it takes in is seldom what is looked at. Synced files of 0.5 MB are
written about twice as fast so; where a virtual machine is given its memory page by page, a copy in the page cache of
each alone costs 1.3 ms of CPU time.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from gateway.errors import StoreUnavailable

Buffer = bytes | bytearray | memoryview
#: What is written directly begins at a multiple of this in memory and in the file, and is as long: a page.
BLOCK_BYTES = mmap.PAGESIZE
#: Written by one call.
_ROOM_BYTES = 1 << 20
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
DIRECT = getattr(os, "O_DIRECT", 0)
#: How a file system says that it writes nothing directly, at the latest when it is asked to.
UNSUPPORTED = (errno.EINVAL, errno.EOPNOTSUPP)


class NewFile:
    """A file that is made when it is first written. Its methods block, one at a time, in any thread."""

    def __init__(self, path: Path) -> None:
        """Write to `path`, where nothing may be yet; folders of its day and minute are made, never those above."""
        self._path = path
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._direct = False
        self._made = False
        self._closed = False
        #: The end of what came, as long as it fills no block.
        self._rest = b""

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Go on with these bytes."""
        with self._lock:
            self._fill(self._open(), buffers)

    def finish(self, buffers: Sequence[Buffer]) -> None:
        """Write the last bytes, sync and close the file; raise StoreUnavailable if somebody has removed it."""
        with self._lock:
            descriptor = self._open()
            self._fill(descriptor, buffers)
            if self._rest:
                self._leave_direct(descriptor)
                self._write_all(descriptor, memoryview(self._rest))
            os.fdatasync(descriptor)
            removed = os.fstat(descriptor).st_nlink == 0
            self._close()
            if removed:
                raise StoreUnavailable("The file was removed while it was being written; nothing was kept.")

    def discard(self) -> None:
        """Close and unlink the file, if it was made here; it waits for a call whose task was cancelled."""
        with self._lock:
            self._close()
            if self._made:
                self._path.unlink(missing_ok=True)

    def _fill(self, descriptor: int, buffers: Sequence[Buffer]) -> None:
        """Collect bytes in the thread's room and write what fills blocks."""
        room = _room()
        filled = 0
        for buffer in (self._rest, *buffers):
            left = memoryview(buffer)
            while left:
                taken = min(_ROOM_BYTES - filled, len(left))
                room[filled : filled + taken] = left[:taken]
                left = left[taken:]
                filled += taken
                if filled == _ROOM_BYTES:
                    self._write_all(descriptor, room)
                    filled = 0
        whole = filled - filled % BLOCK_BYTES
        self._write_all(descriptor, room[:whole])
        self._rest = bytes(room[whole:filled])

    def _write_all(self, descriptor: int, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except OSError as exc:
                if not self._direct or exc.errno not in UNSUPPORTED:
                    raise
                self._leave_direct(descriptor)

    def _leave_direct(self, descriptor: int) -> None:
        if self._direct:
            fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)  # it was opened with no other flag that can be changed
            self._direct = False

    def _open(self) -> int:
        if self._closed:
            raise ValueError("the file is closed")
        if self._descriptor is None:
            self._descriptor, self._direct = _make(self._path)
            self._made = True
        return self._descriptor

    def _close(self) -> None:
        self._closed = True
        self._rest = b""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class _Room(threading.local):
    """Memory of each thread, which begins at a page."""

    def __init__(self) -> None:
        self.view = memoryview(mmap.mmap(-1, _ROOM_BYTES))


_rooms = _Room()


def _room() -> memoryview:
    return _rooms.view


def _make(path: Path) -> tuple[int, bool]:
    """Create the file; whether it is written directly."""
    try:
        return _create(path)
    except FileNotFoundError:
        pass
    try:
        path.parent.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError as exc:
        raise StoreUnavailable("The object folder is gone; check that its disk is mounted.") from exc
    return _create(path)


def _create(path: Path) -> tuple[int, bool]:
    """A file system that cannot write directly may have made the file already when it says so."""
    try:
        return os.open(path, _NEW | DIRECT, 0o600), bool(DIRECT)
    except OSError as exc:
        if exc.errno not in UNSUPPORTED:
            raise
    path.unlink(missing_ok=True)
    return os.open(path, _NEW, 0o600), False
