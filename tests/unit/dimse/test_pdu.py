"""The reader of PDUs: any split of a conversation says the same, and what is none raises ProtocolError."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_RJ, A_RELEASE_RP, P_DATA_TF

from gateway.dimse.pdu import (
    COMMAND,
    LAST,
    UNEXPECTED,
    UNRECOGNISED,
    Kind,
    PduReader,
    ProtocolError,
    abort,
    associate_rj,
    data_pdus,
    release_rp,
)
from tests.unit.dimse.conversations import fragment, pdu, split

ALLOWED = {Kind.ASSOCIATE_RQ: 1000, Kind.DATA: 2000, Kind.RELEASE_RQ: 4, Kind.ABORT: 4}


class Taken:
    """Notes what a reader finds; pieces of a fragment are joined."""

    def __init__(self):
        self.found = []
        self._pieces = []

    def pdu(self, kind, body):
        self.found.append((kind, body))

    def fragment(self, context_id, control, data, *, whole):
        self._pieces.append(bytes(data))
        if whole:
            self.found.append((context_id, control, b"".join(self._pieces)))
            self._pieces = []


def read(pieces, allowed=ALLOWED):
    taken = Taken()
    reader = PduReader(taken)
    reader.allowed = allowed
    for piece in pieces:
        reader.feed(piece)
    return taken.found, reader.within


fragments = st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=60))
conversations = st.lists(
    st.one_of(
        st.lists(fragments, max_size=5),
        st.tuples(st.just(int(Kind.ASSOCIATE_RQ)), st.binary(min_size=4, max_size=100)),
        st.tuples(st.sampled_from([int(Kind.RELEASE_RQ), int(Kind.ABORT)]), st.just(bytes(4))),
    ),
    max_size=6,
)


def encoded(item):
    if isinstance(item, tuple):
        return pdu(*item)
    return pdu(
        4, b"".join(struct.pack(">LBB", len(data) + 2, context, control) + data for context, control, data in item)
    )


@given(conversations, st.lists(st.integers(0, 10_000), max_size=40))
def test_any_split_says_the_same(conversation, cuts):
    expected = []
    for item in conversation:
        expected += [item] if isinstance(item, tuple) else item
    data = b"".join(map(encoded, conversation))
    assert read(split(data, cuts)) == (expected, False)


@given(conversations)
def test_byte_for_byte(conversation):
    data = b"".join(map(encoded, conversation))
    assert read(split(data, range(len(data)))) == read([memoryview(data)])


@given(conversations, st.integers(1, 10_000))
def test_what_is_not_complete_is_known(conversation, cut):
    data = b"".join(map(encoded, conversation))
    ends = {len(b"".join(map(encoded, conversation[:count]))) for count in range(len(conversation) + 1)}
    cut %= len(data) + 1
    assert read([memoryview(data)[:cut]])[1] == (cut not in ends)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
def test_any_bytes_are_read_or_refused(data, cuts):
    try:
        found, _ = read(split(data, cuts))
    except ProtocolError:
        return
    assert sum(len(item[-1]) for item in found) <= len(data)


@given(st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=60))
def test_lengths_of_fragments_that_lie(length, data):
    lying = pdu(4, struct.pack(">LBB", length, 1, 3) + data)
    if length == len(data) + 2:
        assert read([memoryview(lying)])[0] == [(1, 3, data)]
    else:
        with pytest.raises(ProtocolError):
            read([memoryview(lying + fragment(b"next"))])


@pytest.mark.parametrize("length", [1, 5])
def test_a_pdu_too_short_for_a_fragment(length):
    with pytest.raises(ProtocolError):
        read([memoryview(pdu(4, bytes(length)) + fragment(b"next"))])


@pytest.mark.parametrize(
    ("head", "reason"),
    [(b"GET / ", UNRECOGNISED), (b"\0\0\0\0\0\4", UNRECOGNISED), (struct.pack(">BBL", 2, 0, 70), UNEXPECTED)],
)
def test_what_may_not_come_is_refused_at_its_head(head, reason):
    with pytest.raises(ProtocolError) as refused:
        read([memoryview(head)])
    assert refused.value.reason == reason


@pytest.mark.parametrize(("kind", "length"), [(4, 2001), (1, 1001), (4, 0xFFFFFFFF), (5, 5), (5, 3), (7, 0)])
def test_a_length_that_may_not_be_is_refused_at_the_head(kind, length):
    with pytest.raises(ProtocolError):
        read([memoryview(struct.pack(">BBL", kind, 0, length))])


@given(st.binary(min_size=1, max_size=400), st.integers(0, 500))
def test_data_goes_in_pdus_that_the_peer_takes(data, max_bytes):
    sent = data_pdus(3, data, max_bytes)
    pieces, controls, at = [], [], 0
    while at < len(sent):
        (length,) = struct.unpack_from(">L", sent, at + 2)
        assert length <= max(max_bytes, 7) or max_bytes == 0
        theirs = P_DATA_TF()
        theirs.decode(sent[at : at + 6 + length])
        ((context_id, value),) = theirs.to_primitive().presentation_data_value_list
        assert context_id == 3
        controls.append(value[0])
        pieces.append(value[1:])
        at += 6 + length
    assert b"".join(pieces) == data
    assert controls == [COMMAND] * (len(pieces) - 1) + [COMMAND | LAST]


def test_short_pdus_are_as_pynetdicom_reads_them():
    rejection = A_ASSOCIATE_RJ()
    rejection.decode(associate_rj(2, 3, 2))
    assert (rejection.result, rejection.source, rejection.reason_diagnostic) == (2, 3, 2)
    assert rejection.encode() == associate_rj(2, 3, 2)
    assert A_RELEASE_RP().encode() == release_rp()
    by_user, by_provider = A_ABORT_RQ(), A_ABORT_RQ()
    by_user.decode(abort())
    by_provider.decode(abort(6))
    assert (by_user.source, by_user.reason_diagnostic) == (0, 0)
    assert (by_provider.source, by_provider.reason_diagnostic) == (2, 6)
