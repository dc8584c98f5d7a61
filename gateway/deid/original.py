"""What an object said of patient and study before it was de-identified: what a vault seals, and gives back.

Of text only what is no longer said as it was is kept, of UIDs all that were replaced: with the key of the
de-identification these tell which UID stands for which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import orjson
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.values import convert_SQ

from gateway.deid.values import DEFAULT_ENCODINGS, Element, elements_of, encodings_of, read, tag_of, text_of

PATIENT_ID: Final = 0x00100020
ISSUER: Final = 0x00100021
STUDY_UID: Final = 0x0020000D
SERIES_UID: Final = 0x0020000E
INSTANCE_UID: Final = 0x00080018
#: What of the patient is kept: name, ID, issuer, birth, sex, other IDs and names, age and measures of that day.
PATIENT: Final[Mapping[int, str]] = MappingProxyType(
    {
        0x00100010: "PN", PATIENT_ID: "LO", ISSUER: "LO", 0x00100030: "DA", 0x00100032: "TM", 0x00100040: "CS",
        0x00101000: "LO", 0x00101001: "PN", 0x00101005: "PN", 0x00101010: "AS", 0x00101020: "DS", 0x00101030: "DS",
    }
)  # fmt: skip
#: What of the study is kept, its UID apart.
STUDY: Final[Mapping[int, str]] = MappingProxyType(
    {
        0x00080020: "DA", 0x00080030: "TM", 0x00080050: "SH", 0x00080051: "SQ", 0x00080090: "PN", 0x00081030: "LO",
        0x00200010: "SH",
    }
)  # fmt: skip
#: The Hierarchic Designator of an issuer (PS3.3 Table 10-17): local namespace, universal entity and its type.
DESIGNATOR: Final = {0x00400031: "UT", 0x00400032: "UT", 0x00400033: "CS"}
_TEXTS: Final = tuple((tag_of(tag), f"{tag:08X}", vr) for tag, vr in {**PATIENT, **STUDY}.items())
_NAMES: Final = tuple((tag_of(tag), f"{tag:08X}") for tag in (STUDY_UID, SERIES_UID, INSTANCE_UID))
#: A UID in an encoded value; a shorter one names nobody.
_UID: Final = re.compile(rb"(?<![\d.])[012]\.\d{1,39}(?:\.\d{1,39})+")
_WRITTEN_UIDS: Final = re.compile(rb"UI..([012]\.[\d.\\]+)", re.DOTALL)
_MIN_UID, _MAX_UID = 10, 64
_UTF8: Final = ("utf8",)
#: An object that refers to more has references to what is stored with an original of its own.
_MAX_UIDS: Final = 512
_MAX_SCANNED_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 16
_MAY_HOLD_UIDS: Final = frozenset({"UI", "SQ", "UN", None})


@dataclass(frozen=True, slots=True)
class Original:
    """What was sealed: texts by tag, empty where there was none, and UIDs that were replaced."""

    texts: Mapping[int, str]
    uids: tuple[str, ...]

    @classmethod
    def unpack(cls, plain: bytes) -> Original:
        """Read what `Before.unlike` made."""
        found: dict[str, Any] = orjson.loads(plain)
        uids = tuple(found.pop("uids", ()))
        return cls({int(tag, 16): text for tag, text in found.items()}, uids)

    @property
    def all_uids(self) -> Iterator[str]:
        """Every UID that it names."""
        yield from (self.texts[int(tag)] for tag, _ in _NAMES if self.texts.get(int(tag)))
        yield from self.uids


def context_of(instance_uid: str) -> bytes:
    """What the seal of an instance belongs to, by its stored UID."""
    return b"instance:" + instance_uid.encode("ascii")


class Before:
    """An object as it is before its de-identification, which changes it in place."""

    def __init__(self, ds: Dataset) -> None:
        elements = elements_of(ds)
        self._encodings = encodings_of(ds, DEFAULT_ENCODINGS)
        self._texts = [elements.get(tag) for tag, _, _ in _TEXTS]
        self._names = _names(elements)
        self._uids = _uids_in(elements.values())

    def unlike(self, ds: Dataset, uid: Callable[[str], str]) -> bytes:
        """What is no longer said in `ds`, packed; empty if nothing. `uid` tells how UIDs were replaced."""
        elements = elements_of(ds)
        found: dict[str, Any] = {}
        for (tag, name, vr), old in zip(_TEXTS, self._texts, strict=True):
            new = elements.get(tag)
            if new is not old and (text := _text(old, self._encodings, vr)) != _text(new, _UTF8, vr):
                found[name] = text
        now = _names(elements)
        names = {name: text for name, text in self._names.items() if text != now.get(name)}
        if names:
            found |= names
            uids = [one for one in self._uids if one not in self._names.values() and uid(one) != one]
            if uids:
                found["uids"] = uids[:_MAX_UIDS]
        return orjson.dumps(found) if found else b""


def _names(elements: Mapping[BaseTag, Element]) -> dict[str, str]:
    """The UIDs that name the object."""
    return {name: text_of(elements[tag], _UTF8) for tag, name in _NAMES if tag in elements}


def _text(element: Element | None, encodings: tuple[str, ...], vr: str) -> str:
    if element is None or not element.value:
        return ""
    return text_of(element, encodings, vr) if vr != "SQ" else _designator(element, encodings)


def _designator(element: Element, encodings: tuple[str, ...]) -> str:
    """The parts of an issuer, joined by backslashes."""
    if isinstance(element, RawDataElement):
        items: Any = convert_SQ(element.value or b"", element.is_implicit_VR, element.is_little_endian)
    else:
        items = element.value if element.VR == "SQ" else None
    if not items:
        return ""
    parts = [read(items[0], tag, encodings).replace("\\", " ") for tag in DESIGNATOR]
    return "\\".join(parts) if any(parts) else ""


def _uids_in(elements: Iterable[Element]) -> list[str]:
    """The UIDs in these elements and in all items below them, each once."""
    found: list[bytes] = []
    _collect(elements, found, 0)
    valid = [one for one in dict.fromkeys(found) if _MIN_UID <= len(one) <= _MAX_UID]
    return [one.decode("ascii", "replace") for one in valid]


def _collect(elements: Iterable[Element], found: list[bytes], depth: int) -> None:
    for element in [element for element in elements if element.VR in _MAY_HOLD_UIDS]:
        value = element.value
        if isinstance(value, bytes):
            found += _encoded(element.VR, value, is_implicit=bool(element[5]))
        elif element.VR == "SQ":
            for item in (value or ()) if depth < _MAX_DEPTH else ():
                _collect(elements_of(item).values(), found, depth + 1)
        else:
            found += text_of(element, _UTF8).encode("ascii", "replace").split(b"\\")


def _encoded(vr: str | None, value: bytes, *, is_implicit: bool) -> Iterable[bytes]:
    """The UIDs of an encoded value. To look for the VR that is written before each takes a tenth of the time."""
    if vr == "UI":
        return [one.strip(b" \0") for one in value.split(b"\\")]
    if len(value) > _MAX_SCANNED_BYTES:
        return ()
    if vr == "SQ" and not is_implicit:
        return [one for several in _WRITTEN_UIDS.findall(value) for one in several.split(b"\\")]
    return _UID.findall(value)
