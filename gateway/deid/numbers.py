"""Numbers and ages: kept if they are what their VR says, and nobody's own."""

from __future__ import annotations

import re
from typing import Final

from gateway.deid.identity import Identity

_NUMBER_CHARACTERS: Final = frozenset("0123456789+-.eE \\")
#: Numbers that may be identifiers: whole ones, and too long for one of an image.
_WHOLE: Final = re.compile(r" *[+-]?0*([1-9]\d{5,})(?:\.0*)? *", re.ASCII)
_BYTES_A_VALUE: Final = {
    **dict.fromkeys(("US", "SS", "US or SS", "OW"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "AT", "OF", "OL"), 4),
    **dict.fromkeys(("UV", "SV", "FD", "OD", "OV"), 8),
}
_MAX_AGE_YEARS: Final = 90
_AGE_UNITS_A_YEAR: Final = {"D": 365, "W": 52, "M": 12, "Y": 1}


def checked_number(text: str, identity: Identity) -> str | None:
    """Return a DS or IS value if it is one, and none of the patient's own."""
    if not set(text) <= _NUMBER_CHARACTERS:
        return None
    whole = _WHOLE.fullmatch(text)
    return None if whole is not None and identity.is_number(whole[1]) else text


def are_whole(value: bytes, vr: str) -> bool:
    """Whether bytes are a number of numbers of a binary VR."""
    return not len(value) % _BYTES_A_VALUE.get(vr, 1)


def capped_age(text: str) -> str | None:
    """Return an AS value, at most 90 years (HIPAA 45 CFR 164.514(b)(2)(i)(C))."""
    age = text.strip()
    if len(age) != 4 or not (age[:3].isascii() and age[:3].isdigit()) or age[3] not in _AGE_UNITS_A_YEAR:
        return None
    return age if int(age[:3]) // _AGE_UNITS_A_YEAR[age[3]] < _MAX_AGE_YEARS else f"{_MAX_AGE_YEARS:03d}Y"
