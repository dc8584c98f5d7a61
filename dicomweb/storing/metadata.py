"""Metadata parts of a store request: each data set as an instance that waits for its bulk data (PS3.18 10.5.1.4)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from dicomweb import dicom_encode
from dicomweb.dicom_encode import Hole, Piece
from dicomweb.dicom_xml import from_xml
from dicomweb.errors import BadRequest, TooLarge
from dicomweb.negotiate import DICOM_XML
from dicomweb.ports import JsonDataSet

PIXEL_TAGS = ("7FE00008", "7FE00009", "7FE00010")
#: JSON objects and arrays in one part: some 250 bytes each while they are read. An enhanced CT of 2,000 frames has
#: some 400,000.
_MAX_NODES = 1_000_000
_AVAILABLE_SYNTAX = "00083002"
#: Extended Offset Table and its lengths: they tell of fragments that are made anew.
_OFFSET_TABLES = ("7FE00001", "7FE00002")
_FRAMES = re.compile(r"(.+)/frames/([1-9]\d{0,6})\Z")


@dataclass(frozen=True, slots=True)
class Image:
    """What the metadata says of its pixel data; 0 is unsaid. `syntax_hint` is Available Transfer Syntax UID."""

    rows: int = 0
    columns: int = 0
    samples: int = 0
    bits_allocated: int = 0
    frames: int = 1
    syntax_hint: str = ""
    is_subsampled: bool = False

    @property
    def native_bytes(self) -> int | None:
        """Length of the uncompressed pixel data, None if not all is said."""
        if self.is_subsampled:
            return None
        bits = self.rows * self.columns * self.samples * self.bits_allocated * self.frames
        return (bits + 7) // 8 or None


@dataclass(slots=True)
class Instance:
    """An instance of which only the metadata has come: its encoded elements by tag, some with holes.

    `pixels` is the hole of its pixel data; `uris` are what all its holes want.
    """

    sop_class_uid: str
    instance_uid: str
    elements: dict[str, list[Piece]]
    image: Image
    pixels: Hole | None = None
    uris: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An instance whose metadata cannot be encoded."""

    sop_class_uid: str
    instance_uid: str
    error: BadRequest


def read(media_type: str, data: bytes, base: str) -> list[Instance | Rejected]:
    """The instances of a metadata part; their URIs are resolved against `base`, the URL of the request.

    Pure CPU and long: run it in a worker thread.

    Raises
    ------
    BadRequest : it is not JSON or XML of data sets.
    TooLarge : it has more attributes than any metadata.
    """
    return [_instance_or_rejected(item, base) for item in items(media_type, data)]


def items(media_type: str, data: bytes) -> list[JsonDataSet]:
    """The data sets of a part; raises as `read` does."""
    return [from_xml(data)] if media_type == DICOM_XML else _json(data)


def _json(data: bytes) -> list[JsonDataSet]:
    """The data sets of a JSON part: an array of them, or one alone."""
    if data.count(b"{") + data.count(b"[") > _MAX_NODES:
        raise TooLarge("The metadata has more attributes than the gateway takes.")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise BadRequest("The metadata is not valid JSON.") from None  # the cause quotes it
    data_sets: list[JsonDataSet] = found if isinstance(found, list) else [found]
    if not data_sets:
        raise BadRequest("The metadata is of no instance.")
    return data_sets


def _instance_or_rejected(item: JsonDataSet, base: str) -> Instance | Rejected:
    try:
        return _instance(item, base)
    except BadRequest as exc:
        return Rejected(_text(item, "00080016"), _text(item, "00080018"), exc)


def _instance(item: JsonDataSet, base: str) -> Instance:
    elements = dicom_encode.encode(item)
    elements.pop(_AVAILABLE_SYNTAX, None)  # is of the service, not of the object
    uris: list[str] = []
    for tag, pieces in elements.items():
        elements[tag] = [_resolved(piece, base, uris) for piece in pieces]
    pixels = [piece for tag in PIXEL_TAGS for piece in elements.get(tag, []) if isinstance(piece, Hole)]
    if len(pixels) > 1:
        raise BadRequest("The metadata refers to more than one kind of pixel data.")
    for tag in _OFFSET_TABLES:
        elements.pop(tag, None)
    sop_class_uid, instance_uid = _text(item, "00080016"), _text(item, "00080018")
    return Instance(sop_class_uid, instance_uid, elements, _image(item), pixels[0] if pixels else None, uris)


def _resolved(piece: Piece, base: str, uris: list[str]) -> Piece:
    if isinstance(piece, bytes):
        return piece
    uris.append(resolved(base, piece.uri))
    return Hole(piece.tag, piece.vr, uris[-1])


def resolved(base: str, uri: str) -> str:
    """A BulkDataURI or a Content-Location as both are compared. It is a name in the request and never followed."""
    try:
        return urljoin(base, uri.strip())
    except ValueError:
        return uri.strip()


def frame_of(location: str) -> tuple[str, int] | None:
    """The bulk data and the number that a location such as `…/frames/3` names."""
    found = _FRAMES.match(location)
    return (found[1], int(found[2])) if found else None


def _image(item: JsonDataSet) -> Image:
    return Image(
        rows=_number(item, "00280010"),
        columns=_number(item, "00280011"),
        samples=_number(item, "00280002"),
        bits_allocated=_number(item, "00280100"),
        frames=max(1, _number(item, "00280008")),
        syntax_hint=_text(item, _AVAILABLE_SYNTAX) or _text(item, "00020010"),
        is_subsampled="42" in _text(item, "00280004"),
    )


def _first(item: Mapping[str, Any], tag: str) -> Any:
    attribute = item.get(tag) if isinstance(item, dict) else None
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _text(item: JsonDataSet, tag: str) -> str:
    value = _first(item, tag)
    return value.strip(" \0") if isinstance(value, str) else ""


def _number(item: JsonDataSet, tag: str) -> int:
    try:
        number = int(_first(item, tag))
    except (TypeError, ValueError, OverflowError):
        return 0
    return number if 0 < number < 1 << 31 else 0
