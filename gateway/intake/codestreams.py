"""Finds what compressed pixel data carries besides the picture, as its bytes pass, so that it can be blanked in place.

None of it is an attribute, decoders need none of it, and all of it may name people (PS3.15 section E.1.1). What is
blanked keeps its length: frames stay where they are.
"""

from __future__ import annotations

import re
from typing import Final

from pydicom.uid import RLELossless

from gateway.deid.policy import Refusal
from gateway.intake.source import Buffer
from gateway.intake.walks import SOC, SOI, Do, Walk, codestream

#: Frames as they are, whose first bytes may look like anything.
_UNCOMPRESSED: Final = "1.2.840.10008.1.2.1.98"
#: RLE, Deflated Image Frame Compression and JPEG XL: no text that decoders pass over, or none that is known here.
_OTHERS: Final = frozenset(
    (str(RLELossless), "1.2.840.10008.1.2.8.1", *(f"1.2.840.10008.1.2.4.{n}" for n in (110, 111, 112)))
)
#: In entropy-coded data other markers than those of restarts do not occur; fill bytes may come before one.
_MARKERS: Final = {
    Do.SEARCH_JPEG: re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]"),
    Do.SEARCH_J2K: re.compile(rb"\xff[\x91\xd9]"),
}
_STEPS_TO_END: Final = frozenset((Do.REST, Do.ZEROS, Do.OTHER))
_READS: Final = frozenset((Do.OPEN, Do.MARKER, Do.READ))
_BLANKS: Final = frozenset((Do.BLANK, Do.REST))
_WHOLE: Final = _READS | {Do.KEEP, Do.PICTURE}
_SEGMENT: Final = frozenset((Do.READ, Do.KEEP, Do.BLANK))
_STARTS: Final = (SOI, SOC)
_SOC_SIZ: Final = SOC + b"\xff\x51"
_CUT_SHORT: Final = "Text in the compressed pixel data goes beyond its codestream."
_SEVERAL: Final = "A fragment of the pixel data holds several codestreams, or what belongs to none."


class Codestreams:
    """Goes over fragments; `cuts` are the places in the bytes that were fed last which are to be blanked.

    `feed` and the ends raise Refusal: what is malformed may hide text.
    """

    def __init__(self, transfer_syntax_uid: str) -> None:
        """Look at pixel data of this transfer syntax."""
        self.cuts: list[tuple[int, int]] = []
        self._is_other = transfer_syntax_uid in _OTHERS
        self._walk: Walk | None = None
        self._do, self._left = Do.READ, 0
        self._read = b""
        self._size = 0  # of the fragment, as far as it has come
        self._before = Do.OPEN, 0  # the step in which it began
        self._first = b""  # bytes of it, if a codestream goes on in it
        self._after = b""  # bytes after the end of a codestream

    @classmethod
    def of(cls, transfer_syntax_uid: str) -> Codestreams | None:
        """For pixel data of a transfer syntax; None if all there is in it are pixels."""
        return None if transfer_syntax_uid == _UNCOMPRESSED else cls(transfer_syntax_uid)

    def feed(self, data: Buffer, at: int, end: int) -> None:
        """Go over `data[at:end]` of the fragment."""
        if not self._size:
            self._begin()
        if self._size < 4 and self._before[1]:
            at = self._compare(data, at, end)
        self._size += end - at
        while at < end:
            if self._do in _WHOLE and self._left <= end - at and not self._read:  # nearly all: in half of the time
                stop = at + self._left
                self._next(bytes(data[at:stop]) if self._do in _READS else b"")
                at = stop
            else:
                at = self._find(data, at, end) if self._do in _MARKERS else self._pass(data, at, end)

    def end_fragment(self) -> None:
        """The fragment has come to its end."""
        if not self._size:
            return
        if self._do is Do.REST and self._after in _STARTS:
            raise Refusal(_SEVERAL)
        if self._do in _STEPS_TO_END or (self._do is Do.OPEN and not self._read.strip(b"\0")):
            self._walk = None
        self._size = 0

    def end(self) -> None:
        """All fragments have come."""
        if self._walk is not None and self._do is Do.BLANK:
            raise Refusal(_CUT_SHORT)

    def _begin(self) -> None:
        """A fragment begins: a codestream, or more of one."""
        self._first = b""
        if self._walk is not None:
            self._before = self._do, self._left
            return
        self._before = Do.OPEN, 0
        self._open()

    def _open(self) -> None:
        self._walk = codestream(is_other=self._is_other)
        self._do, self._left = next(self._walk)
        self._read = b""

    def _compare(self, data: Buffer, at: int, end: int) -> int:
        """See whether another codestream begins where one goes on, which then was cut short."""
        at_next = min(end, at + 4 - len(self._first))
        self._first += bytes(data[at:at_next])
        do, left = self._before
        if do in _SEGMENT and (self._first[:2] == SOI or self._first == _SOC_SIZ):
            raise Refusal(_CUT_SHORT)
        if self._first != _SOC_SIZ or not (do is Do.SEARCH_J2K or (do is Do.PICTURE and left >= 4)):
            return at
        self._open()
        self._next(SOC)
        self._next(_SOC_SIZ[2:])
        self._size += at_next - at
        return at_next

    def _pass(self, data: Buffer, at: int, end: int) -> int:
        """Take of a step what there is; where the next one starts, or `end`."""
        end = min(end, at + self._left)
        do = self._do
        if do in _READS:
            self._read += data[at:end]
        elif do in _BLANKS:
            self._blank(data, at, end)
        elif do is Do.ZEROS and bytes(data[at:end]).strip(b"\0"):
            raise Refusal(_SEVERAL)
        self._left -= end - at
        if not self._left:
            self._next(self._read)
        return end

    def _blank(self, data: Buffer, at: int, end: int) -> None:
        self.cuts.append((at, end))
        if self._do is Do.REST and len(self._after) < 2:
            self._after = (self._after + bytes(data[at:end])).lstrip(b"\0")[:2]

    def _find(self, data: Buffer, at: int, end: int) -> int:
        """Look for a marker that may lie in two pieces: behind it, or `end`."""
        pattern = _MARKERS[self._do]
        if self._read and pattern.match(self._read + bytes(data[at : at + 1])):
            marker, after = data[at], at + 1
        elif found := pattern.search(data, at, end):
            after = found.end()
            marker = data[after - 1]
        else:
            self._read = b"\xff" if data[end - 1] == 0xFF else b""
            return end
        self._next(bytes([marker]))
        return after

    def _next(self, read: bytes) -> None:
        """A step is done: go on with the next one that is of any bytes."""
        assert self._walk is not None  # noqa: S101 - a step of it is done
        self._do, self._left = self._walk.send(read)
        while not self._left:
            self._do, self._left = self._walk.send(b"")
        self._read = b""
        if self._do is Do.REST:
            self._after = b""


def blanked(data: Buffer, cuts: list[tuple[int, int]]) -> Buffer:
    """A copy with zeros there."""
    made = bytearray(data)
    for start, end in cuts:
        made[start:end] = bytes(end - start)
    return memoryview(made)
