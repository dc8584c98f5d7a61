"""Walks over codestreams that tell the picture, and what decoders go by, from comments, EXIF, XMP and the like.

Known are JPEG (ISO 10918-1 Annex B), JPEG-LS (ISO 14495-1 Annex C), JPEG 2000 with HTJ2K (ISO 15444-1 Annex A and
ISO 15444-15) and the boxes that some wrap it in (ISO 15444-1 Annex I). A walk gives steps, each of so many bytes; it is
sent the bytes that were read and the marker that a search came to. Lengths that contradict the markers are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from enum import IntEnum, auto
from typing import Final

from gateway.deid.policy import Refusal


class Do(IntEnum):  # the hash of which is that of a number, an eighth of the time
    """What is done with the bytes of a step."""

    OPEN = auto()  # kept, and read: how a codestream begins
    MARKER = auto()  # kept, and read: a marker is due
    READ = auto()  # kept, and read
    KEEP = auto()  # of a segment or box
    BLANK = auto()
    PICTURE = auto()  # kept
    SEARCH_JPEG = auto()  # kept up to and with the next marker
    SEARCH_J2K = auto()  # kept up to and with the end, or the start of a packet
    REST = auto()  # blanked to the end of the fragment
    ZEROS = auto()  # nothing else may come in the fragment
    OTHER = auto()  # kept to the end of the fragment


Walk = Generator[tuple[Do, int], bytes, None]
SOI, SOC = b"\xff\xd8", b"\xff\x4f"
#: Steps that end with the fragment.
ENDLESS: Final = 1 << 62
_COM, _SOS, _EOI, _TEM = 0xFE, 0xDA, 0xD9, 0x01
#: SOF0-15 with DHT and DAC; SOS, DQT, DNL, DRI, DHP, EXP; SOF55, LSE and SOF57 of JPEG-LS.
_JPEG_NEEDED: Final = frozenset([*range(0xC0, 0xD0), *range(0xDA, 0xE0), 0xF7, 0xF8, 0xF9])
#: Segments of applications that decoders go by: how each begins, no two with one byte, and how much of it they read:
#: JFIF, the color transforms of Adobe and of HP (JPEG-LS), header and end of SPIFF. Thumbnails come after that.
_APPS_NEEDED: Final = {
    0xE0: ((b"JFIF\0", 14),),
    0xE8: ((b"SPIFF\0", 30), (b"mrfx", 5), (b"\0\0\0\1\xff\xd8", 6)),
    0xEE: ((b"Adobe", 12),),
}
_J2K_COM, _SOT, _SOD, _SOP = 0x64, 0x90, 0x93, 0x91
#: Table A.2 of ISO 15444-1 with CAP, PRF and CPF, and the transforms of ISO 15444-2; and markers without a segment.
_J2K_NEEDED: Final = frozenset(
    [0x50, 0x51, 0x52, 0x53, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5C, 0x5D, 0x5E, 0x5F, 0x60, 0x61, 0x63, *range(0x70, 0x7A)]
)
_J2K_BARE: Final = range(0x30, 0x40)
_BOXES_NEEDED: Final = frozenset((b"jP  ", b"ftyp", b"rreq", b"ihdr", b"bpcc", b"pclr", b"cmap", b"cdef", b"res "))
_JP2 = b"\0\0\0\x0cjP  "
_MALFORMED: Final = "The compressed pixel data is malformed, so that nobody can look for text besides the picture."
_UNKNOWN: Final = "The pixel data is a video, or compressed as nothing here knows; nobody can look for text in it."


def codestream(*, is_other: bool) -> Walk:
    """Walk over a codestream from its start; `is_other` if there may be one of which nothing is known."""
    start = yield Do.OPEN, 2
    if start == SOI:
        yield from _jpeg()
        return
    if start == SOC:
        yield from _j2k()
        return
    if start == _JP2[:2]:
        start += yield Do.OPEN, 6
    if start == _JP2:
        yield Do.KEEP, 4
        yield from _boxes()
    elif start[:4] == _JP2[:4] or (any(start) and not is_other):
        raise Refusal(_UNKNOWN)
    yield (Do.OTHER if is_other else Do.ZEROS), ENDLESS


def _marker() -> Generator[tuple[Do, int], bytes, int]:
    """The next marker, which must follow at once, but for fill bytes."""
    first, second = yield Do.MARKER, 2
    while first == second == 0xFF:
        (second,) = yield Do.MARKER, 1
    if first != 0xFF or not second:
        raise Refusal(_MALFORMED)
    return second


def _length() -> Generator[tuple[Do, int], bytes, int]:
    """What a segment has beyond its length."""
    length = int.from_bytes((yield Do.READ, 2), "big") - 2
    if length < 0:
        raise Refusal(_MALFORMED)
    return length


def _jpeg() -> Walk:
    marker = yield from _marker()
    while marker != _EOI:
        if marker != SOI[1] and marker != _TEM:  # SOI: a codestream without end, and the next
            length = yield from _length()
            if marker in _JPEG_NEEDED:
                yield Do.KEEP, length
            else:
                yield from _application(marker, length)
        if marker == _SOS:
            marker = (yield Do.SEARCH_JPEG, ENDLESS)[0]
        else:
            marker = yield from _marker()
    yield Do.REST, ENDLESS


def _application(marker: int, length: int) -> Walk:
    """Keep of a segment what decoders go by. It is read byte by byte, for what was read stays, and may be a name."""
    known = [(start, size) for start, size in _APPS_NEEDED.get(marker, ()) if size <= length]
    at = 0
    while known:
        byte = yield Do.READ, 1
        known = [one for one in known if one[0][at : at + 1] == byte]
        at += 1
        if known and len(known[0][0]) == at:
            yield Do.KEEP, known[0][1] - at
            at = known[0][1]
            break
    yield Do.BLANK, length - at


def _j2k() -> Walk:
    marker = yield from _marker()
    while marker != _EOI:
        if marker == _SOT:
            yield from _tile_part()
        elif marker != SOC[1]:
            yield from _segment(marker)
        marker = yield from _marker()
    yield Do.REST, ENDLESS


def _tile_part() -> Walk:
    """A part of a tile, from behind its SOT to its end; one without length to the end of the codestream."""
    length, size = struct.unpack(">H2xL2x", (yield Do.READ, 10))
    left = size - 12
    marker = yield from _marker()
    while marker != _SOD:
        left -= 2 + (yield from _segment(marker))
        marker = yield from _marker()
    left -= 2
    if length != 10 or (size and left < 0):
        raise Refusal(_MALFORMED)
    if size:
        yield Do.PICTURE, left
        return
    while (yield Do.SEARCH_J2K, ENDLESS)[0] == _SOP:
        yield Do.PICTURE, 4
    yield Do.REST, ENDLESS


def _segment(marker: int) -> Generator[tuple[Do, int], bytes, int]:
    """A segment of a JPEG 2000 header; how many bytes it has with its length. A comment says what kind it is of."""
    if marker in _J2K_BARE:
        return 0
    length = yield from _length()
    kept = length if marker in _J2K_NEEDED else min(2, length) if marker == _J2K_COM else 0
    yield Do.KEEP, kept
    yield Do.BLANK, length - kept
    return 2 + length


def _boxes() -> Walk:
    """Boxes up to the codestream; nothing after that is needed."""
    while True:
        size, kind = struct.unpack(">L4s", (yield Do.READ, 8))
        left = size - 8 if size != 1 else int.from_bytes((yield Do.READ, 8), "big") - 16
        if kind == b"jp2c" and (yield Do.READ, 2) == SOC:
            yield from _j2k()
        if left < 0 or kind == b"jp2c":
            raise Refusal(_MALFORMED)
        if kind == b"colr":  # an enumerated color space, or an ICC profile
            method = yield Do.READ, min(3, left)
            left -= len(method)
            yield (Do.KEEP if method[:1] == b"\x01" and left <= 4 else Do.BLANK), left
        elif kind != b"jp2h":  # which holds boxes itself
            yield (Do.KEEP if kind in _BOXES_NEEDED else Do.BLANK), left
