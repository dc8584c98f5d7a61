"""Dates moved back by whole years: intervals, seasons and times of day stay, the calendar date does not.

A date that does not exist or cannot be read comes back as None: it may be anything, so it is never kept.
"""

from __future__ import annotations

import calendar
import re

# PS3.5 Table 6.2-1; YYYY.MM.DD is the ACR-NEMA form that still occurs.
_DA = re.compile(r"(\d{4})(\d{2})(\d{2})|(\d{4})\.(\d{2})\.(\d{2})", re.ASCII)
_DT = re.compile(r"(\d{4})(?:(\d{2})(?:(\d{2})(\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?)?)?([+-]\d{4})?", re.ASCII)
_TM = re.compile(r"\d{2}(?::?\d{2}(?::?\d{2}(?:\.\d{1,6})?)?)?", re.ASCII)
_OFFSET = re.compile(r"[+-]\d{4}", re.ASCII)


def shift_date(text: str, years: int) -> str | None:
    """Move a DA value back by `years`; 29 February becomes the 28th where the year has none."""
    match = _DA.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day = (int(part) for part in match.groups() if part)
    return _shifted(year - years, month, day, already=year)


def shift_datetime(text: str, years: int) -> str | None:
    """Move a DT value, which may end after any component, back by `years`; time and offset stay."""
    match = _DT.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, time, offset = match.groups()
    shifted = _shifted(int(year) - years, int(month or 1), int(day or 1), already=int(year))
    if shifted is None or (time and not 0 <= int(time[:2]) < 24):
        return None
    return shifted[: 4 + len(month or "") + len(day or "")] + (time or "") + (offset or "")


def checked_time(text: str) -> str | None:
    """Return a TM value if it is one."""
    return text.strip() if _TM.fullmatch(text.strip()) else None


def checked_offset(text: str) -> str | None:
    """Return a timezone offset such as +0100 if it is one."""
    return text.strip() if _OFFSET.fullmatch(text.strip()) else None


def _shifted(year: int, month: int, day: int, *, already: int) -> str | None:
    if year < 1 or not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(already, month)[1]:
        return None
    return f"{year:04d}{month:02d}{min(day, calendar.monthrange(year, month)[1]):02d}"
