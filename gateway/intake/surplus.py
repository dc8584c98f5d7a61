"""What pixel data holds besides frames, which no picture shows, so that it may be anything.

What follows the last frame of native pixel data is mostly padding: it leaves as zeros and as long as it came, for its
length is told before it comes. Offsets of encapsulated frames point to where these may lie, or are none.
"""

from __future__ import annotations

import struct

from gateway.deid.policy import Refusal
from gateway.intake.pixels import UNDEFINED, PixelElement, PixelLayout
from gateway.intake.stored import StoredHeader


class Surplus:
    """Counts native pixel data, to tell what is beyond its frames."""

    def __init__(self, frames_bytes: int = 0) -> None:
        """Take how many bytes all frames have; 0: nobody knows, and all passes."""
        self._left = frames_bytes or None

    def pictured(self, size: int) -> int:
        """How many of the next `size` bytes belong to frames."""
        if self._left is None:
            return size
        kept = min(self._left, size)
        self._left -= kept
        return kept


def surplus_of(pixels: PixelElement | None, stored: StoredHeader) -> Surplus:
    """What there is beyond the frames of an object.

    Raises
    ------
    Refusal : the object tells of no frames, or what is beyond them has room for another one.
    """
    bits, count = stored.geometry.frame_bits, stored.geometry.count
    if pixels is None or pixels.length in (UNDEFINED, 0):
        return Surplus()
    if not bits:
        raise Refusal("The frames of the object cannot be told apart: it does not say of what size they are.")
    if stored.photometric == "YBR_FULL_422":  # software forgets to leave out every other color
        bits = bits // 2 * 3
    frames_bytes = -(-bits * count // 8)
    if pixels.length - frames_bytes >= max(bits // 8, 2):
        raise Refusal("The pixel data has more frames than the object says.")
    return Surplus(frames_bytes)


def check_offsets(stored: StoredHeader, layout: PixelLayout) -> None:
    """Raise Refusal if a table of offsets holds other numbers: text is far larger ones."""
    table = layout.offset_table
    basic = struct.unpack(f"<{len(table) // 4}L", table[: len(table) // 4 * 4])
    if len(table) % 4 or max((*basic, *stored.geometry.extended_starts), default=0) > layout.size:
        raise Refusal("The offsets of the frames are none, and may be anything.")
