"""Where codestreams begin among the fragments of encapsulated pixel data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import itemize_fragment

from dicomweb.errors import TooLarge
from gateway.intake.pixels import UNDEFINED, PixelElement, PixelLayout, PixelScan

SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def layout_of(fragments: list[bytes], size: int) -> PixelLayout:
    value = itemize_fragment(b"") + b"".join(map(itemize_fragment, fragments)) + SEQUENCE_END
    data = value + b"and what follows"
    scan = PixelScan(PixelElement(0x7FE00010, "OB", UNDEFINED))
    used = 0
    while not scan.done:
        used += scan.feed(data[used : used + size])
    assert used == len(value) == scan.layout.size
    return scan.layout


@given(
    st.lists(
        st.lists(st.binary(max_size=20).filter(lambda data: b"\xff" not in data), min_size=1, max_size=4), max_size=6
    ),
    st.sampled_from([b"\xff\xd8", b"\xff\x4f"]),
    st.integers(1, 30),
)
def test_each_codestream_is_found_in_pieces_of_any_size(frames, start, size):
    fragments: list[bytes] = []
    expected: list[int] = []
    for pieces in frames:
        expected.append(len(fragments))
        first, *rest = pieces
        whole = [start + first, *rest]
        whole[-1] += b"\xff\xd9"
        fragments += [piece + b"\0" * (len(piece) % 2) for piece in whole]
    layout = layout_of(fragments, size)
    assert layout.codestreams == expected
    assert layout.fragments == [len(fragment) for fragment in fragments]


@pytest.mark.parametrize(
    ("fragments", "expected"),
    [
        ([b"\xff\xd8ab", b"\xff\xd8cd", b"ef\xff\xd9"], [0]),  # SOI within a codestream that has not ended
        ([b"\x00\x00\x01\xba", b"ab\xff\xd9"], []),  # a video
        ([b"\xff\xd8ab\xff\xd9", b"", b"\xff\xd8\xff\xd9"], [0]),
    ],
)
def test_what_is_no_beginning(fragments, expected):
    assert layout_of(fragments, 7).codestreams == expected


def test_what_is_held_in_memory_is_bounded(monkeypatch):
    scan = PixelScan(PixelElement(0x7FE00010, "OB", UNDEFINED))
    with pytest.raises(TooLarge):  # an offset table that says it has 2 GiB
        scan.feed(b"\xfe\xff\x00\xe0\0\0\0\x80")
    monkeypatch.setattr("gateway.intake.pixels._MAX_FRAGMENTS", 3)
    assert len(layout_of([b"ab"] * 2, 7).fragments) == 2
    with pytest.raises(TooLarge):
        layout_of([b"ab"] * 4, 7)
