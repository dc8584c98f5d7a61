"""Taking turns: lets the processes of one machine delete and replace one after the other instead of into each other.

Their transactions change the same document. MongoDB would undo all but one of those that run at once, and they would
begin again. Machines that share a catalogue have different locks: there that is what happens.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path


class Turn:
    """A lock for the tasks of this process and, on a file, for other processes.

    The system frees it when a process ends. Nothing that holds it may wait for a thread of a pool in which others wait
    for it.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Lock `path`, which is made when first needed; without one, this process is alone."""
        self._path = path
        self._own = threading.Lock()
        self._file: int | None = None
        #: Where tasks wait. In asyncio's own threads they would keep out the one whose turn it is.
        self._waiting = ThreadPoolExecutor(1, thread_name_prefix="turn")

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Hold the lock for a block of a task."""
        taking = asyncio.get_running_loop().run_in_executor(self._waiting, self._take)
        try:
            await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._give_back)  # the thread takes the lock when nobody is left to free it
            raise
        try:
            yield
        finally:
            self._give()

    def close(self) -> None:
        """Give the file back, when nobody holds the lock any more or waits for it."""
        self._waiting.shutdown(wait=False, cancel_futures=True)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _take(self) -> None:
        self._own.acquire()
        try:
            if self._path is not None:
                if self._file is None:
                    self._file = _open(self._path)
                fcntl.flock(self._file, fcntl.LOCK_EX)
        except BaseException:
            self._own.release()
            raise

    def _give(self) -> None:
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._own.release()

    def _give_back(self, taking: asyncio.Future[None]) -> None:
        if not taking.cancelled() and taking.exception() is None:
            self._give()


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
