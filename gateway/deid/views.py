"""How a frame is displayed, as 8-bit pictures to look for text in; and what is black in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from dicomweb.rendering import color
from dicomweb.rendering.grayscale import shades


def views(pixels: np.ndarray, photometric: str, header: Dataset, number: int) -> list[np.ndarray]:
    """The pictures that frame `number` is displayed as.

    Text may be drawn in the largest value there is, far from those of tissue, or within their range: gray frames are
    shown over their full range, and those of more than 8 bits also as viewers show them.

    Parameters
    ----------
    pixels : array of (rows, columns) or (rows, columns, 3), as decoded.
    """
    if pixels.ndim == 3 or photometric == color.PALETTE:
        return [color.rgb(pixels, photometric, header)]
    low, high = _ends(pixels)
    if pixels.dtype.kind == "f":
        pixels = np.nan_to_num(pixels, nan=low, posinf=high, neginf=low)
    exact = np.result_type(pixels, np.float32)
    stretched = (pixels.astype(exact) - low) * (255.0 / ((high - low) or 1.0))
    full_range: np.ndarray = np.clip(stretched, 0, 255).astype(np.uint8)
    if pixels.dtype.itemsize == 1:
        return [full_range]
    return [shades(pixels, photometric, header, number, None), full_range]


def darkest(pixels: np.ndarray, photometric: str, header: Dataset) -> Any:
    """The stored value that is displayed black in a frame, one for each sample.

    It is one that occurs, so that what viewers work out of a frame's range of values stays as it was.
    """
    if photometric == "MONOCHROME1":
        return pixels.dtype.type(_ends(pixels)[1])
    if photometric == color.PALETTE:
        values = np.unique(pixels)
        return values[np.argmin(color.rgb(values[None], photometric, header)[0].sum(axis=-1))]
    if pixels.ndim == 3:
        middle = 1 << (int(header.BitsStored) - 1)
        return [0, middle, middle] if photometric.startswith("YBR_FULL") else 0
    return pixels.dtype.type(_ends(pixels)[0])


def _ends(pixels: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value; what is infinite or no number hides no other."""
    if pixels.dtype.kind == "f":
        pixels = pixels[np.isfinite(pixels)]
    return (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)
