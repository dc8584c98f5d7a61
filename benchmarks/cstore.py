"""Sends C-STORE requests that were encoded before the clock starts: what is measured is the server, not the client."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from io import BytesIO

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext

from benchmarks.phantom import Instance
from benchmarks.servers import Server

_ASSOCIATE_AC = 2
_CONTEXT_ID = 1
_IMPLEMENTATION_UID = "2.25.132386834573910485239471839204820194"
#: As much as DCMTK sends in one PDU.
_MAX_PDU_BYTES = 131072
_TIMEOUT_S = 60.0


class Refused(Exception):
    """An association was not accepted."""


def associate(server: Server) -> tuple[socket.socket, int]:
    """Open an association: its connection, and the largest PDU that may be sent; raise Refused."""
    opened = socket.create_connection(("127.0.0.1", server.dicom_port), _TIMEOUT_S)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        opened.sendall(_request(server.ae_title))
        return opened, min(_accepted_length(*_read(opened)), _MAX_PDU_BYTES)
    except BaseException:
        opened.close()
        raise


def _read(opened: socket.socket) -> tuple[int, bytes]:
    """Type and bytes of the next PDU (PS3.8 section 9.3)."""
    with opened.makefile("rb", buffering=0) as file:
        head = file.read(6)
        if len(head) < 6:
            raise Refused("the connection was closed")
        kind, length = struct.unpack(">BxL", head)
        return kind, head + file.read(length)


def _request(ae_title: str) -> bytes:
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
        raise Refused(f"answered with PDU type {kind}")
    pdu = A_ASSOCIATE_AC()
    pdu.decode(data)
    (context,) = pdu.to_primitive().presentation_context_definition_results_list
    if context.result != 0:
        raise RuntimeError("the server does not take CT images")
    return pdu.user_information.maximum_length or _MAX_PDU_BYTES


def pdus(instance: Instance, max_pdu_bytes: int) -> Iterator[bytes]:
    """A C-STORE request and its data set."""
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
