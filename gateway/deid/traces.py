"""Dates and UIDs of an object as they are spelt outside of their own elements: in free text, in private bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

#: VRs whose values are learnt, so that they are found elsewhere.
TRACED: Final = frozenset({"DA", "DT", "UI"})
_DAY: Final = re.compile(r"(?<!\d)(\d{4})[.-]?(\d{2})[.-]?(\d{2})", re.ASCII)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH: Final = rf"(?P<month>{'|'.join(_MONTHS)})[a-z]{{0,6}}"
#: 20190304, 2019-03-04; 04.03.2019, 3/4/2019; 04032019; 4 March 2019, 04MAR2019; March 4th, 2019.
_SPELT: Final = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        r"(?<!\d)(?P<y>\d{4})[\s./_-]?(?P<m>\d{2})[\s./_-]?(?P<d>\d{2})",
        r"(?<!\d)(?P<a>\d{1,2})[\s./_-](?P<b>\d{1,2})[\s./_-](?P<y>\d{4})(?!\d)",
        r"(?<!\d)(?P<a>\d{2})(?P<b>\d{2})(?P<y>\d{4})(?!\d)",
        rf"(?<!\d)(?P<d>\d{{1,2}})(?:st|nd|rd|th|\.)?[\s_-]*{_MONTH}[\s.,_-]*(?P<y>\d{{4}})(?!\d)",
        rf"{_MONTH}[\s._-]*(?P<d>\d{{1,2}})(?:st|nd|rd|th)?[\s,_-]+(?P<y>\d{{4}})(?!\d)",
    )
)
#: No date is spelt without.
_YEAR: Final = re.compile(r"\d{4}", re.ASCII)
#: Numbers with at least two dots: one dot is a decimal point.
_UID: Final = re.compile(r"(?<!\d)\d++(?:\.\d++){2,}", re.ASCII)
_UID_BYTES: Final = re.compile(rb"(?<!\d)\d++(?:\.\d++){2,}")


def days_of(text: str) -> Iterator[str]:
    """Yield the days, as YYYYMMDD, that the values of a DA or DT element name, joined by backslashes."""
    for one in text.split("\\"):
        match = _DAY.match(one.strip())
        if match:
            yield "".join(match.groups())


def holds_day(text: str, days: frozenset[str] | set[str]) -> bool:
    """Whether `text` spells one of `days`; of 3/4/2019 it is unknown what comes first."""
    if not days or not _YEAR.search(text):
        return False
    return any(day in days for pattern in _SPELT for match in pattern.finditer(text) for day in _read(match))


def _read(match: re.Match[str]) -> Iterator[str]:
    found = match.groupdict()
    year = found["y"]
    if "a" in found:
        first, second = found["a"].zfill(2), found["b"].zfill(2)
        yield from (year + first + second, year + second + first)
    else:
        month = found["m"] if "m" in found else f"{_MONTHS.index(found['month'].lower()) + 1:02d}"
        yield year + month + found["d"].zfill(2)


def uids_in(text: str) -> list[str]:
    """Return what has the shape of a UID in `text`."""
    return _UID.findall(text) if "." in text else []


def uids_in_bytes(value: bytes) -> list[str]:
    """Return what has the shape of a UID in encoded values, each apart from what is before and after it."""
    return [match.decode("ascii") for match in _UID_BYTES.findall(value)] if b"." in value else []
