"""Sends C-STORE requests that were encoded before the clock starts: what is measured is the server, not the client."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from io import BytesIO

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, A_RELEASE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    A_RELEASE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext

from benchmarks.phantom import Instance
from benchmarks.servers import Server

_ASSOCIATE_AC, _DATA = 2, 4
_CONTEXT_ID = 1
_IMPLEMENTATION_UID = "2.25.132386834573910485239471839204820194"
#: As much as DCMTK sends in one PDU.
_MAX_PDU_BYTES = 131072
_TIMEOUT_S = 60.0


class Sender:
    """One association, with the messages that it will send."""

    def __init__(self, server: Server, instances: Sequence[Instance]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.dicom_port), _TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._input = self._socket.makefile("rb")
        self._socket.sendall(_associate(server.ae_title))
        max_pdu_bytes = min(_accepted_length(*self._read()), _MAX_PDU_BYTES)
        self._messages = [b"".join(_store_pdus(instance, max_pdu_bytes)) for instance in instances]

    def send(self) -> None:
        """Send all, one after the other; raise if one is not answered with success."""
        answers = []
        for message in self._messages:
            self._socket.sendall(message)
            answers.append(self._read())
        for kind, pdu in answers:
            status = _status(pdu) if kind == _DATA else None
            if status != 0:
                raise RuntimeError(f"an instance was answered with PDU {kind}, status {status}")

    def close(self) -> None:
        """Release the association."""
        pdu = A_RELEASE_RQ()
        pdu.from_primitive(A_RELEASE())
        self._socket.sendall(pdu.encode())
        self._read()
        self._input.close()
        self._socket.close()

    def _read(self) -> tuple[int, bytes]:
        """Type and bytes of the next PDU (PS3.8 section 9.3)."""
        head = self._input.read(6)
        if len(head) < 6:
            raise RuntimeError("the server closed the association")
        kind, length = struct.unpack(">BxL", head)
        return kind, head + self._input.read(length)


def _associate(ae_title: str) -> bytes:
    context = PresentationContext()
    context.context_id = _CONTEXT_ID
    context.abstract_syntax, context.transfer_syntax = CTImageStorage, [ExplicitVRLittleEndian]
    length = MaximumLengthNotification()
    length.maximum_length_received = _MAX_PDU_BYTES
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = _IMPLEMENTATION_UID
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "BENCHMARK", ae_title
    request.presentation_context_definition_list = [context]
    request.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    return pdu.encode()


def _accepted_length(kind: int, data: bytes) -> int:
    """The largest PDU that the server takes, in bytes (PS3.8 Annex D.1; 0 is no limit)."""
    if kind != _ASSOCIATE_AC:
        raise RuntimeError(f"the association was answered with PDU type {kind}")
    pdu = A_ASSOCIATE_AC()
    pdu.decode(data)
    (context,) = pdu.to_primitive().presentation_context_definition_results_list
    if context.result != 0:
        raise RuntimeError("the server does not take CT images")
    return pdu.user_information.maximum_length or _MAX_PDU_BYTES


def _store_pdus(instance: Instance, max_pdu_bytes: int) -> Iterator[bytes]:
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CTImageStorage, instance.instance_uid
    request.DataSet = BytesIO(instance.data_set)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    for primitive in message.encode_msg(_CONTEXT_ID, max_pdu_bytes):
        pdu = P_DATA_TF()
        pdu.from_primitive(primitive)
        yield pdu.encode()


def _status(data: bytes) -> int:
    pdu = P_DATA_TF()
    pdu.decode(data)
    message = C_STORE_RSP()
    message.decode_msg(pdu.to_primitive())
    return message.command_set.Status
