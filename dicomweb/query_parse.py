"""Reads the parameters of a search request (PS3.18 section 8.3.4) into a `Query`.

Nothing is dropped silently: what the server does not know or cannot match is named in a warning, and what is malformed
is refused. Both would otherwise return more than was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicomweb.errors import BadRequest
from dicomweb.ports import Limits
from dicomweb.query import SEARCHABLE, AnyOf, Between, Match, Query, TagPath, Wildcard
from dicomweb.resource import Level, is_uid

_MAX_PARAMETERS = 256
# Not for the search itself, but legitimate in its URL.
_NEGOTIATION = frozenset(["accept", "charset"])
# PS3.18 8.3.4.2, 8.3.4.5, 8.3.4.6: parameters that may be refused with these very words.
_UNSUPPORTED_SWITCHES = {
    "fuzzymatching": "The fuzzymatching parameter is not supported. Only literal matching has been performed.",
    "emptyvaluematching": (
        "The emptyvaluematching parameter is not supported. Empty Value Matching has not been performed."
    ),
    "multiplevaluematching": (
        "The multiplevaluematching parameter is not supported. Multiple Value Matching has not been performed."
    ),
}
# One date, time or date-time (PS3.5 Table 6.2-1), as precise as the caller likes.
_MOMENT = {
    "DA": re.compile(r"\d{8}"),
    "TM": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"),
    "DT": re.compile(r"\d{4,14}(\.\d{1,6})?(\+\d{4})?"),
}
_LISTS = frozenset(["CS", "UI"])  # a comma or a backslash cannot be part of these
_PRINTABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """A search, and the sentences to answer with as Warning headers."""

    query: Query
    warnings: tuple[str, ...] = ()


def parse(
    level: Level,
    parameters: Iterable[tuple[str, str]],
    *,
    study_uid: str | None = None,
    series_uid: str | None = None,
    limits: Limits | None = None,
) -> ParsedQuery:
    """Read the query parameters of a search for studies, series or instances.

    Parameters
    ----------
    level : of the items to find.
    parameters : names and values, decoded, in the order of the request.
    study_uid, series_uid : from the path; checked by the caller.
    limits : bounds the page; more than `max_results` is never returned at once.

    Raises
    ------
    BadRequest : naming the parameter that is malformed or repeated (never its value).
    """
    reader = _Reader(level, limits or Limits())
    for count, (name, value) in enumerate(parameters):
        if count == _MAX_PARAMETERS:
            raise BadRequest(f"A search may have at most {_MAX_PARAMETERS} parameters.")
        reader.read(name, value)
    return reader.result(study_uid, series_uid)


class _Reader:
    """Collects what the parameters say, one by one."""

    def __init__(self, level: Level, limits: Limits) -> None:
        self._level = level
        self._limits = limits
        self._matches: dict[TagPath, Match | None] = {}
        self._include: set[TagPath] = set()
        self._include_all = False
        self._numbers: dict[str, int] = {}
        self._switches: dict[str, bool] = {}
        self._ignored: list[str] = []

    def read(self, name: str, value: str) -> None:
        """Take one parameter."""
        if name in _NEGOTIATION:
            return
        if name == "includefield":
            self._read_include(value)
        elif name in ("limit", "offset"):
            self._once(name, self._numbers)
            self._numbers[name] = _unsigned(name, value)
        elif name in _UNSUPPORTED_SWITCHES:
            self._once(name, self._switches)
            self._switches[name] = _boolean(name, value)
        else:
            self._read_match(name, value)

    def result(self, study_uid: str | None, series_uid: str | None) -> ParsedQuery:
        """The search as a whole."""
        warnings = [text for name, text in _UNSUPPORTED_SWITCHES.items() if self._switches.get(name)]
        if self._ignored:
            names = ", ".join(dict.fromkeys(self._ignored))
            warnings.append(f"The following parameters are not supported and have been ignored: {names}")
        query = Query(
            level=self._level,
            study_uid=study_uid,
            series_uid=series_uid,
            matches=tuple((path, match) for path, match in self._matches.items() if match is not None),
            include=None if self._include_all else frozenset(self._include),
            limit=min(self._numbers.get("limit", self._limits.default_results), self._limits.max_results),
            offset=self._numbers.get("offset", 0),
            fuzzy=self._switches.get("fuzzymatching", False),
        )
        return ParsedQuery(query, tuple(warnings))

    def _read_match(self, name: str, value: str) -> None:
        path = _attribute(name)
        if path is None or path not in SEARCHABLE[self._level]:
            self._ignore(name)
            return
        self._once(path, self._matches, name)
        self._matches[path] = _match(name, dictionary_VR(int(path[-1], 16)), value)
        self._include.add(path)  # 10.6.3.3: attributes passed as match parameters are returned

    def _read_include(self, value: str) -> None:
        for name in filter(None, (part.strip() for part in value.split(","))):
            path = _attribute(name)
            if name == "all":
                self._include_all = True
            elif path is None:
                self._ignore(name)
            else:
                self._include.add(path)

    def _ignore(self, name: str) -> None:
        self._ignored.append(name if _PRINTABLE_NAME.fullmatch(name) else "(one with an invalid name)")

    @staticmethod
    def _once(key: object, seen: object, name: str | None = None) -> None:
        if key in seen:  # type: ignore[operator]
            raise BadRequest(f"The parameter {name or key} is given more than once.")


def _attribute(name: str) -> TagPath | None:
    """The tag path of `PatientID`, `00100020` or `RequestAttributesSequence.ScheduledProcedureStepID`."""
    path: list[str] = []
    for step in name.split("."):
        tag = int(step, 16) if re.fullmatch(r"[0-9A-Fa-f]{8}", step) else tag_for_keyword(step)
        if tag is None:
            return None
        path.append(f"{tag:08X}")
    return tuple(path)


def _match(name: str, vr: str, value: str) -> Match | None:
    """How the attribute is to be matched; None for universal matching, which every value satisfies."""
    value = value.strip()
    if not value.strip("*"):
        return None
    if vr in _MOMENT:
        return _moment(name, _MOMENT[vr], value)
    values = [part.strip() for part in re.split(r"[,\\]", value)] if vr in _LISTS else [value]
    values = [part for part in values if part]
    if vr == "UI" and not all(map(is_uid, values)):
        raise BadRequest(f"The parameter {name} is not a list of valid UIDs.")
    if vr == "UI" or not any("*" in part or "?" in part for part in values):
        return AnyOf(tuple(dict.fromkeys(values))) if values else None
    if len(values) > 1:
        raise BadRequest(f"The parameter {name} cannot be both a list and a pattern.")
    return Wildcard(values[0])


def _moment(name: str, pattern: re.Pattern[str], value: str) -> Match:
    """A single date or time, or a range of them."""
    low, dash, high = (part.strip() for part in value.partition("-"))
    if not all(pattern.fullmatch(part) for part in (low, high) if part) or not (low or high):
        raise BadRequest(f"The parameter {name} is neither a valid date or time nor a range of them.")
    return Between(low or None, high or None) if dash else AnyOf((low,))


def _unsigned(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise BadRequest(f"The parameter {name} must be a whole number, 0 or more.")
    return int(value)


def _boolean(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise BadRequest(f"The parameter {name} must be true or false.")
    return value == "true"
