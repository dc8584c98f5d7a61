"""What the value of a match parameter asks for, by the VR of its attribute (PS3.4 section C.2.2.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dicomweb.errors import BadRequest
from dicomweb.matching import MAX_CHARACTERS, NUMBERS
from dicomweb.query import AllOf, AnyOf, Between, Empty, Match, Wildcard
from dicomweb.resource import is_uid

_MAX_LIST = 1000
_EMPTY = '""'
# C.2.2.2.4: in other VRs `*` and `?` are characters like any other.
_WILDCARD_VRS = frozenset("AE CS LO LT PN SH ST UC UR UT".split())
# C.2.2.2.8. CS values also come as lists of alternatives, with a comma, which cannot be part of one.
_MULTIPLE_VRS = frozenset("AE AS AT CS LO PN SH UC".split())
_MONTH, _DAY = "(0[1-9]|1[0-2])", "(0[1-9]|[12][0-9]|3[01])"
_TIME = r"([01]\d|2[0-3])([0-5]\d(([0-5]\d|60)(\.\d{1,6})?)?)?"
_DATE_TIME = rf"\d{{4}}({_MONTH}({_DAY}({_TIME})?)?)?([+-](0\d|1[0-4])[0-5]\d)?"
# One date, time or date-time (PS3.5 Table 6.2-1), as precise as the caller likes.
_MOMENT = {"DA": re.compile(rf"\d{{4}}{_MONTH}{_DAY}"), "TM": re.compile(_TIME), "DT": re.compile(_DATE_TIME)}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")


@dataclass(frozen=True, slots=True)
class Switches:
    """The kinds of matching that a search must ask for (PS3.18 sections 8.3.4.5 and 8.3.4.6)."""

    empty: bool = False
    multiple: bool = False


def match_of(name: str, vr: str, value: str, switches: Switches) -> Match | None:
    """How the attribute is to be matched; None for universal matching, which every value satisfies.

    Raises
    ------
    BadRequest : naming the parameter, never its value.
    """
    value = value.strip()
    if switches.empty and value == _EMPTY:
        return Empty()
    if not value.strip("*"):
        return None
    if vr in _MOMENT:
        return _moment(name, vr, value)
    if vr == "UI":
        return _uids(name, value)
    if vr in NUMBERS and not _NUMBER.fullmatch(value):
        raise BadRequest(f"The parameter {name} is not a number.")
    if switches.multiple and "\\" in value and vr in _MULTIPLE_VRS:
        return _all_of(name, value)
    return _text(name, vr, value)


def _uids(name: str, value: str) -> Match | None:
    """A list of UIDs, by commas (PS3.18 8.3.4.1) or as in DIMSE by backslashes."""
    values = _listed(name, re.split(r"[,\\]", value))
    if not all(map(is_uid, values)):
        raise BadRequest(f"The parameter {name} is not a list of valid UIDs.")
    return AnyOf(values) if values else None


def _all_of(name: str, value: str) -> Match | None:
    values = _listed(name, value.split("\\"))
    if any("*" in one or "?" in one for one in values):
        raise BadRequest(f"The parameter {name} cannot hold both several values and a pattern.")
    return AllOf(values) if values else None


def _text(name: str, vr: str, value: str) -> Match | None:
    values = _listed(name, re.split(r"[,\\]", value)) if vr == "CS" else _listed(name, [value])
    if vr not in _WILDCARD_VRS or not any("*" in part or "?" in part for part in values):
        return AnyOf(values) if values else None
    if len(values) > 1:
        raise BadRequest(f"The parameter {name} cannot be both a list and a pattern.")
    return Wildcard(re.sub(r"\*+", "*", values[0]))


def _listed(name: str, values: list[str]) -> tuple[str, ...]:
    values = [part for value in values if (part := value.strip())]
    if len(values) > _MAX_LIST:
        raise BadRequest(f"The parameter {name} has more than {_MAX_LIST} values.")
    if any(len(re.sub(r"\*+", "*", part)) > MAX_CHARACTERS for part in values):
        raise BadRequest(f"The parameter {name} is longer than {MAX_CHARACTERS} characters.")
    return tuple(dict.fromkeys(values))


def _moment(name: str, vr: str, value: str) -> Match:
    """A single date or time, or a range of them. A `-` with four digits may also be an offset from UTC."""
    pattern = _MOMENT[vr]
    value = re.sub(r" (?=\d{4}$)", "+", value) if vr == "DT" else value  # a plus sign that was not escaped
    if pattern.fullmatch(value):
        return AnyOf((value,))
    for dash in re.finditer("-", value):
        low, high = value[: dash.start()].strip(), value[dash.end() :].strip()
        if (low or high) and all(pattern.fullmatch(end) for end in (low, high) if end):
            return Between(low or None, high or None)
    raise BadRequest(f"The parameter {name} is neither a valid date or time nor a range of them.")
