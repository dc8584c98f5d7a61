"""Overlay planes of an image (PS3.3 section C.9.2): graphics that lie over the pixels, one bit each."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom import Dataset

_GROUPS = range(0x6000, 0x6020, 2)
_ROWS, _COLUMNS, _FRAMES, _TYPE, _ORIGIN, _FIRST_FRAME, _DATA = 0x10, 0x11, 0x15, 0x40, 0x50, 0x51, 0x3000


def graphics(header: Dataset, frame: int, shape: tuple[int, ...]) -> np.ndarray | None:
    """Where the graphics overlays of a frame lie; None if it has none.

    Regions of interest (type R) are left out: they are areas, and would hide what they mark. So are planes within
    unused bits of the pixels (retired in 2004).

    Returns
    -------
    array of the frame's rows and columns, bool.
    """
    found, tags = None, header.keys()  # which takes a number as it is, where the header itself would look at each
    for group in _GROUPS:
        if (group << 16 | _DATA) not in tags:
            continue
        if found is None:
            found = np.zeros(shape[:2], dtype=bool)
        _draw(header, group, frame, found)
    return found


def _draw(header: Dataset, group: int, frame: int, picture: np.ndarray) -> None:
    def value(element: int, default: Any) -> Any:
        found = header.get(group << 16 | element)
        return default if found is None or found.value in (None, "") else found.value

    rows, columns = int(value(_ROWS, 0)), int(value(_COLUMNS, 0))
    index = frame - int(value(_FIRST_FRAME, 1))
    if str(value(_TYPE, "G")) != "G" or not 0 <= index < int(value(_FRAMES, 1)) or rows * columns <= 0:
        return
    start = index * rows * columns
    data = np.frombuffer(value(_DATA, b""), np.uint8)[start // 8 : -(-(start + rows * columns) // 8)]
    bits = np.unpackbits(data, bitorder="little")[start % 8 :][: rows * columns]
    if bits.size < rows * columns:
        return
    top, left = (int(part) - 1 for part in value(_ORIGIN, [1, 1]))
    plane = bits.reshape(rows, columns).astype(bool)[max(-top, 0) :, max(-left, 0) :]
    target = picture[max(top, 0) :, max(left, 0) :]
    height, width = min(plane.shape[0], target.shape[0]), min(plane.shape[1], target.shape[1])
    target[:height, :width] |= plane[:height, :width]
