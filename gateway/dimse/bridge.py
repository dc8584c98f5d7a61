"""Between pynetdicom's threads and the event loop that owns the archive: the only hand-over from one to the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Bridge:
    """Lets threads run coroutines on the event loop that made it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop; called in any other thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    @staticmethod
    def result(future: Future[T], timeout_s: float) -> T:
        """Wait for what was submitted; cancel it and raise TimeoutError when it takes longer than `timeout_s`."""
        try:
            return future.result(timeout_s)
        finally:
            future.cancel()


class Feed:
    """Bytes that one thread writes and one task reads, of which a bounded number may be unread."""

    def __init__(self, bridge: Bridge, *, max_bytes: int, timeout_s: float) -> None:
        """Above `max_bytes` unread bytes `write` waits for the reader, `timeout_s` at most."""
        self._loop = bridge.loop
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._lock = threading.Condition()
        self._chunks: list[bytes] = []
        self._unread = 0
        self._ended = False
        self._error: Exception | None = None
        self._abandoned = False
        self._reader_waits = False
        self._arrived = asyncio.Event()

    @property
    def unread(self) -> int:
        """Bytes written and not yet read."""
        return self._unread

    def write(self, data: bytes) -> None:
        """Append, in the writing thread; dropped if the reader wants no more. Raises TimeoutError."""
        with self._lock:
            if not self._lock.wait_for(self._has_room, self._timeout_s):
                raise TimeoutError("what is received is not read fast enough")
            if not self._abandoned and not self._ended:
                self._chunks.append(data)
                self._unread += len(data)
                self._wake()

    def end(self, error: Exception | None = None) -> None:
        """Say that this was all, or raise `error` in the reader after what came. Only the first call counts."""
        with self._lock:
            if not self._ended:
                self._ended, self._error = True, error
                self._wake()

    def abandon(self) -> None:
        """Say that nothing more will be read: the writer need not wait."""
        with self._lock:
            self._abandoned = True
            self._chunks, self._unread = [], 0
            self._lock.notify()

    async def read(self) -> AsyncGenerator[bytes]:
        """Iterate over what was written, in the event loop."""
        while True:
            chunks, ended = self._take()
            for chunk in chunks:
                yield chunk
            if ended:
                break
            if not chunks:
                await self._arrived.wait()
        if self._error is not None:
            raise self._error

    def _take(self) -> tuple[list[bytes], bool]:
        """All that is there, and whether it is the last; if there is nothing the reader is to be woken."""
        with self._lock:
            chunks, self._chunks, self._unread = self._chunks, [], 0
            self._reader_waits = not chunks
            self._arrived.clear()
            self._lock.notify()
            return chunks, self._ended

    def _has_room(self) -> bool:
        return self._unread < self._max_bytes or self._abandoned or self._ended

    def _wake(self) -> None:
        if self._reader_waits:
            self._reader_waits = False
            self._loop.call_soon_threadsafe(self._arrived.set)
