"""Where a presentation state places an image, and the graphics and texts it draws over it (PS3.3 section C.10.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset

from dicomweb.errors import TooLarge
from dicomweb.pixels.functional_groups import numbers
from dicomweb.rendering.options import Viewport

Point = tuple[float, float]

_MAX_PIXELS = 1 << 26
_MAX_OBJECTS = 2000
_MAX_POINTS = 10_000
_TEXT_PART = 1 / 30
_INK = "white"
# Pillow counts its angles the other way round.
_CLOCKWISE = (Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_90)


@dataclass(frozen=True, slots=True)
class Placement:
    """The displayed area of an image in pixels, its clockwise quarter turns, its flip afterwards, and its scale."""

    left: float
    top: float
    width: float
    height: float
    turns: int = 0
    is_flipped: bool = False
    scale_x: float = 1.0
    scale_y: float = 1.0
    crop: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture, before it is cropped."""
        width, height = max(1, round(self.width * self.scale_x)), max(1, round(self.height * self.scale_y))
        return (height, width) if self.turns % 2 else (width, height)

    def fitted(self, aspect: float, viewport: Viewport | None) -> Placement:
        """As large as the viewport allows, or else as it is; `aspect` is a pixel's height over its width."""
        if viewport is None:
            return self
        across, down = (self.width, self.height * aspect)[:: -1 if self.turns % 2 else 1]
        scale = min(viewport.width / across, viewport.height / down)
        return replace(self, scale_x=scale, scale_y=scale * aspect)

    def scaled(self, factor: float, aspect: float, viewport: Viewport | None) -> Placement:
        """Magnified, and cropped to the viewport."""
        crop = (viewport.width, viewport.height) if viewport else None
        return replace(self, scale_x=factor, scale_y=factor * aspect, crop=crop)

    def applied(self, image: Image.Image) -> Image.Image:
        """The picture; black where the area reaches beyond the image."""
        size = (max(1, round(self.width * self.scale_x)), max(1, round(self.height * self.scale_y)))
        if size[0] * size[1] > _MAX_PIXELS:
            raise TooLarge("The presentation state shows its image too large; ask with a viewport.")
        box = (round(self.left), round(self.top), round(self.left + self.width), round(self.top + self.height))
        image = image.crop(box)
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        if self.turns:
            image = image.transpose(_CLOCKWISE[self.turns - 1])
        if self.is_flipped:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.crop is None:
            return image
        return image.crop((0, 0, min(image.width, self.crop[0]), min(image.height, self.crop[1])))

    def of_pixel(self, column: float, row: float) -> Point:
        """Where a place of the image lies in the picture; 0, 0 is the corner of the first pixel in both."""
        x, y = (column - self.left) * self.scale_x, (row - self.top) * self.scale_y
        width, height = self.width * self.scale_x, self.height * self.scale_y
        for _ in range(self.turns):
            x, y, width, height = height - y, x, height, width
        return (width - x, y) if self.is_flipped else (x, y)

    def of_display(self, across: float, down: float) -> Point:
        """Where a place given in parts of the displayed area lies in the picture."""
        return across * self.size[0], down * self.size[1]


def draw(image: Image.Image, state: Dataset, placement: Placement, instance_uid: str, frame: int) -> Image.Image:
    """Draw the graphic annotations of a state that apply to a frame."""
    annotations = [one for one in state.get("GraphicAnnotationSequence") or [] if _applies(one, instance_uid, frame)]
    if not annotations:
        return image
    image = image.copy()
    canvas = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(9, round(min(image.size) * _TEXT_PART)))
    for annotation in annotations:
        for graphic in (annotation.get("GraphicObjectSequence") or [])[:_MAX_OBJECTS]:
            _draw_graphic(canvas, graphic, placement)
        for text in (annotation.get("TextObjectSequence") or [])[:_MAX_OBJECTS]:
            _draw_text(canvas, text, placement, font)
    return image


def _applies(annotation: Dataset, instance_uid: str, frame: int) -> bool:
    images = annotation.get("ReferencedImageSequence") or []
    for image in images:
        frames = [int(one) for one in numbers(image.get("ReferencedFrameNumber"))]
        if image.get("ReferencedSOPInstanceUID") == instance_uid and (not frames or frame in frames):
            return True
    return not images


def _draw_graphic(canvas: ImageDraw.ImageDraw, graphic: Dataset, placement: Placement) -> None:
    points = _points(graphic.get("GraphicData"), graphic.get("GraphicAnnotationUnits"), placement)
    kind, fill = graphic.get("GraphicType"), _INK if graphic.get("GraphicFilled") == "Y" else None
    if kind == "POINT" and points:
        (x, y) = points[0]
        canvas.ellipse((x - 2, y - 2, x + 2, y + 2), fill=_INK)
    elif kind in ("POLYLINE", "INTERPOLATED") and len(points) > 1:
        if fill and points[0] == points[-1] and len(points) > 2:
            canvas.polygon(points, fill=fill, outline=_INK)
        else:
            canvas.line(points, fill=_INK)
    elif kind == "CIRCLE" and len(points) == 2:
        (x, y), (edge_x, edge_y) = points
        radius = ((edge_x - x) ** 2 + (edge_y - y) ** 2) ** 0.5
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), outline=_INK, fill=fill)
    elif kind == "ELLIPSE" and len(points) == 4:
        across, down = zip(*points, strict=True)
        canvas.ellipse((min(across), min(down), max(across), max(down)), outline=_INK, fill=fill)


def _draw_text(
    canvas: ImageDraw.ImageDraw, text: Dataset, placement: Placement, font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> None:
    words = "".join(one for one in str(text.get("UnformattedTextValue", "")) if one.isprintable() or one == "\n")
    units = text.get("BoundingBoxAnnotationUnits")
    box = _points(text.get("BoundingBoxTopLeftHandCorner"), units, placement)
    anchor = _points(text.get("AnchorPoint"), text.get("AnchorPointAnnotationUnits"), placement)
    place = next(iter([*box, *anchor]), None)
    if place is None:
        return
    if box and anchor and text.get("AnchorPointVisibility") == "Y":
        canvas.line([place, anchor[0]], fill=_INK)
    canvas.text(place, words[:1000], _INK, font, stroke_width=1, stroke_fill="black")


def _points(data: object, units: object, placement: Placement) -> Sequence[Point]:
    values = list(numbers(data))[: 2 * _MAX_POINTS]
    place = placement.of_display if units == "DISPLAY" else placement.of_pixel
    return [place(x, y) for x, y in zip(values[::2], values[1::2], strict=False)]
