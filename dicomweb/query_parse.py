"""Reads the parameters of a search request (PS3.18 section 8.3.4) into a `Query`.

Nothing is dropped silently: what the server does not know or cannot match is named in a warning, and what is malformed
is refused. Both would otherwise return more than was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from pydicom.datadict import tag_for_keyword

from dicomweb.errors import BadRequest
from dicomweb.matching import time_of
from dicomweb.ports import Limits
from dicomweb.query import Between, Match, Query, SearchKeys, Span, TagPath
from dicomweb.query_values import Switches, match_of
from dicomweb.resource import Level

_MAX_PARAMETERS = 256
_MAX_QUERY = 1 << 16
_MAX_STEPS = 8
_MAX_NAMED = 20
# Not for the search itself, but legitimate in its URL.
_NEGOTIATION = frozenset(["accept", "charset"])
_SWITCHES = ("fuzzymatching", "emptyvaluematching", "multiplevaluematching")
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PRINTABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """A search, and the sentences to answer with as Warning headers."""

    query: Query
    warnings: tuple[str, ...] = ()


def split(query_string: str) -> list[tuple[str, str]]:
    """The parameters of a raw query string, decoded (PS3.18 section 8.3.4.1: percent-encoded UTF-8).

    Raises
    ------
    BadRequest : too many of them, or an escape that is broken or no UTF-8.
    """
    if len(query_string) > _MAX_QUERY:
        raise BadRequest("The query is too long.")
    if _BROKEN_ESCAPE.search(query_string):
        raise BadRequest("The query holds a broken percent-encoding.")
    try:
        return parse_qsl(query_string, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
    except UnicodeError:
        raise BadRequest("The query is not percent-encoded UTF-8.") from None
    except ValueError:
        raise BadRequest(f"A search may have at most {_MAX_PARAMETERS} parameters.") from None


def parse(
    level: Level,
    parameters: Iterable[tuple[str, str]],
    *,
    study_uid: str | None = None,
    series_uid: str | None = None,
    limits: Limits | None = None,
    keys: SearchKeys | None = None,
) -> ParsedQuery:
    """Read the query parameters of a search for studies, series or instances.

    Parameters
    ----------
    level : of the items to find.
    parameters : names and values, decoded, in the order of the request.
    study_uid, series_uid : from the path; checked by the caller.
    limits : bounds the page; more than `max_results` is never returned at once.
    keys : what can be matched; the standard's keys by default.

    Raises
    ------
    BadRequest : naming the parameter that is malformed or repeated (never its value).
    """
    reader = _Reader(level, limits or Limits(), keys or SearchKeys())
    for count, (name, value) in enumerate(parameters):
        if count == _MAX_PARAMETERS:
            raise BadRequest(f"A search may have at most {_MAX_PARAMETERS} parameters.")
        reader.read(name, value)
    return reader.result(study_uid, series_uid)


def attribute(name: str) -> TagPath | None:
    """The tag path of `PatientID`, `00100020` or `RequestAttributesSequence.ScheduledProcedureStepID`."""
    steps = name.split(".", _MAX_STEPS)
    if len(name) > 1024 or len(steps) > _MAX_STEPS:
        return None
    path: list[str] = []
    for step in steps:
        tag = int(step, 16) if _TAG.fullmatch(step) else tag_for_keyword(step)
        if tag is None:
            return None
        path.append(f"{tag:08X}")
    return tuple(path)


def is_creator(path: TagPath) -> bool:
    """Whether a path names a Private Creator element (PS3.5 section 7.8.1)."""
    tag = int(path[-1], 16)
    return len(path) == 1 and bool(tag >> 16 & 1) and 0x10 <= tag & 0xFFFF <= 0xFF


class _Reader:
    """Collects what the parameters say, one by one; the switches may come after what they change."""

    def __init__(self, level: Level, limits: Limits, keys: SearchKeys) -> None:
        self._level = level
        self._limits = limits
        self._keys = keys
        self._matchable = keys.at(level)
        self._values: dict[TagPath, tuple[str, str]] = {}
        self._creators: dict[str, tuple[str, str]] = {}
        self._include: set[TagPath] = set()
        self._include_all = False
        self._numbers: dict[str, int] = {}
        self._switches: dict[str, bool] = {}
        self._ignored: list[str] = []
        self._building: list[str] = []

    def read(self, name: str, value: str) -> None:
        """Take one parameter."""
        if name in _NEGOTIATION:
            return
        _check_text(name, value)
        if name == "includefield":
            self._read_include(value)
        elif name in ("limit", "offset"):
            _once(name, self._numbers, name)
            self._numbers[name] = _unsigned(name, value)
        elif name in _SWITCHES:
            _once(name, self._switches, name)
            self._switches[name] = _boolean(name, value)
        else:
            self._read_match(name, value)

    def result(self, study_uid: str | None, series_uid: str | None) -> ParsedQuery:
        """The search as a whole."""
        switches = Switches(
            empty=self._switches.get("emptyvaluematching", False),
            multiple=self._switches.get("multiplevaluematching", False),
        )
        matches = {
            path: match
            for path, (name, value) in self._values.items()
            if (match := match_of(name, self._keys.keys[path].vr, value, switches)) is not None
        }
        creators = self._used_creators()
        query = Query(
            level=self._level,
            study_uid=study_uid,
            series_uid=series_uid,
            matches=tuple(_combined(matches).items()),
            include=None if self._include_all else frozenset(self._include),
            limit=min(self._numbers.get("limit", self._limits.default_results), self._limits.max_results),
            offset=self._numbers.get("offset", 0),
            fuzzy=self._switches.get("fuzzymatching", False),
            creators=creators,
        )
        return ParsedQuery(query, self._warnings())

    def _read_match(self, name: str, value: str) -> None:
        path = attribute(name)
        if path is not None and is_creator(path):
            _once(path[0], self._creators, name)
            self._creators[path[0]] = (name, value)
        if path is not None and path in self._keys.building and path in self._matchable:
            self._building.append(name)
        elif path is not None and path in self._matchable:
            _once(path, self._values, name)
            self._values[path] = (name, value)
            self._include.add(path)  # 10.6.3.3: attributes passed as match parameters are returned
        elif path is None or not is_creator(path):
            self._ignored.append(name)

    def _read_include(self, value: str) -> None:
        for name in filter(None, (part.strip() for part in value.split(","))):
            path = attribute(name)
            if name == "all":
                self._include_all = True
            elif path is None:
                self._ignored.append(name)
            else:
                self._include.add(path)

    def _used_creators(self) -> dict[str, str]:
        """The private creators that say whose elements are included; one that says nothing is named as ignored."""
        blocks = {path[0][:4] + "00" + path[0][4:6] for path in self._include}
        for tag, (name, _) in self._creators.items():
            if tag not in blocks and (tag,) not in self._values and not self._include_all:
                self._ignored.append(name)
        return {tag: value.strip() for tag, (_, value) in self._creators.items() if tag in blocks}

    def _warnings(self) -> tuple[str, ...]:
        warnings = []
        if self._ignored:
            warnings.append(
                f"The following parameters are not supported and have been ignored: {_listed(self._ignored)}"
            )
        if self._building:
            warnings.append(
                f"The following keys are still being built and have been ignored: {_listed(self._building)}"
            )
        return tuple(warnings)


def _combined(matches: dict[TagPath, Match]) -> dict[TagPath, Match]:
    """Ranges of the same form on a date and on its time are one span (PS3.4 C.2.2.2.5), all other pairs are two."""
    result = dict(matches)
    for path, date in matches.items():
        time = time_of(path[-1])
        clock = matches.get((*path[:-1], time)) if time else None
        if isinstance(date, Between) and isinstance(clock, Between) and _form(date) == _form(clock):
            del result[(*path[:-1], str(time))]
            result[path] = Span(_joined(date.low, clock.low), _joined(date.high, clock.high))
    return result


def _form(match: Between) -> tuple[bool, bool]:
    return match.low is None, match.high is None


def _joined(date: str | None, time: str | None) -> str | None:
    return None if date is None or time is None else date + time


def _listed(names: list[str]) -> str:
    """Names for a header: printable ones only, and not too many."""
    shown = dict.fromkeys(name if _PRINTABLE_NAME.fullmatch(name) else "(one with an invalid name)" for name in names)
    more = f" and {len(shown) - _MAX_NAMED} more" if len(shown) > _MAX_NAMED else ""
    return ", ".join(list(shown)[:_MAX_NAMED]) + more


def _check_text(name: str, value: str) -> None:
    """Refuse what no DICOM text can hold: NUL, and halves of characters."""
    try:
        (name + value).encode()
    except UnicodeError:
        raise BadRequest("A parameter is not valid Unicode.") from None
    if "\0" in name or "\0" in value:
        raise BadRequest("A parameter holds a NUL character.")


def _once(key: object, seen: object, name: str) -> None:
    if key in seen:  # type: ignore[operator]
        shown = name if _PRINTABLE_NAME.fullmatch(name) else "of one attribute"
        raise BadRequest(f"The parameter {shown} is given more than once.")


def _unsigned(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise BadRequest(f"The parameter {name} must be a whole number, 0 or more.")
    return int(value)


def _boolean(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise BadRequest(f"The parameter {name} must be true or false.")
    return value == "true"
