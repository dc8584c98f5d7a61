"""What an association receives: PDUs of bounded length, and the data sets of C-STORE requests as streams."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pynetdicom import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import create_file_meta
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

from dicomweb.errors import BadRequest, IsthmusError, TooLarge, Unavailable
from dicomweb.ports import Archive, StoreOutcome
from gateway.config import DicomSettings
from gateway.dimse.bridge import Bridge, Feed

logger = logging.getLogger(__name__)

#: An A-ASSOCIATE-RQ with the 128 presentation contexts that PS3.8 allows, each with every transfer syntax, has 0.2 MB.
_MAX_ASSOCIATE_BYTES = 1 << 20
#: A command set has some 20 short elements; nothing but C-STORE may carry a data set here.
_MAX_COMMAND_BYTES = 1 << 16
#: Messages that a peer may send before it reads our answers: one, as no asynchronous window is negotiated; be lenient.
_MAX_UNANSWERED = 4
#: A data set up to this size goes to the archive when it is complete, a larger one as it arrives.
_PIECE_BYTES = 1 << 20
#: Event 19 of the state machine (PS3.8 section 9.2): an invalid PDU, upon which it aborts the association.
_INVALID_PDU = "Evt19"
#: Statuses with which an instance was stored: success and the warnings of PS3.4 Table B.2-1.
_SUCCESS = 0x0000
_STORED = frozenset({_SUCCESS, 0xB000, 0xB006, 0xB007})


@dataclass(frozen=True, slots=True)
class Destination:
    """Where instances go: `archive_for` gives the archive as the peer with a calling AE title may use it."""

    settings: DicomSettings
    archive_for: Callable[[str], Archive]
    bridge: Bridge


class BoundedSocket(AssociationSocket):  # type: ignore[misc]
    """Reads a PDU in few calls, and none that is longer than was negotiated: pynetdicom itself would take 4 GiB."""

    def __init__(self, association: Association, connection: socket.socket, max_pdu_bytes: int) -> None:
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


class StreamingProvider(DIMSEServiceProvider):  # type: ignore[misc]
    """Puts messages together from their fragments, and hands the data set of a C-STORE on while it arrives."""

    def __init__(self, association: Association, destination: Destination) -> None:
        super().__init__(association)
        self.stored = 0
        self.failed = 0
        self._destination = destination
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
        return _Incoming(self._destination, self.assoc.requestor.ae_title.strip(), _file_head(meta))


class _Incoming(BytesIO):
    """The data set of one C-STORE request on its way to the archive. A BytesIO, as pynetdicom takes nothing else."""

    def __init__(self, destination: Destination, calling_title: str, head: bytes) -> None:
        super().__init__()
        self._destination = destination
        self._title = calling_title
        self._head = head
        self._left = destination.settings.max_instance_bytes
        self._timeout_s = destination.settings.network_timeout_s
        self._feed = Feed(destination.bridge, max_bytes=4 * _PIECE_BYTES, timeout_s=self._timeout_s)
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
            outcome = self._destination.bridge.result(self._begin(), self._timeout_s)
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
            self._outcome = self._destination.bridge.submit(self._store())
        return self._outcome

    async def _store(self) -> StoreOutcome:
        try:
            async with contextlib.aclosing(self._part()) as part:
                return await self._destination.archive_for(self._title).store(part)
        finally:
            self._feed.abandon()

    async def _part(self) -> AsyncGenerator[bytes]:
        yield self._head
        async for chunk in self._feed.read():
            yield chunk


def _file_head(meta: FileMetaDataset) -> bytes:
    """The start of a Part 10 file (PS3.10 section 7.1), its preamble all zero."""
    head = DicomBytesIO()
    head.write(bytes(128) + b"DICM")
    write_file_meta_info(head, meta)
    return bytes(head.getvalue())
