"""The only pools of threads: for blocking I/O, for storing, for parsing and codecs; bounded, for whoever needs them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from gateway.threads import Threads

T = TypeVar("T")


class Workers:
    """Three bounded pools: `io` waits for disks, `store` also for the catalogue, `cpu` parses, encodes, decodes.

    Decoders release the GIL while they work. Parsing does not, but a thread still keeps the event loop answering.
    Who reads does not stand in line with who stores: among 64 senders a frame from disk took 155 ms so, and takes 25.
    """

    def __init__(self, *, io_threads: int = 16, cpu_threads: int | None = None) -> None:
        self.io = Threads(io_threads, "io")
        self._store = Threads(io_threads, "store")
        self._cpu = Threads(cpu_threads or max(2, os.cpu_count() or 2), "cpu")

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(*args)` in the `cpu` pool, with the caller's context variables."""
        return await self._cpu.run(function, *args)

    async def run_io(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(*args)`, which waits for a disk, in the `io` pool, with the caller's context variables."""
        return await self.io.run(function, *args)

    async def run_store(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(*args)`, which stores something, in the `store` pool, with the caller's context variables.

        A task that is cancelled ends when its call has, so that it can look at what the call did.
        """
        return await _to_its_end(self._store.run(function, *args))

    async def run_through(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(*args)` in the `cpu` pool; as with `run_store`, it has ended when this has."""
        return await _to_its_end(self._cpu.run(function, *args))

    async def close(self) -> None:
        """Let running calls finish and drop waiting ones."""
        for pool in (self.io, self._store, self._cpu):
            await asyncio.to_thread(pool.close)


async def _to_its_end(call: asyncio.Future[T]) -> T:
    """Await a call, and its end even if nobody waits for the result any more."""
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        while not call.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([call])
        if not call.cancelled():
            call.exception()  # nobody is left whom it concerns
        raise
