"""Reads the parameters of a rendering (PS3.18 section 8.3.5): viewport, window, quality, annotation, iccprofile.

What is malformed is refused with BadRequest that names the parameter, never its value; what the server does not know is
named in a warning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from multidict import MultiMapping

from dicomweb.errors import BadRequest

T = TypeVar("T")

DEFAULT_QUALITY = 90
#: A thumbnail is at most so many pixels wide and high.
MAX_THUMBNAIL_SIDE = 1024

#: Parameters of the rendered resources (Table 8.3.5-1) and of thumbnails (Table 8.3.5-2).
RENDERED = ("accept", "charset", "annotation", "quality", "viewport", "window", "iccprofile")
THUMBNAIL = ("accept", "charset", "viewport")

ANNOTATIONS = ("patient", "technique")
ICC_PROFILES = ("no", "yes", "srgb", "adobergb", "rommrgb")
FUNCTIONS = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
_PRINTABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MAX_NUMBER_CHARACTERS = 40


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
    """How to render: `annotation` is of ANNOTATIONS, `icc_profile` of ICC_PROFILES; `overlays` draws those of 60xx."""

    viewport: Viewport | None = None
    window: Window | None = None
    quality: int = DEFAULT_QUALITY
    annotation: tuple[str, ...] = ()
    icc_profile: str | None = None
    overlays: bool = True


class Parameters:
    """The query parameters of one request; collects what its answer must warn of."""

    def __init__(self, query: MultiMapping[str], known: Collection[str]) -> None:
        self._query = query
        self.warnings: list[str] = []
        unknown = [name for name in query if name not in known]
        if unknown:
            self.ignore(unknown)

    def ignore(self, names: Collection[str]) -> None:
        """Say that parameters count for nothing here (section 8.3.1: they shall not be an error)."""
        shown = dict.fromkeys(
            name if _PRINTABLE_NAME.fullmatch(name) else "(one with an invalid name)" for name in names
        )
        self.warnings.append(
            f"The following parameters are not supported and have been ignored: {', '.join([*shown][:20])}"
        )

    def read(self, name: str, reader: Callable[[str], T]) -> T | None:
        """Read a parameter that may be there once; None if it is absent."""
        values = self._query.getall(name, [])
        if len(values) > 1:
            raise BadRequest(f"The parameter {name} is given more than once.")
        return reader(values[0]) if values else None

    def options(self, max_pixels: int) -> Options:
        """How to render an image."""
        return Options(
            self.read("viewport", lambda text: parse_viewport(text, max_pixels)),
            self.read("window", parse_window),
            self.read("quality", parse_quality) or DEFAULT_QUALITY,
            self.read("annotation", self.annotation) or (),
            self.read("iccprofile", parse_icc_profile),
        )

    def thumbnail(self, default: Viewport) -> Options:
        """How to render a thumbnail: never with text, its own or the image's."""
        viewport = self.read("viewport", lambda text: parse_viewport(text, MAX_THUMBNAIL_SIDE**2, size_only=True))
        if viewport is not None and max(viewport.width, viewport.height) > MAX_THUMBNAIL_SIDE:
            raise BadRequest(f"A thumbnail is at most {MAX_THUMBNAIL_SIDE} pixels wide and high.")
        return Options(viewport or default, overlays=False)

    def annotation(self, text: str) -> tuple[str, ...]:
        """Keywords (8.3.5.1.1): anything else is an error, those that are not supported are named."""
        words = text.split(",")
        if not all(map(_KEYWORD.fullmatch, words)):
            raise BadRequest("The parameter annotation must be a list of keywords such as patient,technique.")
        if unknown := [word for word in dict.fromkeys(words) if word not in ANNOTATIONS]:
            self.warnings.append(f"The following annotation values are not supported: {', '.join(unknown[:20])}")
        return tuple(name for name in ANNOTATIONS if name in words)


def parse_viewport(text: str, max_pixels: int, *, size_only: bool = False) -> Viewport:
    """Read `width,height[,x,y,width,height]` (8.3.5.1.3): values may be elided, trailing ones with their commas."""
    parts = text.split(",")
    if len(parts) > 6 or len(parts) < 2 or not parts[-1] or (size_only and len(parts) > 2):
        form = "width,height" if size_only else "width,height[,x,y,width,height]"
        raise BadRequest(f"The parameter viewport must be {form}.")
    if not all(re.fullmatch(r"[1-9]\d{0,6}", part, re.ASCII) for part in parts[:2]):
        raise BadRequest("The parameter viewport needs a width and a height in whole pixels.")
    width, height = int(parts[0]), int(parts[1])
    if width * height > max_pixels:
        raise BadRequest("The parameter viewport asks for too many pixels.")
    left, top, region_width, region_height = (
        [decimal(part, "viewport") if part else None for part in parts[2:]] + [None] * 4
    )[:4]
    if 0.0 in (region_width, region_height):
        raise BadRequest("The parameter viewport names an empty region.")
    return Viewport(width, height, abs(left or 0.0), abs(top or 0.0), region_width, region_height)


def parse_window(text: str) -> Window:
    """Read `center,width,function`: all three shall be there (8.3.5.1.4)."""
    parts = text.split(",")
    if len(parts) != 3 or parts[2] not in FUNCTIONS:
        raise BadRequest("The parameter window must be center,width,linear|linear-exact|sigmoid.")
    width = decimal(parts[1], "window")
    # Of zero or less no function is defined; LINEAR has a width of 1 or more (PS3.3 section C.11.2.1.2.1).
    if width <= 0 or (width < 1 and parts[2] == "linear"):
        raise BadRequest("The parameter window needs a positive width, of at least 1 for linear.")
    return Window(decimal(parts[0], "window"), width, FUNCTIONS[parts[2]])


def parse_quality(text: str) -> int:
    """Read a quality from 1 to 100 (8.3.5.1.2)."""
    if not re.fullmatch(r"\d{1,3}", text, re.ASCII) or not 1 <= int(text) <= 100:
        raise BadRequest("The parameter quality must be a whole number from 1 to 100.")
    return int(text)


def parse_icc_profile(text: str) -> str:
    """Read one of ICC_PROFILES (8.3.5.1.5)."""
    if text not in ICC_PROFILES:
        raise BadRequest(f"The parameter iccprofile must be one of {', '.join(ICC_PROFILES)}.")
    return text


def decimal(text: str, name: str) -> float:
    """Read a finite decimal number; raise BadRequest naming the parameter."""
    if len(text) <= _MAX_NUMBER_CHARACTERS and _DECIMAL.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    raise BadRequest(f"The parameter {name} holds something that is not a decimal number.")
