"""Frames as pictures (PS3.18 section 8.3.5.1): the pipelines of PS3.4 Annex N, then crop, scale, color space and text.

Pure: decoded pixels and their header in, pictures or encoded bytes out.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image
from pydicom import Dataset

from dicomweb.errors import BadRequest
from dicomweb.pixels.functional_groups import Frame, numbers
from dicomweb.rendering import annotation, color, color_profiles, encoders, overlays
from dicomweb.rendering.grayscale import shades
from dicomweb.rendering.options import Options, Viewport, Window

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
#: Pixels this close to square are shown as they are.
_SQUARE = 1e-3
_MAX_ASPECT = 100.0


def display(pixels: np.ndarray, photometric: str, header: Dataset, frame: int, window: Window | None) -> np.ndarray:
    """Values of a decoded frame as they are shown.

    Parameters
    ----------
    pixels : array of (rows, columns) or (rows, columns, 3), as `transcode.decode` gives it.
    photometric : its photometric interpretation.
    header : of the instance; tells rescaling, VOI, palette.
    frame : number of the frame, from 1: multi-frame images may transform each frame differently.
    window : of the caller; counts for gray frames.

    Returns
    -------
    array of (rows, columns) or (rows, columns, 3), uint8.
    """
    if pixels.ndim == 3 or photometric == color.PALETTE:
        return color.rgb(pixels, photometric, header)
    return shades(pixels, photometric, header, frame, window)


def render(shown: np.ndarray, header: Dataset, frame: int, options: Options, media_type: str) -> bytes:
    """Encode what `display` gave as a picture of one of `encoders.MEDIA_TYPES`: 8 bits a sample, gray or RGB."""
    if not (options.viewport or options.icc_profile or options.annotation):  # Pillow would copy it twice: 0.05 ms
        return encoders.encode(_overlaid(shown, header, frame, options), media_type, options.quality)
    image, profile = finish(picture(shown, header, frame, options), options, header, frame)
    return encoders.encode(image, media_type, options.quality, profile)


def picture(shown: np.ndarray, header: Dataset, frame: int, options: Options) -> Image.Image:
    """What `display` gave, with its overlays and as the caller's viewport has it, without text; `L` or `RGB`."""
    image = Image.fromarray(_overlaid(shown, header, frame, options))
    if options.viewport is not None:
        image = fit(image, options.viewport, pixel_aspect(header, frame))
    return image


def _overlaid(shown: np.ndarray, header: Dataset, frame: int, options: Options) -> np.ndarray:
    if options.overlays and (mask := overlays.graphics(header, frame, shown.shape)) is not None:
        shown = np.where(mask if shown.ndim == 2 else mask[..., None], np.uint8(255), shown)
    return np.ascontiguousarray(shown)


def finish(image: Image.Image, options: Options, header: Dataset, frame: int) -> tuple[Image.Image, bytes | None]:
    """Turn a picture into the color space asked for and write on it; also the ICC profile to embed."""
    image, profile = color_profiles.apply(image, options.icc_profile, header, frame)
    if options.annotation:
        image = annotation.burn_in(image, annotation.corners(header, frame, options.annotation))
    return image, profile


def pixel_aspect(header: Dataset, frame: int) -> float:
    """Height of a pixel over its width: from Pixel Aspect Ratio (0028,0034), or else the spacing; 1 if unknown."""
    found = list(numbers(header.get("PixelAspectRatio")))
    if len(found) != 2:
        found = Frame(header, frame).numbers("PixelMeasuresSequence", "PixelSpacing")
    for keyword in _SPACINGS:
        if len(found) != 2:
            found = list(numbers(header.get(keyword)))
    if len(found) != 2 or min(found) <= 0 or not all(map(math.isfinite, found)):
        return 1.0
    ratio = found[0] / found[1]
    return ratio if abs(ratio - 1) > _SQUARE and 1 / _MAX_ASPECT < ratio < _MAX_ASPECT else 1.0


def fit(image: Image.Image, viewport: Viewport, aspect: float = 1.0) -> Image.Image:
    """Crop to the source region and scale it, as large as the viewport allows, without distorting what was imaged.

    `aspect` is height over width of a pixel of the image.
    """
    width, height = viewport.region_width, viewport.region_height
    right = image.width if width is None else min(viewport.left + abs(width), image.width)
    bottom = image.height if height is None else min(viewport.top + abs(height), image.height)
    across, down = right - viewport.left, (bottom - viewport.top) * aspect
    if right - viewport.left < 1 or bottom - viewport.top < 1:
        raise BadRequest("The parameter viewport names a region outside the image.")
    scale = min(viewport.width / across, viewport.height / down)
    size = (max(1, round(across * scale)), max(1, round(down * scale)))
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
