"""Shares connections out among processes that wait on one socket, so that none has many while others have few.

Who wakes up first would take all that is there: of eight connections of a load test one of two workers had six on
average, at times all. With SO_REUSEPORT the kernel hashes, which is no better for so few.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from gateway import byte_locks

logger = logging.getLogger(__name__)
#: Whoever has more connections than another leaves it so much time to take one.
_COURTESY_S = 0.002
_PAUSE_S = 0.2
#: Who has so many connections takes one more at a time. With one for each turn of a loop that sends to hundreds, 1,000
#: of 1,200 that came together waited for seconds.
_BATCH = 16


class Shares:
    """How many of something each process has, in a file that they map. A process has its place as long as it lives."""

    def __init__(self, path: Path, processes: int) -> None:
        self.count = 0
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
        file = self._file.fileno()
        os.ftruncate(file, 4 * processes)
        self._memory = mmap.mmap(file, 4 * processes)
        self._counts = memoryview(self._memory).cast("I")
        self._place = next((place for place in range(processes) if byte_locks.lock(file, place)), None)
        self.update(0)

    def update(self, count: int) -> None:
        """Tell the others how many this process has."""
        self.count = count
        if self._place is not None:
            self._counts[self._place] = count

    def is_fair(self) -> bool:
        """Whether no other process has fewer."""
        return self._place is None or self.count <= min(self._counts)

    def total(self) -> int:
        """How many all of them have; what one had that was killed no longer counts."""
        file = self._file.fileno()
        return self.count + sum(
            count for place, count in enumerate(self._counts) if byte_locks.is_anothers(file, place)
        )

    def close(self) -> None:
        """Leave the place to another."""
        self.update(0)
        self._place = None
        self._counts.release()
        self._memory.close()
        self._file.close()


async def accepted(
    listener: socket.socket, shares: Shares, courtesies: int
) -> AsyncGenerator[tuple[socket.socket, Any]]:
    """Accept connections for ever; yield each with the address of its peer.

    Who iterates keeps `shares` up to date: whoever has more than another lets it go first, so many times.
    """
    while True:
        await _readable(listener)
        try:
            while True:
                await _turn(shares, courtesies)
                for _ in range(1 + shares.count // _BATCH):
                    connection, address = listener.accept()
                    connection.setblocking(False)
                    yield connection, address
        except (BlockingIOError, ConnectionError):
            continue  # another was quicker, or it is gone
        except OSError as exc:
            logger.warning("a connection could not be accepted: %s", exc.strerror)
            await asyncio.sleep(_PAUSE_S)


async def _readable(listener: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(listener, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(listener)


async def _turn(shares: Shares, courtesies: int) -> None:
    await asyncio.sleep(0)  # where many connect, others have their turn in between
    for _ in range(courtesies):
        if shares.is_fair():
            return
        await asyncio.sleep(_COURTESY_S)
