"""Softcopy presentation states (PS3.3 section A.33, PS3.4 section N.2): what they refer to and how they show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from pydicom import Dataset

from dicomweb.pixels.functional_groups import first, number, numbers
from dicomweb.rendering import color, render
from dicomweb.rendering.graphics import Placement, draw
from dicomweb.rendering.grayscale import shades
from dicomweb.rendering.options import Viewport

# What a state says in place of the image (PS3.4 section N.2): without it in the state it is not applied at all.
_MODALITY = ("ModalityLUTSequence", "RescaleIntercept", "RescaleSlope")
_VOI = ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction")
_PIXELS = ("BitsAllocated", "BitsStored", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit")
_MAX_MAGNIFICATION = 16.0
_MAX_SIDE = 8192


@dataclass(frozen=True, slots=True)
class Reference:
    """An image that a state refers to; `frames` is empty for all."""

    instance_uid: str
    frames: tuple[int, ...]


def references(state: Dataset) -> list[Reference]:
    """The images of a state, in its order."""
    found = []
    for series in state.get("ReferencedSeriesSequence") or []:
        for image in series.get("ReferencedImageSequence") or []:
            frames = tuple(int(one) for one in numbers(image.get("ReferencedFrameNumber")))
            found.append(Reference(str(image.get("ReferencedSOPInstanceUID", "")), frames))
    return found


def picture(
    state: Dataset, header: Dataset, pixels: np.ndarray, photometric: str, frame: int, viewport: Viewport | None
) -> Image.Image:
    """One frame as the state shows it: its values, shutter, rotation, displayed area and graphics; `L` or `RGB`."""
    if pixels.ndim == 3 or photometric == color.PALETTE:
        shown = color.rgb(pixels, photometric, header)
    else:
        shown = _presented(state, shades(pixels, "MONOCHROME2", _with_state(state, header, frame), frame, None))
    if "RedPaletteColorLookupTableDescriptor" in state and shown.ndim == 2:
        shown = color.rgb(shown, color.PALETTE, state)
    image = _shuttered(state, Image.fromarray(np.ascontiguousarray(shown)))
    placement = _placement(state, header, frame, image, viewport)
    return draw(placement.applied(image), state, placement, str(header.get("SOPInstanceUID", "")), frame)


def _with_state(state: Dataset, header: Dataset, frame: int) -> Dataset:
    """The attributes of an image that pixels are shown by, replaced by those of the state."""
    merged = Dataset()
    for keyword in _PIXELS:
        if keyword in header:
            merged[keyword] = header[keyword]
    voi = next(_applying(state.get("SoftcopyVOILUTSequence"), header, frame), None)
    for source, keywords in ((state, _MODALITY), (voi, _VOI)):
        for keyword in keywords:
            if source is not None and keyword in source:
                merged[keyword] = source[keyword]
    if "PresentationLUTShape" in state:
        merged.PresentationLUTShape = state.PresentationLUTShape
    return merged


def _applying(sequence: Sequence[Dataset] | None, header: Dataset, frame: int) -> Iterator[Dataset]:
    """The items of a sequence that apply to a frame: those that refer to it, or to nothing in particular."""
    for item in sequence or []:
        images = item.get("ReferencedImageSequence") or []
        if not images or any(_refers(one, str(header.get("SOPInstanceUID", "")), frame) for one in images):
            yield item


def _refers(image: Dataset, instance_uid: str, frame: int) -> bool:
    frames = [int(one) for one in numbers(image.get("ReferencedFrameNumber"))]
    return image.get("ReferencedSOPInstanceUID") == instance_uid and (not frames or frame in frames)


def _presented(state: Dataset, shown: np.ndarray) -> np.ndarray:
    """Apply the Presentation LUT, which a state may have in place of a shape (PS3.3 section C.11.6)."""
    lut = first(state.get("PresentationLUTSequence"))
    if lut is None:
        return shown
    data = lut.LUTData
    table = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data)
    places = np.rint(np.linspace(0, len(table) - 1, 256)).astype(int)
    top = (1 << int(lut.LUTDescriptor[2])) - 1
    values = np.rint(table[places].astype(np.float64) * 255.0 / top).astype(np.uint8)
    presented: np.ndarray = values[shown]
    return presented


def _shuttered(state: Dataset, image: Image.Image) -> Image.Image:
    """Cover what lies outside the display shutter (PS3.3 section C.7.6.11), by default in black."""
    shapes = state.get("ShutterShape") or []
    shapes = [shapes] if isinstance(shapes, str) else list(shapes)
    if not shapes:
        return image
    visible = Image.new("1", image.size, 1)
    for shape in shapes:
        mask = Image.new("1", image.size, 0)
        _fill(ImageDraw.Draw(mask), shape, state)
        visible = Image.fromarray(np.asarray(visible) & np.asarray(mask))
    gray = round(number(state.get("ShutterPresentationValue"), 0.0) * 255 / 65535)
    cover = Image.new(image.mode, image.size, gray if image.mode == "L" else (gray, gray, gray))
    return Image.composite(image, cover, visible)


def _fill(canvas: ImageDraw.ImageDraw, shape: str, state: Dataset) -> None:
    if shape == "RECTANGULAR":
        keywords = ("LeftVerticalEdge", "UpperHorizontalEdge", "RightVerticalEdge", "LowerHorizontalEdge")
        left, top, right, bottom = (number(state.get(f"Shutter{one}"), 0.0) - 1 for one in keywords)
        canvas.rectangle((left, top, max(left, right), max(top, bottom)), fill=1)
    elif shape == "CIRCULAR":
        row, column = (one - 1 for one in numbers(state.get("CenterOfCircularShutter")))
        radius = number(state.get("RadiusOfCircularShutter"), 0.0)
        canvas.ellipse((column - radius, row - radius, column + radius, row + radius), fill=1)
    elif shape == "POLYGONAL":
        places = [one - 1 for one in numbers(state.get("VerticesOfThePolygonalShutter"))]
        canvas.polygon(list(zip(places[1::2], places[::2], strict=False)), fill=1)


def _placement(state: Dataset, header: Dataset, frame: int, image: Image.Image, viewport: Viewport | None) -> Placement:
    """Which part of the image is shown how large, and turned how (PS3.3 sections C.10.4 and C.10.6)."""
    area = next(_applying(state.get("DisplayedAreaSelectionSequence"), header, frame), Dataset())
    corners = [
        *numbers(area.get("DisplayedAreaTopLeftHandCorner")),
        *numbers(area.get("DisplayedAreaBottomRightHandCorner")),
    ]
    if len(corners) != 4:
        corners = [1, 1, image.width, image.height]
    left, right = sorted((corners[0], corners[2]))
    top, bottom = sorted((corners[1], corners[3]))
    spacing = list(numbers(area.get("PresentationPixelSpacing")))
    spacing = spacing or list(numbers(area.get("PresentationPixelAspectRatio")))
    aspect = spacing[0] / spacing[1] if len(spacing) == 2 and min(spacing) > 0 else render.pixel_aspect(header, frame)
    placement = Placement(
        left - 1,
        top - 1,
        min(right - left + 1, _MAX_SIDE),
        min(bottom - top + 1, _MAX_SIDE),
        turns=round(number(state.get("ImageRotation"), 0.0) / 90) % 4,
        is_flipped=state.get("ImageHorizontalFlip") == "Y",
    )
    if area.get("PresentationSizeMode") == "MAGNIFY":
        ratio = number(area.get("PresentationPixelMagnificationRatio"), 1.0)
        return placement.scaled(min(max(ratio, 1 / _MAX_MAGNIFICATION), _MAX_MAGNIFICATION), aspect, viewport)
    return placement.fitted(aspect, viewport)
