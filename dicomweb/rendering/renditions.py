"""What each kind of instance can be rendered as (PS3.18 Table 8.7.4-1), and which of it a caller gets."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache

from aiohttp import web

from dicomweb.errors import BadRequest, NotAcceptable, NotFound
from dicomweb.negotiate import COMPRESSED, Offer, accepted
from dicomweb.ports import StoredInstance
from dicomweb.rendering.encoders import ANIMATED, MEDIA_TYPES

HTML, PLAIN, XML, PDF = "text/html", "text/plain", "text/xml", "application/pdf"
#: Everything that `…/rendered` can answer with, besides animations.
ALL_MEDIA_TYPES = (*MEDIA_TYPES, HTML, PLAIN, XML, PDF, "video/mp4", "video/mpeg", "video/H265")

_ENCAPSULATED = {
    "1.2.840.10008.5.1.4.1.1.104.1": PDF,
    "1.2.840.10008.5.1.4.1.1.104.2": XML,  # a CDA document
}
_STRUCTURED_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
#: Grayscale, color and pseudo-color softcopy presentation states.
PRESENTATION_STATES = frozenset(f"1.2.840.10008.5.1.4.1.1.11.{one}" for one in (1, 2, 3))
#: Pictures of something else, which stand for a series only where nothing better is in it (PS3.4 Table B.5-1).
_LAID_OVER = frozenset(
    [
        "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
        "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
        "1.2.840.10008.5.1.4.1.1.30",  # Parametric Map
        "1.2.840.10008.5.1.4.1.1.481.2",  # RT Dose
    ]
)


class Kind(Enum):
    """How an instance becomes something to look at."""

    IMAGE = "image"
    VIDEO = "video"
    DOCUMENT = "document"
    REPORT = "report"
    STATE = "presentation state"
    NOTHING = "nothing"


def kind_of(instance: StoredInstance) -> Kind:
    """The kind of an instance, from its SOP class and transfer syntax."""
    if instance.sop_class_uid in _ENCAPSULATED:
        return Kind.DOCUMENT
    if COMPRESSED.get(instance.transfer_syntax_uid, "").startswith("video/"):
        return Kind.VIDEO
    if instance.sop_class_uid.startswith(_STRUCTURED_REPORTS):
        return Kind.REPORT
    if instance.sop_class_uid in PRESENTATION_STATES:
        return Kind.STATE
    return Kind.IMAGE if instance.pixel_offset else Kind.NOTHING


def media_types(instance: StoredInstance) -> tuple[str, ...]:
    """What an instance can be rendered as, the default first."""
    kind = kind_of(instance)
    if kind is Kind.IMAGE:
        return MEDIA_TYPES
    if kind is Kind.VIDEO:
        return (COMPRESSED[instance.transfer_syntax_uid],)
    if kind is Kind.DOCUMENT:
        return (_ENCAPSULATED[instance.sop_class_uid],)
    return (HTML, PLAIN, XML) if kind is Kind.REPORT else ()


def offers(instance: StoredInstance, *, single: bool, frames: int = 1) -> Sequence[Offer]:
    """How an instance, or so many of its frames, can be sent.

    A single-part media type is for resources that are one item (10.4.4 note 3): an instance, a frame, and frames as
    one animation.
    """
    return _offers(media_types(instance), single, frames > 1)


@lru_cache(maxsize=64)
def _offers(types: tuple[str, ...], is_single: bool, are_several: bool) -> tuple[Offer, ...]:
    bare = tuple(Offer(name) for name in types if is_single or (are_several and name == ANIMATED))
    parts = tuple(Offer(name, multipart=True) for name in types)
    return bare + parts if is_single else parts + bare


def check_accept(request: web.Request) -> None:
    """Raise BadRequest if the caller mixes DICOM and rendered media types (section 8.7.5).

    Octet-streams pass: browsers' DICOMweb clients add what they accept for bulk data to every request.
    """
    for ranges in accepted(request.headers.get("Accept"), request.query.get("accept")):
        names = {one.media_type for one in ranges}
        if any(name.startswith("application/dicom") for name in names) and names & {*ALL_MEDIA_TYPES}:
            raise BadRequest("The acceptable media types must be either DICOM or rendered media types, not both.")


def not_rendered(instances: Sequence[StoredInstance]) -> NotAcceptable:
    """The error where no offer is acceptable, naming what there is; raises NotFound where there is nothing."""
    available = dict.fromkeys(one.content_type for each in instances for one in offers(each, single=False))
    if not available:
        raise NotFound("There is no picture in this resource, nor anything else that can be rendered.")
    text = ", ".join(f'multipart/related; type="{name}"' for name in available)
    return NotAcceptable(
        "A study, a series and a list of frames are sent as multipart/related only, unless one picture is asked for "
        f"with /thumbnail. Available: {text}."
    )


def representative(instances: Sequence[StoredInstance]) -> StoredInstance:
    """The middle instance of the series with most frames; of pictures rather than of what is laid over them.

    Raises
    ------
    NotFound : if no instance has pixels.
    """
    pictures = [one for one in instances if one.frames.count]
    pictures = [one for one in pictures if one.sop_class_uid not in _LAID_OVER] or pictures
    if not pictures:
        raise NotFound("There is no picture in this resource.")
    series: dict[str, list[StoredInstance]] = {}
    for one in pictures:
        series.setdefault(one.series_uid, []).append(one)
    largest = max(series.values(), key=lambda members: sum(one.frames.count for one in members))
    return largest[len(largest) // 2]
