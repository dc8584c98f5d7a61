"""Whatever bytes come, in whatever pieces: the multipart reader finds parts or says BadRequest, and holds little."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.errors import BadRequest
from dicomweb.multipart import MAX_PART_HEADER_BYTES, PartBegin, PartData, PartEnd, Reader

TOKENS = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b"--",
        b"--b",
        b"--b--",
        b"\r\n--b",
        b"\r\n--b--",
        b" ",
        b":",
        b"X: y",
        b"\0",
        b"b",
        b"\xff",
    ]
)
BODIES = st.one_of(st.binary(max_size=400), st.lists(TOKENS, max_size=60).map(b"".join))


def events(body: bytes, cuts: list[int], boundary: str = "b") -> list[object]:
    """What the reader says of a body cut at these places; BadRequest ends the list, anything else fails the test."""
    reader, found, start = Reader(boundary), [], 0
    try:
        for cut in [*sorted(cut % (len(body) + 1) for cut in cuts), len(body)]:
            found += reader.feed(body[start:cut])
            start = cut
        reader.finish()
    except BadRequest as exc:
        found.append(exc.message)
    return found


def taken(reader: Reader, piece: bytes) -> int:
    """How many bytes a reader takes of the same piece again and again before it gives up."""
    for count in range(1 << 14):
        try:
            list(reader.feed(piece))
        except BadRequest:
            return count * len(piece)
    return pytest.fail("the reader takes anything")


def joined(found: list[object]) -> list[object]:
    """The same with neighbouring data in one."""
    whole: list[object] = []
    for event in found:
        if isinstance(event, PartData) and whole and isinstance(whole[-1], PartData):
            whole[-1] = PartData(whole[-1].data + event.data)
        else:
            whole.append(event)
    return whole


@given(BODIES, st.lists(st.integers(0, 1 << 16), max_size=40))
def test_any_bytes_in_any_pieces(body, cuts):
    found = joined(events(body, cuts))
    assert found == joined(events(body, []))
    depth = 0
    for event in found:
        if isinstance(event, PartBegin):
            assert depth == 0
            depth = 1
        elif isinstance(event, PartData | PartEnd):
            assert depth == 1
            depth = int(isinstance(event, PartData))


@given(st.text(max_size=90))
def test_any_boundary(boundary):
    try:
        reader = Reader(boundary)
    except BadRequest:
        return
    assert 1 <= len(boundary) <= 70
    body = f"--{boundary}\r\n\r\nDATA\r\n--{boundary}--".encode()
    assert list(reader.feed(body)) == [PartBegin({}), PartData(b"DATA"), PartEnd()]


@pytest.mark.parametrize("boundary", ["(.*)+$", "[a-z]{9}", "\\r\\n", "%0d%0a", "--", "-" * 70, "a b", "'()+_,-./:=?"])
def test_boundaries_that_look_like_something_else(boundary):
    body = f"--{boundary}\r\n\r\n\r\n--x\r\n--{boundary}--\r\nepilogue --{boundary}".encode()
    assert joined(events(body, [3, 9, 20], boundary)) == [PartBegin({}), PartData(b"\r\n--x"), PartEnd()]


def test_a_hundred_thousand_parts_take_little_time():
    body = b"--b\r\nX: y\r\n\r\nz\r\n" * 100_000 + b"--b--"
    reader, count, begin = Reader("b"), 0, time.process_time()
    for at in range(0, len(body), 1 << 16):
        count += sum(isinstance(event, PartEnd) for event in reader.feed(body[at : at + (1 << 16)]))
    assert count == 100_000
    assert time.process_time() - begin < 10


def test_a_header_that_never_ends_is_given_up():
    reader = Reader("b")
    list(reader.feed(b"--b\r\n"))
    assert taken(reader, b"X: y\r\n" * 100) <= MAX_PART_HEADER_BYTES + 600


@pytest.mark.parametrize("junk", [b"-", b"--", b"\r\n", b"--b ", b"--bb\r\n", b"\r\n--"])
def test_a_preamble_of_near_misses_is_given_up(junk):
    reader = Reader("b")
    assert taken(reader, junk * 1000) < 1 << 18
    assert len(reader._buffer) < 1 << 17


@pytest.mark.parametrize("junk", [b"\r", b"\r\n--", b"\r\n--bx", b"\r\n--b" + b" " * 70])
def test_a_part_of_near_misses_is_passed_on_in_time(junk):
    """Every byte could begin a delimiter, none does: linear time, and the reader keeps a line at most."""
    payload = junk * 20_000
    reader, begin = Reader("b"), time.process_time()
    list(reader.feed(b"--b\r\n\r\n"))
    received = b"".join(
        event.data
        for at in range(0, len(payload), 4096)
        for event in reader.feed(payload[at : at + 4096])
        if isinstance(event, PartData)
    )
    assert payload.startswith(received)
    assert len(payload) - len(received) < 200
    assert time.process_time() - begin < 10
