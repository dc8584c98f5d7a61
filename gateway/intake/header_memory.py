"""What large headers may take of a process' memory: documents, meshes and annotations come as headers of many MB.

A header is held once while it arrives, and four times while it is parsed and encoded anew, one at a time. Others wait
for room, which the sender notices as a slow connection. The oldest may always grow, so that there is no deadlock.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext

from dicomweb.errors import Unavailable

#: Smaller headers, nearly all, are not counted.
LARGE_BYTES = 4 << 20
_WAIT_S = 30.0
#: For whom pictures are looked at meanwhile, one after the other.
LOOKING_WAIT_S = 900.0
_AT_ONCE: AbstractAsyncContextManager[None] = nullcontext()


class HeaderMemory:
    """The bound of one process: what all large headers hold, the oldest excepted."""

    def __init__(self, max_bytes: int = 192 << 20) -> None:
        self._max_bytes = max_bytes
        self._sizes: dict[Lease, int] = {}  # oldest first
        self._changed = asyncio.Condition()
        self._turn = asyncio.Semaphore(1)

    def lease(self) -> Lease:
        """The share of one header; close it."""
        return Lease(self)

    async def grow(self, lease: Lease, size: int) -> None:
        """Wait until a header may have `size` bytes; raise Unavailable if that takes too long."""
        before = self._sizes.setdefault(lease, 0)
        if size <= before:
            return
        try:
            async with asyncio.timeout(lease.wait_s), self._changed:
                await self._changed.wait_for(lambda: self._has_room(lease, size))
        except TimeoutError:
            raise Unavailable("Too many large headers are on their way in; try again shortly.") from None
        self._sizes[lease] = size

    async def forget(self, lease: Lease) -> None:
        """Let go of what a header held."""
        if self._sizes.pop(lease, None) is not None:
            async with self._changed:
                self._changed.notify_all()

    def turn(self, lease: Lease) -> AbstractAsyncContextManager[None]:
        """A block that one large header at a time is in, and any small ones."""
        return self._turn if lease in self._sizes else _AT_ONCE

    def _has_room(self, lease: Lease, size: int) -> bool:
        oldest = next(iter(self._sizes))
        others = sum(held for other, held in self._sizes.items() if other is not lease)
        return lease is oldest or others + size <= self._max_bytes


class Lease:
    """What one header holds."""

    def __init__(self, memory: HeaderMemory) -> None:
        self._memory = memory
        #: How long to wait for room.
        self.wait_s = _WAIT_S

    async def grow(self, size: int) -> None:
        """The header has `size` bytes by now; wait for room if it is large, or raise Unavailable."""
        if size > LARGE_BYTES:
            await self._memory.grow(self, size)

    def parsing(self) -> AbstractAsyncContextManager[None]:
        """A block in which the header is copied."""
        return self._memory.turn(self)

    async def close(self) -> None:
        """The header is gone."""
        await self._memory.forget(self)
