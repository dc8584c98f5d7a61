"""The first look at a file, past the page cache.

Files are written past it (`new_file.py`), and most pictures are looked at once: to find memory for the pages of a file
takes longer than to read them. To read 0.5 MB so takes 0.3 ms, of which 0.07 are CPU time; by the page cache 0.6 and
0.2. Nor is the page cache asked first: to ask it for what it does not have begins to read. What is looked at again is
read by the page cache, and stays in memory.
"""

from __future__ import annotations

import os
from collections import OrderedDict

import numpy as np

from gateway.store.new_file import BLOCK_BYTES, DIRECT, UNSUPPORTED

#: Files that are remembered, some 250 bytes each.
_MAX_SEEN = 4096


class Seen:
    """The files that were looked at last. Belongs to the event loop."""

    def __init__(self) -> None:
        self._paths: OrderedDict[str, None] = OrderedDict()

    def is_first(self, path: str) -> bool:
        """Whether this is the first look at a file; the next is not."""
        if path in self._paths:
            return False
        self._paths[path] = None
        if len(self._paths) > _MAX_SEEN:
            self._paths.popitem(last=False)
        return True


def read(path: str, offset: int, length: int) -> memoryview | None:
    """A range of a file, read directly; None if the file system cannot, or does not give as much."""
    if not DIRECT:
        return None
    before = offset % BLOCK_BYTES
    room = _blocks(before + length)
    try:
        done = _read_into(room, path, offset - before)
    except OSError as exc:
        if exc.errno not in UNSUPPORTED:
            raise
        return None
    return room[before : before + length].toreadonly() if done >= before + length else None


def _read_into(room: memoryview, path: str, offset: int) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | DIRECT)
    try:
        return os.preadv(descriptor, [room], offset)
    finally:
        os.close(descriptor)


def _blocks(length: int) -> memoryview:
    """Memory for so many bytes, in whole blocks; of the heap: the pages of a map would have to be found, for 0.1 ms."""
    space = np.empty(length + 2 * BLOCK_BYTES, np.uint8)
    begin = -space.ctypes.data % BLOCK_BYTES
    return space.data[begin : begin + length + -length % BLOCK_BYTES]
