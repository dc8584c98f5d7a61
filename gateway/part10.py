"""Reads a DICOM file (PS3.10) as it arrives: the header into bounded memory, the pixels as a stream of bytes.

Nothing here decodes a value. `read_header` walks the encoding of the data set (PS3.5 section 7) to find where the
pixel data starts; `stream_pixels` passes the value of that element through, noting where its fragments lie.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomweb.errors import NotDicom, TooLarge

UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
# PS3.5 section 7.1.2: VRs whose length field has 32 bits.
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_MAX_DEPTH = 100
_META_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20
#: Sequence items, and elements at the top and in sequences of undefined length. An enhanced CT of 2,000 frames has
#: some 20,000 items; pydicom builds 30,000 a second, so that a small file of nothing else would take it minutes.
_MAX_ITEMS = 200_000
_MAX_ELEMENTS = 500_000
_TOO_MANY = "The DICOM object has more sequence items or elements than this gateway accepts."
_MAX_UID = 66  # 64, and some pad
# SOI and EOI of ISO 10918-1 and 14495-1; SOC and EOC of ISO 15444-1.
_CODESTREAM_STARTS, _CODESTREAM_END = (b"\xff\xd8", b"\xff\x4f"), b"\xff\xd9"
_TRUNCATED = "The DICOM data ends early: the file is truncated."


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a data set is encoded."""

    explicit: bool
    little: bool


@dataclass(frozen=True, slots=True)
class PixelElement:
    """The header of the pixel data element: tag, VR ("" if implicit), length (UNDEFINED if encapsulated)."""

    tag: int
    vr: str
    length: int


@dataclass(frozen=True, slots=True)
class Header:
    """All of a data set that comes before its pixel data, still encoded, and the pixel element that follows, if any."""

    transfer_syntax_uid: str
    encoding: Encoding
    data: bytes
    pixels: PixelElement | None
    media_storage: tuple[str, str]  # SOP Class and Instance UID of the file meta information


@dataclass(slots=True)
class PixelLayout:
    """What `stream_pixels` found: the size of the value, and of encapsulated data its fragments and offset table.

    `codestreams` are the indices of the fragments in which a JPEG or JPEG 2000 codestream begins: one that starts with
    SOI or SOC where the one before it ended with EOI or EOC. They tell frames apart where no offset table does.
    """

    size: int = 0
    offset_table: bytes = b""
    fragments: list[int] = field(default_factory=list)
    first_fragment: int = 0  # offset of the first fragment's value in the element's value
    codestreams: list[int] = field(default_factory=list)
    complete: bool = True  # whether the last fragment ended its codestream

    def add_fragment(self, length: int, start: bytes, end: bytes) -> None:
        """Note a fragment by its first two and last four bytes; zeros at its end are padding."""
        if self.complete and start in _CODESTREAM_STARTS:
            self.codestreams.append(len(self.fragments))
        self.complete = end.rstrip(b"\0").endswith(_CODESTREAM_END)
        self.fragments.append(length)


class ByteSource:
    """Pulls from an asynchronous iterator of bytes; `buffer` holds what has arrived and was not taken yet."""

    def __init__(
        self, chunks: AsyncIterator[bytes], *, max_bytes: int, on_growth: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        """Take at most `max_bytes`; `on_growth` is told how large the buffer has grown, and may wait or raise."""
        self.buffer = bytearray()
        self._on_growth = on_growth
        self._chunks = chunks
        self._engine: zlib._Decompress | None = None
        self._deflated = b""
        self._ended = False
        self._budget = max_bytes

    async def fill(self, wanted: int) -> bool:
        """Have at least `wanted` bytes in the buffer; False if the data ends before."""
        while len(self.buffer) < wanted and not self._ended:
            self.buffer += await self._next()
            if self._on_growth is not None:
                await self._on_growth(len(self.buffer))
        return len(self.buffer) >= wanted

    def take(self, count: int) -> bytes:
        """Remove `count` bytes from the buffer, which must hold them."""
        with memoryview(self.buffer) as view:  # a slice of the buffer would be one copy more
            data = bytes(view[:count])
        del self.buffer[:count]
        return data

    async def take_some(self, at_most: int) -> bytes:
        """Remove what is there, up to `at_most` bytes and _PIECE_BYTES; waits only if nothing is; empty at the end."""
        if not self.buffer:
            await self.fill(1)
        return self.take(min(at_most, len(self.buffer), _PIECE_BYTES))

    def inflate(self) -> None:
        """Treat all that was not taken yet as deflated (PS3.5 section A.5); its expansion counts against the limit."""
        self._deflated, self.buffer = bytes(self.buffer), bytearray()
        self._engine = zlib.decompressobj(-zlib.MAX_WBITS)

    async def _next(self) -> bytes:
        """What comes next, at most _PIECE_BYTES of it where it is inflated; empty at the end."""
        if self._engine is None:
            return await self._receive()
        while not self._engine.eof:
            try:
                data = self._engine.decompress(self._deflated, _PIECE_BYTES)
            except zlib.error as exc:
                raise NotDicom("The deflated data set cannot be inflated.") from exc
            self._deflated = self._engine.unconsumed_tail
            if data:
                self._spend(len(data))
                return data
            self._deflated = await self._receive()
            if not self._deflated:
                break
        self._ended = True
        return b""

    async def _receive(self) -> bytes:
        try:
            data = await anext(self._chunks)
        except StopAsyncIteration:
            self._ended = True
            return b""
        self._spend(len(data))
        return data

    def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            raise TooLarge("The DICOM object is larger than this gateway accepts.")


async def read_header(source: ByteSource, *, max_bytes: int) -> Header:
    """Read file meta information and data set up to the pixel data, or to the end if there is none.

    Raises
    ------
    NotDicom : it is not a DICOM file, or one that is truncated or nested too deep.
    TooLarge : the header has more than `max_bytes` bytes.
    """
    syntax, *media_storage = await _read_meta(source)
    if syntax == DeflatedExplicitVRLittleEndian:
        source.inflate()
    await source.fill(8)
    encoding = _encoding(syntax, bytes(source.buffer[:8]))
    if not syntax:
        syntax = str(ExplicitVRLittleEndian if encoding.explicit else ImplicitVRLittleEndian)
    end, pixels = await _find_pixels(source, encoding, max_bytes)
    data = source.take(end)
    if data.count(b"\xfe\xff\x00\xe0" if encoding.little else b"\xff\xfe\xe0\x00") > _MAX_ITEMS:
        raise TooLarge(_TOO_MANY)
    if pixels is not None:
        source.take(_Walker(encoding).head_size(pixels))
    return Header(syntax, encoding, data, pixels, (media_storage[0], media_storage[1]))


async def stream_pixels(source: ByteSource, pixels: PixelElement, layout: PixelLayout) -> AsyncGenerator[bytes]:
    """Yield the value of the pixel data element as it arrives, filling in `layout`.

    An encapsulated value is yielded with its items and sequence delimiter, as it is stored. Raises NotDicom if the
    data ends early or the items are malformed.
    """
    if pixels.length == UNDEFINED:
        async for piece in _stream_items(source, layout):
            yield piece
    else:
        async for piece in _exactly(source, pixels.length):
            yield piece
        layout.size = pixels.length


async def read_rest(source: ByteSource, *, max_bytes: int) -> bytes:
    """Read what follows the pixel data (padding, signatures), which is bounded like a header."""
    while await source.fill(len(source.buffer) + 1):
        if len(source.buffer) > max_bytes:
            raise TooLarge("The data after the pixel data is larger than this gateway accepts.")
    return source.take(len(source.buffer))


async def _read_meta(source: ByteSource) -> list[str]:
    """Transfer syntax, SOP class and SOP instance of the file meta information, each empty if it is not there."""
    await source.fill(132)
    if source.buffer[128:132] == b"DICM":
        source.take(132)
    elif not _looks_bare(bytes(source.buffer[:8])):
        raise NotDicom("This is not a DICOM file: it lacks the DICM prefix.")
    walker = _Walker(Encoding(explicit=True, little=True))
    found = {0x00020010: "", 0x00020002: "", 0x00020003: ""}
    end = 0
    while await source.fill(end + 8) and source.buffer[end : end + 2] == b"\x02\x00":
        after = await _skip(source, walker, end, _META_BYTES)
        tag, _, length, start = walker.head(source.buffer, end)
        if tag in found and length <= _MAX_UID:
            found[tag] = source.buffer[start:after].decode("ascii", "replace").strip(" \0")
        end = after
    source.take(end)
    return list(found.values())


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


async def _find_pixels(source: ByteSource, encoding: Encoding, max_bytes: int) -> tuple[int, PixelElement | None]:
    walker = _Walker(encoding)
    position = 0
    while await source.fill(position + 8):
        await source.fill(position + 12)
        tag, vr, length, _ = walker.head(source.buffer, position)
        if tag in _PIXELS:
            return position, PixelElement(tag, vr.decode("ascii"), length)
        position = await _skip(source, walker, position, max_bytes)
    if len(source.buffer) > position:
        raise NotDicom(_TRUNCATED)
    if position == 0:
        raise NotDicom("The DICOM file holds no data set.")
    return position, None


async def _skip(source: ByteSource, walker: _Walker, position: int, max_bytes: int) -> int:
    """End of the element at `position`; reads on as needed, doubling the buffer, so that the walk stays linear."""
    steps = walker.steps
    while True:
        walker.steps = steps  # of elements, however often they are walked over
        try:
            end = walker.skip(source.buffer, position)
        except _Short as short:
            if short.needed > max_bytes:
                raise TooLarge("The header of the DICOM object is larger than this gateway accepts.") from None
            before = len(source.buffer)
            await source.fill(min(max(short.needed, 2 * before), max_bytes))
            if len(source.buffer) < short.needed:
                raise NotDicom(_TRUNCATED) from None
        else:
            return end


class _Short(Exception):
    """The walk needs `needed` bytes in the buffer."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


class _Walker:
    """Steps over encoded elements without decoding their values (PS3.5 sections 7.1 and 7.5)."""

    def __init__(self, encoding: Encoding) -> None:
        self._explicit = encoding.explicit
        self.steps = 0
        order = "<" if encoding.little else ">"
        self._implicit_head = struct.Struct(f"{order}HHL")
        self._explicit_head = struct.Struct(f"{order}HH2sH")
        self._long = struct.Struct(f"{order}L")

    def head(self, buffer: bytearray, position: int, *, explicit: bool | None = None) -> tuple[int, bytes, int, int]:
        """Tag, VR (empty if implicit), value length and value position of the element at `position`."""
        if len(buffer) < position + 8:
            raise _Short(position + 8)
        group, element, length = self._implicit_head.unpack_from(buffer, position)
        tag = group << 16 | element
        explicit = self._explicit if explicit is None else explicit
        if not explicit or group == 0xFFFE:
            return tag, b"", length, position + 8
        vr, short = self._explicit_head.unpack_from(buffer, position)[2:]
        if vr in _LONG_VRS:
            if len(buffer) < position + 12:
                raise _Short(position + 12)
            return tag, vr, self._long.unpack_from(buffer, position + 8)[0], position + 12
        if not b"AA" <= vr <= b"ZZ":  # some writers switch to implicit inside an explicit data set
            return tag, b"", length, position + 8
        return tag, vr, short, position + 8

    def _step(self) -> None:
        self.steps += 1
        if self.steps > _MAX_ELEMENTS:
            raise TooLarge(_TOO_MANY)

    def head_size(self, pixels: PixelElement) -> int:
        """Bytes of the element header that `pixels` was read from."""
        return 12 if pixels.vr.encode() in _LONG_VRS else 8

    def skip(self, buffer: bytearray, position: int, depth: int = 0, *, explicit: bool | None = None) -> int:
        """End of the element at `position`; raises _Short if the buffer does not reach so far."""
        self._step()
        _, vr, length, position = self.head(buffer, position, explicit=explicit)
        if length != UNDEFINED:
            if position + length > len(buffer):
                raise _Short(position + length)
            return position + length
        # PS3.5 section 6.2.2: a UN of undefined length holds an implicit little endian sequence.
        nested = False if vr == b"UN" else explicit
        return self._skip_items(buffer, position, depth + 1, nested)

    def _skip_items(self, buffer: bytearray, position: int, depth: int, explicit: bool | None) -> int:
        if depth > _MAX_DEPTH:
            raise NotDicom("The sequences of the DICOM object are nested too deep.")
        while True:
            self._step()
            tag, _, length, position = self.head(buffer, position)
            if tag == _SEQUENCE_END:
                return position
            if tag != _ITEM:
                raise NotDicom("A sequence of the DICOM object is malformed.")
            if length == UNDEFINED:
                position = self._skip_item(buffer, position, depth, explicit)
            else:
                position += length
                if position > len(buffer):
                    raise _Short(position)

    def _skip_item(self, buffer: bytearray, position: int, depth: int, explicit: bool | None) -> int:
        while True:
            tag, _, _, after = self.head(buffer, position, explicit=explicit)
            if tag == _ITEM_END:
                return after
            position = self.skip(buffer, position, depth, explicit=explicit)


async def _exactly(source: ByteSource, count: int) -> AsyncIterator[bytes]:
    while count:
        piece = await source.take_some(count)
        if not piece:
            raise NotDicom(_TRUNCATED)
        count -= len(piece)
        yield piece


async def _stream_items(source: ByteSource, layout: PixelLayout) -> AsyncIterator[bytes]:
    """Pass the items of encapsulated pixel data (PS3.5 section A.4): offset table, fragments, delimiter."""
    number = 0
    while True:
        if not await source.fill(8):
            raise NotDicom(_TRUNCATED)
        head = source.take(8)
        group, element, length = struct.unpack("<HHL", head)
        tag = group << 16 | element
        layout.size += 8
        yield head
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM or length == UNDEFINED:
            raise NotDicom("The encapsulated pixel data is malformed.")
        if number == 0:
            async for piece in _exactly(source, length):
                layout.offset_table += piece
                yield piece
        else:
            layout.first_fragment = layout.first_fragment or layout.size
            start = end = b""
            async for piece in _exactly(source, length):
                start, end = (start + piece[:2])[:2], (end + piece[-4:])[-4:]
                yield piece
            layout.add_fragment(length, start, end)
        layout.size += length
        number += 1
