"""Taking turns: lets the processes of one machine commit one after the other instead of into each other.

The numbers that tell what may be remembered (`generations.py`) are raised by one writer at a time, and what waits for
its turn joins into larger groups. Machines that share a catalogue have different locks: there nothing is remembered,
and each writer inserts rows in a stream of its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Turn:
    """A lock for the threads and tasks of this process and, on a file, for other processes.

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

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for a block of a thread."""
        self._take()
        try:
            yield
        finally:
            self._give()

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Hold the lock for a block of a task."""
        taking = asyncio.ensure_future(self.run(self._take))
        try:
            await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._give_back)  # the thread takes the lock when nobody is left to free it
            raise
        try:
            yield
        finally:
            self._give()

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run a call for a task that waits for the lock and has not got it."""
        return await asyncio.get_running_loop().run_in_executor(self._waiting, function, *args)

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
