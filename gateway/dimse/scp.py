"""The DICOM listener: C-ECHO, and C-STORE (PS3.4 Annex B) of every class in every transfer syntax."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

from pynetdicom import AE, Association, _config, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.sop_class import Verification
from pynetdicom.transport import AddressInformation

from dicomweb.ports import Archive
from gateway.config import DicomSettings, Settings
from gateway.dimse.bridge import Bridge
from gateway.dimse.receiving import BoundedSocket, Destination, StreamingProvider

logger = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S = 30.0
_DRAIN_TIMEOUT_S = 7.0
_ACCEPT_PAUSE_S = 0.2
#: States of PS3.8 Table 9-10 in which no request will come any more once the connection is closed.
_WITHOUT_REQUEST = frozenset({"Sta2", "Sta13"})


async def run(listener: socket.socket, settings: Settings, archive_for: Callable[[str], Archive]) -> None:
    """Serve associations until cancelled, then finish the instances under way.

    Parameters
    ----------
    listener : bound, listening and not blocking; it stays open.
    archive_for : gives the archive as the peer with a calling AE title may use it.
    """
    _configure_pynetdicom()
    associations = _Associations(Destination(settings.dicom, archive_for, Bridge()))
    try:
        await associations.accept(listener)
    finally:
        await associations.drain()


def _configure_pynetdicom() -> None:
    """Set what pynetdicom keeps for the whole process. It logs values as they came, so it does not log: we do."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    # Unknown and private classes too; of each context the transfer syntax that the peer names first, so as it has it.
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


class _Associations:
    """The associations that are open, each served by threads of its own."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._ae = _application_entity(destination.settings)
        self._open: set[_Acceptor] = set()

    async def accept(self, listener: socket.socket) -> None:
        """Begin one for each connection. Above the limit pynetdicom rejects them for now; far above we just close."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as exc:  # no file descriptors are left, or the peer has gone again
                logger.warning("a connection could not be accepted: %s", exc.strerror)
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            self._open = {association for association in self._open if association.is_alive()}
            if len(self._open) >= 2 * self._destination.settings.max_associations:
                logger.warning("a connection was closed: there are %d already", len(self._open))
                connection.close()
                continue
            association = _Acceptor(self._ae, connection, address, self._destination)
            self._open.add(association)
            association.start()

    async def drain(self) -> None:
        """Abort each association as soon as it is not in the middle of an instance, and all of them after a while."""
        deadline = time.monotonic() + _DRAIN_TIMEOUT_S
        while alive := [association for association in self._open if association.is_alive()]:
            late = time.monotonic() > deadline
            ending = [association for association in alive if late or not association.dimse.busy]
            await asyncio.gather(*(asyncio.to_thread(association.end) for association in ending))
            if late:
                return
            await asyncio.sleep(0.02)


def _application_entity(settings: DicomSettings) -> AE:
    ae = AE(settings.ae_title)
    ae.require_called_aet = True
    ae.maximum_associations = settings.max_associations
    ae.maximum_pdu_size = settings.max_pdu_bytes
    ae.network_timeout = settings.network_timeout_s
    ae.dimse_timeout = settings.network_timeout_s
    ae.acse_timeout = min(_REQUEST_TIMEOUT_S, settings.network_timeout_s)
    ae.add_supported_context(Verification)
    return ae


class _Acceptor(Association):  # type: ignore[misc]
    """One association: a thread that answers requests, and one of pynetdicom's that reads from the connection."""

    def __init__(self, ae: AE, connection: socket.socket, address: tuple[Any, ...], destination: Destination) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        settings = destination.settings
        self._connection = connection
        connection.settimeout(settings.network_timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.set_socket(BoundedSocket(self, connection, settings.max_pdu_bytes))
        self.dul.run = self._run_connection
        self.dul.daemon = True
        self.dimse = StreamingProvider(self, destination)
        self.acceptor.ae_title = settings.ae_title
        self.acceptor.maximum_length = settings.max_pdu_bytes
        self.acceptor.implementation_class_uid = ae.implementation_class_uid
        self.acceptor.implementation_version_name = ae.implementation_version_name
        self.acceptor.supported_contexts = ae.supported_contexts
        self.acceptor.address_info = AddressInformation.from_tuple(connection.getsockname())
        self.requestor.address_info = AddressInformation.from_tuple(address)
        self.bind(evt.EVT_CONN_CLOSE, self._stop_waiting)
        self.bind(evt.EVT_REQUESTED, _prefer_standard_syntaxes)
        self.bind(evt.EVT_C_STORE, _answer_store)

    def run(self) -> None:
        """Serve until the association ends, however that comes."""
        try:
            super().run()
        except Exception:
            logger.exception("an association failed")
        finally:
            self.dimse.close()
            self._connection.close()
            logger.info(
                "association with %s %s: %d instances stored, %d not",
                self.requestor.address_info.address,
                "rejected" if self.is_rejected else "released" if self.is_released else "aborted",
                self.dimse.stored,
                self.dimse.failed,
            )

    def end(self) -> None:
        """Abort, or only close the connection where nothing was negotiated yet. Blocks for a moment."""
        if self.is_established:
            self.abort(block=True)
        else:
            self._give_up()
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def _run_connection(self) -> None:
        """What pynetdicom's own thread does: its state machine raises upon what no peer should send."""
        try:
            self.dul.run_reactor()
        except Exception as exc:  # noqa: BLE001 - its text may quote the peer
            logger.warning("a connection is closed: its peer broke the protocol (%s)", type(exc).__name__)
            self._give_up()

    def _stop_waiting(self, _: evt.Event) -> None:
        """End with a connection that closes before a request: pynetdicom would keep its slot for the whole timeout."""
        if self.dul.state_machine.current_state in _WITHOUT_REQUEST:
            self._give_up()

    def _give_up(self) -> None:
        """End both threads, also where this one still waits for a request."""
        self.dul.kill_dul()
        self.dul.to_user_queue.put(None)


def _prefer_standard_syntaxes(event: evt.Event) -> None:
    """Strike private transfer syntaxes from a request where there is a choice: the first that is left gets accepted."""
    for context in event.assoc.requestor.primitive.presentation_context_definition_list:
        standard = [syntax for syntax in context.transfer_syntax if not syntax.is_private]
        if standard:
            context.transfer_syntax = standard


def _answer_store(event: evt.Event) -> int:
    return int(event.request.DataSet.finish())
