"""What pictures depend on of a stored header, found without parsing the rest.

The slices of a series differ in their positions and times, seldom in how they are shown: who has parsed one has parsed
them all. Finding the elements takes 0.06 ms for a CT header of 180 elements, parsing it and converting values 0.8.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from io import BytesIO

from pydicom import Dataset
from pydicom.filereader import read_dataset

#: Only headers up to this are looked through and remembered.
MAX_BYTES = 64 << 10
_MAX_DEPTH = 16

#: Groups all of which count: those of the image and its look-up tables, of functional groups and of overlays.
_GROUPS = frozenset([0x0028, 0x2050, 0x5200, *range(0x6000, 0x6020, 2)])
#: Further elements: Modality, Conversion Type, two spacings, Optical Path Sequence.
_TAGS = frozenset([0x00080060, 0x00080064, 0x00181164, 0x00182010, 0x00480105])
#: Those that tell of each slice what its pixels are like: smallest and largest values.
_DIFFERENT = frozenset([0x00280106, 0x00280107, 0x00280108, 0x00280109, 0x00280110, 0x00280111])

# An element of the file meta information (PS3.10 section 7.1): its length, which comes first.
_META_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
_META_END = 144
# PS3.5 section 7.1.2: these have a length of 32 bits, at 8 bytes from the beginning; others one of 16 bits.
_LONG = frozenset([b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"])
_UNDEFINED = 0xFFFFFFFF
# As one number each, read as little endian: the element is the upper half.
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000FFFE, 0xE00DFFFE, 0xE0DDFFFE

_HEAD = struct.Struct("<HH2sH")
_LENGTH = struct.Struct("<L")
_ITEM_HEAD = struct.Struct("<LL")


def relevant(data: memoryview, end: int) -> bytes | None:
    """The elements that a picture depends on, as they are encoded.

    Parameters
    ----------
    data : bytes; the beginning of a Part 10 file in Explicit VR Little Endian.
    end : where its pixel data begins.

    Returns
    -------
    Elements one after the other; None if they cannot be found this way.
    """
    if bytes(data[132:140]) != _META_LENGTH or len(data) < end:
        return None
    pieces = []
    try:
        (length,) = _LENGTH.unpack_from(data, 140)
        position = _META_END + length
        while position < end:
            group, element, vr, size = _HEAD.unpack_from(data, position)
            after = _end_of(data, position, 0) if vr in _LONG else position + 8 + size
            tag = group << 16 | element
            if (group in _GROUPS or tag in _TAGS) and tag not in _DIFFERENT:
                pieces.append(data[position:after])
            position = after
    except (struct.error, ValueError):
        return None
    return b"".join(pieces) if position == end else None


class PictureHeader(Dataset):
    """What pictures depend on; it is never changed, and told from others by which one it is: a key of what is made."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


@lru_cache(maxsize=32)
def parsed(elements: bytes) -> PictureHeader:
    """What `relevant` found as a data set."""
    header = PictureHeader(read_dataset(BytesIO(elements), is_implicit_VR=False, is_little_endian=True))
    header.set_original_encoding(is_implicit_vr=False, is_little_endian=True)  # palettes are read by it
    return header


def _end_of(data: memoryview, position: int, depth: int) -> int:
    """Where the element at a position ends; raises ValueError where that cannot be told, struct.error at the end."""
    _, _, vr, length = _HEAD.unpack_from(data, position)
    if vr not in _LONG:
        return position + 8 + int(length)
    (length,) = _LENGTH.unpack_from(data, position + 8)
    if length != _UNDEFINED:
        return position + 12 + int(length)
    if vr != b"SQ" or depth > _MAX_DEPTH:  # an UN of undefined length is implicit within (PS3.5 section 6.2.2)
        raise ValueError("not a sequence")
    return _end_of_items(data, position + 12, depth + 1)


def _end_of_items(data: memoryview, position: int, depth: int) -> int:
    """Where a sequence of undefined length ends, whose first item is at a position (PS3.5 section 7.5)."""
    while True:
        tag, length = _ITEM_HEAD.unpack_from(data, position)
        position += 8
        if tag == _SEQUENCE_END:
            return position
        if tag != _ITEM:
            raise ValueError("not an item")
        if length != _UNDEFINED:
            position += length
            continue
        while _LENGTH.unpack_from(data, position)[0] != _ITEM_END:
            position = _end_of(data, position, depth)
        position += 8
