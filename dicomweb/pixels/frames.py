"""Where the frames of a stored instance lie: byte ranges computed once at ingest, read at every retrieval."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from dicomweb.errors import NotFound

Range = tuple[int, int]  # (offset in the stored file, length), bytes


@dataclass(frozen=True, slots=True)
class FrameTable:
    """Byte ranges of each frame in the stored Part 10 file.

    Native pixel data (PS3.5 section 8.1) is `bits` bits per frame from `offset` on, without padding between
    frames; encapsulated pixel data (section A.4) is a list of fragments, `first[i]` being the first one of frame i.

    Attributes
    ----------
    count : number of frames; 0 if the instance has no pixel data.
    offset : of the first byte of pixel data: the value field if native, the first fragment's value if encapsulated.
    bits : size of one native frame in bits; 0 if encapsulated.
    lengths : length of each fragment in bytes, encapsulated only. Between fragments lie 8 bytes of item header.
    first : index of the first fragment of each frame, encapsulated only.
    """

    count: int
    offset: int = 0
    bits: int = 0
    lengths: tuple[int, ...] = ()
    first: tuple[int, ...] = ()
    _positions: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    def index(self) -> FrameTable:
        """Make `ranges` as fast for the last frame as for the first: for those who ask for many of 100,000 frames."""
        if not self._positions:
            self._positions.extend(accumulate((length + 8 for length in self.lengths), initial=self.offset))
        return self

    def ranges(self, number: int) -> list[Range]:
        """Byte ranges that together hold frame `number` (from 1). For 1-bit data the first byte may be shared.

        Raises NotFound if there is no such frame.
        """
        if not 1 <= number <= self.count:
            raise NotFound(f"There is no frame {number}; the instance has {self.count}.")
        if self.bits:
            start = (number - 1) * self.bits
            end = start + self.bits
            return [(self.offset + start // 8, -(-end // 8) - start // 8)]
        return self._fragments(number)

    def bit_offset(self, number: int) -> int:
        """Bits to skip in the first byte of a native frame: not 0 only for 1-bit pixels (PS3.18 8.7.3.3.1)."""
        return ((number - 1) * self.bits) % 8

    def _fragments(self, number: int) -> list[Range]:
        begin = self.first[number - 1]
        end = self.first[number] if number < self.count else len(self.lengths)
        position = self._positions[begin] if self._positions else self.offset + sum(self.lengths[:begin]) + 8 * begin
        found: list[Range] = []
        for length in self.lengths[begin:end]:
            found.append((position, length))
            position += length + 8
        return found

    def pack(self) -> bytes:
        """A compact form for the catalogue; `unpack` is its inverse."""
        head = struct.pack("<IQQI", self.count, self.offset, self.bits, len(self.lengths))
        one_each = self.first == tuple(range(self.count))
        numbers = (*self.lengths, *(() if one_each else self.first))
        return zlib.compress(head + struct.pack(f"<{len(numbers)}I", *numbers), 1)

    @classmethod
    def unpack(cls, packed: bytes) -> FrameTable:
        """Read what `pack` wrote."""
        raw = zlib.decompress(packed)
        count, offset, bits, fragments = struct.unpack_from("<IQQI", raw)
        body = raw[24:]
        numbers = struct.unpack(f"<{len(body) // 4}I", body)
        if not fragments:
            return cls(count, offset, bits)
        first = numbers[fragments:] or tuple(range(count))
        return cls(count, offset, 0, numbers[:fragments], first)


def native(count: int, offset: int, frame_bits: int) -> FrameTable:
    """The table of uncompressed pixel data whose value starts at `offset`."""
    return FrameTable(count, offset, frame_bits)


def encapsulated(
    count: int,
    offset: int,
    lengths: Sequence[int],
    tables: Iterable[Sequence[int]] = (),
    codestreams: Sequence[int] = (),
) -> FrameTable:
    """The table of encapsulated pixel data.

    Parameters
    ----------
    count : NumberOfFrames.
    offset : of the first fragment's value (after the Basic Offset Table item and the fragment's own item header).
    lengths : bytes of each fragment.
    tables : offset tables, basic and extended: bytes from the first fragment's item header to each frame's first
        item header; empty if the object has none.
    codestreams : indices of the fragments in which a codestream begins, as far as they can be told by its markers.

    With one frame all fragments are its; with as many fragments as frames it is one each; else an offset table
    decides, if it fits the fragments, or the codestreams, if they are as many as the frames (PS3.5 section A.4).
    Where nothing tells, frames are not addressable and `count` is 0.
    """
    if count == 1:
        return FrameTable(1, offset, 0, tuple(lengths), (0,))
    if len(lengths) == count:
        return FrameTable(count, offset, 0, tuple(lengths), tuple(range(count)))
    index_of: dict[int, int] = {}
    position = 0
    for index, length in enumerate(lengths):
        index_of[position] = index
        position += length + 8
    for first in (*([index_of.get(start, -1) for start in starts] for starts in tables), list(codestreams)):
        if len(first) == count and first[0] == 0 and first == sorted(set(first)):
            return FrameTable(count, offset, 0, tuple(lengths), tuple(first))
    return FrameTable(0, offset, 0, tuple(lengths), ())
