"""What uploads may take of a process: so many at a time, and so many bytes of them in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dicomweb.errors import Unavailable


class Uploads:
    """Counts the store requests of a process and what they hold. Who comes when it is full is told to come again."""

    def __init__(self, *, max_uploads: int = 64, max_bytes: int = 64 << 20) -> None:
        self._places = max_uploads
        self._bytes_left = max_bytes

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A block in which one upload is received and stored; raise Unavailable if there are too many."""
        if self._places <= 0:
            raise Unavailable("Too many uploads at once; try again shortly.")
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1

    def take(self, count: int) -> bool:
        """Whether so many bytes more may be held; give them back."""
        if count > self._bytes_left:
            return False
        self._bytes_left -= count
        return True

    def give_back(self, count: int) -> None:
        """So many bytes are held no longer."""
        self._bytes_left += count
