"""Taking turns: lets the processes of one machine commit one after the other instead of into each other.

The numbers that tell what may be remembered (`generations.py`) are raised by one writer at a time, and what waits for
its turn joins into larger groups. Machines that share a catalogue have different locks: there nothing is remembered,
and each writer inserts rows in a stream of its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Turn:
    """A lock on a file, for tasks of this process and of others; the system frees it when a process ends."""

    def __init__(self, path: Path, workers: Executor) -> None:
        """Lock `path`, which is made when first needed; waiting for other processes happens in `workers`."""
        self._path = path
        self._workers = workers
        self._own = asyncio.Lock()
        self._file: int | None = None

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Hold the lock for a block."""
        async with self._own:
            if self._file is None:
                self._file = await self._run(_open, self._path)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await self._run(fcntl.flock, self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                if self._file is not None:
                    fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        work = asyncio.get_running_loop().run_in_executor(self._workers, function, *arguments)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await work  # the thread would take the lock when nobody is left to free it
            raise


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
