"""Passes the value of a pixel data element as it arrives, noting where its fragments lie (PS3.5 section A.4)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from dicomweb.errors import NotDicom, TooLarge
from gateway.intake.codestreams import Codestreams
from gateway.intake.source import Buffer

UNDEFINED = 0xFFFFFFFF
TRUNCATED = "The DICOM data ends early: the file is truncated."
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
#: Fragments of one value and, times four, bytes of its offset table: these are held in memory, the rest passes.
_MAX_FRAGMENTS = 4 << 20
_TOO_MANY = "The pixel data of the DICOM object has more fragments than this gateway accepts."
# SOI and EOI of ISO 10918-1 and 14495-1; SOC and EOC of ISO 15444-1.
_CODESTREAM_STARTS, _CODESTREAM_END = (b"\xff\xd8", b"\xff\x4f"), b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class PixelElement:
    """The header of the pixel data element: tag, VR ("" if implicit), length (UNDEFINED if encapsulated)."""

    tag: int
    vr: str
    length: int


@dataclass(slots=True)
class PixelLayout:
    """What `PixelScan` found: the size of the value, and of encapsulated data its fragments and offset table.

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


class PixelScan:
    """Goes over the pieces of a value until it is `done`, filling in `layout`; `feed` raises NotDicom and Refused.

    With `codestreams` it shows them the fragments, if it comes to any.
    """

    def __init__(self, pixels: PixelElement | None, codestreams: Codestreams | None = None) -> None:
        self.layout = PixelLayout()
        self._codestreams = codestreams
        self.done = pixels is None or pixels.length == 0
        self._encapsulated = pixels is not None and pixels.length == UNDEFINED
        self._left = 0 if pixels is None or self._encapsulated else pixels.length  # of the value or the item
        self._length = 0  # of the item
        self._head = b""  # of the next item, as far as it has come
        self._table: list[bytes] | None = []  # the offset table, until it has passed
        self._start = self._end = b""  # of the fragment, as far as it has come

    def feed(self, data: Buffer) -> int:
        """How many of these bytes, which follow those of the last call, belong to the value."""
        if self._encapsulated:
            return self._feed_items(memoryview(data))
        used = min(self._left, len(data))
        self._left -= used
        self.layout.size += used
        self.done = not self._left
        return used

    def _feed_items(self, data: memoryview) -> int:
        at, size = 0, len(data)
        while at < size and not self.done:
            start, at = at, min(at + (self._left or 8 - len(self._head)), size)
            self.layout.size += at - start
            if self._left:
                self._pass(data, start, at)
            else:
                self._head += data[start:at]
                if len(self._head) == 8:
                    self._begin(self._head)
        return at

    def _begin(self, head: bytes) -> None:
        """The header of an item, or the end, has passed."""
        group, element, length = struct.unpack("<HHL", head)
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            self.done = True
            if self._codestreams is not None:
                self._codestreams.end()
            return
        if tag != _ITEM or length == UNDEFINED:
            raise NotDicom("The encapsulated pixel data is malformed.")
        if len(self.layout.fragments) >= _MAX_FRAGMENTS or (self._table is not None and length > 4 * _MAX_FRAGMENTS):
            raise TooLarge(_TOO_MANY)
        self._head = self._start = self._end = b""
        self._length = self._left = length
        if self._table is None and not self.layout.fragments:
            self.layout.first_fragment = self.layout.size
        if not length:
            self._finish()

    def _pass(self, piece: memoryview, start: int, end: int) -> None:
        """Some of an item's value."""
        data = piece[start:end]
        if self._table is not None:
            self._table.append(bytes(data))
        else:
            self._start = (self._start + data[:2])[:2] if len(self._start) < 2 else self._start
            self._end = (self._end + data[-4:])[-4:]
            if self._codestreams is not None:
                self._codestreams.feed(piece, start, end)
        self._left -= len(data)
        if not self._left:
            self._finish()

    def _finish(self) -> None:
        """An item's value has passed."""
        if self._table is not None:
            self.layout.offset_table, self._table = b"".join(self._table), None
        else:
            self.layout.add_fragment(self._length, self._start, self._end)
            if self._codestreams is not None:
                self._codestreams.end_fragment()


class Swap:
    """Reverses the bytes of each word of big endian pixel data, whatever the pieces that it comes in."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._left = b""

    def feed(self, data: Buffer) -> Buffer:
        """These bytes, reversed, as far as words are complete."""
        if self._width == 1:
            return data
        data = self._left + data
        whole = len(data) // self._width * self._width
        self._left = data[whole:]
        return np.frombuffer(data[:whole], f"u{self._width}").byteswap().tobytes()

    def rest(self) -> bytes:
        """What is left of a word that never came to its end."""
        return self._left
