"""Where frames lie: native ones, those of single bits, and fragments with and without an offset table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.errors import BadRequest, NotFound
from dicomweb.pixels.frames import FrameTable, encapsulated, native
from dicomweb.wado_pixels import parse_frames


@given(st.integers(1, 50), st.integers(0, 1 << 40), st.integers(1, 5000))
def test_native_frames_cover_the_pixel_data(count, offset, bits):
    table = native(count, offset, bits)
    for number in range(1, count + 1):
        ((start, length),) = table.ranges(number)
        first_bit = (start - offset) * 8 + table.bit_offset(number)
        assert first_bit == (number - 1) * bits
        assert length * 8 >= table.bit_offset(number) + bits > (length - 1) * 8


@given(st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=3), min_size=1, max_size=10))
def test_encapsulated_frames_are_their_fragments(frames):
    lengths = [length for frame in frames for length in frame]
    starts, position = [], 0
    for frame in frames:
        starts.append(position)
        position += sum(frame) + 8 * len(frame)
    table = encapsulated(len(frames), 100, lengths, [starts])
    assert [[length for _, length in table.ranges(n)] for n in range(1, len(frames) + 1)] == frames
    found = [offset for n in range(1, len(frames) + 1) for offset, _ in table.ranges(n)]
    expected = [100 + sum(lengths[:index]) + 8 * index for index in range(len(lengths))]
    assert found == expected
    assert FrameTable.unpack(table.pack()) == table
    assert [offset for n in range(1, len(frames) + 1) for offset, _ in table.index().ranges(n)] == expected


@pytest.mark.parametrize("starts", [[], [0], [0, 5], [8, 16], [0, 0], [16, 0]])
def test_frames_that_cannot_be_told_apart(starts):
    assert encapsulated(2, 0, [8, 8, 8], [starts]).count == 0


def test_what_tells_frames_apart_without_a_right_offset_table():
    lengths = [8, 8, 8]
    assert encapsulated(2, 0, lengths, [[0, 5], [0, 32]]).first == (0, 2)  # the second table fits
    assert encapsulated(2, 0, lengths, [[], []], [0, 1]).first == (0, 1)
    assert encapsulated(2, 0, lengths, [[0, 32]], [0, 1]).first == (0, 2)  # the table counts
    for codestreams in ([], [0], [1, 2], [0, 1, 2]):
        assert encapsulated(2, 0, lengths, [[]], codestreams).count == 0


@pytest.mark.parametrize("number", [0, -1, 4])
def test_no_such_frame(number):
    with pytest.raises(NotFound):
        native(3, 0, 8).ranges(number)


def test_a_frame_list():
    assert parse_frames("3,1,2") == [3, 1, 2]


@pytest.mark.parametrize("text", ["", "0", "1,", "a", "-1", "1,1", "2,1,2", ",".join(["1"] * 500)])
def test_what_is_no_frame_list(text):
    with pytest.raises(BadRequest):
        parse_frames(text)
