"""The bytes of a file as they arrive: in the pieces they came in, copied only where a header spans several."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from dicomweb.errors import NotDicom, TooLarge

Buffer = bytes | memoryview
#: Inflated at a time: a millisecond.
_INFLATED_BYTES = 256 << 10
#: Who asks to be told of growth need not hear of less.
_SMALL_BYTES = 1 << 20


class Short(Exception):
    """What is looked for is not among the bytes that have arrived; there may be an answer once there are `needed`."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


class ByteSource:
    """Pulls from an asynchronous iterator of bytes. What has arrived is taken from it by plain calls, in any thread."""

    def __init__(
        self, chunks: AsyncIterator[bytes], *, max_bytes: int, on_growth: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        """Take at most `max_bytes`; `on_growth` is told how much is held, and may wait or raise."""
        self._chunks = chunks
        self._budget = max_bytes
        self._on_growth = on_growth
        self._pieces: deque[Buffer] = deque()
        self._engine: zlib._Decompress | None = None
        self._deflated = b""
        #: How many bytes are held.
        self.held = 0
        #: Whether all has arrived.
        self.ended = False

    async def fill(self, wanted: int) -> bool:
        """Hold at least `wanted` bytes; False if the data ends before."""
        while self.held < wanted and not self.ended:
            piece = await (self._receive() if self._engine is None else self._inflated(self._engine))
            if piece:
                self._pieces.append(piece)
                self.held += len(piece)
            else:
                self.ended = True
            if self._on_growth is not None and self.held > _SMALL_BYTES:
                await self._on_growth(self.held)
        return self.held >= wanted

    def window(self, wanted: int) -> Buffer:
        """The first bytes that are held, without taking them: `wanted` or more, or all that will ever come.

        Raises Short if there are fewer by now.
        """
        if self.held < wanted and not self.ended:
            raise Short(wanted)
        pieces = self._pieces
        if len(pieces) > 1 and len(pieces[0]) < wanted:
            first: list[Buffer] = []
            size = 0
            while pieces and size < wanted:
                first.append(pieces.popleft())
                size += len(first[-1])
            pieces.appendleft(b"".join(first))
        return pieces[0] if pieces else b""

    def take(self, count: int) -> bytes:
        """Take `count` bytes, which must have arrived."""
        data = bytes(self.window(count)[:count])
        self.drop(count)
        return data

    def drop(self, count: int) -> None:
        """Let go of the first `count` bytes, which must have arrived."""
        self.held -= count
        while count:
            first = self._pieces.popleft()
            if len(first) > count:
                self._pieces.appendleft(memoryview(first)[count:])
                return
            count -= len(first)

    def piece(self) -> Buffer:
        """Take the next piece of what has arrived; empty if all of that is taken."""
        if not self._pieces:
            return b""
        first = self._pieces.popleft()
        self.held -= len(first)
        return first

    def put_back(self, piece: Buffer) -> None:
        """Hold again what a piece had too much."""
        if piece:
            self._pieces.appendleft(piece)
            self.held += len(piece)

    def inflate(self) -> None:
        """Treat all that was not taken yet as deflated (PS3.5 section A.5); its expansion counts against the limit."""
        self._deflated = b"".join(self._pieces)
        self._pieces.clear()
        self.held = 0
        self.ended = False
        self._engine = zlib.decompressobj(-zlib.MAX_WBITS)

    async def _inflated(self, engine: zlib._Decompress) -> bytes:
        """What comes next inflated; empty at the end."""
        while not engine.eof:
            try:
                data = engine.decompress(self._deflated, _INFLATED_BYTES)
            except zlib.error as exc:
                raise NotDicom("The deflated data set cannot be inflated.") from exc
            self._deflated = engine.unconsumed_tail
            if data:
                self._spend(len(data))
                return data
            self._deflated = await self._receive()
            if not self._deflated:
                break
        return b""

    async def _receive(self) -> bytes:
        """The next chunk that is not empty; empty at the end."""
        async for chunk in self._chunks:
            if chunk:
                self._spend(len(chunk))
                return chunk
        return b""

    def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            raise TooLarge("The DICOM object is larger than this gateway accepts.")
