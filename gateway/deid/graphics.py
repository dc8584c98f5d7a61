"""Clean Graphics (PS3.15 section E.3.3): overlay planes keep their drawings and lose what is written on them.

An overlay is a picture of bits, so it is looked at as one: rendered, searched for text by OCR, and what may be text is
cleared in the bits. One that cannot be looked at goes whole. Graphic annotations are text and vectors, which the plan
cleans as such; curves were retired in 2004 and are removed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from gateway.deid import ocr
from gateway.deid.ocr import Text, TextFinder
from gateway.deid.values import Element, elements_of, read, tag_of

#: What stays of an overlay group (PS3.3 section C.9.2) and its VR; retired compression and colours do not.
ATTRIBUTES: Final = {
    0x0010: "US",
    0x0011: "US",
    0x0015: "IS",
    0x0022: "LO",
    0x0040: "CS",
    0x0045: "LO",
    0x0050: "SS",
    0x0051: "US",
    0x0100: "US",
    0x0102: "US",
    0x1001: "CS",
    0x1301: "IS",
    0x1302: "DS",
    0x1303: "DS",
    0x1500: "LO",
    0x3000: "OW",
    0x4000: "LT",
}
GROUPS: Final = range(0x6000, 0x6020, 2)
#: Overlay Bit Position and Overlay Data of the first group.
_POSITION, _OVERLAY_DATA = 0x60000102, 0x60003000
_ROWS, _COLUMNS, _FRAMES, _DATA = 0x0010, 0x0011, 0x0015, 0x3000
_MAX_PIXELS: Final = 1 << 24
#: Each takes a second or more.
_MAX_FRAMES: Final = 16
#: Small characters are read better when they are enlarged.
_SMALL_PIXELS, _ENLARGED = 1 << 20, 2
#: A drawing that goes on reading as text after so many rounds cannot be told from it.
_MAX_ROUNDS: Final = 3
_LEGIBLE_CHARACTERS, _LEGIBLE_CONFIDENCE = 2, 0.5


def is_overlay(tag: int) -> bool:
    """Whether an element belongs to an overlay plane."""
    return tag >> 16 in GROUPS


def has_hidden_overlay(ds: Dataset) -> bool:
    """Whether bits of an overlay may be those above the stored ones of the pixel data (PS3.5 section 8.1.2).

    Then it has no data of its own, or does not say that its bits are the first and only ones.
    """
    elements = elements_of(ds)
    positions = [tag for tag in elements if tag & 0xFF00FFFF == _POSITION]
    return any(
        tag_of(tag - _POSITION + _OVERLAY_DATA) not in elements or _says_other_than_0(elements[tag])
        for tag in positions
    )


def _says_other_than_0(position: Element) -> bool:
    value = position.value
    return any(value) if isinstance(value, bytes) else bool(value)


class OverlayCleaner:
    """Cleans the overlay planes of objects. Safe to share between threads; pure CPU."""

    def __init__(self, finder: TextFinder | None = None) -> None:
        """Take what finds text; without the extra `ocr` there is none, and overlays are removed."""
        self._finder = finder or ocr.shared_finder()

    def clean(self, ds: Dataset) -> None:
        """Clear what is written in the overlays of a data set, or remove those that cannot be looked at."""
        elements = elements_of(ds)
        overlays = [tag for tag in elements if is_overlay(tag)]
        for group in {tag >> 16 for tag in overlays}:
            cleaned = self._cleaned(ds, group)
            for tag in [tag for tag in overlays if tag >> 16 == group and cleaned is None]:
                del elements[tag]
            if cleaned is not None:
                elements[cleaned.tag] = cleaned

    def _cleaned(self, ds: Dataset, group: int) -> RawDataElement | None:
        """The data of one overlay without text; None if nobody can tell."""
        data = elements_of(ds).get(BaseTag(group << 16 | _DATA))
        shape = _shape(ds, group)
        if self._finder is None or shape is None or not isinstance(data, RawDataElement) or not data.value:
            return None
        if not data.is_little_endian and data.VR != "OB":
            return None
        frames, rows, columns = shape
        count = frames * rows * columns
        bits = np.unpackbits(np.frombuffer(data.value, np.uint8), bitorder="little")
        if bits.size < count:
            return None
        planes = bits[:count].reshape(shape)
        if not all(self._clear(self._finder, plane) for plane in planes):
            return None
        packed = np.packbits(planes.reshape(-1), bitorder="little").tobytes()  # what was behind the last bit goes
        packed += b"\0" * (len(packed) % 2)
        return data._replace(value=packed, length=len(packed))

    def _clear(self, finder: TextFinder, plane: np.ndarray) -> bool:
        """Clear the bits of one plane where text is, and tell whether none is left."""
        for turn in range(_MAX_ROUNDS):
            if not plane.any():
                return True
            texts = _find(finder, plane, turn)
            found = [text for text in texts if _counts(text, turn)]
            for text in found:
                box = text.box.grown(max(2, text.box.thickness // 4))
                plane[max(box.top, 0) : max(box.bottom, 0), max(box.left, 0) : max(box.right, 0)] = 0
            if turn and not found:
                return True
        return False


def _find(finder: TextFinder, plane: np.ndarray, turn: int) -> list[Text]:
    """Look at a plane as light on dark and as dark on light by turns."""
    factor = _ENLARGED if plane.size <= _SMALL_PIXELS else 1
    picture = np.kron(plane * np.uint8(255), np.ones((factor, factor), np.uint8))
    texts = finder.find(255 - picture if turn % 2 else picture, read=True, turn=turn)
    return [replace(text, box=text.box.scaled(1 / factor)) for text in texts]


def _counts(text: Text, turn: int) -> bool:
    """Whether to clear it: at first one sure character or any two; an arc alone is a doubtful parenthesis."""
    if not turn and text.characters >= _LEGIBLE_CHARACTERS:
        return True
    return text.characters >= (_LEGIBLE_CHARACTERS if turn else 1) and text.confidence >= _LEGIBLE_CONFIDENCE


def _shape(ds: Dataset, group: int) -> tuple[int, int, int] | None:
    """Frames, rows and columns of an overlay; None if it does not say, or is too large."""
    rows, columns = (_number(ds, group << 16 | element) for element in (_ROWS, _COLUMNS))
    stated = read(ds, group << 16 | _FRAMES).strip() or "1"
    frames = int(stated) if stated.isascii() and stated.isdigit() else 0
    if not (0 < frames <= _MAX_FRAMES and rows > 0 and columns > 0 and frames * rows * columns <= _MAX_PIXELS):
        return None
    return frames, rows, columns


def _number(ds: Dataset, tag: int) -> int:
    """An unsigned short; 0 if it is none."""
    element = elements_of(ds).get(BaseTag(tag))
    value = getattr(element, "value", None)
    if isinstance(element, RawDataElement) and isinstance(value, bytes) and len(value) == 2:
        return int.from_bytes(value, "little" if element.is_little_endian else "big")
    return value if isinstance(value, int) else 0
