"""Shows an image as a Grayscale Softcopy Presentation State says (PS3.4 section N.2, PS3.3 sections C.11 and C.10).

Applied are its Modality LUT or rescaling, VOI LUT or window, polarity, displayed area, rotation and flip. Its graphics,
shutters and masks are not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from PIL import Image
from pydicom import Dataset

from dicomweb import encoders, transcode
from dicomweb import render as rendering
from dicomweb.errors import BadRequest, NotAcceptable
from dicomweb.functional_groups import numbers
from dicomweb.render_options import Options, Viewport
from dicomweb.resource import Resource

CLASS_UID: Final = "1.2.840.10008.5.1.4.1.1.11.1"
_MODALITY: Final = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")
_VOI: Final = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
#: Functional groups hold transformations of their own, which the state's replace.
_GROUPS: Final = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
_TURNS: Final = {
    90: Image.Transpose.ROTATE_270,  # clockwise in DICOM, the other way round in Pillow
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}

Area = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Presented:
    """An image as a state shows it: the header that makes it so, and what is done with the picture then.

    `area` is left, top, right and bottom in pixels, right and bottom exclusive.
    """

    header: Dataset
    options: Options
    area: Area
    rotation: int = 0
    flipped: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the picture that comes out."""
        across, down = self.area[2] - self.area[0], self.area[3] - self.area[1]
        return (across, down) if self.rotation in (90, 270) else (down, across)


def prepare(state: Dataset, image: Dataset, resource: Resource, options: Options) -> Presented:
    """Work out how a state shows an image.

    Raises
    ------
    BadRequest : if it is no such state, or refers to other images only.
    """
    if state.get("SOPClassUID") != CLASS_UID:
        raise BadRequest("The presentation state must be a Grayscale Softcopy Presentation State.")
    uid = resource.instance_uid or ""
    if uid not in _referenced(state):
        raise BadRequest("The presentation state does not refer to the image.")
    header = _without_groups(image)
    for keyword in (*_MODALITY, *_VOI, "PresentationLUTShape"):
        if keyword in header:
            delattr(header, keyword)
    _copy(state, header, _MODALITY)
    voi = _item_for(state, "SoftcopyVOILUTSequence", uid)
    if voi is not None:
        _copy(voi, header, _VOI)
    _copy(state, header, ("PresentationLUTShape",))
    rotation = int(state.get("ImageRotation") or 0) % 360
    flipped = state.get("ImageHorizontalFlip") == "Y"
    return Presented(header, options, _area(state, image, uid), rotation, flipped)


def render(
    shown: Presented, transfer_syntax_uid: str, stored: bytes, frame: int, viewport: Viewport | None, media_type: str
) -> bytes:
    """Render one stored frame; the viewport's region is of the picture that the state makes (section 9.5.2.4)."""
    pixels, photometric = transcode.decode(shown.header, transfer_syntax_uid, stored, rgb=True)
    plain = replace(shown.options, viewport=None, annotation=())
    try:
        picture = rendering.picture(pixels, photometric, shown.header, frame, plain).crop(shown.area)
        if shown.rotation:
            picture = picture.transpose(_TURNS[shown.rotation])
        if shown.flipped:  # after rotation (PS3.3 section C.10.6)
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if viewport is not None:
            picture = rendering.fit(picture, viewport)
        picture, profile = rendering.finish(picture, shown.options, shown.header, frame)
    except (ValueError, TypeError, AttributeError, ArithmeticError, LookupError) as exc:
        raise NotAcceptable("The image or its presentation state has malformed attributes.") from exc
    return encoders.encode(picture, media_type, shown.options.quality, profile)


def _without_groups(image: Dataset) -> Dataset:
    """A copy of a header for changes at the top, without the functional groups that would win over it."""
    header = Dataset({tag: image.get_item(tag) for tag in image.keys()})  # noqa: SIM118
    header.set_original_encoding(False, True, image.original_character_set)
    header.file_meta = image.file_meta
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        if keyword in image:
            header.add_new(keyword, "SQ", [_plain(group) for group in image[keyword].value])
    return header


def _plain(group: Dataset) -> Dataset:
    copy = Dataset({tag: group.get_item(tag) for tag in group.keys()})  # noqa: SIM118
    copy.set_original_encoding(False, True, group.original_character_set)
    for keyword in _GROUPS:
        if keyword in copy:
            delattr(copy, keyword)
    return copy


def _copy(source: Dataset, target: Dataset, keywords: tuple[str, ...]) -> None:
    for keyword in keywords:
        if keyword in source:
            target[keyword] = source[keyword]


def _item_for(state: Dataset, sequence: str, instance_uid: str) -> Dataset | None:
    """The item that applies to an image: one that names it, or one that names none and so applies to all."""
    items: list[Dataset] = list(state.get(sequence) or ())
    for item in items:
        uids = {str(one.get("ReferencedSOPInstanceUID", "")) for one in item.get("ReferencedImageSequence") or ()}
        if not uids or instance_uid in uids:
            return item
    return None


def _referenced(state: Dataset) -> set[str]:
    return {
        str(image.get("ReferencedSOPInstanceUID", ""))
        for series in state.get("ReferencedSeriesSequence") or ()
        for image in series.get("ReferencedImageSequence") or ()
    }


def _area(state: Dataset, image: Dataset, instance_uid: str) -> Area:
    """The displayed area (PS3.3 section C.10.4), counted from 1 there; all of the image if it names none within it."""
    rows, columns = int(image.Rows), int(image.Columns)
    item = _item_for(state, "DisplayedAreaSelectionSequence", instance_uid) or Dataset()
    corners = [
        *numbers(item.get("DisplayedAreaTopLeftHandCorner")),
        *numbers(item.get("DisplayedAreaBottomRightHandCorner")),
    ]
    if len(corners) == 4:
        left, right = sorted((int(corners[0]), int(corners[2])))
        top, bottom = sorted((int(corners[1]), int(corners[3])))
        area = max(left - 1, 0), max(top - 1, 0), min(right, columns), min(bottom, rows)
        if area[0] < area[2] and area[1] < area[3]:
            return area
    return 0, 0, columns, rows
