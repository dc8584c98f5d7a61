"""The planes that a volume is made of, read from DICOM JSON: where each lies, and what tells several sets apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicomweb.errors import BadRequest
from dicomweb.ports import JsonDataSet

Element = Mapping[str, Any]

_PER_FRAME, _SHARED = "52009230", "52009229"
_POSITION, _ORIENTATION, _SPACING = "00200032", "00200037", "00280030"
_SLOPE, _INTERCEPT, _OFFSETS = "00281053", "00281052", "3004000C"
_NOWHERE = "An image does not say where in the patient it lies; there is no volume."
#: What may differ between sets of planes at the same places, the most telling first, and what to call it.
DISCRIMINATORS = {
    "00209056": "stacks",
    "00200100": "temporal positions",
    "00209128": "temporal positions",
    "00189087": "diffusion weightings",
    "00189089": "diffusion directions",
    "00180081": "echoes",
    "00189082": "echoes",
    "00189070": "phases of the cardiac cycle",
    "00209153": "phases of the cardiac cycle",
    "00181060": "phases of the cardiac cycle",
    "00541300": "points in time",
    "00080008": "image types",
    "00200012": "acquisitions",
}


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One image or one frame of it: `frame` counts from 1, lengths are in mm in the patient's coordinates (LPS)."""

    instance_uid: str
    series_uid: str
    frame: int
    frame_of_reference: str
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    slope: float
    intercept: float
    item: JsonDataSet = field(repr=False)
    attributes: Mapping[str, Element] = field(repr=False)

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector of row direction x column direction."""
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        return np.asarray(normal / np.linalg.norm(normal), np.float64)

    def value(self, tag: str) -> str:
        """An attribute of this frame as text, to be compared."""
        return "\\".join(map(str, self.attributes.get(tag, {}).get("Value", [])))


def planes_of(item: JsonDataSet, frames: Iterable[int] | None = None) -> Iterator[Plane]:
    """The planes of an instance, of some of its frames or of all; none of one without pixels.

    Raises
    ------
    BadRequest : if the pixels are in color, or do not say where in the patient they lie.
    """
    if not any(tag in item for tag in ("7FE00010", "7FE00008", "7FE00009")):
        return
    if int(_number(item.get("00280002"), 1)) != 1 or _text(item.get("00280004")) == "PALETTE COLOR":
        raise BadRequest("The images are in color and form no volume.")
    shared = _flat(_items(item.get(_SHARED))[:1])
    per_frame = _items(item.get(_PER_FRAME)) or _dose_planes(item)
    count = max(1, int(_number(item.get("00280008"), 1)))
    if count > 1 and len(per_frame) < count:
        raise BadRequest(_NOWHERE)
    for number in range(1, count + 1) if frames is None else frames:
        if number > count:
            raise BadRequest("There is no such frame.")
        yield _plane(item, number, {**item, **shared, **_flat(per_frame[number - 1 : number])})


def _plane(item: JsonDataSet, number: int, attributes: Mapping[str, Element]) -> Plane:
    position, orientation, spacing = (_numbers(attributes.get(tag)) for tag in (_POSITION, _ORIENTATION, _SPACING))
    rows, columns = int(_number(item.get("00280010"), 0)), int(_number(item.get("00280011"), 0))
    axes = np.array(orientation[:6], np.float64)
    complete = (len(position), len(axes), len(spacing)) == (3, 6, 2) and min(rows, columns, *spacing) > 0
    if not complete or not np.isfinite([*position, *axes, *spacing]).all():
        raise BadRequest(_NOWHERE)
    if not np.allclose([axes[:3] @ axes[:3], axes[3:] @ axes[3:], axes[:3] @ axes[3:]], [1, 1, 0], atol=1e-2):
        raise BadRequest("An image has an orientation that is none; there is no volume.")
    return Plane(
        instance_uid=_text(item.get("00080018")),
        series_uid=_text(item.get("0020000E")),
        frame=number,
        frame_of_reference=_text(item.get("00200052")),
        position=np.array(position, np.float64),
        orientation=axes,
        spacing_mm=(spacing[0], spacing[1]),
        shape=(rows, columns),
        slope=_number(attributes.get(_SLOPE), 1.0),
        intercept=_number(attributes.get(_INTERCEPT), 0.0),
        item=item,
        attributes=attributes,
    )


def _dose_planes(item: JsonDataSet) -> list[JsonDataSet]:
    """The frames of an RT Dose as functional groups: it says where they lie by offsets (PS3.3 section C.8.8.3.2)."""
    position, axes = _numbers(item.get(_POSITION)), _numbers(item.get(_ORIENTATION))
    offsets = _numbers(item.get(_OFFSETS))
    if len(position) != 3 or len(axes) != 6 or not offsets:
        return []
    normal = np.cross(axes[:3], axes[3:])
    first = offsets[0] if offsets[0] == position[2] else 0.0  # offsets may also be coordinates themselves
    places = [np.array(position) + (offset - first) * normal for offset in offsets]
    slope = {"vr": "DS", "Value": [_number(item.get("3004000E"), 1.0)]}
    return [{"": {"Value": [{_POSITION: {"Value": [*place]}, _SLOPE: slope}]}} for place in places]


def _flat(items: Iterable[JsonDataSet]) -> dict[str, Element]:
    """The attributes in the functional groups of a frame, whatever group they are in."""
    found: dict[str, Element] = {}
    for groups in items:
        for group in groups.values():
            for macro in _items(group)[:1]:
                found.update(macro)
    return found


def _items(element: Element | None) -> list[JsonDataSet]:
    return [item for item in (element or {}).get("Value", []) if isinstance(item, dict)]


def _numbers(element: Element | None) -> list[float]:
    try:
        return [float(value) for value in (element or {}).get("Value", [])]
    except (TypeError, ValueError):
        return []


def _number(element: Element | None, default: float) -> float:
    values = _numbers(element)
    return values[0] if values and np.isfinite(values[0]) else default


def _text(element: Element | None) -> str:
    values = (element or {}).get("Value") or [""]
    return str(values[0] or "")
