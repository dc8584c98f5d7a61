"""Puts messages together from their fragments (PS3.7 section 6.3, PS3.8 Annex E), data sets as bounded streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from io import BytesIO

from gateway.dimse.command import Command
from gateway.dimse.negotiation import Context
from gateway.dimse.pdu import COMMAND, INVALID, LAST, UNEXPECTED, ProtocolError

#: A command set has some 20 short elements.
_MAX_COMMAND_BYTES = 1 << 16
#: Most instances are smaller: they are handed on when they have come as a whole, and nobody waits for fragments.
_WHOLE_BYTES = 4 << 20
#: What a reader gets of larger ones at least, and what is left to each association where memory is short.
_PIECE_BYTES = 1 << 20


class Memory:
    """What all associations of a process hold of data sets that nobody has read yet, in bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.used = 0

    @property
    def share(self) -> int:
        """How much one association may hold before its peer has to wait."""
        return _WHOLE_BYTES if self.used < self._max_bytes else _PIECE_BYTES


class DataSet:
    """A data set on its way from the connection, which writes, to a service, which reads, both on the event loop."""

    def __init__(self, on_change: Callable[[int], None]) -> None:
        """Tell `on_change` by how many bytes there are more unread, or fewer."""
        self.unread = 0
        self._on_change = on_change
        self._buffer = BytesIO()
        self._changed = asyncio.Event()
        self._wanted = True
        self._ended = False
        self._error: Exception | None = None

    def write(self, data: memoryview) -> None:
        """Append what came; it goes nowhere where nobody wants it any more."""
        if self._wanted:
            self._buffer.write(data)
            self.unread += len(data)
            self._on_change(len(data))
            if self.unread >= _PIECE_BYTES:
                self._changed.set()

    def end(self, error: Exception | None = None) -> None:
        """Say that this was all, or raise `error` in the reader after what came."""
        self._ended, self._error = True, error
        self._changed.set()

    def drop(self) -> None:
        """Let go of what is unread and of all that is still to come."""
        self._wanted = False
        self._take()

    async def ended(self) -> None:
        """Wait until all of it has come, or the connection has gone."""
        while not self._ended:
            self._changed.clear()
            await self._changed.wait()

    async def read(self) -> AsyncGenerator[bytes]:
        """Iterate over it in large pieces, a small one in one piece."""
        while not self._ended or self.unread:
            if self._ended or self.unread >= _PIECE_BYTES:
                yield self._take()
            else:
                self._changed.clear()
                await self._changed.wait()
        if self._error is not None:
            raise self._error

    def _take(self) -> bytes:
        data = self._buffer.getvalue()  # no copy: the buffer is not used again
        self._buffer = BytesIO()
        self.unread = 0
        self._on_change(-len(data))
        return data


@dataclass(frozen=True, slots=True)
class Message:
    """A command and, if one follows, its data set, which may still be on its way."""

    command: Command
    context: Context
    data: DataSet | None


class Assembler:
    """Takes the fragments of one association, and delivers each message when all of it or its share has come."""

    def __init__(
        self,
        contexts: Mapping[int, Context],
        memory: Memory,
        deliver: Callable[[Message], None],
        on_change: Callable[[int], None],
    ) -> None:
        self._contexts = contexts
        self._memory = memory
        self._deliver = deliver
        self._on_change = on_change
        self._command = bytearray()
        self._message: Message | None = None  # whose data set is being received
        self._delivered = False

    @property
    def within(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._message is not None or bool(self._command)

    def fragment(self, context_id: int, control: int, data: memoryview, *, whole: bool) -> None:
        """Take a fragment, or a piece of one; raise ProtocolError where none such may come."""
        last = whole and bool(control & LAST)
        context = self._contexts.get(context_id)
        if context is None:
            raise ProtocolError(INVALID, "a message in a presentation context that was not accepted")
        if control & COMMAND:
            self._take_command(context, data, last=last)
        else:
            self._take_data(context, data, last=last)

    def end(self, error: Exception) -> None:
        """Nothing more will come: what has not come as a whole ends in an error."""
        message, self._message = self._message, None
        if message is not None and message.data is not None:
            message.data.end(error)
            if not self._delivered:
                message.data.drop()

    def _take_command(self, context: Context, data: memoryview, *, last: bool) -> None:
        if self._message is not None:
            raise ProtocolError(UNEXPECTED, "a command within a data set")
        self._command += data
        if len(self._command) > _MAX_COMMAND_BYTES:
            raise ProtocolError(INVALID, "a command that is longer than any")
        if not last:
            return
        command = Command.decode(bytes(self._command))
        self._command.clear()
        if command.has_data_set:
            self._message = Message(command, context, DataSet(self._on_change))
            self._delivered = False
        else:
            self._deliver(Message(command, context, None))

    def _take_data(self, context: Context, data: memoryview, *, last: bool) -> None:
        message = self._message
        if message is None or message.data is None or message.context is not context:
            raise ProtocolError(UNEXPECTED, "a data set without its command")
        message.data.write(data)
        if last:
            message.data.end()
            self._message = None
        if not self._delivered and (last or message.data.unread >= self._memory.share):
            self._delivered = True
            self._deliver(message)
