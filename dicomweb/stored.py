"""Reads what retrievals need of a stored file: its header, its frames as they are, decoded, or encoded anew."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TypeVar

from pydicom import Dataset

from dicomweb.errors import NotAcceptable
from dicomweb.negotiate import EXPLICIT_LITTLE_ENDIAN
from dicomweb.pieces import Piece, Span
from dicomweb.pixels import compress, picture_header, transcode
from dicomweb.pixels.compress import Encoded
from dicomweb.pixels.frames import Range
from dicomweb.ports import Archive, Bytes, Runner, StoredInstance, StoredObject

T = TypeVar("T")
_CACHED_HEADERS = 64
_CACHED_HEADER_BYTES = 4 << 20
#: Frames up to this are read together with the header before them.
_READ_AT_ONCE_BYTES = 4 << 20


class Headers:
    """Parsed headers of the instances that were last read: a viewer asks for one frame after the other.

    Keys of stored files are never used again, so that an entry cannot become wrong.
    """

    def __init__(self, run: Runner) -> None:
        self._run = run
        self._cache: OrderedDict[str, Dataset] = OrderedDict()

    async def read(self, stored: StoredObject, instance: StoredInstance) -> Dataset:
        """The header; must not be changed. Without pixel data it is the whole file."""
        header = self._cache.get(instance.key)
        if header is None:
            data = await stored.read(0, instance.pixel_offset or None)
            header = await self._run(transcode.read_header, data)
            if len(data) <= _CACHED_HEADER_BYTES:
                self._cache[instance.key] = header
        else:
            self._cache.move_to_end(instance.key)
        while len(self._cache) > _CACHED_HEADERS:
            self._cache.popitem(last=False)
        return header


class Reader:
    """One stored instance, as one request reads it."""

    def __init__(self, archive: Archive, instance: StoredInstance, headers: Headers, run: Runner) -> None:
        self.instance = instance
        self._stored = archive.open(instance)
        self._headers = headers
        self._run = run

    @property
    def whole(self) -> Span:
        """The whole Part 10 file."""
        return Span(self._stored, 0, self.instance.size)

    async def header(self) -> Dataset:
        """The header, without pixel data; must not be changed."""
        return await self._headers.read(self._stored, self.instance)

    def frame_pieces(self, number: int) -> list[Piece] | None:
        """Where a frame lies; None for a frame of single bits, whose ends are within bytes.

        Raises NotFound if there is no such frame, NotAcceptable if the frames cannot be told apart.
        """
        ranges = self._ranges(number)
        if self.instance.frames.bits % 8:
            return None
        return [Span(self._stored, offset, length) for offset, length in ranges]

    def pixel_pieces(self) -> list[Piece]:
        """The value of native pixel data, or all fragments of an encapsulated stream, such as a video."""
        frames = self.instance.frames
        if frames.bits:
            return [Span(self._stored, frames.offset, -(-frames.bits * frames.count // 8))]
        position, pieces = frames.offset, list[Piece]()
        for length in frames.lengths:
            pieces.append(Span(self._stored, position, length))
            position += length + 8
        return pieces

    async def stored_frame(self, number: int) -> bytes:
        """A frame as it is stored; its first bit is that of the first byte. Raises like `frame_pieces`."""
        frames = self.instance.frames
        ranges = self._ranges(number)
        begin, (last, length) = ranges[0][0], ranges[-1]
        data = await self._stored.read(begin, last + length - begin)
        if frames.bits % 8:
            return await self._run(transcode.shift_bits, data, frames.bit_offset(number), frames.bits)
        if len(ranges) == 1:
            return data
        return b"".join(data[offset - begin : offset - begin + length] for offset, length in ranges)

    async def picture(self, number: int, make: Callable[[Bytes, Dataset], T], *, is_light: bool) -> T:
        """What `make` makes in a thread of a frame as it is stored and of what pictures depend on of the header.

        A usual slice is read together with its header, of which nothing is parsed; if it is not compressed, and what is
        made of it takes little memory, by that thread. Raises like `frame_pieces`.
        """
        ranges = self._ranges(number)
        if self._is_slice(ranges):
            offset, length = ranges[0]
            of_slice = partial(_of_slice, self.instance.pixel_offset, offset, make)
            if is_light and self.instance.frames.bits:
                made = await self._stored.use(of_slice, 0, offset + length, self._run)
            else:
                made = await self._run(of_slice, await self._stored.read(0, offset + length))
            if made is not None:
                return made
        stored, header = await self.stored_frame(number), await self.header()
        return await self._run(make, stored, header)

    def _is_slice(self, ranges: Sequence[Range]) -> bool:
        """Whether an only frame and the header before it are short enough to be read together."""
        frames, header_bytes = self.instance.frames, self.instance.pixel_offset
        is_alone = frames.count == 1 and len(ranges) == 1 and not frames.bits % 8
        return is_alone and header_bytes <= picture_header.MAX_BYTES and sum(ranges[0]) <= _READ_AT_ONCE_BYTES

    async def native_frame(self, number: int) -> tuple[bytes, str]:
        """A frame as native bytes, decoded if need be, and its photometric interpretation."""
        frame = await self.stored_frame(number)
        header = await self.header()
        if self.instance.frames.bits:
            return frame, str(header.get("PhotometricInterpretation", ""))
        return await self._run(transcode.frame_bytes, header, self.instance.transfer_syntax_uid, frame)

    async def native_file(self) -> AsyncIterator[bytes]:
        """The instance as an Explicit VR Little Endian file, one frame in memory at a time."""
        count = self.instance.frames.count
        frame, photometric = await self.native_frame(1)
        header = await self.header()
        length = transcode.native_bytes(header, count)
        yield await self._run(transcode.native_part10_head, header, photometric, length + length % 2)
        yield frame
        for number in range(2, count + 1):
            yield (await self.native_frame(number))[0]
        if length % 2:
            yield b"\0"

    async def check_encodable(self, target: str) -> None:
        """Raise Unencodable if the header tells that the frames cannot be encoded in a transfer syntax."""
        compress.check(await self.header(), target)

    async def encoded_frame(self, number: int, target: str) -> Encoded:
        """A frame in another compressed transfer syntax; raise Undecodable or Unencodable."""
        frame = await self.stored_frame(number)
        header = await self.header()
        return await self._run(transcode.encoded_frame, header, self.instance.transfer_syntax_uid, frame, target)

    async def encoded_file(self, target: str) -> AsyncIterator[bytes]:
        """The instance in another compressed transfer syntax, one frame in memory at a time."""
        frame = await self.encoded_frame(1, target)
        yield await self._run(transcode.encoded_part10_head, await self.header(), frame, target)
        yield transcode.item(frame.data)
        for number in range(2, self.instance.frames.count + 1):
            yield transcode.item((await self.encoded_frame(number, target)).data)
        yield transcode.SEQUENCE_END

    def file_in(self, transfer_syntax_uid: str) -> AsyncIterator[bytes]:
        """The instance in any transfer syntax that it is offered in, as it is sent."""
        if transfer_syntax_uid == self.instance.transfer_syntax_uid:
            return self.whole.source.stream()
        if transfer_syntax_uid == EXPLICIT_LITTLE_ENDIAN:
            return self.native_file()
        return self.encoded_file(transfer_syntax_uid)

    async def frame_in(self, number: int, transfer_syntax_uid: str) -> bytes:
        """A frame in any transfer syntax that it is offered in."""
        if transfer_syntax_uid == self.instance.transfer_syntax_uid:
            return await self.stored_frame(number)
        if transfer_syntax_uid == EXPLICIT_LITTLE_ENDIAN:
            return (await self.native_frame(number))[0]
        return (await self.encoded_frame(number, transfer_syntax_uid)).data

    def _ranges(self, number: int) -> list[Range]:
        instance = self.instance
        if instance.pixel_offset and not instance.frames.count:
            raise NotAcceptable("The frames of the instance cannot be told apart; ask for all of it, as it is stored.")
        return instance.frames.ranges(number)


def _of_slice(pixel_offset: int, offset: int, make: Callable[[Bytes, Dataset], T], content: Bytes) -> T | None:
    """See `Reader.picture`; None if parsing has to tell what is in the header."""
    data = memoryview(content)
    elements = picture_header.relevant(data, pixel_offset)
    return None if elements is None else make(data[offset:], picture_header.parsed(elements))
