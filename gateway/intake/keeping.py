"""Keeps what arrives until it is known whether it is taken; what is refused goes to the quarantine, as it came."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Self

from gateway.deid.quarantine import Draft, Quarantine, QuarantineFull
from gateway.workers import Workers

logger = logging.getLogger(__name__)
#: Kept in memory, of each object; what comes beyond it before the header is accepted is written as it comes.
_HELD_BYTES = 4 << 20


class Keeper:
    """Keeps what arrives from one source for a quarantine."""

    def __init__(self, quarantine: Quarantine, workers: Workers, source: str) -> None:
        self.quarantine = quarantine
        self.workers = workers
        self.source = source
        self._said_full = False

    def keep(self, part: AsyncIterator[bytes], max_bytes: int) -> Kept:
        """Keep one file as it arrives, unless it has more bytes than any that is taken."""
        return Kept(self, part, max_bytes)

    def note(self, error: Exception | None) -> None:
        """Log what became of an object that was refused; that the quarantine is full once, until something fits."""
        if not isinstance(error, QuarantineFull):
            self._said_full = False
        elif self._said_full:
            return
        else:
            self._said_full = True
        if error is not None:
            text = error.message if isinstance(error, QuarantineFull) else type(error).__name__
            logger.error("what was refused could not be kept in the quarantine: %s", text)


class Kept:
    """The chunks of one file, handed on as they come and kept until it is accepted. Close it."""

    def __init__(self, keeper: Keeper, part: AsyncIterator[bytes], max_bytes: int) -> None:
        self._keeper = keeper
        self._part = part
        self._left = max_bytes
        self._chunks: list[bytes] = []
        self._size = 0
        self._draft: Draft | None = None
        self._error: Exception | None = None
        self._wanted = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next chunk."""
        try:
            chunk = await anext(self._part)
        except StopAsyncIteration:
            raise
        except BaseException:
            self.release()  # it did not come as a whole
            raise
        if self._wanted:
            await self._hold(chunk)
        return chunk

    def release(self) -> None:
        """The object is accepted: nothing of it is kept any more."""
        self._wanted = False
        self._chunks.clear()

    async def seal(self, reason: str) -> None:
        """The object was refused: keep it whole, durably when this returns, or log why that cannot be."""
        if not self._wanted:
            return
        try:
            async for _ in self:
                if self._error is not None or not self._wanted:
                    break
            else:
                await self._spill()
                await self._finish(reason)
        except Exception as exc:  # noqa: BLE001 - it is refused, whatever happens here
            self._error = exc
        self._keeper.note(self._error)

    async def close(self) -> None:
        """Drop what is not needed any more."""
        self.release()
        draft, self._draft = self._draft, None
        if draft is not None:
            await self._keeper.workers.run_store(draft.discard)

    async def _finish(self, reason: str) -> None:
        if self._draft is not None and self._error is None:
            await self._keeper.workers.run_store(self._draft.finish, self._keeper.source, reason)
            self._draft = None

    async def _hold(self, chunk: bytes) -> None:
        self._left -= len(chunk)
        if self._left < 0:
            self.release()
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > _HELD_BYTES:
            await self._spill()

    async def _spill(self) -> None:
        """Write what is held. What cannot be written is let go: the object itself may still be accepted."""
        chunks, self._chunks, self._size = self._chunks, [], 0
        if self._error is None:
            try:
                await self._keeper.workers.run_store(self._write, chunks)
            except (OSError, QuarantineFull) as exc:
                self._error = exc

    def _write(self, chunks: list[bytes]) -> None:
        if self._draft is None:
            self._draft = self._keeper.quarantine.begin()
        self._draft.write(chunks)
