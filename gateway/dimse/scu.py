"""C-ECHO and C-STORE as their user (SCU), by pynetdicom: one association to a remote, in threads of the workers.

Objects are sent while they are made: what waits to be sent is a few PDUs, however large an object is. pynetdicom takes
data sets as a whole or from a file, so the fragments of a data set (PS3.7 section 6.3.1) are made here. It is imported
when it is first needed, and told to log nothing: it logs data sets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from gateway.config import Remote
from gateway.errors import RemoteUnavailable
from gateway.workers import Workers

#: Native objects can be sent in either, whichever the peer takes (PS3.5 section 10.1).
_NATIVE: Final = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
MAX_CONTEXTS: Final = 128  # PS3.8 section 9.3.2.2: odd numbers up to 255
_CONNECT_TIMEOUT_S: Final = 10.0
#: Of the fragments that we make; peers may take less at once.
_MAX_FRAGMENT_BYTES: Final = 256 << 10
_MAX_WAITING_PDUS: Final = 8
_TRANSFERRING: Final = "Sta6"  # PS3.8 Table 9-4
_LAST: Final = b"\x02"
_NOT_LAST: Final = b"\x00"


@dataclass(frozen=True, slots=True)
class Offer:
    """What is to be sent: a SOP class in the transfer syntax that it is stored in."""

    sop_class_uid: str
    transfer_syntax_uid: str

    @property
    def syntaxes(self) -> Sequence[str]:
        """The transfer syntaxes that it can be sent in without touching its pixels."""
        return _NATIVE if self.transfer_syntax_uid == ExplicitVRLittleEndian else (self.transfer_syntax_uid,)


#: What a C-ECHO takes.
ECHO: Final = Offer("1.2.840.10008.1.1", str(ExplicitVRLittleEndian))


class Peer:
    """The other side of an association."""

    def __init__(self, association: Any, connection: _Connection, contexts: dict[Offer, tuple[int, str]]) -> None:
        self._association = association
        self._connection = connection
        self._contexts = contexts

    def syntax_for(self, offer: Offer) -> str | None:
        """The transfer syntax that the peer takes an offer in; None if it takes it in none."""
        accepted = self._contexts.get(offer)
        return accepted[1] if accepted is not None else None

    async def echo(self) -> int:
        """Send a C-ECHO and return the status; raise RemoteUnavailable."""
        answer = await self._connection.call(self._association.send_c_echo)
        return _checked(answer.get("Status"))

    async def store(self, offer: Offer, instance_uid: str, data: AsyncIterator[bytes]) -> int:
        """Send a data set, encoded in the syntax for its offer, by C-STORE and return the status.

        Raises
        ------
        RemoteUnavailable : the connection was lost, or no response came in time.
        """
        context_id, _ = self._contexts[offer]
        await self._connection.call(self._begin, context_id, offer.sop_class_uid, instance_uid)
        held = b""
        async for piece in data:
            if held:
                await self._connection.call(self._send, context_id, held, _NOT_LAST)
            held = piece
        await self._connection.call(self._send, context_id, held, _LAST)
        status: int = await self._connection.call(self._response)
        return status

    def _begin(self, context_id: int, sop_class_uid: str, instance_uid: str) -> None:
        """Send the command set, after the association's own thread was told to leave the response to us."""
        from pynetdicom.dimse_messages import C_STORE_RQ
        from pynetdicom.dimse_primitives import C_STORE

        request = C_STORE()
        request.MessageID = 1
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class_uid, instance_uid
        request.DataSet = BytesIO()  # one follows, which is not given here
        association, message = self._association, C_STORE_RQ()
        message.primitive_to_message(request)
        association._reactor_checkpoint.clear()  # as its own send_c_store does
        while not association._is_paused:
            self._check()
            time.sleep(0.0005)
        for primitive in message.encode_msg(context_id, association.dimse.maximum_pdu_size):
            self._put(primitive)

    def _send(self, context_id: int, data: bytes, control: bytes) -> None:
        """Send a part of the data set as fragments; `control` is that of the last."""
        from pynetdicom.pdu_primitives import P_DATA

        size = min(self._association.dimse.maximum_pdu_size or _MAX_FRAGMENT_BYTES, _MAX_FRAGMENT_BYTES) - 6
        for start in range(0, max(len(data), 1), size):
            primitive = P_DATA()
            header = control if start + size >= len(data) else _NOT_LAST
            primitive.presentation_data_value_list.append((context_id, header + data[start : start + size]))
            self._put(primitive)

    def _put(self, primitive: Any) -> None:
        """Hand a PDU over as soon as few others wait."""
        dul = self._association.dul
        while dul.to_provider_queue.qsize() >= _MAX_WAITING_PDUS:
            self._check()
            time.sleep(0.0005)
        self._check()
        dul.send_pdu(primitive)

    def _response(self) -> int:
        _, response = self._association.dimse.get_msg(block=True)
        self._association._reactor_checkpoint.set()
        return _checked(getattr(response, "Status", None))

    def _check(self) -> None:
        if self._association.dul.state_machine.current_state != _TRANSFERRING:
            raise RemoteUnavailable("The connection to the remote was lost.")


def _checked(status: int | None) -> int:
    if status is None:
        raise RemoteUnavailable("The remote did not answer in time, or ended the connection.")
    return status


@asynccontextmanager
async def associated(
    remote: Remote, title: str, offers: Iterable[Offer], workers: Workers, *, timeout_s: float
) -> AsyncIterator[Peer]:
    """An association with a remote until the block ends: released then, aborted if it ends in an error.

    Parameters
    ----------
    title : our AE title.
    offers : at most `MAX_CONTEXTS`.
    timeout_s : how long the remote may be silent.

    Raises
    ------
    RemoteUnavailable : it cannot be reached, or refuses the association.
    """
    connection = _Connection(workers, timeout_s)
    proposed = list(dict.fromkeys(offers))
    try:
        association = await connection.call(_associate, connection, remote, title, proposed)
        connection.association = association
        yield Peer(association, connection, _accepted(association, proposed))
        await connection.call(association.release)
    finally:
        await connection.end()


def _associate(connection: _Connection, remote: Remote, title: str, offers: Sequence[Offer]) -> Any:
    from pynetdicom import AE, _config, build_context, evt

    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    ae = AE(ae_title=title)
    ae.connection_timeout = _CONNECT_TIMEOUT_S
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = connection.timeout_s
    association = ae.associate(
        remote.address.host,
        remote.address.port,
        contexts=[build_context(offer.sop_class_uid, list(offer.syntaxes)) for offer in offers],
        ae_title=remote.ae_title,
        evt_handlers=[(evt.EVT_CONN_OPEN, connection.opened)],
    )
    if association.is_rejected:
        raise RemoteUnavailable("The remote refuses the association; check both AE titles.")
    if not association.is_established:
        raise RemoteUnavailable("The remote cannot be reached, or takes nothing of what is to be sent.")
    return association


def _accepted(association: Any, offers: Sequence[Offer]) -> dict[Offer, tuple[int, str]]:
    """The contexts that the peer took; ours have the numbers 1, 3, 5, … in their order."""
    taken = {context.context_id: str(context.transfer_syntax[0]) for context in association.accepted_contexts}
    numbered = {2 * place + 1: offer for place, offer in enumerate(offers)}
    return {offer: (number, taken[number]) for number, offer in numbered.items() if number in taken}


class _Connection:
    """The connection of an association, which ends at once when nobody waits for it any more."""

    def __init__(self, workers: Workers, timeout_s: float) -> None:
        self._workers = workers
        self.timeout_s = timeout_s
        self.association: Any = None
        self._socket: socket.socket | None = None
        self._ended = False

    def opened(self, event: Any) -> None:
        """Called by pynetdicom when there is a connection, which it lets block without end."""
        self._socket = connection = event.assoc.dul.socket.socket
        connection.settimeout(self.timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._ended:
            self._shut()

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call what blocks, in a thread; a task that is cancelled ends the connection, and so the call."""
        call = asyncio.ensure_future(self._workers.run_io(function, *args))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            self._ended = True
            self._shut()
            await asyncio.wait([call])
            if not call.cancelled():
                call.exception()  # nobody is left whom it concerns
            raise

    async def end(self) -> None:
        """Abort the association if it is not released, and let its threads go."""
        self._ended = True
        if self.association is not None and not self.association.is_released:
            self._shut()
            await asyncio.shield(asyncio.ensure_future(self._workers.run_io(self.association.abort)))
        if self._socket is not None:
            self._socket.close()  # which pynetdicom does only where the peer has not

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
