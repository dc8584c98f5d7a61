"""Negotiates an association as its acceptor (PS3.8 section 7.1, PS3.7 Annex D), with what pynetdicom has for that."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context, negotiate_unrestricted
from pynetdicom.sop_class import Verification

from gateway.dimse.pdu import INVALID, Kind, ProtocolError, associate_rj
from gateway.intake.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 Annex A
#: Of an A-ASSOCIATE-RQ, before its items (PS3.8 Table 9-11); pynetdicom also reads what ends within them.
_FIXED_BYTES = 68
#: Result, source and reason of rejections (PS3.8 Table 9-21).
_CALLED_TITLE_UNKNOWN = (1, 1, 7)
_VERSION_UNSUPPORTED = (1, 2, 2)
_LOCAL_LIMIT_EXCEEDED = (2, 3, 2)


@dataclass(frozen=True, slots=True)
class Context:
    """A presentation context that was accepted."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was agreed, and the PDU that says so. The peer takes PDUs up to `max_pdu_bytes`, with 0 any."""

    answer: bytes
    calling_title: str
    contexts: Mapping[int, Context]
    max_pdu_bytes: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """The PDU that rejects the association."""

    answer: bytes


def negotiate(body: bytes, *, title: str, max_pdu_bytes: int, full: bool) -> Accepted | Rejected:
    """Answer an A-ASSOCIATE-RQ; of 128 contexts with 40 transfer syntaxes each that takes 0.1 s, so not on the loop.

    Parameters
    ----------
    body : the PDU without its head.
    title : our AE title, by which the peer has to call us.
    max_pdu_bytes : the largest PDU that we take.
    full : whether there are more associations than there may be.

    Raises
    ------
    ProtocolError : it cannot be read.
    """
    try:
        return _answer(body, title, max_pdu_bytes, full=full)
    except ProtocolError:
        raise
    except Exception as exc:
        raise ProtocolError(INVALID, f"a request that cannot be read ({type(exc).__name__})") from exc


def _answer(body: bytes, title: str, max_pdu_bytes: int, *, full: bool) -> Accepted | Rejected:
    if len(body) < _FIXED_BYTES:
        raise ProtocolError(INVALID, "a request that ends early")
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(struct.pack(">BxL", Kind.ASSOCIATE_RQ, len(body)) + body)
    if not pdu.protocol_version & 1:
        return Rejected(associate_rj(*_VERSION_UNSUPPORTED))
    request = pdu.to_primitive()
    if full:
        return Rejected(associate_rj(*_LOCAL_LIMIT_EXCEEDED))
    if request.called_ae_title != title.strip():
        return Rejected(associate_rj(*_CALLED_TITLE_UNKNOWN))
    _prefer_standard_syntaxes(request)
    # Every storage class is accepted, unknown and private ones too, with the first transfer syntax of each context: the
    # one that the sender likes best, mostly that in which it has the object.
    contexts, roles = negotiate_unrestricted(
        request.presentation_context_definition_list, [build_context(Verification)], _roles(request)
    )
    length = next((i for i in request.user_information if isinstance(i, MaximumLengthNotification)), None)
    return Accepted(
        _accept(request, contexts, [_maximum_length(max_pdu_bytes), *_implementation(), *roles]),
        request.calling_ae_title.strip(),
        {context.context_id: _accepted(context) for context in contexts if context.result == 0},
        length.maximum_length_received if length else 0,
    )


def _prefer_standard_syntaxes(request: A_ASSOCIATE) -> None:
    """Strike private transfer syntaxes from a request where there is a choice: the first that is left gets accepted."""
    for context in request.presentation_context_definition_list:
        standard = [syntax for syntax in context.transfer_syntax if not syntax.is_private]
        if standard:
            context.transfer_syntax = standard


def _roles(request: A_ASSOCIATE) -> dict[UID, tuple[bool, bool]]:
    """The roles that the requestor proposes, of each SOP class that it names (PS3.7 section D.3.3.4)."""
    items = [item for item in request.user_information if isinstance(item, SCP_SCU_RoleSelectionNegotiation)]
    return {item.sop_class_uid: (item.scu_role, item.scp_role) for item in items}


def _accepted(context: PresentationContext) -> Context:
    return Context(context.context_id, str(context.abstract_syntax), str(context.transfer_syntax[0]))


def _accept(request: A_ASSOCIATE, contexts: list[PresentationContext], items: list[Any]) -> bytes:
    """The A-ASSOCIATE-AC PDU; the AE titles are sent back as they came (PS3.8 section 9.3.3)."""
    answer = A_ASSOCIATE()
    answer.application_context_name = UID(_APPLICATION_CONTEXT)
    answer.calling_ae_title, answer.called_ae_title = request.calling_ae_title, request.called_ae_title
    answer.result, answer.result_source = 0, 1
    answer.presentation_context_definition_results_list = contexts
    answer.user_information = items
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(answer)
    return bytes(pdu.encode())


def _maximum_length(max_pdu_bytes: int) -> MaximumLengthNotification:
    item = MaximumLengthNotification()
    item.maximum_length_received = max_pdu_bytes
    return item


def _implementation() -> list[Any]:
    uid, version = ImplementationClassUIDNotification(), ImplementationVersionNameNotification()
    uid.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version.implementation_version_name = IMPLEMENTATION_VERSION
    return [uid, version]
