"""Color frames as 8-bit RGB: palettes, YBR and deep color (PS3.4 section N.2.2)."""

from __future__ import annotations

import numpy as np
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut, convert_color_space

PALETTE = "PALETTE COLOR"


def rgb(pixels: np.ndarray, photometric: str, header: Dataset) -> np.ndarray:
    """Show a color frame.

    Parameters
    ----------
    pixels : array (rows, columns, 3), or (rows, columns) of palette indexes.

    Returns
    -------
    array (rows, columns, 3), uint8.
    """
    if photometric == PALETTE:
        pixels = apply_color_lut(pixels, header)[..., :3]
        bits = 8 * pixels.dtype.itemsize
    else:
        if photometric.startswith("YBR_FULL"):
            pixels = convert_color_space(pixels, photometric, "RGB")
        bits = int(header.BitsStored)
    if pixels.dtype == np.uint8:
        return pixels
    shown: np.ndarray = np.right_shift(pixels, max(bits - 8, 0)).astype(np.uint8)
    return shown
