"""The only pools of threads: for blocking I/O, for storing, for parsing and codecs; bounded, for whoever needs them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class Workers:
    """Three bounded thread pools: `io` waits for disks, `store` also for the catalogue, `cpu` parses, encodes, decodes.

    Decoders release the GIL while they work. Parsing does not, but a thread still keeps the event loop answering.
    Who reads does not stand in line with who stores: among 64 senders a frame from disk took 155 ms so, and takes 25.
    """

    def __init__(self, *, io_threads: int = 16, cpu_threads: int | None = None) -> None:
        self.io = ThreadPoolExecutor(io_threads, thread_name_prefix="io")
        self._store = ThreadPoolExecutor(io_threads, thread_name_prefix="store")
        self._cpu = ThreadPoolExecutor(cpu_threads or max(2, os.cpu_count() or 2), thread_name_prefix="cpu")

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(*args)` in the `cpu` pool, with the caller's context variables."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._cpu, copy_context().run, function, *args)

    async def run_io(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(*args)`, which waits for a disk, in the `io` pool, with the caller's context variables."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.io, copy_context().run, function, *args)

    async def run_store(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(*args)`, which stores something, in the `store` pool, with the caller's context variables.

        A task that is cancelled ends when its call has, so that it can look at what the call did.
        """
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(self._store, copy_context().run, function, *args)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            while not call.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([call])
            if not call.cancelled():
                call.exception()  # nobody is left whom it concerns
            raise

    async def close(self) -> None:
        """Let running calls finish and drop waiting ones."""
        for pool in (self.io, self._store, self._cpu):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)
