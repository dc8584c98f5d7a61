"""Content negotiation (PS3.18 section 8.7): what the caller accepts, and which representation to send.

Tolerant where clients in the field differ: parameter values quoted or not (also `transfer-syntax="*"`), unknown media
types and parameters ignored, a missing Accept read as `*/*`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from dicomweb.errors import BadRequest

MULTIPART = "multipart/related"
DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
JSON = "application/json"
OCTET_STREAM = "application/octet-stream"
ZIP = "application/zip"

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

#: Media type of one compressed frame by transfer syntax (PS3.18 Table 8.7.3-5, and the retired JPEG processes).
COMPRESSED: dict[str, str] = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.53": "image/jpeg",
    "1.2.840.10008.1.2.4.55": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    **{f"1.2.840.10008.1.2.4.{number}": "video/mpeg" for number in ("100", "100.1", "101", "101.1")},
    **{f"1.2.840.10008.1.2.4.{number}{part}": "video/mp4" for number in range(102, 107) for part in ("", ".1")},
    "1.2.840.10008.1.2.4.107": "video/H265",
    "1.2.840.10008.1.2.4.108": "video/H265",
    "1.2.840.10008.1.2.4.110": "image/jxl",
    "1.2.840.10008.1.2.4.111": "image/jxl",
    "1.2.840.10008.1.2.4.112": "image/jxl",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
#: Transfer syntaxes that lose something, or may.
LOSSY = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55, 81, 91, 93, 111, 112, 203))

# The sides of section 8.7.5; what may be either (image/jpeg: a rendering, or a frame as it is) is in none, nor are
# octet-streams, which viewers add to every request.
_DICOM_ONLY = frozenset([DICOM, DICOM_JSON, DICOM_XML])
_RENDERED_ONLY = frozenset("image/gif image/png text/html text/plain text/rtf".split())
# Names that clients have sent before these types were registered.
_ALIASES = {"image/x-dicom-rle": "image/dicom-rle", "image/x-jls": "image/jls", "image/jpg": "image/jpeg"}

# What lies between separators; inside quotes they do not count, and a quote that is never closed runs to the end.
_PIECES = {separator: re.compile(rf'(?:[^{separator}"]|"(?:[^"\\]|\\.)*"?)+', re.DOTALL) for separator in ",;"}
_MAX_CHARACTERS = 8192


@dataclass(frozen=True, slots=True)
class Range:
    """One media range of an Accept header; `multipart` is None where both forms are welcome (`*/*`)."""

    media_type: str
    multipart: bool | None
    transfer_syntax: str | None
    q: float

    def matches(self, offer: Offer) -> bool:
        """Whether the offer lies in this range."""
        if self.multipart is not None and self.multipart != offer.multipart:
            return False
        if not _covers(self.media_type, offer.media_type):
            return False
        if self.transfer_syntax is None:
            return offer.default
        return self.transfer_syntax == offer.transfer_syntax or (self.transfer_syntax == "*" and not offer.named_only)

    @property
    def specificity(self) -> tuple[int, bool]:
        """How narrow the range is: the narrowest that matches an offer gives its weight (RFC 9110 12.5.1)."""
        wild = 0 if self.media_type == "*/*" else 1 if self.media_type.endswith("/*") else 2
        return wild, self.transfer_syntax not in (None, "*")


@dataclass(frozen=True, slots=True)
class Offer:
    """A representation that the server can produce.

    `default` if a range without transfer syntax means it, too; `named_only` if `*` does not mean it.
    """

    media_type: str
    transfer_syntax: str | None = None
    multipart: bool = False
    default: bool = True
    named_only: bool = False

    @property
    def content_type(self) -> str:
        """Content-Type of the body, or of each part of it."""
        return self.media_type + (f"; transfer-syntax={self.transfer_syntax}" if self.transfer_syntax else "")


def parse_media_type(text: str) -> tuple[str, dict[str, str]]:
    """Split a media type into its lower-case name and its parameters, names in lower case, values unquoted."""
    name, *rest = _split(text, ";")
    parameters: dict[str, str] = {}
    for parameter in rest:
        key, _, value = parameter.partition("=")
        parameters.setdefault(key.strip().lower(), _unquote(value.strip()))
    return name.strip().lower(), parameters


def accepted(header: str | None, parameter: str | None = None) -> list[Sequence[Range]]:
    """What the caller accepts, as sets to try in turn: of the accept query parameter, then of the Accept header.

    Section 8.7.8.1: the header counts where the parameter names nothing that the server supports. Raises BadRequest if
    the parameter has a wildcard (section 8.3.3.1), or both DICOM and rendered media types are there (section 8.7.5).
    """
    sets: list[Sequence[Range]] = []
    if parameter:
        sets.append(_ranges(parameter.replace(" ", "+")))  # an unescaped + in a query reads as a space
        if any(one.media_type.endswith("/*") for one in sets[0]):
            raise BadRequest("The accept query parameter may not have wildcards.")
    sets.append(_ranges(header if header and header.strip() else "*/*"))
    names = {one.media_type for ranges in sets for one in ranges}
    if not names.isdisjoint(_DICOM_ONLY) and not names.isdisjoint(_RENDERED_ONLY):
        raise BadRequest("Accept has both DICOM and rendered media types; ask for one or the other.")
    return sets


@lru_cache(maxsize=512)
def accepts_coding(header: str | None, coding: str) -> bool:
    """Whether an Accept-Encoding header welcomes a content coding (RFC 9110 section 12.5.3)."""
    named = (parse_media_type(item) for item in _split(header or "", ","))
    weights = {name: _quality(parameters.get("q")) for name, parameters in named}
    return weights.get(coding, weights.get("*", 0.0)) > 0


def choose(offers: Sequence[Offer], accept: Iterable[Sequence[Range]]) -> Offer | None:
    """The acceptable offer of highest weight, the first of several alike; None if there is none."""
    for ranges in accept:
        weights = [_weight(offer, ranges) for offer in offers]
        best = max(weights, default=0.0)
        if best > 0:
            return offers[weights.index(best)]
    return None


def _weight(offer: Offer, ranges: Sequence[Range]) -> float:
    matching = [one for one in ranges if one.matches(offer)]
    return max(matching, key=lambda one: one.specificity).q if matching else 0.0


@lru_cache(maxsize=512)  # clients send the same few again and again
def _ranges(text: str) -> Sequence[Range]:
    found: list[Range] = []
    for item in _split(text[:_MAX_CHARACTERS], ","):
        name, parameters = parse_media_type(item)
        multipart: bool | None = name == MULTIPART
        if name == "*/*":
            multipart = None
        elif multipart:
            name = parse_media_type(parameters.get("type", "*/*"))[0]
        if "/" in name:
            name = _ALIASES.get(name, name)
            found.append(Range(name, multipart, parameters.get("transfer-syntax"), _quality(parameters.get("q"))))
    return tuple(found)


def _quality(text: str | None) -> float:
    try:
        return min(max(float(text or 1), 0.0), 1.0)
    except ValueError:
        return 1.0


def _covers(wanted: str, offered: str) -> bool:
    if wanted.endswith("/*"):
        return wanted == "*/*" or offered.lower().startswith(wanted[:-1])
    return wanted == offered.lower()


def _split(text: str, separator: str) -> list[str]:
    """Split at separators outside quotes; empty pieces are dropped, but for a lone one."""
    pieces = _PIECES[separator].findall(text) if '"' in text else text.split(separator)
    return [piece for piece in pieces if piece.strip()] or [""]


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value.strip('"')
