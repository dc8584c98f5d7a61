"""Reads the parameters of WADO-URI (PS3.18 sections 9.1.2, 9.4.1.2 and 9.5.1.2), all of them in the query.

Names are case-sensitive and may come in any order, each once. What is malformed or contradictory is a BadRequest that
names the parameter, never its value; what the service does not know is named in a warning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from multidict import MultiMapping

from dicomweb.errors import BadRequest
from dicomweb.negotiate import DICOM, parse_media_type
from dicomweb.rendering.options import ANNOTATIONS, DEFAULT_QUALITY, Parameters, Window, decimal
from dicomweb.resource import Resource, checked_uid

MANDATORY: Final = ("requestType", "studyUID", "seriesUID", "objectUID")
COMMON: Final = ("contentType", "charset", "anonymize")
_VIEW: Final = ("frameNumber", "rows", "columns", "region", "imageQuality", "annotation", "imageAnnotation")
WINDOW: Final = ("windowCenter", "windowWidth")
_STATE: Final = ("presentationSeriesUID", "presentationUID")
#: Table 9.5.1-1; "imageAnnotation" is its name for what section 8.3.5.1.1 calls "annotation".
RENDERED_ONLY: Final = (*_VIEW, *WINDOW, *_STATE)
KNOWN: Final = (*MANDATORY, *COMMON, "transferSyntax", *RENDERED_ONLY)

Region = tuple[float, float, float, float]
_UNIT: Final = (0.0, 0.0, 1.0, 1.0)
_MAX_SIDE: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class View:
    """How a picture is asked for.

    Attributes
    ----------
    frame : number from 1; None where the request names none.
    rows, columns : most rows and columns of the picture; None where they follow from the rest.
    region : left, top, right and bottom as parts of the image's size, 0 to 1.
    state : series and instance UID of a presentation state to show it with.
    """

    frame: int | None = None
    rows: int | None = None
    columns: int | None = None
    region: Region = _UNIT
    window: Window | None = None
    quality: int = DEFAULT_QUALITY
    annotation: tuple[str, ...] = ()
    state: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class UriRequest:
    """A request of the URI service; `given` are the names of its parameters, `content_type` that one as it came."""

    resource: Resource
    content_type: str | None
    anonymize: bool
    transfer_syntax: str | None
    view: View
    given: frozenset[str]
    warnings: list[str]


def parse(query: MultiMapping[str]) -> UriRequest:
    """Read a query; raise BadRequest."""
    parameters = Parameters(query, KNOWN)
    return UriRequest(
        resource=_resource(parameters),
        content_type=parameters.read("contentType", _content_type),
        anonymize=parameters.read("anonymize", _yes) or False,
        transfer_syntax=parameters.read("transferSyntax", lambda text: checked_uid(text, "parameter transferSyntax")),
        view=_view(parameters),
        given=frozenset(query),
        warnings=parameters.warnings,
    )


def _resource(parameters: Parameters) -> Resource:
    kind, *uids = (parameters.read(name, str) for name in MANDATORY)
    if kind != "WADO":
        raise BadRequest("The parameter requestType must be WADO.")
    missing = [name for name, uid in zip(MANDATORY[1:], uids, strict=True) if not uid]
    if missing:
        raise BadRequest(f"The parameter {missing[0]} is missing.")
    return Resource.parse(*(uid or "" for uid in uids))


def _content_type(text: str) -> str:
    """Media types without transfer syntax and charset, of one kind (sections 9.1.2.2.1 and 8.7.5)."""
    types = [parse_media_type(part) for part in text.split(",")]
    if any({"transfer-syntax", "charset"} & set(parameters) for _, parameters in types):
        raise BadRequest("The parameter contentType must not hold a transfer syntax or a charset.")
    names = {name for name, _ in types}
    if DICOM in names and len(names) > 1:
        raise BadRequest("The parameter contentType must be either DICOM or rendered media types, not both.")
    return text


def _yes(text: str) -> bool:
    if text != "yes":
        raise BadRequest("The parameter anonymize must be yes.")
    return True


def _view(parameters: Parameters) -> View:
    state = _both(*(parameters.read(name, lambda text: checked_uid(text, "presentation state")) for name in _STATE))
    window = _window(parameters)
    frame = parameters.read("frameNumber", lambda text: _whole(text, "frameNumber"))
    anonymize = parameters.read("anonymize", str)
    if state and (window or frame or anonymize):  # section 9.5.1.2.7
        raise BadRequest("With a presentation state no window, frame number or anonymization can be asked for.")
    return View(
        frame=frame,
        rows=parameters.read("rows", lambda text: _whole(text, "rows", _MAX_SIDE)),
        columns=parameters.read("columns", lambda text: _whole(text, "columns", _MAX_SIDE)),
        region=parameters.read("region", _region) or _UNIT,
        window=window,
        quality=parameters.read("imageQuality", lambda text: _whole(text, "imageQuality", 100)) or DEFAULT_QUALITY,
        annotation=_annotation(parameters),
        state=state,
    )


def _both(series_uid: str | None, instance_uid: str | None) -> tuple[str, str] | None:
    if series_uid and instance_uid:
        return series_uid, instance_uid
    if series_uid or instance_uid:
        raise BadRequest("A presentation state is named by presentationSeriesUID and presentationUID together.")
    return None


def _window(parameters: Parameters) -> Window | None:
    center = parameters.read("windowCenter", lambda text: decimal(text, "windowCenter"))
    width = parameters.read("windowWidth", lambda text: decimal(text, "windowWidth"))
    if center is None and width is None:
        return None
    if center is None or width is None:
        raise BadRequest("The parameters windowCenter and windowWidth must be given together.")
    if width < 1:  # of the only function there is, LINEAR (PS3.3 section C.11.2.1.2.1)
        raise BadRequest("The parameter windowWidth must be at least 1.")
    return Window(center, width)


def _annotation(parameters: Parameters) -> tuple[str, ...]:
    both = [parameters.read(name, parameters.annotation) or () for name in ("annotation", "imageAnnotation")]
    return tuple(word for word in ANNOTATIONS if word in {*both[0], *both[1]})


def _region(text: str) -> Region:
    """Read four parts of the image's size, in order (section 9.5.1.2.5)."""
    parts = [decimal(part, "region") for part in text.split(",")[:5]]
    if len(parts) != 4 or not (0 <= parts[0] < parts[2] <= 1 and 0 <= parts[1] < parts[3] <= 1):
        raise BadRequest(
            "The parameter region must be xmin,ymin,xmax,ymax from 0 to 1, each minimum below its maximum."
        )
    return parts[0], parts[1], parts[2], parts[3]


def _whole(text: str, name: str, most: int = 10**9) -> int:
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII) or not 1 <= int(text) <= most:
        raise BadRequest(f"The parameter {name} must be a whole number from 1 to {most}.")
    return int(text)
