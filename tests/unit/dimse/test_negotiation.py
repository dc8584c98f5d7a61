"""Negotiation, asked by pynetdicom and answered in PDUs that pynetdicom reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext

from gateway.dimse.negotiation import Accepted, Rejected, negotiate
from gateway.dimse.pdu import ProtocolError

CT, VERIFICATION, FIND = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.2.2.1"
PRIVATE_CLASS, PRIVATE_SYNTAX = "1.3.6.1.4.1.99999.1", "1.2.840.113619.5.2"


def asked(contexts, *, called="ISTHMUS", max_bytes=16384, items=(), version=1):
    """The body of an A-ASSOCIATE-RQ."""
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "SENDER", called
    for number, (abstract, syntaxes) in enumerate(contexts):
        context = PresentationContext()
        context.context_id, context.abstract_syntax, context.transfer_syntax = 2 * number + 1, abstract, syntaxes
        request.presentation_context_definition_list.append(context)
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = max_bytes, "1.2.3"
    request.user_information = [length, implementation, *items]
    pdu = A_ASSOCIATE_RQ(request)
    pdu.protocol_version = version
    return pdu.encode()[6:]


def answer(body, *, full=False):
    return negotiate(body, title="ISTHMUS", max_pdu_bytes=1 << 20, full=full)


def read(accepted):
    pdu = A_ASSOCIATE_AC()
    pdu.decode(accepted.answer)
    return pdu.to_primitive()


def test_what_is_agreed():
    accepted = answer(asked([(CT, [ExplicitVRLittleEndian]), (FIND, [ImplicitVRLittleEndian])], max_bytes=4096))
    assert isinstance(accepted, Accepted)
    assert accepted.calling_title == "SENDER"
    assert accepted.max_pdu_bytes == 4096
    (context,) = accepted.contexts.values()
    assert (context.context_id, context.abstract_syntax, context.transfer_syntax) == (1, CT, ExplicitVRLittleEndian)
    told = read(accepted)
    assert [context.result for context in told.presentation_context_definition_results_list] == [0, 3]
    assert told.user_information[0].maximum_length_received == 1 << 20
    assert (told.calling_ae_title, told.called_ae_title) == ("SENDER", "ISTHMUS")


@pytest.mark.parametrize(
    ("proposed", "expected"),
    [
        ([PRIVATE_SYNTAX, ImplicitVRLittleEndian, ExplicitVRLittleEndian], ImplicitVRLittleEndian),
        ([ExplicitVRLittleEndian, ImplicitVRLittleEndian], ExplicitVRLittleEndian),
        ([PRIVATE_SYNTAX], PRIVATE_SYNTAX),
    ],
)
@pytest.mark.parametrize("sop_class", [CT, PRIVATE_CLASS])
def test_the_first_standard_syntax_is_taken(sop_class, proposed, expected):
    assert answer(asked([(sop_class, proposed)])).contexts[1].transfer_syntax == expected


@pytest.mark.parametrize(
    ("changes", "full", "expected"),
    [
        ({"called": "SOMEBODY"}, False, (1, 1, 7)),
        ({"version": 2}, False, (1, 2, 2)),
        ({}, True, (2, 3, 2)),
    ],
    ids=["another called title", "another version", "too many"],
)
def test_rejections(changes, full, expected):
    rejected = answer(asked([(VERIFICATION, [ImplicitVRLittleEndian])], **changes), full=full)
    assert isinstance(rejected, Rejected)
    pdu = A_ASSOCIATE_RJ()
    pdu.decode(rejected.answer)
    assert (pdu.result, pdu.source, pdu.reason_diagnostic) == expected


def test_roles_are_granted():
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = CT, True, True
    told = read(answer(asked([(CT, [ExplicitVRLittleEndian])], items=[role])))
    (granted,) = [item for item in told.user_information if isinstance(item, SCP_SCU_RoleSelectionNegotiation)]
    assert (granted.sop_class_uid, granted.scu_role, granted.scp_role) == (CT, True, True)


def test_user_identities_are_not_asked_for():
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field, identity.secondary_field = 2, b"name", b"word"
    accepted = answer(asked([(CT, [ExplicitVRLittleEndian])], items=[identity]))
    assert not [item for item in read(accepted).user_information if isinstance(item, UserIdentityNegotiation)]


def test_nothing_acceptable_is_an_association_all_the_same():
    accepted = answer(asked([(FIND, [ImplicitVRLittleEndian])]))
    assert accepted.contexts == {}


@given(st.binary(max_size=67))
def test_a_request_that_ends_early_is_refused(body):
    with pytest.raises(ProtocolError):
        answer(body)


def said(body):
    """What is said of a request: the text of an error, or the answer."""
    try:
        return answer(body)
    except ProtocolError as exc:
        return str(exc)


@given(st.binary(min_size=68, max_size=200))
def test_any_bytes_are_refused_or_rejected_without_their_text(body):
    found = said(body)
    assert isinstance(found, Rejected) or len(found) < 60


@given(st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_a_damaged_request_is_answered_or_refused(at, damage):
    whole = asked([(CT, [ExplicitVRLittleEndian, PRIVATE_SYNTAX]), (VERIFICATION, [ImplicitVRLittleEndian])])
    at %= len(whole)
    try:
        found = answer((whole[:at] + damage + whole[at + len(damage) :])[: len(whole)])
    except ProtocolError:
        return
    assert found.answer[0] in (2, 3)
