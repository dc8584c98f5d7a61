"""Command sets, with pynetdicom as the oracle."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import decode, encode

from gateway.dimse.command import Command, Field, Tag
from gateway.dimse.pdu import ProtocolError
from tests.unit.dimse.conversations import element, store_rq

CT_IMAGE, INSTANCE = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4.5"


def theirs(message, primitive):
    message.primitive_to_message(primitive)
    return encode(message.command_set, True, True)


def store_request():
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 4711, 2
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CT_IMAGE, INSTANCE
    primitive.DataSet = BytesIO(b"data")
    return theirs(C_STORE_RQ(), primitive)


def test_a_store_request():
    command = Command.decode(store_request())
    assert command.field == Field.STORE_RQ
    assert command.has_data_set
    assert command.uid(Tag.AFFECTED_SOP_CLASS_UID) == CT_IMAGE.encode()
    assert command.uid(Tag.AFFECTED_SOP_INSTANCE_UID) == INSTANCE.encode()


@pytest.mark.parametrize("status", [0, 0xA700, 0xC001])
def test_a_store_response(status):
    response = decode(BytesIO(Command.decode(store_request()).response(status)), True, True)
    assert response.CommandField == 0x8001
    assert response.Status == status
    assert response.MessageIDBeingRespondedTo == 4711
    assert (response.AffectedSOPClassUID, response.AffectedSOPInstanceUID) == (CT_IMAGE, INSTANCE)
    assert response.CommandDataSetType == 0x0101
    assert response.CommandGroupLength == len(encode(response, True, True)) - 12


def test_an_echo():
    primitive = C_ECHO()
    primitive.MessageID, primitive.AffectedSOPClassUID = 1, "1.2.840.10008.1.1"
    command = Command.decode(theirs(C_ECHO_RQ(), primitive))
    assert (command.field, command.has_data_set) == (Field.ECHO_RQ, False)
    response = decode(BytesIO(command.response(0)), True, True)
    assert [elem.keyword for elem in response] == [
        "CommandGroupLength",
        "AffectedSOPClassUID",
        "CommandField",
        "MessageIDBeingRespondedTo",
        "CommandDataSetType",
        "Status",
    ]


def test_a_response_says_affected_where_the_request_says_requested():
    """PS3.7 section 10.3: of an N-ACTION and others."""
    request = (
        element(0x0003, b"1.2\0") + element(0x0100, b"\x30\1") + element(0x0110, b"\1\0") + element(0x1001, b"1.3\0")
    )
    response = decode(BytesIO(Command.decode(request).response(0x0211)), True, True)
    assert response.CommandField == 0x8130
    assert (response.AffectedSOPClassUID, response.AffectedSOPInstanceUID) == ("1.2", "1.3")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    try:
        command = Command.decode(data)
        assert command.field >= 0
        command.response(0)
    except ProtocolError:
        pass
    else:
        assert data


@given(st.integers(0, 200))
def test_a_command_set_that_ends_early(end):
    whole = store_rq()
    cut = whole[: end % len(whole)]
    complete = {0, *(at for at in range(len(whole)) if whole[at : at + 2] == b"\0\0" and starts(whole, at))}
    if len(cut) in complete:
        Command.decode(cut)
    else:
        with pytest.raises(ProtocolError):
            Command.decode(cut)


def starts(data, wanted):
    """Whether an element begins there."""
    at = 0
    while at < wanted:
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    return at == wanted


def test_elements_of_another_group_are_refused():
    with pytest.raises(ProtocolError):
        Command.decode(b"\x08\0" + element(0x0100, b"\1\0")[2:])
