"""Where codestreams begin among the fragments of encapsulated pixel data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import itemize_fragment

from gateway.part10 import UNDEFINED, ByteSource, PixelElement, PixelLayout, stream_pixels
from tests.samples import stream

SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


async def layout_of(fragments: list[bytes], size: int) -> PixelLayout:
    value = itemize_fragment(b"") + b"".join(map(itemize_fragment, fragments)) + SEQUENCE_END
    layout = PixelLayout()
    source = ByteSource(stream(value, size), max_bytes=1 << 20)
    passed = [piece async for piece in stream_pixels(source, PixelElement(0x7FE00010, "OB", UNDEFINED), layout)]
    assert b"".join(passed) == value
    return layout


@given(
    st.lists(
        st.lists(st.binary(max_size=20).filter(lambda data: b"\xff" not in data), min_size=1, max_size=4), max_size=6
    ),
    st.sampled_from([b"\xff\xd8", b"\xff\x4f"]),
    st.integers(1, 30),
)
async def test_each_codestream_is_found_in_pieces_of_any_size(frames, start, size):
    fragments: list[bytes] = []
    expected: list[int] = []
    for pieces in frames:
        expected.append(len(fragments))
        first, *rest = pieces
        whole = [start + first, *rest]
        whole[-1] += b"\xff\xd9"
        fragments += [piece + b"\0" * (len(piece) % 2) for piece in whole]
    layout = await layout_of(fragments, size)
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
async def test_what_is_no_beginning(fragments, expected):
    assert (await layout_of(fragments, 7)).codestreams == expected
