"""Chooses the planes of one volume (PS3.18 sections 8.3.5.3.1 and 8.3.5.3.2), and finds the grid that they form.

Only planes that form a grid make a volume: parallel, equally spaced, each place once (PS3.3 section C.11.23.1).
Anything else is refused with a sentence that says why, because a silently bent volume shows what is not there. A
tilted gantry shears the grid evenly: that is a volume, and its affine says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import dictionary_has_tag, dictionary_VR

from dicomweb.errors import BadRequest
from dicomweb.volumetric.options import Selection
from dicomweb.volumetric.planes import DISCRIMINATORS, Plane

#: Direction cosines of one stack may differ by this much: scanners write six digits.
_MAX_COSINE_DIFFERENCE = 1e-3
#: A step may differ from the mean by this part of it, so that rounded positions pass and a missing slice does not.
_MAX_STEP_DIFFERENCE = 0.05
#: Planes closer than this are at the same place.
_SAME_PLACE_MM = 0.01
_MIN_PLANES = 2
_MAX_GROUPS = 256
_MAX_WILDCARDS = 8
_NUMBERS = frozenset("DS FD FL IS SL SS SV UL US UV".split())
_CHOOSE = "choose one by volumeinputreference, or by attributes to match"


def select(planes: Sequence[Plane], selection: Selection) -> list[Plane]:
    """The planes of one volume, sorted along their normal.

    Raises
    ------
    BadRequest : there is no volume, or more than one; the reference is not among the planes.
    """
    for tag, wanted in selection.matches:
        planes = [one for one in planes if _matches(tag, one.value(tag), wanted)]
    groups = _groups(planes)
    reference = _find(planes, selection)
    if reference is not None:
        group = next(group for group in groups if any(one is reference for one in group))
    else:
        group = _only(groups)
    return _without_overlap(_sorted(group), reference)


def affine(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """The affine of sorted planes: (4, 4), from voxel indexes (slice, row, column) to mm in the patient (LPS).

    Raises
    ------
    BadRequest : the planes are too few, unevenly spaced, or do not lie on one line.
    """
    if len(planes) < _MIN_PLANES:
        raise BadRequest("A volume needs at least two parallel images.")
    positions = np.stack([one.position for one in planes])
    steps = np.diff(positions @ planes[0].normal)
    step = float(np.median(steps))
    if np.abs(steps - step).max() > _MAX_STEP_DIFFERENCE * step:
        raise BadRequest("The images are not evenly spaced; one may be missing.")
    # Positions have few digits: the mean step over the whole stack is truer than any single one.
    direction = (positions[-1] - positions[0]) / (len(planes) - 1)
    drift = np.abs(positions - positions[0] - np.arange(len(planes))[:, None] * direction).max()
    if drift > _MAX_STEP_DIFFERENCE * max(step, *planes[0].spacing_mm):
        raise BadRequest("The images do not lie on one line.")
    rows_mm, columns_mm = planes[0].spacing_mm
    matrix = np.eye(4)
    matrix[:3, 0] = direction
    matrix[:3, 1] = planes[0].orientation[3:] * rows_mm
    matrix[:3, 2] = planes[0].orientation[:3] * columns_mm
    matrix[:3, 3] = positions[0]
    return matrix


def _groups(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Planes of one series that are parallel and of one size."""
    groups: list[list[Plane]] = []
    for plane in planes:
        group = next((group for group in groups if _alike(group[0], plane)), None)
        if group is None:
            if len(groups) == _MAX_GROUPS:
                raise BadRequest(f"The images have too many orientations, sizes or spacings; {_CHOOSE}.")
            groups.append(group := [])
        group.append(plane)
    return groups


def _alike(one: Plane, other: Plane) -> bool:
    return (
        (one.series_uid, one.frame_of_reference) == (other.series_uid, other.frame_of_reference)
        and one.shape == other.shape
        and bool(np.abs(one.orientation - other.orientation).max() <= _MAX_COSINE_DIFFERENCE)
        and bool(np.allclose(one.spacing_mm, other.spacing_mm, rtol=_MAX_COSINE_DIFFERENCE))
    )


def _find(planes: Sequence[Plane], selection: Selection) -> Plane | None:
    if selection.instance_uid is None:
        return None
    for plane in planes:
        if plane.instance_uid == selection.instance_uid and selection.frame in (None, plane.frame):
            return plane
    raise BadRequest("The instance or frame that volumeinputreference names is not among the images.")


def _only(groups: Sequence[list[Plane]]) -> list[Plane]:
    """The one group that can be a volume; of a study, single images and localizers beside it do not count."""
    stacks = [group for group in groups if len(group) >= _MIN_PLANES]
    by_series = {group[0].series_uid for group in groups}
    if len(by_series) > 1:
        stacks = [group for group in stacks if len(group) > _MIN_PLANES] or stacks
    if not stacks:
        raise BadRequest("There are no two parallel images of one size, and so no volume.")
    if len({group[0].series_uid for group in stacks}) > 1:
        raise BadRequest(f"More than one series could be the volume; {_CHOOSE}.")
    if len([group for group in groups if group[0].series_uid == stacks[0][0].series_uid]) > 1:
        raise BadRequest(f"The images have several orientations, sizes or spacings; {_CHOOSE}.")
    return stacks[0]


def _without_overlap(planes: list[Plane], reference: Plane | None) -> list[Plane]:
    """Planes of which no two are at one place: of several sets, that of the reference."""
    for tag, name in DISCRIMINATORS.items():
        if not _overlap(planes):
            return planes
        if len({one.value(tag) for one in planes}) == 1:
            continue
        if reference is None:
            raise BadRequest(f"The images show the same places several times: there are several {name}; {_CHOOSE}.")
        planes = [one for one in planes if one.value(tag) == reference.value(tag)]
    if _overlap(planes):
        raise BadRequest("Two images lie at the same place, and nothing tells which belongs to the volume.")
    return planes


def _sorted(planes: Sequence[Plane]) -> list[Plane]:
    normal = planes[0].normal
    return sorted(planes, key=lambda one: float(one.position @ normal))


def _overlap(planes: Sequence[Plane]) -> bool:
    distances = np.array([float(one.position @ planes[0].normal) for one in planes])
    return bool(np.any(np.diff(distances) < _SAME_PLACE_MM))


def _matches(tag: str, value: str, wanted: str) -> bool:
    """Attribute matching (PS3.4 section C.2.2.2): single values, lists, ranges, wild cards."""
    vr = dictionary_VR(int(tag, 16)).split(" or ")[0] if dictionary_has_tag(int(tag, 16)) else "LO"
    values, test = value.split("\\"), _test(vr, wanted)
    return any(map(test, values))


def _test(vr: str, wanted: str) -> Callable[[str], bool]:
    if vr in _NUMBERS:
        return _in_numbers(wanted)
    if vr in ("DA", "TM", "DT") and "-" in wanted:
        low, _, high = wanted.partition("-")
        return lambda text: bool(text) and (not low or low <= text) and (not high or text[: len(high)] <= high)
    choices = re.split(r"[,\\]", wanted) if vr in ("UI", "CS") else [wanted]
    if vr != "UI" and any(one in wanted for one in "*?"):
        if wanted.count("*") > _MAX_WILDCARDS:
            raise BadRequest("An attribute to match has too many wild cards.")
        pattern = "".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in wanted)
        return lambda text: re.fullmatch(pattern, text[:64], re.DOTALL) is not None
    return lambda text: text.strip() in choices


def _in_numbers(wanted: str) -> Callable[[str], bool]:
    """A number, or a range of them as in the standard's example of cardiac intervals (section B.33)."""
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?)(?:-(-?\d+(?:\.\d+)?))?", wanted, re.ASCII)
    if found is None or len(wanted) > 64:
        raise BadRequest("An attribute to match is a number, and the value for it is neither one nor a range.")
    low, high = float(found[1]), float(found[2] or found[1])

    def test(text: str) -> bool:
        try:
            return low <= float(text) <= high
        except ValueError:
            return False

    return test
