"""Reads the header of a DICOM file (PS3.10): all that comes before its pixel data, still encoded.

Nothing here decodes a value: the walk over the encoding of the data set (PS3.5 section 7) finds where the elements
end and where the pixel data starts. It works on what has arrived and raises Short for more.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomweb.errors import NotDicom, TooLarge
from gateway.intake.pixels import TRUNCATED, UNDEFINED, PixelElement
from gateway.intake.source import Buffer, ByteSource, Short

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
# PS3.5 section 7.1.2: VRs whose length field has 32 bits, and the others.
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_MAX_DEPTH = 100
_META_BYTES = 1 << 20
#: What the first look is taken at: nearly all headers are smaller.
_FIRST_BYTES = 16 << 10
#: Sequence items, and elements at the top and in sequences of undefined length. An enhanced CT of 2,000 frames has
#: some 20,000 items; pydicom builds 30,000 a second, so that a small file of nothing else would take it minutes.
_MAX_ITEMS = 200_000
_MAX_ELEMENTS = 500_000
#: Elements and items with those in sequences of defined length, which the walk passes over: each takes 0.7 KB of memory
#: while it is prepared, and 8 us.
_MAX_NESTED = 1_000_000
_TOO_LARGE = "The header of the DICOM object is larger than this gateway accepts."
_TOO_MANY = "The DICOM object has more sequence items or elements than this gateway accepts."
#: Elements whose places are noted; a header with more at its top is left to pydicom.
_MAX_NOTED = 20_000
_MAX_UID = 66  # 64, and some pad
_EXPLICIT_HEAD = struct.Struct("<HH2sH")
_LONG = struct.Struct("<L")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a data set is encoded."""

    explicit: bool
    little: bool


#: Tag, VR, where the value starts and where it ends. The element starts where the one before it ends.
Place = tuple[int, bytes, int, int]


@dataclass(frozen=True, slots=True)
class Header:
    """All of a data set that comes before its pixel data, still encoded, and the pixel element that follows, if any.

    `places` are the elements in `data` if they are Explicit VR Little Endian in all and have known VRs, else None.
    """

    transfer_syntax_uid: str
    encoding: Encoding
    data: bytes
    pixels: PixelElement | None
    media_storage: tuple[str, str]  # SOP Class and Instance UID of the file meta information
    places: list[Place] | None = None


class HeaderReader:
    """Reads one header from a source, trying again after each Short."""

    def __init__(self, source: ByteSource, *, max_bytes: int) -> None:
        """Accept headers of `max_bytes`."""
        self._source = source
        self._max_bytes = max_bytes
        self._meta: list[str] | None = None

    def read(self) -> Header:
        """Take file meta information and data set up to the pixel data, or to the end if there is none.

        Raises
        ------
        Short : not enough has arrived.
        NotDicom : it is not a DICOM file, or one that is truncated or nested too deep.
        TooLarge : the header has more than `max_bytes` bytes.
        """
        source = self._source
        if self._meta is None:
            self._meta = _read_meta(source)
            if self._meta[0] == DeflatedExplicitVRLittleEndian:
                source.inflate()
        syntax, *media_storage = self._meta
        encoding = _encoding(syntax, bytes(source.window(8)[:8]))
        if not syntax:
            syntax = str(ExplicitVRLittleEndian if encoding.explicit else ImplicitVRLittleEndian)
        walk = self._walk(encoding)
        if walk.end > self._max_bytes:
            raise TooLarge(_TOO_LARGE)
        data = source.take(walk.end)
        if data.count(b"\xfe\xff\x00\xe0" if encoding.little else b"\xff\xfe\xe0\x00") > _MAX_ITEMS:
            raise TooLarge(_TOO_MANY)
        if len(data) > 8 * _MAX_NESTED:  # each has 8 bytes at least
            Walker(encoding).count(data, _MAX_NESTED)
        if walk.pixels is not None:
            source.drop(walk.pixels_head)
        return Header(syntax, encoding, data, walk.pixels, (media_storage[0], media_storage[1]), walk.places)

    def _walk(self, encoding: Encoding) -> _Walk:
        """Walk over what has arrived, a small part of it at first; start again with twice as much if that ends."""
        wanted = _FIRST_BYTES
        while True:
            held = self._source.held
            data = self._source.window(min(wanted, held))
            is_all = self._source.ended and len(data) == held
            try:
                return _Walk(encoding, data, is_all=is_all)
            except Short as short:
                if short.needed > self._max_bytes:
                    raise TooLarge(_TOO_LARGE) from None
                if is_all:
                    raise NotDicom(TRUNCATED) from None
                if len(data) == held:
                    raise Short(min(max(short.needed, 2 * held), self._max_bytes)) from None
                wanted = max(short.needed, 2 * len(data))


def _read_meta(source: ByteSource) -> list[str]:
    """Take the file meta information: transfer syntax, SOP class and SOP instance, each empty if it is not there."""
    start = source.window(132)
    at = 132 if start[128:132] == b"DICM" else 0
    if not at and not _looks_bare(bytes(start[:8])):
        raise NotDicom("This is not a DICOM file: it lacks the DICM prefix.")
    walker = Walker(Encoding(explicit=True, little=True))
    found = {0x00020010: "", 0x00020002: "", 0x00020003: ""}
    data = source.window(at + 12)
    while len(data) >= at + 8 and data[at : at + 2] == b"\x02\x00":
        if at > _META_BYTES:
            raise TooLarge(_TOO_LARGE)
        tag, _, length, value = walker.head(data, at)
        data, at = _to_end(source, walker, data, at)
        if tag in found and length <= _MAX_UID:
            found[tag] = bytes(data[value:at]).decode("ascii", "replace").strip(" \0")
        data = source.window(at + 12) if len(data) < at + 12 else data
    source.drop(at)
    return list(found.values())


def _to_end(source: ByteSource, walker: Walker, data: Buffer, at: int) -> tuple[Buffer, int]:
    """The end of an element of the file meta information, and the data up to there."""
    while True:
        try:
            return data, walker.skip(data, at)
        except Short as short:
            if short.needed > _META_BYTES:
                raise TooLarge(_TOO_LARGE) from None
            data = source.window(short.needed)
            if len(data) < short.needed:
                raise NotDicom(TRUNCATED) from None


def _looks_bare(start: bytes) -> bool:
    """Whether a file without preamble starts with an element of group 0002 or 0008, as some old writers make them."""
    return start[:4] == b"\x02\x00\x00\x00" or (start[:2] == b"\x08\x00" and start[2:4] in (b"\x00\x00", b"\x05\x00"))


def _encoding(syntax: str, start: bytes) -> Encoding:
    """The encoding of a transfer syntax, corrected by what the first element looks like: files lie about it."""
    little = syntax != ExplicitVRBigEndian
    explicit = syntax != ImplicitVRLittleEndian
    if len(start) == 8:
        explicit = start[4:6].isalpha() and start[4:6].isupper()
    return Encoding(explicit, little)


class _Walk:
    """One walk over the elements of a data set: where they `end`, the pixel element there, the `places` of all."""

    def __init__(self, encoding: Encoding, data: Buffer, *, is_all: bool) -> None:
        self.pixels: PixelElement | None = None
        self.pixels_head = 0  # bytes of the header of the pixel element
        self.places: list[Place] | None = None
        self.end = 0
        walker = Walker(encoding)
        if encoding.explicit and encoding.little:
            places: list[Place] = []
            self.end = _plain(data, walker, places)
            if self._is_over(walker, data, is_all=is_all):
                self.places = places
                return
        while not self._is_over(walker, data, is_all=is_all):
            self.end = walker.skip(data, self.end)

    def _is_over(self, walker: Walker, data: Buffer, *, is_all: bool) -> bool:
        """Whether the walk has come to the pixel data or to the end of the data."""
        if len(data) >= self.end + 8:
            tag, vr, length, value = walker.head(data, self.end)
            if tag in _PIXELS:
                self.pixels, self.pixels_head = PixelElement(tag, vr.decode("ascii"), length), value - self.end
            return tag in _PIXELS
        if not is_all:
            raise Short(self.end + 12)
        if len(data) > self.end:
            raise NotDicom(TRUNCATED)
        if self.end == 0:
            raise NotDicom("The DICOM file holds no data set.")
        return True


def _plain(data: Buffer, walker: Walker, places: list[Place]) -> int:
    """Walk over elements of Explicit VR Little Endian, noting their places, up to the first that is anything else."""
    at, size = 0, len(data)
    unpack, long = _EXPLICIT_HEAD.unpack_from, _LONG.unpack_from
    while at + 8 <= size and len(places) < _MAX_NOTED:
        group, element, vr, length = unpack(data, at)
        tag = group << 16 | element
        if group == 0x7FE0 and tag in _PIXELS:
            break
        if vr in SHORT_VRS:
            start = at + 8
        elif vr in LONG_VRS and at + 12 <= size:
            start, length = at + 12, long(data, at + 8)[0]
        else:
            break
        if length == UNDEFINED:
            end = walker.skip(data, at)
        else:
            end = start + length
            if end > size:
                break
        places.append((tag, vr, start, end))
        at = end
    walker.steps += len(places)
    return at


class Walker:
    """Steps over encoded elements without decoding their values (PS3.5 sections 7.1 and 7.5)."""

    def __init__(self, encoding: Encoding) -> None:
        self._explicit = encoding.explicit
        self.steps = 0
        order = "<" if encoding.little else ">"
        self._implicit_head = struct.Struct(f"{order}HHL")
        self._explicit_head = struct.Struct(f"{order}HH2sH")
        self._long = struct.Struct(f"{order}L")
        self._item = struct.pack(f"{order}HH", _ITEM >> 16, _ITEM & 0xFFFF)

    def head(self, data: Buffer, position: int, *, explicit: bool | None = None) -> tuple[int, bytes, int, int]:
        """Tag, VR (empty if implicit), value length and value position of the element at `position`."""
        if len(data) < position + 8:
            raise Short(position + 8)
        group, element, length = self._implicit_head.unpack_from(data, position)
        tag = group << 16 | element
        explicit = self._explicit if explicit is None else explicit
        if not explicit or group == 0xFFFE:
            return tag, b"", length, position + 8
        vr, short = self._explicit_head.unpack_from(data, position)[2:]
        if vr in LONG_VRS:
            if len(data) < position + 12:
                raise Short(position + 12)
            return tag, vr, self._long.unpack_from(data, position + 8)[0], position + 12
        if not b"AA" <= vr <= b"ZZ":  # some writers switch to implicit inside an explicit data set
            return tag, b"", length, position + 8
        return tag, vr, short, position + 8

    def count(self, data: Buffer, most: int) -> None:
        """Raise TooLarge if there are more elements and items than `most`, whatever they are nested in."""
        position = 0
        while position + 12 <= len(data):
            tag, vr, length, value = self.head(data, position)
            holds_items = vr in (b"", b"UN") and bytes(data[value : value + 4]) == self._item
            is_entered = tag >> 16 == 0xFFFE or vr == b"SQ" or length == UNDEFINED or holds_items
            position = value if is_entered else value + length
            most -= 1
            if most < 0:
                raise TooLarge(_TOO_MANY)

    def skip(self, data: Buffer, position: int, depth: int = 0, *, explicit: bool | None = None) -> int:
        """End of the element at `position`; raises Short if the data does not reach so far."""
        self._step()
        _, vr, length, position = self.head(data, position, explicit=explicit)
        if length != UNDEFINED:
            if position + length > len(data):
                raise Short(position + length)
            return position + length
        # PS3.5 section 6.2.2: a UN of undefined length holds an implicit little endian sequence.
        nested = False if vr == b"UN" else explicit
        return self._skip_items(data, position, depth + 1, nested)

    def _skip_items(self, data: Buffer, position: int, depth: int, explicit: bool | None) -> int:
        if depth > _MAX_DEPTH:
            raise NotDicom("The sequences of the DICOM object are nested too deep.")
        while True:
            self._step()
            tag, _, length, position = self.head(data, position)
            if tag == _SEQUENCE_END:
                return position
            if tag != _ITEM:
                raise NotDicom("A sequence of the DICOM object is malformed.")
            if length == UNDEFINED:
                position = self._skip_item(data, position, depth, explicit)
            else:
                position += length
                if position > len(data):
                    raise Short(position)

    def _skip_item(self, data: Buffer, position: int, depth: int, explicit: bool | None) -> int:
        while True:
            tag, _, _, after = self.head(data, position, explicit=explicit)
            if tag == _ITEM_END:
                return after
            position = self.skip(data, position, depth, explicit=explicit)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > _MAX_ELEMENTS:
            raise TooLarge(_TOO_MANY)
