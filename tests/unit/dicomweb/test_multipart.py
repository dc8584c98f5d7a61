"""The multipart reader, fed whole, in pieces and byte by byte, with honest and hostile bodies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb import multipart
from dicomweb.errors import BadRequest
from dicomweb.multipart import PartBegin, PartData, PartEnd, Reader


def read(body: bytes, boundary: str = "b", step: int = 0) -> list[tuple[dict, bytes]]:
    """The parts of a body, fed in pieces of `step` bytes."""
    reader = Reader(boundary)
    parts: list[tuple[dict, bytes]] = []
    for at in range(0, len(body), step or len(body)):
        for event in reader.feed(body[at : at + (step or len(body))]):
            match event:
                case PartBegin(headers):
                    parts.append((headers, b""))
                case PartData(data):
                    parts[-1] = (parts[-1][0], parts[-1][1] + data)
                case PartEnd():
                    parts[-1][0]["(complete)"] = "yes"
    reader.finish()
    return parts


def write(*payloads: bytes, boundary: str = "b") -> bytes:
    body = b""
    for payload in payloads:
        body += multipart.part_head(boundary, "application/dicom", len(payload), "/x", first=not body) + payload
    return body + multipart.closing(boundary)


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4), st.integers(1, 200))
def test_what_is_written_is_read(payloads, step):
    assert [data for _, data in read(write(*payloads), step=step)] == payloads


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--", b"b", b"\r\n--b", b"\r\n--", b"x", b" "]), max_size=12),
    st.integers(1, 9),
)
def test_no_payload_is_mistaken_for_a_boundary(pieces, step):
    payload = b"".join(pieces).replace(b"\r\n--bound", b"")
    assert [data for _, data in read(write(payload, boundary="bound"), "bound", step)] == [payload]


@given(st.binary(max_size=300), st.integers(1, 20))
def test_pieces_do_not_matter(body, step):
    def outcome(size):
        try:
            return read(b"--b\r\n" + body, step=size)
        except BadRequest as exc:
            return exc.message

    assert outcome(step) == outcome(0)


@pytest.mark.parametrize("step", [0, 1, 7])
def test_preamble_padding_folding_and_epilogue(step):
    body = b"hello\r\n--b \t\r\nContent-Type: a;\r\n type=b\r\nX: y\r\n\r\nDATA\r\n--b--\r\nbye"
    assert read(body, step=step) == [({"content-type": "a; type=b", "x": "y", "(complete)": "yes"}, b"DATA")]


@pytest.mark.parametrize("step", [0, 1])
def test_part_without_headers(step):
    assert read(b"--b\r\n\r\n\r\n--b--", step=step) == [({"(complete)": "yes"}, b"")]


@pytest.mark.parametrize(
    "body",
    [
        b"nothing",
        b"x" * 70_000,
        b"--b\r\nContent-Type: a\r\n\r\nDATA",
        b"--b\r\nContent-Type: a\r\n\r\nDATA\r\n--b",
        b"--b\r\nContent-Type: a\r\n",
        b"--b\r\nno colon\r\n\r\n\r\n--b--",
        b"--b\r\n" + b"X: y\r\n" * 4000,
    ],
)
def test_malformed(body):
    for step in (0, 999):
        with pytest.raises(BadRequest):
            read(body, step=step)


@pytest.mark.parametrize("boundary", ["", "x" * 71, "ü", " ", "x ", "a\r\nb", "a\0b", "x\n"])
def test_bad_boundary(boundary):
    with pytest.raises(BadRequest):
        Reader(boundary)


def test_memory_is_bounded():
    reader = Reader("b")
    list(reader.feed(b"--b\r\n\r\n"))
    for _ in range(100):
        list(reader.feed(b"x" * 10_000))
        assert len(reader._buffer) < 100


def test_the_boundary_depends_on_the_parts_only():
    assert multipart.boundary_for("a", "b") == multipart.boundary_for("a", "b") != multipart.boundary_for("ab")
