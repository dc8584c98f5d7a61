"""Frames as pictures (PS3.18 section 8.3.5.1): the grayscale and color pipelines of PS3.4 Annex N, then crop and scale.

Pure: decoded pixels and their header in, encoded bytes out.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut, convert_color_space

from dicomweb.errors import BadRequest

_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF"}
MEDIA_TYPES = tuple(_FORMATS)
_FUNCTIONS = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_DEFAULT_QUALITY = 90
#: Of signed or 16-bit pixels without any window the outermost values are seldom tissue.
_OUTLIERS_PERCENT = 0.5


@dataclass(frozen=True, slots=True)
class Window:
    """VOI window: center and width in modality units (HU for CT), and its function (PS3.3 section C.11.2.1.2)."""

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True, slots=True)
class Viewport:
    """Size of the caller's viewport in pixels, and the source region shown in it; None reaches the image's edge."""

    width: int
    height: int
    left: float = 0.0
    top: float = 0.0
    region_width: float | None = None
    region_height: float | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """How to render one frame."""

    viewport: Viewport | None = None
    window: Window | None = None
    quality: int = _DEFAULT_QUALITY


def parse_options(query: Mapping[str, str], max_pixels: int, *, thumbnail: bool = False) -> Options:
    """Read the rendering parameters of a request; raise BadRequest naming the one that is ill-formed."""
    viewport = window = None
    if "viewport" in query:
        viewport = _viewport(query["viewport"], max_pixels, thumbnail=thumbnail)
    if thumbnail:
        return Options(viewport)
    if "window" in query:
        window = _window(query["window"])
    quality = query.get("quality", str(_DEFAULT_QUALITY))
    if not quality.isascii() or not quality.isdigit() or not 1 <= int(quality) <= 100:
        raise BadRequest("The parameter quality must be a whole number from 1 to 100.")
    return Options(viewport, window, int(quality))


def render(
    pixels: np.ndarray, photometric: str, header: Dataset, frame: int, options: Options, media_type: str
) -> bytes:
    """Render one decoded frame.

    Parameters
    ----------
    pixels : array of (rows, columns) or (rows, columns, 3), as `transcode.decode` gives it.
    photometric : its photometric interpretation.
    header : of the instance; tells rescaling, VOI, palette.
    frame : number of the frame, from 1: multi-frame images may transform each frame differently.
    media_type : one of MEDIA_TYPES.

    Returns
    -------
    The encoded picture: 8 bits a sample, gray or sRGB.
    """
    if pixels.ndim == 3 or photometric == "PALETTE COLOR":
        shown = _color(pixels, photometric, header)
    else:
        shown = _grayscale(pixels, photometric, header, frame, options.window)
    image = Image.fromarray(np.ascontiguousarray(shown))
    if options.viewport is not None:
        image = _fit(image, options.viewport)
    buffer = io.BytesIO()
    quality = {"quality": options.quality} if media_type == "image/jpeg" else {}
    image.save(buffer, _FORMATS[media_type], **quality)
    return buffer.getvalue()


def _color(pixels: np.ndarray, photometric: str, header: Dataset) -> np.ndarray:
    if photometric == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, header)
        bits = 8 * pixels.dtype.itemsize
    else:
        if photometric.startswith("YBR_FULL"):
            pixels = convert_color_space(pixels, photometric, "RGB")
        bits = header.BitsStored
    shown: np.ndarray = np.right_shift(pixels, max(bits - 8, 0)).astype(np.uint8)
    return shown


def _grayscale(pixels: np.ndarray, photometric: str, header: Dataset, frame: int, window: Window | None) -> np.ndarray:
    """Modality LUT, VOI LUT, presentation LUT (PS3.4 Figure N.2-1)."""
    transformation = _Transformation(header, frame)
    values = transformation.rescale(pixels)
    if window is not None:
        shown = apply_window(values, window)
    elif transformation.voi_lut is not None:
        shown = _look_up(values, transformation.voi_lut, 255.0)
    else:
        shown = apply_window(values, transformation.window or _full_range(values, transformation.padding(values)))
    shape = header.get("PresentationLUTShape", "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY")
    if shape == "INVERSE":
        shown = 255.0 - shown
    rounded: np.ndarray = np.rint(shown).astype(np.uint8)
    return rounded


class _Transformation:
    """What applies to a frame: its functional groups first, then the shared ones, then the image's own attributes."""

    def __init__(self, header: Dataset, frame: int) -> None:
        self._header = header
        per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
        groups = [per_frame[frame - 1]] if len(per_frame) >= frame else []
        groups += list(header.get("SharedFunctionalGroupsSequence") or [])[:1]
        self._rescale = _group(groups, "PixelValueTransformationSequence") or header
        voi = _group(groups, "FrameVOILUTSequence") or header
        self.voi_lut = _first(voi.get("VOILUTSequence"))
        self.window = _stored_window(voi)

    def rescale(self, pixels: np.ndarray) -> Any:
        """Stored values to modality units, as float32 or float64."""
        lut = _first(self._header.get("ModalityLUTSequence"))
        if lut is not None:
            return _look_up(pixels, lut, None)
        slope = _number(self._rescale.get("RescaleSlope"), 1.0)
        intercept = _number(self._rescale.get("RescaleIntercept"), 0.0)
        values: np.ndarray = pixels.astype(np.float64 if pixels.dtype.itemsize > 2 else np.float32)
        return values * slope + intercept

    def padding(self, values: np.ndarray) -> np.ndarray:
        """Where `values` are background that was never measured (PS3.3 section C.7.5.1.1.2)."""
        low = self._header.get("PixelPaddingValue")
        if low is None:
            return np.zeros(values.shape, dtype=bool)
        high = self._header.get("PixelPaddingRangeLimit", low)
        ends = self.rescale(np.array([min(low, high), max(low, high)], dtype=np.int64))
        inside: np.ndarray = (values >= ends.min()) & (values <= ends.max())
        return inside


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


def _look_up(values: np.ndarray, lut: Dataset, top: float | None) -> Any:
    """Apply a modality or VOI LUT (PS3.3 section C.11.1.1); scaled so that its range of output bits ends at `top`."""
    entries, first, bits = (int(number) for number in lut.LUTDescriptor)
    data = lut.LUTData
    table = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data, dtype=np.int64)
    table = table[: entries or 65536].astype(np.float32)
    index = np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)
    return table[index] if top is None else table[index] * np.float32(top / ((1 << bits) - 1))


def _full_range(values: np.ndarray, padding: np.ndarray) -> Window:
    """A window over what is there, where the object names none."""
    inside = values[~padding & np.isfinite(values)]
    if not inside.size:
        return Window(0.0, 1.0, "LINEAR_EXACT")
    few_values = inside.dtype == np.float32 and float(np.ptp(inside)) < 256
    percent = 0.0 if few_values else _OUTLIERS_PERCENT
    low, high = (float(value) for value in np.percentile(inside, [percent, 100.0 - percent]))
    if low == high:
        low, high = float(inside.min()), float(inside.max())
    return Window((low + high) / 2, max(high - low, 1e-6), "LINEAR_EXACT")


def _stored_window(voi: Dataset) -> Window | None:
    """The first of the windows that an object names."""
    center, width = _number(voi.get("WindowCenter"), math.nan), _number(voi.get("WindowWidth"), math.nan)
    function = str(voi.get("VOILUTFunction") or "LINEAR")
    if not (math.isfinite(center) and width > 0 and (width >= 1 or function != "LINEAR")):
        return None
    return Window(center, width, function if function in _FUNCTIONS.values() else "LINEAR")


def _group(groups: list[Dataset], name: str) -> Dataset | None:
    return next((found for group in groups if (found := _first(group.get(name)))), None)


def _first(sequence: Any) -> Dataset | None:
    return sequence[0] if sequence else None


def _number(value: Any, default: float) -> float:
    """The first value of an attribute as a number; the default if it is missing or not one."""
    if value is not None and not isinstance(value, str | int | float) and len(value):
        value = value[0]
    try:
        return float(value)
    except (TypeError, ValueError):
        return default


def _fit(image: Image.Image, viewport: Viewport) -> Image.Image:
    """Crop to the source region and scale it, as large as the viewport allows, its aspect kept."""
    width, height = viewport.region_width, viewport.region_height
    right = image.width if width is None else min(viewport.left + abs(width), image.width)
    bottom = image.height if height is None else min(viewport.top + abs(height), image.height)
    if right - viewport.left < 1 or bottom - viewport.top < 1:
        raise BadRequest("The parameter viewport names a region outside the image.")
    scale = min(viewport.width / (right - viewport.left), viewport.height / (bottom - viewport.top))
    size = (max(1, round((right - viewport.left) * scale)), max(1, round((bottom - viewport.top) * scale)))
    # Cropped first: resampling would mix in what lies outside the region.
    x, y = math.floor(viewport.left), math.floor(viewport.top)
    image = image.crop((x, y, math.ceil(right), math.ceil(bottom)))
    box = (viewport.left - x, viewport.top - y, right - x, bottom - y)
    image = image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
    if width is not None and width < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if height is not None and height < 0:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return image


def _viewport(text: str, max_pixels: int, *, thumbnail: bool) -> Viewport:
    parts = text.split(",")
    try:
        numbers = [float(part) if part else None for part in parts]
    except ValueError:
        numbers = []
    size_only = len(numbers) == 2
    if not size_only and (thumbnail or not 3 <= len(numbers) <= 6):
        raise BadRequest("The parameter viewport must be width,height[,x,y,width,height].")
    width, height, left, top, region_width, region_height = numbers + [None] * (6 - len(numbers))
    if not (_is_size(width) and _is_size(height)) or not all(math.isfinite(number or 0) for number in numbers):
        raise BadRequest("The parameter viewport needs a width and a height in whole pixels.")
    if int(width or 0) * int(height or 0) > max_pixels:
        raise BadRequest("The parameter viewport asks for too many pixels.")
    return Viewport(int(width or 0), int(height or 0), abs(left or 0.0), abs(top or 0.0), region_width, region_height)


def _is_size(number: float | None) -> bool:
    return number is not None and 1 <= number <= 1 << 20 and number == int(number)


def _window(text: str) -> Window:
    parts = text.split(",")
    try:
        center, width, function = float(parts[0]), float(parts[1]), _FUNCTIONS[parts[2]]
    except (IndexError, KeyError, ValueError):
        raise BadRequest("The parameter window must be center,width,linear|linear-exact|sigmoid.") from None
    if len(parts) != 3 or not math.isfinite(center) or not math.isfinite(width) or width <= 0:
        raise BadRequest("The parameter window needs a finite center and a positive width.")
    return Window(center, width, function)
