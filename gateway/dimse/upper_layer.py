"""The upper layer of one association (PS3.8 section 9.2): its connection, its states as an acceptor, its timers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from enum import Enum

from dicomweb.errors import BadRequest
from gateway.dimse import pdu
from gateway.dimse.messages import Assembler, Memory, Message
from gateway.dimse.negotiation import Accepted, Rejected
from gateway.dimse.pdu import SHORT_BYTES, Kind, PduReader, ProtocolError

logger = logging.getLogger(__name__)

#: An A-ASSOCIATE-RQ with the 128 presentation contexts that PS3.8 allows, each with every transfer syntax, has 0.2 MB.
_MAX_ASSOCIATE_BYTES = 1 << 20
_REQUEST_TIMEOUT_S = 30.0
#: How long a peer may take to close the connection after our last word. Closing first may lose that word.
_CLOSE_TIMEOUT_S = 2.0
#: Messages that a peer may send before it reads our answers; one, as no asynchronous window is negotiated: be lenient.
_MAX_UNANSWERED = 4


class State(Enum):
    """States of PS3.8 section 9.2.2, as far as an acceptor has them that never releases."""

    AWAITING = "Sta2"
    NEGOTIATING = "Sta3"
    ESTABLISHED = "Sta6"
    CLOSING = "Sta13"


class UpperLayer(asyncio.BufferedProtocol):
    """Reads what the peer sends as messages, and sends what it is given."""

    def __init__(
        self,
        buffer: memoryview,
        memory: Memory,
        *,
        max_pdu_bytes: int,
        timeout_s: float,
        on_stall: Callable[[], None],
        on_state: Callable[[], None],
    ) -> None:
        """Make one that is not connected yet.

        Parameters
        ----------
        buffer : what is received goes here first and is used at once, so that all connections can share it.
        memory : what they may hold together.
        max_pdu_bytes : the largest PDU of data that is taken.
        timeout_s : the time without traffic after which the peer is given up, if it is its turn.
        on_stall : called if it is ours: a request is not answered.
        on_state : called when the state has changed, before the peer can know.
        """
        self.state = State.AWAITING
        self.outcome = "aborted"
        self.closed = asyncio.Event()
        self._buffer = buffer
        self._memory = memory
        self._max_pdu_bytes = max_pdu_bytes
        self._timeout_s = timeout_s
        self._on_stall = on_stall
        self._on_state = on_state
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle
        self._heard = 0.0
        self._unread = 0
        self._reader = PduReader(self)
        self._reader.allowed = {Kind.ASSOCIATE_RQ: _MAX_ASSOCIATE_BYTES, Kind.ABORT: SHORT_BYTES}
        self._assembler: Assembler
        self._inbox: asyncio.Queue[bytes | Message | None] = asyncio.Queue()
        self._waits = False
        self._peer_max_bytes = 0
        self._writable = asyncio.Event()
        self._writable.set()

    # What the association does

    @property
    def pending(self) -> bool:
        """Whether a message is being received, or has been and waits."""
        if self.state is not State.ESTABLISHED:
            return False
        return self._reader.within or self._assembler.within or not self._inbox.empty()

    @property
    def busy(self) -> bool:
        """Whether a message is being received or answered."""
        return self.pending or (self.state is State.ESTABLISHED and not self._waits)

    async def next(self) -> bytes | Message | None:
        """The A-ASSOCIATE-RQ, then messages, then None: the peer asks for release, or there is no association."""
        self._waits = True
        self._regulate()
        found = await self._inbox.get()
        self._waits = False
        self._regulate()
        return found

    def answer(self, answer: Accepted | Rejected) -> None:
        """Send the answer to an A-ASSOCIATE-RQ."""
        if self.state is not State.NEGOTIATING:
            return
        if isinstance(answer, Rejected):
            self._end("rejected", answer.answer)
            return
        self._assembler = Assembler(answer.contexts, self._memory, self._deliver, self._account)
        self._peer_max_bytes = answer.max_pdu_bytes
        self._enter(State.ESTABLISHED, self._timeout_s)
        self._send(answer.answer)

    async def send(self, context_id: int, command: bytes) -> None:
        """Send a message without a data set, if the association still exists; wait where the peer reads slowly."""
        if self.state is State.ESTABLISHED:
            self._send(pdu.data_pdus(context_id, command, self._peer_max_bytes))
        if self._writable.is_set():
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._writable.wait()
        except TimeoutError:
            self.close()

    def release(self) -> None:
        """Grant the release that the peer asked for."""
        if self.state is State.ESTABLISHED:
            self._end("released", pdu.release_rp())

    def abort(self, reason: int | None = None) -> None:
        """Abort the association; just close the connection where nothing was negotiated yet."""
        if self.state is State.ESTABLISHED or reason is not None:
            self._end("aborted", pdu.abort(reason))
        elif self.state is not State.CLOSING:
            self.close()

    def close(self) -> None:
        """Close the connection now, if it still is open, and forget what was to be done in time."""
        self._finish()
        self._timer.cancel()
        self._transport.abort()

    # What comes from the connection: asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        self._timer = self._loop.call_later(min(_REQUEST_TIMEOUT_S, self._timeout_s), self._expire)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: D102
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:  # noqa: D102
        self._heard = self._loop.time()
        if self.state is State.CLOSING:
            return
        try:
            self._reader.feed(self._buffer[:nbytes])
        except ProtocolError as exc:
            self.refuse(exc)

    def eof_received(self) -> None:  # noqa: D102
        return

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._finish()
        self._timer.cancel()
        self._timer = self._loop.call_later(self._timeout_s, self._on_stall)  # a request may still be on its way
        self._account(-self._unread)
        self._writable.set()
        self.closed.set()

    def pause_writing(self) -> None:  # noqa: D102
        self._writable.clear()

    def resume_writing(self) -> None:  # noqa: D102
        self._writable.set()

    def refuse(self, error: ProtocolError) -> None:
        """Abort, as the peer broke the protocol."""
        logger.warning("an association is aborted: its peer sent %s", error)
        self.abort(error.reason)

    # What the reader finds

    def pdu(self, kind: int, body: bytes) -> None:
        """Take a PDU that is no data: the states allow only what is handled here."""
        if kind == Kind.ABORT:
            self.close()
        elif kind == Kind.ASSOCIATE_RQ:
            self._enter(State.NEGOTIATING, self._timeout_s)
            self._inbox.put_nowait(body)
        elif self._assembler.within:
            raise ProtocolError(pdu.UNEXPECTED, "a release within a message")
        else:
            self._reader.allowed = {Kind.ABORT: SHORT_BYTES}  # Sta8: what came before is still answered
            self._inbox.put_nowait(None)

    def fragment(self, context_id: int, control: int, data: memoryview, *, whole: bool) -> None:
        """Take a fragment of a message."""
        self._assembler.fragment(context_id, control, data, whole=whole)

    def _deliver(self, message: Message) -> None:
        self._inbox.put_nowait(message)
        self._regulate()

    # States, timers, flow

    def _enter(self, state: State, timeout_s: float) -> None:
        self.state = state
        self._reader.allowed = self._allowed()[state]
        self._timer.cancel()
        self._timer = self._loop.call_later(timeout_s, self._expire)
        self._on_state()

    def _allowed(self) -> Mapping[State, Mapping[int, int]]:
        """What may come in each state, and how long it may be (PS3.8 Table 9-10); anything else aborts."""
        return {
            State.NEGOTIATING: {Kind.ABORT: SHORT_BYTES},
            State.ESTABLISHED: {
                Kind.DATA: self._max_pdu_bytes,
                Kind.RELEASE_RQ: SHORT_BYTES,
                Kind.ABORT: SHORT_BYTES,
            },
            State.CLOSING: {},
        }

    def _expire(self) -> None:
        """Act upon a time that is over; in the middle of an association it starts anew with all that comes or goes."""
        left = self._timeout_s - (self._loop.time() - self._heard)
        if self.state is State.ESTABLISHED and left > 0:
            self._timer = self._loop.call_later(left, self._expire)
        elif self.state is State.NEGOTIATING or (self.state is State.ESTABLISHED and not self._peers_turn):
            self._timer = self._loop.call_later(self._timeout_s, self._expire)
            self._on_stall()
        elif self.state is State.ESTABLISHED:
            logger.warning("an association is aborted: nothing came for %.0f s", self._timeout_s)
            self.abort(0)
        else:
            self.close()

    @property
    def _peers_turn(self) -> bool:
        return self._transport.is_reading() and (self._waits or self._assembler.within)

    def _account(self, change: int) -> None:
        """Note how much more is unread; what is left after the end does not count."""
        if self.closed.is_set():
            return
        self._unread += change
        self._memory.used += change
        self._regulate()

    def _regulate(self) -> None:
        """Read on, or let the peer wait until what came was taken; who waits for it would wait for ever."""
        is_awaited = self._waits and self._inbox.empty()
        is_full = self._unread >= self._memory.share or self._inbox.qsize() >= _MAX_UNANSWERED
        if is_full and not is_awaited:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _send(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._transport.write(data)

    def _end(self, outcome: str, last_word: bytes) -> None:
        """Send the last PDU, and wait for the peer to close."""
        if self.state is State.CLOSING:
            return
        self.outcome = outcome
        self._finish()
        self._send(last_word)
        self._transport.resume_reading()

    def _finish(self) -> None:
        """Nothing that comes from now on counts."""
        if self.state is State.CLOSING:
            return
        if self.state is State.ESTABLISHED:
            self._assembler.end(BadRequest("The association ended in the middle of an instance."))
        self._enter(State.CLOSING, _CLOSE_TIMEOUT_S)
        self._inbox.put_nowait(None)
