"""What a de-identified object says of itself (PS3.15 E.1.1): who it is about now, and what was done."""

from __future__ import annotations

from typing import Final

from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from gateway.deid.profile import OPTIONS, Profile
from gateway.deid.values import DEFAULT_ENCODINGS, make, text_of

_BASIC: Final = ("113100", "Basic Application Confidentiality Profile")
#: What others did to the pixels still holds: Clean Pixel Data and Clean Recognizable Visual Features.
_CLEAN_PIXELS: Final = ("113101", "Clean Pixel Data Option")
_LASTING: Final = dict([_CLEAN_PIXELS, ("113102", "Clean Recognizable Visual Features Option")])
_METHODS: Final = 0x00120064
_UTF8: Final = "ISO_IR 192"


def stamp(ds: Dataset, profile: Profile, pseudonym: str) -> None:
    """Set the patient, the character set and the attributes that tell of the de-identification."""
    ds[0x00080005] = make(0x00080005, "CS", _UTF8)
    # What is still undecoded is ASCII, which is UTF-8: pydicom need not decode it to write it.
    implicit_vr, little_endian = ds.original_encoding
    ds.set_original_encoding(implicit_vr, little_endian, convert_encodings(_UTF8))
    ds[0x00100010] = make(0x00100010, "PN", pseudonym)
    ds[0x00100020] = make(0x00100020, "LO", pseudonym)
    ds[0x00120062] = make(0x00120062, "CS", "YES")
    ds[0x00120063] = make(0x00120063, "LO", f"Isthmus profile {profile.name}"[:64])
    ds[_METHODS] = make(_METHODS, "SQ", Sequence(_methods(ds, profile)))
    ds[0x00280303] = make(0x00280303, "CS", _dates(profile))


def state_clean_pixels(ds: Dataset) -> None:
    """Say that what was burned into the pixels was removed (PS3.15 section E.3.1); to be said before `stamp`."""
    ds[0x00280301] = make(0x00280301, "CS", "NO")
    earlier = list(ds[_METHODS].value or ()) if _METHODS in ds else []
    ds[_METHODS] = make(_METHODS, "SQ", Sequence([*earlier, _code(_CLEAN_PIXELS[0], "DCM", _CLEAN_PIXELS[1])]))


def anonymous_code() -> Dataset:
    """Return a coded entry that stands for a person whose code was taken out."""
    return _code("ANON", "99ISTHMUS", "Anonymized")


def _methods(ds: Dataset, profile: Profile) -> list[Dataset]:
    """Codes of CID 7050 for the profile and each option, and of what was done to the pixels before."""
    codes = dict([_BASIC, *(OPTIONS[option] for option in profile.options)])
    earlier = ds[_METHODS].value if _METHODS in ds else ()
    for item in earlier or ():
        element = item.get_item(0x00080100)
        code = "" if element is None else text_of(element, DEFAULT_ENCODINGS)
        if code in _LASTING:
            codes[code] = _LASTING[code]
    return [_code(code, "DCM", codes[code]) for code in sorted(codes)]


def _dates(profile: Profile) -> str:
    if "retain-full-dates" in profile.options:
        return "UNMODIFIED"
    return "MODIFIED" if "modified-dates" in profile.options else "REMOVED"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item[0x00080100] = make(0x00080100, "SH", value)
    item[0x00080102] = make(0x00080102, "SH", scheme)
    item[0x00080104] = make(0x00080104, "LO", meaning)
    return item
