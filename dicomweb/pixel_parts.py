"""The pixel data of one instance as the parts of a body: frames, all of them as one value, or a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from dicomweb import multipart, offers
from dicomweb.bodies import Part
from dicomweb.negotiate import EXPLICIT_LITTLE_ENDIAN, OCTET_STREAM, Offer
from dicomweb.pixels import transcode
from dicomweb.ports import StoredInstance
from dicomweb.stored import Reader

PIXEL_DATA = "bulkdata/7FE00010"


@dataclass(frozen=True, slots=True)
class MadePart:
    """A part that is made while it is sent; `size` in bytes is None where nobody knows it before."""

    content_type: str
    location: str
    size: int | None
    chunks: AsyncIterator[bytes]


def is_stream(instance: StoredInstance) -> bool:
    """Whether its pixel data is no sequence of frames that could be told apart: a video above all."""
    return not instance.frames.count


def kind_of(instance: StoredInstance) -> tuple[str, bool, bool, bool]:
    """What the offers for all of its pixel data depend on."""
    return (*offers.kind_of(instance), is_stream(instance), instance.frames.count == 1)


def all_pixels(stored: str, decodable: bool, is_stream: bool, one_frame: bool, single: bool) -> list[Offer]:
    """What all pixel data can be sent as; bare with `single`, where it is one item."""
    if is_stream:
        return [one for one in offers.stream(stored) if single or one.multipart]
    found = offers.frames(stored, decodable, single and one_frame)
    is_value = decodable or stored == EXPLICIT_LITTLE_ENDIAN  # uncompressed, all frames are one
    return found + ([Offer(OCTET_STREAM, EXPLICIT_LITTLE_ENDIAN)] if single and is_value else [])


def as_stored(reader: Reader, offer: Offer, location: str) -> list[Part] | None:
    """The parts of all pixel data if they are byte ranges of the stored file, else None.

    Native frames are one value, encapsulated ones a part each (section 8.7.3.3), a stream is one part.
    """
    instance = reader.instance
    if offer.transfer_syntax != instance.transfer_syntax_uid:
        return None
    if instance.frames.bits or is_stream(instance):
        return [Part(offer.content_type, f"{location}/{PIXEL_DATA}", reader.pixel_pieces())]
    return frame_parts(reader, offer, location, range(1, instance.frames.count + 1))


def frame_parts(reader: Reader, offer: Offer, location: str, numbers: Sequence[int]) -> list[Part] | None:
    """Frames as they are stored; None if they are of single bits and do not begin at bytes."""
    parts: list[Part] = []
    if len(numbers) > 1:
        reader.instance.frames.index()
    for number in numbers:
        pieces = reader.frame_pieces(number)
        if pieces is None:
            return None
        parts.append(Part(offer.content_type, f"{location}/frames/{number}", pieces))
    return parts


async def made_frames(reader: Reader, offer: Offer, location: str, numbers: Sequence[int]) -> AsyncIterator[MadePart]:
    """Frames that are decoded or encoded one by one as they are sent."""
    for number in numbers:
        frame = await reader.frame_in(number, offer.transfer_syntax or "")
        yield MadePart(offer.content_type, f"{location}/frames/{number}", len(frame), _one(frame))


async def made(reader: Reader, offer: Offer, location: str) -> AsyncIterator[MadePart]:
    """All pixel data in another transfer syntax: uncompressed it is one value, compressed a part for each frame."""
    count = reader.instance.frames.count
    if offer.transfer_syntax == EXPLICIT_LITTLE_ENDIAN:
        size = transcode.native_bytes(await reader.header(), count)
        first = await reader.frame_in(1, EXPLICIT_LITTLE_ENDIAN)
        yield MadePart(offer.content_type, f"{location}/{PIXEL_DATA}", size, _all_frames(reader, first))
    else:
        async for part in made_frames(reader, offer, location, range(1, count + 1)):
            yield part


async def body(parts: AsyncIterator[MadePart], boundary: str) -> AsyncIterator[bytes]:
    """A multipart body of what is made on the way."""
    first = True
    async for part in parts:
        yield multipart.part_head(boundary, part.content_type, part.size, part.location, first=first)
        first = False
        async for chunk in part.chunks:
            yield chunk
    yield multipart.closing(boundary)


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _all_frames(reader: Reader, first: bytes) -> AsyncIterator[bytes]:
    yield first
    for number in range(2, reader.instance.frames.count + 1):
        yield await reader.frame_in(number, EXPLICIT_LITTLE_ENDIAN)
