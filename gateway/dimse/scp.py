"""The DICOM listener: C-ECHO, and C-STORE (PS3.4 Annex B) of every class in every transfer syntax."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import CancelledError, Future
from io import BytesIO
from typing import Any

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pynetdicom import AE, Association, _config, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import create_file_meta
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.sop_class import Verification
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicomweb.errors import BadRequest, IsthmusError, TooLarge, Unavailable
from dicomweb.ports import Archive, StoreOutcome
from gateway.config import DicomSettings, Settings
from gateway.dimse.bridge import Bridge, Feed

logger = logging.getLogger(__name__)
ArchiveFor = Callable[[str], Archive]

#: An A-ASSOCIATE-RQ with the 128 presentation contexts that PS3.8 allows, each with every transfer syntax, has 0.2 MB.
_MAX_ASSOCIATE_BYTES = 1 << 20
#: A command set has some 20 short elements; nothing but C-STORE may carry a data set here.
_MAX_COMMAND_BYTES = 1 << 16
#: Messages that a peer may send before it reads our answers: one, as no asynchronous window is negotiated; be lenient.
_MAX_UNANSWERED = 4
#: A data set up to this size goes to the archive when it is complete, a larger one as it arrives.
_PIECE_BYTES = 1 << 20
_REQUEST_TIMEOUT_S = 30.0
_DRAIN_TIMEOUT_S = 7.0
_ACCEPT_PAUSE_S = 0.2
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

#: Event 19 of the state machine (PS3.8 section 9.2): an invalid PDU, upon which it aborts the association.
_INVALID_PDU = "Evt19"
#: Statuses with which an instance was stored: success and the warnings of PS3.4 Table B.2-1.
_SUCCESS = 0x0000
_STORED = frozenset({_SUCCESS, 0xB000, 0xB006, 0xB007})


async def run(listener: socket.socket, settings: Settings, archive_for: ArchiveFor) -> None:
    """Serve associations from `listener`, which is bound and listening, until cancelled; then finish what is under way.

    Parameters
    ----------
    archive_for : gives the archive as the peer with a calling AE title may use it.
    """
    _configure_pynetdicom()
    scp = _Scp(settings.dicom, archive_for, Bridge())
    try:
        await scp.accept(listener)
    finally:
        await scp.drain()


def _configure_pynetdicom() -> None:
    """Set what pynetdicom keeps for the whole process. It logs values as they came, so it does not log: we do."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    # Unknown and private classes too; of each context the transfer syntax that the peer names first, so as it has it.
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


class _Scp:
    """What all associations share, and the list of them."""

    def __init__(self, settings: DicomSettings, archive_for: ArchiveFor, bridge: Bridge) -> None:
        self.settings = settings
        self.archive_for = archive_for
        self.bridge = bridge
        self.ae = _application_entity(settings)
        self._associations: set[_Acceptor] = set()

    async def accept(self, listener: socket.socket) -> None:
        """Start a thread for each connection. Above the limit pynetdicom rejects for now; far above we just close."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as exc:
                if exc.errno not in _OUT_OF_FILES:
                    raise
                logger.error("no connection can be accepted: %s", exc.strerror)  # noqa: TRY400
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            self._associations = {association for association in self._associations if association.is_alive()}
            if len(self._associations) >= 2 * self.settings.max_associations:
                logger.warning("a connection was closed: there are %d already", len(self._associations))
                connection.close()
                continue
            association = _Acceptor(self, connection)
            self._associations.add(association)
            association.start()

    async def drain(self) -> None:
        """Abort each association as soon as it is not in the middle of an instance, and all of them after a while."""
        deadline = time.monotonic() + _DRAIN_TIMEOUT_S
        while alive := {association for association in self._associations if association.is_alive()}:
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

    def __init__(self, scp: _Scp, connection: socket.socket) -> None:
        super().__init__(scp.ae, MODE_ACCEPTOR)
        settings = scp.settings
        self._connection = connection
        connection.settimeout(settings.network_timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.set_socket(_BoundedSocket(self, connection, settings.max_pdu_bytes))
        self.dul.run = self._run_connection
        self.dul.daemon = True
        self.dimse = _StreamingProvider(self, scp)
        self.acceptor.ae_title = settings.ae_title
        self.acceptor.maximum_length = settings.max_pdu_bytes
        self.acceptor.implementation_class_uid = scp.ae.implementation_class_uid
        self.acceptor.implementation_version_name = scp.ae.implementation_version_name
        self.acceptor.supported_contexts = scp.ae.supported_contexts
        self.acceptor.address_info = AddressInformation.from_tuple(connection.getsockname())
        self.requestor.address_info = AddressInformation.from_tuple(connection.getpeername())
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

    def _give_up(self) -> None:
        """End both threads, also where this one still waits for a request."""
        self.dul.kill_dul()
        self.dul.to_user_queue.put(None)


class _BoundedSocket(AssociationSocket):  # type: ignore[misc]
    """Reads a PDU in few calls, and none that is longer than was negotiated: pynetdicom itself would take 4 GiB."""

    def __init__(self, association: _Acceptor, connection: socket.socket, max_pdu_bytes: int) -> None:
        super().__init__(association, connection)
        self._max_pdu_bytes = max_pdu_bytes

    def recv(self, nr_bytes: int) -> bytearray:
        """Read `nr_bytes`, or what comes before the connection ends. The ValueError makes pynetdicom abort."""
        if nr_bytes > (self._max_pdu_bytes if self.assoc.is_established else _MAX_ASSOCIATE_BYTES):
            raise ValueError("the PDU is longer than allowed")
        data = bytearray(nr_bytes)
        received = 0
        with memoryview(data) as view:
            while received < nr_bytes and (count := self.socket.recv_into(view[received:])):
                received += count
        del data[received:]
        return data


class _StreamingProvider(DIMSEServiceProvider):  # type: ignore[misc]
    """Puts messages together from their fragments, and hands the data set of a C-STORE on while it arrives."""

    def __init__(self, association: _Acceptor, scp: _Scp) -> None:
        super().__init__(association)
        self.stored = 0
        self.failed = 0
        self._scp = scp
        self._unanswered: deque[_Incoming] = deque()

    @property
    def busy(self) -> bool:
        """Whether a message is being received or answered."""
        return self.message is not None or bool(self._unanswered)

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments one by one: a command is known only after its last, and then the data set begins."""
        try:
            for fragment in primitive.presentation_data_value_list:
                single = P_DATA()
                single.presentation_data_value_list.append(fragment)
                super().receive_primitive(single)
                if self.message is not None:
                    self._divert(self.message)
        except Exception:
            logger.exception("a message could not be received; its association is aborted")
            self.dul.event_queue.put(_INVALID_PDU)

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send; a C-STORE is done with when its response is on its way."""
        super().send_msg(primitive, context_id)
        if isinstance(primitive, C_STORE) and self._unanswered:
            self._unanswered.popleft()
            if primitive.Status in _STORED:
                self.stored += 1
            else:
                self.failed += 1

    def close(self) -> None:
        """Drop what is incomplete."""
        for incoming in self._unanswered:
            incoming.drop()

    def _divert(self, message: Any) -> None:
        """Replace the buffer of a C-STORE's data set by one that leads to the archive; bound all other buffers."""
        if isinstance(message.data_set, _Incoming):
            return
        if message.encoded_command_set.tell() + message.data_set.tell() > _MAX_COMMAND_BYTES:
            raise ValueError("a message is longer than any should be")
        if isinstance(message, C_STORE_RQ):
            if len(self._unanswered) >= _MAX_UNANSWERED:
                raise ValueError("requests come before earlier ones are answered")
            message.data_set = self._incoming(message)
            self._unanswered.append(message.data_set)

    def _incoming(self, request: Any) -> _Incoming:
        command = request.command_set
        meta = create_file_meta(
            sop_class_uid=command.AffectedSOPClassUID,
            sop_instance_uid=command.AffectedSOPInstanceUID,
            transfer_syntax=self.assoc._accepted_cx[request.context_id].transfer_syntax[0],
        )
        return _Incoming(self._scp, self.assoc.requestor.ae_title.strip(), _file_head(meta))


class _Incoming(BytesIO):
    """The data set of one C-STORE request on its way to the archive. A BytesIO, as pynetdicom takes nothing else."""

    def __init__(self, scp: _Scp, calling_title: str, head: bytes) -> None:
        super().__init__()
        self._scp = scp
        self._title = calling_title
        self._head = head
        self._left = scp.settings.max_instance_bytes
        self._timeout_s = scp.settings.network_timeout_s
        self._feed = Feed(scp.bridge, max_bytes=4 * _PIECE_BYTES, timeout_s=self._timeout_s)
        self._outcome: Future[StoreOutcome] | None = None

    def write(self, data: Any) -> int:
        """Take a fragment; the archive begins to work when there is enough, so that small instances go in one piece."""
        self._left -= len(data)
        if self._left < 0:
            self._feed.end(TooLarge("The instance is larger than dicom.max_instance_bytes."))
        self._feed.write(data)
        if self._feed.unread >= _PIECE_BYTES:
            self._begin()
        return len(data)

    def finish(self) -> int:
        """Wait until the instance is durable, or not; the status of the C-STORE response."""
        self._feed.end()
        try:
            outcome = self._scp.bridge.result(self._begin(), self._timeout_s)
        except IsthmusError as exc:
            logger.warning("an instance was not stored: %s", exc.message)
            return exc.dimse_status
        except (TimeoutError, CancelledError):
            logger.warning("an instance was not stored within %.0f s", self._timeout_s)
            return Unavailable.dimse_status
        except Exception:
            logger.exception("an instance was not stored")
            return IsthmusError.dimse_status
        if outcome.failure is not None:
            logger.warning("an instance was not stored: %s", outcome.reason)
            return outcome.failure
        return outcome.warning if outcome.warning in _STORED else _SUCCESS

    def drop(self) -> None:
        """Give up, unless all of it has come: then it may as well be stored."""
        self._feed.end(BadRequest("The association ended in the middle of an instance."))

    def _begin(self) -> Future[StoreOutcome]:
        if self._outcome is None:
            self._outcome = self._scp.bridge.submit(self._store())
        return self._outcome

    async def _store(self) -> StoreOutcome:
        try:
            async with contextlib.aclosing(self._part()) as part:
                return await self._scp.archive_for(self._title).store(part)
        finally:
            self._feed.abandon()

    async def _part(self) -> AsyncGenerator[bytes]:
        yield self._head
        async for chunk in self._feed.read():
            yield chunk


def _prefer_standard_syntaxes(event: evt.Event) -> None:
    """Strike private transfer syntaxes from a request where there is a choice: the first that is left gets accepted."""
    for context in event.assoc.requestor.primitive.presentation_context_definition_list:
        standard = [syntax for syntax in context.transfer_syntax if not syntax.is_private]
        if standard:
            context.transfer_syntax = standard


def _answer_store(event: evt.Event) -> int:
    return int(event.request.DataSet.finish())


def _file_head(meta: FileMetaDataset) -> bytes:
    """The start of a Part 10 file (PS3.10 section 7.1), its preamble all zero."""
    head = DicomBytesIO()
    head.write(bytes(128) + b"DICM")
    write_file_meta_info(head, meta)
    return bytes(head.getvalue())
