"""Reads the parameters of rendered volumes (PS3.18 section 8.3.5.3): which images, by which method, seen from where."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise

from multidict import MultiMapping
from pydicom.datadict import tag_for_keyword

from dicomweb.errors import BadRequest
from dicomweb.rendering.options import Options, Parameters, decimal
from dicomweb.resource import checked_uid

Vector = tuple[float, float, float]

#: Values of the renderingmethod parameter, and what Rendering Method (0070,120D) calls them.
METHODS = {
    "volume_rendered": "VOLUME_RENDERED",
    "maximum_ip": "MAXIMUM_IP",
    "minimum_ip": "MINIMUM_IP",
    "average_ip": "AVERAGE_IP",
}
ORIENTATIONS = ("a", "p", "r", "l", "h", "f")
_COMMON = (
    "accept",
    "charset",
    "annotation",
    "quality",
    "viewport",
    "window",
    "iccprofile",
    "volumeinputreference",
    "renderingmethod",
    "orientation",
    "viewpointposition",
    "viewpointlookat",
    "viewpointup",
    "animationstepsize",
    "animationrate",
    "renderedvolumetricmetadata",
)
_CAMERA = ("viewpointposition", "viewpointlookat", "viewpointup")
_MAX_MATCHES = 16
#: An animation has at most so many frames.
MAX_FRAMES = 120
_DEFAULT_FRAMES = 36
_DEFAULT_RATE = 10
_MAX_MM = 1e6


class Reformatting(Enum):
    """Values of Reformatting Operation Type (0072,0510); each has its own resource and parameters."""

    MPR = "MPR"
    RENDERING_3D = "3D_RENDERING"

    @property
    def parameters(self) -> tuple[str, ...]:
        """Query parameters that count for it (Table 10.4.1-5)."""
        own = ("mprslab", "volumetriccurvepoint") if self is Reformatting.MPR else ("swivelrange",)
        return (*_COMMON, *own)


@dataclass(frozen=True, slots=True)
class View:
    """Where the camera is: one of ORIENTATIONS, or points and a direction in mm of the frame of reference (LPS)."""

    orientation: str | None = None
    position: Vector | None = None
    look_at: Vector | None = None
    up: Vector | None = None


@dataclass(frozen=True, slots=True)
class Animation:
    """How the view moves: around the up direction by `swivel_deg`, or along a curve of points in mm."""

    frames: int
    step: float
    rate: int
    swivel_deg: float | None = None
    curve: tuple[Vector, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """Which images form the volume: those like a reference (instance, frame), or those whose attributes match."""

    instance_uid: str | None = None
    frame: int | None = None
    matches: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class VolumeOptions:
    """One rendering of a volume; `method` is a value of METHODS."""

    reformatting: Reformatting
    method: str
    image: Options = field(default_factory=Options)
    view: View = field(default_factory=View)
    selection: Selection = field(default_factory=Selection)
    slab_mm: float | None = None
    animation: Animation | None = None
    metadata_only: bool = False


def parse(
    query: MultiMapping[str], reformatting: Reformatting, max_pixels: int
) -> tuple[VolumeOptions, tuple[str, ...]]:
    """Read a request's parameters; also what its answer must warn of. Raise BadRequest naming what is wrong."""
    matches = _matches(query, reformatting)
    tags = {name for name, _ in matches}
    parameters = Parameters(query, {*reformatting.parameters, *(name for name in query if _tag(name) in tags)})
    image = parameters.options(max_pixels)
    read = parameters.read
    selection = read("volumeinputreference", _reference) or Selection()
    if matches and selection.instance_uid:
        raise BadRequest("The parameter volumeinputreference and attributes to match exclude each other.")
    options = VolumeOptions(
        reformatting,
        _method(parameters, reformatting),
        image,
        _view(parameters),
        Selection(selection.instance_uid, selection.frame, matches),
        read("mprslab", _positive("mprslab")) if reformatting is Reformatting.MPR else None,
        _animation(parameters, query, reformatting),
        bool(read("renderedvolumetricmetadata", _yes)),
    )
    return options, tuple(parameters.warnings)


def _method(parameters: Parameters, reformatting: Reformatting) -> str:
    method = parameters.read("renderingmethod", lambda text: METHODS.get(text, ""))
    if method is None:
        return "AVERAGE_IP" if reformatting is Reformatting.MPR else "VOLUME_RENDERED"
    if not method or (method == "VOLUME_RENDERED" and reformatting is Reformatting.MPR):
        allowed = [name for name in METHODS if reformatting is not Reformatting.MPR or name != "volume_rendered"]
        raise BadRequest(f"The parameter renderingmethod must be one of {', '.join(allowed)}.")
    return method


def _view(parameters: Parameters) -> View:
    orientation = parameters.read("orientation", _orientation)
    position, look_at, up = (parameters.read(name, _vector(name)) for name in _CAMERA)
    if orientation and (position or look_at or up):
        raise BadRequest("The parameter orientation and those of the viewpoint exclude each other.")
    # An up direction of 0,0,0, as in the standard's own example (section B.33), leaves the choice to the server.
    return View(orientation, position, look_at, up if up and any(up) else None)


def _animation(parameters: Parameters, query: MultiMapping[str], reformatting: Reformatting) -> Animation | None:
    step = parameters.read("animationstepsize", _step)
    rate = parameters.read("animationrate", _rate) or _DEFAULT_RATE
    if reformatting is Reformatting.RENDERING_3D:
        swivel = parameters.read("swivelrange", _swivel)
        return None if swivel is None else _moving(swivel, step, rate, swivel_deg=swivel)
    curve = _curve(query.getall("volumetriccurvepoint", []))
    if not curve:
        return None
    length = sum(_distance(one, other) for one, other in pairwise(curve))
    if length <= 0:
        raise BadRequest("The points of volumetriccurvepoint are all the same.")
    return _moving(length, step, rate, curve=curve)


def _moving(
    length: float, step: int | None, rate: int, *, swivel_deg: float | None = None, curve: tuple[Vector, ...] = ()
) -> Animation:
    """An animation of as many frames as there are steps (8.3.5.3.11)."""
    step = step or math.ceil(length / _DEFAULT_FRAMES)
    frames = max(1, round(length / step))
    if frames > MAX_FRAMES:
        raise BadRequest(f"An animation has at most {MAX_FRAMES} frames; ask with a larger animationstepsize.")
    return Animation(frames, float(step), rate, swivel_deg, curve)


def _curve(texts: list[str]) -> tuple[Vector, ...]:
    """Points, each a parameter of its own or all in one; at least two (8.3.5.3.10)."""
    numbers = [part for text in texts for part in text.split(",")]
    if not texts:
        return ()
    if len(numbers) % 3 or not 2 <= len(numbers) // 3 <= 1000:
        raise BadRequest("The parameter volumetriccurvepoint needs x,y,z of at least two points.")
    values = [_millimetres(part, "volumetriccurvepoint") for part in numbers]
    return tuple(zip(values[::3], values[1::3], values[2::3], strict=True))


def _matches(query: MultiMapping[str], reformatting: Reformatting) -> tuple[tuple[str, str], ...]:
    """Attributes to match, by keyword or tag, in the order of their tags (8.3.5.3.2)."""
    others = [(name, value) for name, value in query.items() if name not in reformatting.parameters]
    found = [(tag, value) for name, value in others if (tag := _tag(name))]
    if len(found) > _MAX_MATCHES or len({tag for tag, _ in found}) < len(found):
        raise BadRequest(f"At most {_MAX_MATCHES} attributes can be matched, each once.")
    return tuple(sorted(found))


def _tag(name: str) -> str | None:
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        return name.upper()
    tag = tag_for_keyword(name) if name.isascii() and name.isalnum() else None
    return None if tag is None else f"{tag:08X}"


def _reference(text: str) -> Selection:
    uid, comma, frame = text.partition(",")
    if comma and not re.fullmatch(r"[1-9]\d{0,6}", frame, re.ASCII):
        raise BadRequest("The parameter volumeinputreference must be a SOP Instance UID[,frame].")
    return Selection(checked_uid(uid, "SOP Instance UID in volumeinputreference"), int(frame) if comma else None)


def _orientation(text: str) -> str:
    if text not in ORIENTATIONS:
        raise BadRequest(f"The parameter orientation must be one of {', '.join(ORIENTATIONS)}.")
    return text


def _vector(name: str) -> Callable[[str], Vector]:
    def read(text: str) -> Vector:
        parts = text.split(",")
        if len(parts) != 3:
            raise BadRequest(f"The parameter {name} must be x,y,z.")
        x, y, z = (_millimetres(part, name) for part in parts)
        return x, y, z

    return read


def _positive(name: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = _millimetres(text, name)
        if number <= 0:
            raise BadRequest(f"The parameter {name} must be greater than zero.")
        return number

    return read


def _swivel(text: str) -> float:
    degrees = decimal(text, "swivelrange")
    if not 0 < degrees <= 360:
        raise BadRequest("The parameter swivelrange must be more than 0 and at most 360 degrees.")
    return degrees


def _step(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", text, re.ASCII):
        raise BadRequest("The parameter animationstepsize must be a whole number greater than zero.")
    return int(text)


def _rate(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,2}", text, re.ASCII):
        raise BadRequest("The parameter animationrate must be a whole number of steps per second, from 1 to 999.")
    return int(text)


def _yes(text: str) -> bool:
    if text != "yes":
        raise BadRequest("The parameter renderedvolumetricmetadata can only be yes.")
    return True


def _millimetres(text: str, name: str) -> float:
    number = decimal(text, name)
    if abs(number) > _MAX_MM:
        raise BadRequest(f"The parameter {name} holds a number that is too large.")
    return number


def _distance(one: Iterable[float], other: Iterable[float]) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5)
