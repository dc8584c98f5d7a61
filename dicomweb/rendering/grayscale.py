"""The grayscale pipeline of PS3.4 section N.2: Modality LUT, VOI LUT or window, polarity; to 8 bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from pydicom import Dataset

from dicomweb.pixels.functional_groups import Frame, first, number
from dicomweb.rendering.options import FUNCTIONS, Window

#: Of signed or 16-bit pixels without any window the outermost values are seldom tissue.
_OUTLIERS_PERCENT = 0.5


def shades(pixels: np.ndarray, photometric: str, header: Dataset, frame: int, window: Window | None) -> np.ndarray:
    """Show stored values as shades from 0 to 255.

    Parameters
    ----------
    pixels : array (rows, columns) of stored values.
    frame : number from 1.
    window : of the caller, in modality units; without it the object's own VOI, or else the range of what is there.

    Returns
    -------
    array (rows, columns), uint8. Padding is 0 (black) whatever the polarity.
    """
    values = Values(header, frame)
    if window is None and values.voi_lut is None:
        window = values.window or full_range(values.rescale(pixels), values.is_padding(pixels))
    shape = header.get("PresentationLUTShape") or ("INVERSE" if photometric == "MONOCHROME1" else "IDENTITY")

    def shade(stored: np.ndarray) -> np.ndarray:
        rescaled = values.rescale(stored)
        shown = _look_up(rescaled, values.voi_lut, 255.0) if window is None else apply_window(rescaled, window)
        shown = np.rint(255.0 - shown if shape == "INVERSE" else shown).astype(np.uint8)
        return np.where(values.is_padding(stored), np.uint8(0), shown)

    return _through_table(pixels, shade)


class Values:
    """How the stored values of one frame become modality units, and which of them are shown how."""

    def __init__(self, header: Dataset, number_of_frame: int) -> None:
        frame = Frame(header, number_of_frame)
        self._header = header
        self._rescale = frame.group("PixelValueTransformationSequence")
        voi = frame.group("FrameVOILUTSequence")
        self.voi_lut = first(voi.get("VOILUTSequence"))
        self.window = stored_window(voi)

    def rescale(self, pixels: np.ndarray) -> Any:
        """Stored values to modality units, as float32 or float64."""
        lut = first(self._header.get("ModalityLUTSequence"))
        if lut is not None:
            return _look_up(pixels, lut, None)
        slope = number(self._rescale.get("RescaleSlope"), 1.0)
        intercept = number(self._rescale.get("RescaleIntercept"), 0.0)
        values: np.ndarray = pixels.astype(np.float64 if pixels.dtype.itemsize > 2 else np.float32)
        return values * slope + intercept

    def is_padding(self, pixels: np.ndarray) -> np.ndarray:
        """Where stored values are background that was never measured (PS3.3 section C.7.5.1.1.2)."""
        low = self._padding("PixelPaddingValue")
        if low is None:
            return np.zeros(pixels.shape, dtype=bool)
        high = self._padding("PixelPaddingRangeLimit")
        ends = (low, low if high is None else high)
        return (pixels >= min(ends)) & (pixels <= max(ends))

    def _padding(self, keyword: str) -> int | None:
        """A padding value with the sign of the pixels: writers mix up its VR."""
        value = self._header.get(keyword)
        if not isinstance(value, int):
            return None
        bits = int(self._header.get("BitsAllocated", 16))
        if self._header.get("PixelRepresentation") == 1:
            return value - (1 << bits) if value >= 1 << (bits - 1) else value
        return value + (1 << bits) if value < 0 else value


def apply_window(values: np.ndarray, window: Window) -> Any:
    """Map modality values to 0..255 by the functions of PS3.3 sections C.11.2.1.2.1 and C.11.2.1.3."""
    if window.function == "SIGMOID":
        exponent = np.clip(-4.0 * (values - window.center) / window.width, -80.0, 80.0)
        return 255.0 / (1.0 + np.exp(exponent))
    if window.function == "LINEAR_EXACT":
        return np.clip((values - window.center) / window.width + 0.5, 0.0, 1.0) * 255.0
    if window.width <= 1.0:
        return np.where(values > window.center - 0.5, 255.0, 0.0)
    return np.clip((values - (window.center - 0.5)) / (window.width - 1.0) + 0.5, 0.0, 1.0) * 255.0


def full_range(values: np.ndarray, padding: np.ndarray | None = None) -> Window:
    """A window over what is there, where the object names none."""
    inside = values[np.isfinite(values) if padding is None else ~padding & np.isfinite(values)]
    if not inside.size:
        return Window(0.0, 1.0, "LINEAR_EXACT")
    few_values = inside.dtype == np.float32 and float(np.ptp(inside)) < 256
    percent = 0.0 if few_values else _OUTLIERS_PERCENT
    low, high = (float(value) for value in np.percentile(inside, [percent, 100.0 - percent]))
    if low == high:
        low, high = float(inside.min()), float(inside.max())
    return Window((low + high) / 2, max(high - low, 1e-6), "LINEAR_EXACT")


def stored_window(voi: Dataset) -> Window | None:
    """The first of the windows that an object names."""
    center, width = number(voi.get("WindowCenter"), math.nan), number(voi.get("WindowWidth"), math.nan)
    function = str(voi.get("VOILUTFunction") or "LINEAR")
    if not (math.isfinite(center) and width > 0 and (width >= 1 or function != "LINEAR")):
        return None
    return Window(center, width, function if function in FUNCTIONS.values() else "LINEAR")


def _through_table(pixels: np.ndarray, shade: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a function of single values: once to each value there may be, where the pixels are more than those.

    A mammogram of 7 million pixels takes 25 ms where arithmetic takes 140.
    """
    if pixels.dtype.kind not in "iu" or pixels.dtype.itemsize > 2 or not pixels.size:
        return shade(pixels)
    low, high = int(pixels.min()), int(pixels.max())
    if high - low >= pixels.size:
        return shade(pixels)
    domain = np.arange(low, high + 1, dtype=np.int32)
    bits = 8 * pixels.dtype.itemsize
    table = np.zeros(1 << bits, np.uint8)
    table[domain & ((1 << bits) - 1)] = shade(domain)  # negative values lie in the upper half, as in memory
    shown: np.ndarray = table[pixels.view(f"u{pixels.dtype.itemsize}")]
    return shown


def _look_up(values: np.ndarray, lut: Dataset | None, top: float | None) -> Any:
    """Apply a modality or VOI LUT (PS3.3 section C.11.1.1); scaled so that its range of output bits ends at `top`."""
    if lut is None:
        return values
    entries, first_mapped, bits = (int(part) for part in lut.LUTDescriptor)
    data = lut.LUTData
    table = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data, dtype=np.int64)
    table = table[: entries or 65536].astype(np.float32)
    index = np.clip(np.rint(values).astype(np.int64) - first_mapped, 0, len(table) - 1)
    return table[index] if top is None else table[index] * np.float32(top / ((1 << bits) - 1))
