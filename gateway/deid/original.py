"""What an object said of patient and study before it was de-identified: what a vault seals, and gives back.

Of text only what is no longer said as it was is kept, of UIDs all that were replaced: with the key of the
de-identification these tell which UID stands for which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import orjson
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.values import convert_SQ

from gateway.deid.values import DEFAULT_ENCODINGS, Element, elements_of, encodings_of, make, read, tag_of, text_of

PATIENT_NAME: Final = 0x00100010
PATIENT_ID: Final = 0x00100020
BIRTH_DATE: Final = 0x00100030
ISSUER: Final = 0x00100021
STUDY_DATE: Final = 0x00080020
STUDY_UID: Final = 0x0020000D
SERIES_UID: Final = 0x0020000E
INSTANCE_UID: Final = 0x00080018
#: The UIDs that name an object.
NAMES: Final = (INSTANCE_UID, STUDY_UID, SERIES_UID)
#: What of the patient is kept: name, ID, issuer, birth, sex, other IDs and names, age and measures of that day.
PATIENT: Final[Mapping[int, str]] = MappingProxyType(
    {
        PATIENT_NAME: "PN", PATIENT_ID: "LO", ISSUER: "LO", BIRTH_DATE: "DA", 0x00100032: "TM", 0x00100040: "CS",
        0x00101000: "LO", 0x00101001: "PN", 0x00101005: "PN", 0x00101010: "AS", 0x00101020: "DS", 0x00101030: "DS",
    }
)  # fmt: skip
#: What of the study is kept, its UID apart.
STUDY: Final[Mapping[int, str]] = MappingProxyType(
    {
        STUDY_DATE: "DA", 0x00080030: "TM", 0x00080050: "SH", 0x00080051: "SQ", 0x00080090: "PN", 0x00081030: "LO",
        0x00200010: "SH",
    }
)  # fmt: skip
#: The Hierarchic Designator of an issuer (PS3.3 Table 10-17): local namespace, universal entity and its type.
DESIGNATOR: Final = {0x00400031: "UT", 0x00400032: "UT", 0x00400033: "CS"}
_TEXTS: Final = {tag_of(tag): (f"{tag:08X}", vr) for tag, vr in {**PATIENT, **STUDY}.items()}
#: What every de-identified object has, whatever it had before.
_STAMPED: Final = frozenset({tag_of(PATIENT_NAME), tag_of(PATIENT_ID)})
_NAMES: Final = tuple((tag_of(tag), f"{tag:08X}") for tag in NAMES)
#: A UID in an encoded data set; a shorter one names nobody.
_UID: Final = re.compile(rb"(?<![\d.])[012]\.\d{1,39}(?:\.\d{1,39})+")
_MIN_UID, _MAX_UID = 10, 64
_UTF8: Final = ("utf8",)
_CHARACTER_SET: Final = tag_of(0x00080005)
#: An object that refers to more has references to what is stored with an original of its own.
_MAX_UIDS: Final = 512
_MAX_SCANNED_BYTES: Final = 1 << 20


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
        yield from (self.texts[tag] for tag in NAMES if tag in self.texts)
        yield from self.uids


def context_of(instance_uid: str) -> bytes:
    """What the seal of an instance belongs to, by its stored UID."""
    return b"instance:" + instance_uid.encode("ascii")


class Before:
    """An object as it is before its de-identification, which changes it in place."""

    def __init__(self, ds: Dataset, encoded: bytes, names: Sequence[str], *, is_plain: bool) -> None:
        """Take the object, how it came, and its UIDs in the order of NAMES.

        `is_plain` says that it is in Explicit VR Little Endian.
        """
        elements = elements_of(ds)
        charset = elements.get(_CHARACTER_SET)
        self._encodings = _declared(text_of(charset, DEFAULT_ENCODINGS)) if charset is not None else DEFAULT_ENCODINGS
        self._texts = [(tag, elements.get(tag)) for tag in (_TEXTS.keys() & elements.keys()) | _STAMPED]
        self._names = names
        self._uids = _written_uids(encoded) if is_plain else _uids(encoded)

    def unlike(self, ds: Dataset, uid: Callable[[str], str]) -> bytes:
        """What is no longer said in `ds`, packed; empty if nothing. `uid` tells how UIDs were replaced."""
        elements = elements_of(ds)
        found: dict[str, Any] = {}
        for tag, old in self._texts:
            new = elements.get(tag)
            if new is not old:
                name, vr = _TEXTS[tag]
                text = _text(old, self._encodings, vr)
                if text != _text(new, _UTF8, vr):
                    found[name] = text
        replaced = [
            (tag, name, text) for (tag, name), text in zip(_NAMES, self._names, strict=True) if uid(text) != text
        ]
        if any(_text(elements.get(tag), _UTF8, "UI") != text for tag, _, text in replaced):  # else UIDs are retained
            found |= {name: text for _, name, text in replaced}
            uids = [one for one in self._uids if one not in self._names and uid(one) != one]
            if uids:
                found["uids"] = uids[:_MAX_UIDS]
        return orjson.dumps(found) if found else b""


@lru_cache(64)
def _declared(character_set: str) -> tuple[str, ...]:
    """The encodings that a value of (0008,0005) declares."""
    ds = Dataset()
    ds[_CHARACTER_SET] = make(_CHARACTER_SET, "CS", character_set)
    return encodings_of(ds, DEFAULT_ENCODINGS)


def _text(element: Element | None, encodings: tuple[str, ...], vr: str) -> str:
    if element is None or not element.value:
        return ""
    if vr == "SQ":
        return _designator(element, encodings)
    return text_of(element, encodings, vr) if element.VR != "SQ" else ""


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


def _written_uids(encoded: bytes) -> list[str]:
    """The UIDs of a data set in Explicit VR Little Endian, each once: what follows VR and length."""
    pieces = encoded.split(b"UI")[1:]
    values = [piece[2 : 2 + piece[0] + 256 * piece[1]] for piece in pieces if piece[3:4] == b"."]
    return _valid(b"\\".join(values).translate(None, b"\0 ").split(b"\\"))


def _uids(encoded: bytes) -> list[str]:
    """What looks like a UID in an encoded data set, each once."""
    return _valid(_UID.findall(encoded[:_MAX_SCANNED_BYTES]))


def _valid(uids: list[bytes]) -> list[str]:
    return [one.decode("ascii", "replace") for one in dict.fromkeys(uids) if _MIN_UID <= len(one) <= _MAX_UID]
