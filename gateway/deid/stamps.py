"""What a de-identified object says of itself (PS3.15 E.1.1): who it is about now, and what was done."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.values import convert_SQ

from gateway.deid.items import ItemEncoder
from gateway.deid.profile import OPTIONS, PIXEL_OPTIONS, Profile
from gateway.deid.values import Element, elements_of, make, raw_text, read

_BASIC: Final = ("113100", "Basic Application Confidentiality Profile")
#: What others did to the pixels still holds: Clean Pixel Data and Clean Recognizable Visual Features.
_CLEAN_PIXELS: Final = ("113101", "Clean Pixel Data Option")
_CLEAN_FEATURES: Final = ("113102", "Clean Recognizable Visual Features Option")
_LASTING: Final = dict([_CLEAN_PIXELS, _CLEAN_FEATURES])
_METHODS: Final = BaseTag(0x00120064)
_PATIENT_NAME: Final = BaseTag(0x00100010)
_PATIENT_ID: Final = BaseTag(0x00100020)
_UTF8: Final = "ISO_IR 192"


def stamp(ds: Dataset, profile: Profile, pseudonym: str) -> None:
    """Set the patient, the character set and the attributes that tell of the de-identification."""
    implicit, little = ds.original_encoding
    # What is still undecoded is ASCII or UTF-8: pydicom need not decode it to write it.
    ds.set_original_encoding(implicit, little, convert_encodings(_UTF8))
    encoding = (bool(implicit), little is not False)  # of a data set that was never encoded, that of PS3.10 files
    elements = elements_of(ds)
    elements.update(_statements(profile.name, profile.options, _earlier(ds), encoding))
    for tag, vr in ((_PATIENT_NAME, "PN"), (_PATIENT_ID, "LO")):
        elements[tag] = raw_text(tag, vr, pseudonym.encode("ascii"), encoding)


@lru_cache(256)
def _statements(
    profile_name: str, options: frozenset[str], earlier: frozenset[str], encoding: tuple[bool, bool]
) -> dict[BaseTag, Element]:
    """What is said of all objects that are treated alike."""
    texts = {
        0x00080005: ("CS", _UTF8),
        0x00120062: ("CS", "YES"),
        0x00120063: ("LO", f"Isthmus profile {profile_name}"[:64]),
        0x00280303: ("CS", _dates(options)),
    }
    elements: dict[BaseTag, Element] = {
        BaseTag(tag): raw_text(tag, vr, text.encode("ascii"), encoding) for tag, (vr, text) in texts.items()
    }
    encoder = ItemEncoder(*encoding, cleaned=True)
    elements[_METHODS] = raw_text(_METHODS, "SQ", encoder.items(_methods(options, earlier)), encoding)
    return elements


def state_clean_pixels(ds: Dataset) -> None:
    """Say that what was burned into the pixels was removed (PS3.15 section E.3.1); to be said before `stamp`."""
    ds[0x00280301] = make(0x00280301, "CS", "NO")
    _state(ds, _CLEAN_PIXELS)


def state_clean_features(ds: Dataset) -> None:
    """Say that no person can be recognised in the pixels (PS3.15 section E.3.2); to be said before `stamp`."""
    ds[0x00280302] = make(0x00280302, "CS", "NO")
    _state(ds, _CLEAN_FEATURES)


def _state(ds: Dataset, method: tuple[str, str]) -> None:
    """Add what was done to the pixels to the methods that are told."""
    earlier = list(ds[_METHODS].value or ()) if _METHODS in ds else []
    ds[_METHODS] = make(_METHODS, "SQ", Sequence([*earlier, _code(method[0], "DCM", method[1])]))


def anonymous_code() -> Dataset:
    """Return a coded entry that stands for a person whose code was taken out."""
    return _code("ANON", "99ISTHMUS", "Anonymized")


def _methods(options: frozenset[str], earlier: frozenset[str]) -> list[Dataset]:
    """Codes of CID 7050 for the profile and each option, and of what was done to the pixels before."""
    codes = dict([_BASIC, *(OPTIONS[option] for option in options - PIXEL_OPTIONS)])
    codes |= {code: _LASTING[code] for code in earlier}
    return [_code(code, "DCM", codes[code]) for code in sorted(codes)]


def _earlier(ds: Dataset) -> frozenset[str]:
    """What was done to the pixels before."""
    element = elements_of(ds).get(_METHODS)
    if isinstance(element, RawDataElement):
        return _lasting_in(element.value or b"", element.is_implicit_VR, element.is_little_endian)
    return frozenset() if element is None else _lasting(element.value or ())


@lru_cache(64)
def _lasting_in(value: bytes, implicit: bool, little: bool) -> frozenset[str]:
    """What items tell that are encoded, and clean by now: decoding them takes longer than all the rest of an object."""
    return _lasting(convert_SQ(value, implicit, little))


def _lasting(items: Iterable[Dataset]) -> frozenset[str]:
    return frozenset(code for code in (read(item, 0x00080100) for item in items) if code in _LASTING)


def _dates(options: frozenset[str]) -> str:
    if "retain-full-dates" in options:
        return "UNMODIFIED"
    return "MODIFIED" if "modified-dates" in options else "REMOVED"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item[0x00080100] = make(0x00080100, "SH", value)
    item[0x00080102] = make(0x00080102, "SH", scheme)
    item[0x00080104] = make(0x00080104, "LO", meaning)
    return item
