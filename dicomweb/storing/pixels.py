"""Pixel data that came as bulk data: native, or frames to be encapsulated or decoded (PS3.18 Table 10.5.2-1)."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from dicomweb.dicom_encode import Hole, Piece, element_head, pack
from dicomweb.errors import BadRequest, TooLarge, UnsupportedMediaType
from dicomweb.negotiate import COMPRESSED, EXPLICIT_LITTLE_ENDIAN, OCTET_STREAM
from dicomweb.pixels import bitstreams, pictures
from dicomweb.pixels.bitstreams import Description
from dicomweb.ports import Runner
from dicomweb.resource import is_uid
from dicomweb.storing.metadata import Instance
from dicomweb.storing.spool import Spool, Spooled

_ITEM, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"
_UNDEFINED = 0xFFFFFFFF
_MAX_LENGTH = 0xFFFFFFFE
#: Implicit VR pixels have the same bytes; of what else is named, bytes in another order or deflated are not taken.
_NATIVE = frozenset(["", "1.2.840.10008.1.2", EXPLICIT_LITTLE_ENDIAN])
_MAX_SIDE = 0xFFFF
_DESCRIPTION = ("00280010", "00280011", "00280100")


@dataclass(slots=True)
class Held:
    """A bulk data value that waits in the spool, its frames by number, with what the first part of it said."""

    media_type: str
    parameters: Mapping[str, str]
    frames: dict[int, Spooled] = field(default_factory=dict)

    @property
    def is_native(self) -> bool:
        """Whether it is the value itself, not a compressed frame."""
        return self.media_type == OCTET_STREAM and self.parameters.get("transfer-syntax", "") in _NATIVE

    @property
    def is_picture(self) -> bool:
        """Whether DICOM has no transfer syntax for it, so that it is decoded."""
        return self.media_type in pictures.MEDIA_TYPES

    def parts_of(self, frames: int) -> int:
        """How many parts bring an image of so many frames: a compressed one has a part a frame, but not a video."""
        one = self.is_native or self.media_type.startswith("video/") or self.media_type == "image/gif"
        return 1 if one else frames

    @property
    def values(self) -> list[Spooled]:
        """The frames in order."""
        return [self.frames[number] for number in sorted(self.frames)]


@dataclass(frozen=True, slots=True)
class PixelData:
    """Pixel data ready to be written: its transfer syntax, the element's header, its value.

    `attributes` describe it where the metadata did not, or where it was decoded.
    """

    transfer_syntax_uid: str
    head: bytes
    value: AsyncIterator[bytes]
    attributes: Mapping[str, list[Piece]] = field(default_factory=dict)


def native(hole: Hole, length: int, chunks: AsyncIterator[bytes]) -> PixelData:
    """Uncompressed pixel data of a known length; raises BadRequest while it is read if that was wrong."""
    if length > _MAX_LENGTH:
        raise TooLarge("Uncompressed pixel data has at most 4 GiB.")
    head = element_head(hole.tag, _native_vr(hole), length + length % 2)
    return PixelData(EXPLICIT_LITTLE_ENDIAN, head, _padded(chunks, length))


def video(hole: Hole, held: Held, length: int, chunks: AsyncIterator[bytes]) -> PixelData:
    """A video of a known length, one fragment of it (PS3.5 section A.4.5)."""
    syntax = _syntax(held, None, "")
    return PixelData(syntax, element_head(hole.tag, "OB", _UNDEFINED), _one_fragment(chunks, length))


async def spooled(instance: Instance, held: Held, spool: Spool, run: Runner) -> PixelData:
    """Pixel data all of which waits in the spool.

    Raises
    ------
    BadRequest, UnsupportedMediaType, TooLarge : it cannot be made the pixel data of this instance.
    """
    hole = instance.pixels
    assert hole is not None  # noqa: S101 - the caller asks for an instance that has one
    if held.is_native:
        (value,) = held.values
        return native(hole, value.length, spool.get(value))
    if held.is_picture:
        return await _decoded(instance, held, spool, run)
    head = await spool.peek(held.values[0], bitstreams.PEEK_BYTES)
    found = bitstreams.describe(held.media_type, head)
    syntax = _syntax(held, found, instance.image.syntax_hint)
    values = [await _bit_stream(held.media_type, value, spool) for value in held.values]
    return PixelData(
        syntax,
        element_head(hole.tag, "OB", _UNDEFINED),
        _encapsulated(values, spool),
        _missing(instance, found),
    )


async def _decoded(instance: Instance, held: Held, spool: Spool, run: Runner) -> PixelData:
    """Pictures as native pixel data: the one transformation that the standard leaves to the server."""
    files = []
    for picture in held.values:
        if picture.length > pictures.MAX_FILE_BYTES:
            raise TooLarge("A picture is larger than the gateway decodes.")
        files.append(await spool.peek(picture, picture.length))
    found, frames, pixels = await run(pictures.decode, files)
    _check(instance, found)
    hole = instance.pixels
    assert hole is not None  # noqa: S101 - see `spooled`

    async def value() -> AsyncIterator[bytes]:
        yield pixels

    attributes = _attributes(found)
    if frames > 1:
        attributes["00280008"] = [pack("00280008", "IS", str(frames).encode())]
    return dataclasses.replace(
        native(Hole(hole.tag, "OW" if found.bits > 8 else "OB", hole.uri), len(pixels), value()), attributes=attributes
    )


def _native_vr(hole: Hole) -> str:
    by_tag = {"7FE00008": "OF", "7FE00009": "OD"}
    return by_tag.get(hole.tag, hole.vr if hole.vr in ("OB", "OW") else "OW")


def _syntax(held: Held, found: Description | None, hint: str) -> str:
    """The transfer syntax: as the part's type names it, as the bit stream shows, as the metadata says, by its type."""
    named = held.parameters.get("transfer-syntax", "")
    media_type = held.media_type
    if is_uid(named) and COMPRESSED.get(named, "").lower() in (media_type, _plain(media_type)):
        return named
    if named in COMPRESSED and media_type == OCTET_STREAM:
        return named
    if found is not None:
        return found.transfer_syntax_uid
    if COMPRESSED.get(hint, "").lower() == media_type:
        return hint
    if media_type not in bitstreams.BY_MEDIA_TYPE:
        raise UnsupportedMediaType("The pixel data is of a media type that cannot be stored.")
    return bitstreams.BY_MEDIA_TYPE[media_type]


def _plain(media_type: str) -> str:
    """The type of a bare bit stream, of a file format around it."""
    return {"image/jph": "image/jphc"}.get(media_type, media_type)


async def _bit_stream(media_type: str, value: Spooled, spool: Spool) -> Spooled:
    """A frame without the boxes of a file format."""
    if media_type not in ("image/jp2", "image/jpx", "image/jph"):
        return value
    found = bitstreams.describe(media_type, await spool.peek(value, bitstreams.PEEK_BYTES))
    if found is None or not found.skip:
        return value
    rest = value.length - found.skip
    return Spooled(value.offset + found.skip, min(rest, found.length) if found.length is not None else rest)


async def _encapsulated(values: Sequence[Spooled], spool: Spool) -> AsyncGenerator[bytes]:
    """Offset table, a fragment a frame, delimiter (PS3.5 section A.4)."""
    lengths = [value.length + value.length % 2 for value in values]
    if any(length > _MAX_LENGTH for length in lengths):
        raise TooLarge("A compressed frame has at most 4 GiB.")
    yield _offset_table(lengths)
    for value, length in zip(values, lengths, strict=True):
        yield _ITEM + struct.pack("<L", length)
        async with aclosing(spool.get(value)) as chunks:
            async for chunk in chunks:
                yield chunk
        if length != value.length:
            yield b"\0"
    yield _SEQUENCE_END


def _offset_table(lengths: Sequence[int]) -> bytes:
    """The basic offset table; empty for a single frame, and where 32 bits are too few."""
    offsets, position = [], 0
    for length in lengths:
        offsets.append(position)
        position += 8 + length
    if len(offsets) == 1 or offsets[-1] > _MAX_LENGTH:
        offsets = []
    return _ITEM + struct.pack(f"<L{len(offsets)}L", 4 * len(offsets), *offsets)


async def _one_fragment(chunks: AsyncIterator[bytes], length: int) -> AsyncGenerator[bytes]:
    if length > _MAX_LENGTH:
        raise TooLarge("A video of more than 4 GiB cannot be one fragment.")
    yield _offset_table([length]) + _ITEM + struct.pack("<L", length + length % 2)
    async for chunk in _padded(chunks, length):
        yield chunk
    yield _SEQUENCE_END


async def _padded(chunks: AsyncIterator[bytes], length: int) -> AsyncGenerator[bytes]:
    """Chunks that must have `length` bytes together, made an even number."""
    left = length
    async for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left:
        raise BadRequest("A bulk data part is not as long as its header or the metadata says.")
    if length % 2:
        yield b"\0"


def _missing(instance: Instance, found: Description | None) -> dict[str, list[Piece]]:
    """The Image Pixel attributes that the metadata leaves out (section 10.5.1.4), from the bit stream."""
    if found is None:
        if any(tag not in instance.elements for tag in _DESCRIPTION):
            raise BadRequest("Pixel data of this media type needs Rows, Columns and Bits Allocated in the metadata.")
        return {}
    _check(instance, found)
    return {tag: element for tag, element in _attributes(found).items() if tag not in instance.elements}


def _check(instance: Instance, found: Description) -> None:
    image = instance.image
    if not (0 < found.rows <= _MAX_SIDE and 0 < found.columns <= _MAX_SIDE and 0 < found.samples <= _MAX_SIDE):
        raise BadRequest("The compressed pixel data has more rows, columns or samples than DICOM can tell, or none.")
    if (image.rows or found.rows, image.columns or found.columns) != (found.rows, found.columns):
        raise BadRequest("Rows or Columns of the metadata are not those of the compressed pixel data.")


def _attributes(found: Description) -> dict[str, list[Piece]]:
    """The Image Pixel Description Macro (PS3.3 section C.7.6.3)."""
    allocated = 8 if found.bits <= 8 else 16 if found.bits <= 16 else 32
    numbers = {
        "00280002": found.samples,
        "00280010": found.rows,
        "00280011": found.columns,
        "00280100": allocated,
        "00280101": found.bits,
        "00280102": found.bits - 1,
        "00280103": int(found.signed),
    }
    if found.samples > 1:
        numbers["00280006"] = 0
    encoded: dict[str, list[Piece]] = {
        tag: [pack(tag, "US", struct.pack("<H", value))] for tag, value in numbers.items()
    }
    return encoded | {"00280004": [pack("00280004", "CS", found.photometric.encode())]}
