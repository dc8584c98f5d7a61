"""Checks the attributes of a workitem against the table (PS3.4 section CC.2.5.1). Pure; no sentence holds a value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_VR

from dicomweb.errors import BadRequest
from dicomweb.ports import JsonDataSet
from dicomweb.worklist.states import State
from dicomweb.worklist.table import BY_TAG, RULES, UPS_PUSH, Rule

MAX_DEPTH = 16
MAX_ELEMENTS = 20_000
_MAX_NAMED = 5
_TAG = re.compile(r"[0-9A-F]{8}")
_BULK = frozenset(["BulkDataURI", "InlineBinary"])
_MEMBERS = frozenset(["vr", "Value"])
_GROUPS = frozenset(["Alphabetic", "Ideographic", "Phonetic"])
_NUMBERS = frozenset("DS FD FL IS SL SS SV UL US UV".split())
_MAX_NUMBER = 1 << 63
_DATE_TIME = re.compile(r"\d{4}(\d{2}(\d{2}(\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?)?)?)?([+-]\d{4})?", re.ASCII)
#: Enumerated Values (PS3.3 sections C.30.1, C.30.2).
_ENUMERATED: Mapping[str, frozenset[str]] = {
    "00741200": frozenset(["HIGH", "MEDIUM", "LOW"]),
    "00404041": frozenset(["READY", "UNAVAILABLE", "INCOMPLETE"]),
}


def values(item: Mapping[str, Any], tag: str) -> list[Any]:
    """The values of an attribute, without empty ones; none if it is absent."""
    element = item.get(tag) or {}
    return [value for value in element.get("Value") or () if value not in (None, "", {})]


def text(item: Mapping[str, Any], tag: str) -> str:
    """The first value of an attribute as text, empty if it has none."""
    found = values(item, tag)
    return str(found[0]).strip() if found else ""


def items(item: Mapping[str, Any], tag: str) -> list[JsonDataSet]:
    """The items of a sequence."""
    element = item.get(tag) or {}
    return [value for value in element.get("Value") or () if isinstance(value, dict)]


def code(item: Mapping[str, Any]) -> tuple[str, str]:
    """Value and scheme of a coded entry, in whichever form it has it (PS3.3 Table 8.8-1)."""
    return text(item, "00080100") or text(item, "00080119") or text(item, "00080120"), text(item, "00080102")


def check_form(item: Any) -> None:
    """Raise BadRequest unless this is a data set of the DICOM JSON model that a workitem can hold."""
    counted = sum(1 for _ in _elements(item, 0))
    if counted > MAX_ELEMENTS:
        raise BadRequest(f"A workitem may have at most {MAX_ELEMENTS} elements.")


def _elements(item: Any, depth: int) -> Iterator[None]:
    if not isinstance(item, dict):
        raise BadRequest("A data set of the DICOM JSON model is an object.")
    if depth > MAX_DEPTH:
        raise BadRequest(f"Sequences of a workitem may be nested at most {MAX_DEPTH} deep.")
    for tag, element in item.items():
        if not _TAG.fullmatch(tag) or not isinstance(element, dict) or not isinstance(element.get("vr"), str):
            raise BadRequest("An attribute of the DICOM JSON model has a tag of eight hexadecimal digits and a VR.")
        if tag.startswith(("0000", "0002")):
            raise BadRequest("A workitem has no command or file meta elements.")
        if dictionary_has_tag(int(tag, 16)) and element["vr"] not in dictionary_VR(int(tag, 16)).split(" or "):
            raise BadRequest("An attribute does not have the VR that PS3.6 gives it.")
        if _BULK & element.keys():
            raise BadRequest("A workitem holds no bulk data.")
        if element.keys() - _MEMBERS:
            raise BadRequest("An attribute of the DICOM JSON model has no members but vr and Value.")
        found = element.get("Value", [])
        if not isinstance(found, list):
            raise BadRequest("The values of an attribute are an array.")
        yield
        for value in found:
            if element["vr"] == "SQ":
                yield from _elements({} if value is None else value, depth + 1)
            elif not _is_value(element["vr"], value):
                raise BadRequest("A value is not of the form that its VR has in the DICOM JSON model.")


def _is_value(vr: str, value: Any) -> bool:
    """Whether a value other than an item has the form of PS3.18 Table F.2.3-1, or the lenient one that clients send."""
    if value is None:
        return True
    if vr == "PN":
        return isinstance(value, dict) and value.keys() <= _GROUPS and all(map(_is_text, value.values()))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    if isinstance(value, str):
        return _is_text(value) and (vr != "DT" or not value.strip() or bool(_DATE_TIME.fullmatch(value.strip())))
    return vr in _NUMBERS and math.isfinite(value) and abs(value) < _MAX_NUMBER


def _is_text(value: Any) -> bool:
    """Whether a string can be written in UTF-8 and holds no NUL: half a character cannot be kept."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= one <= "\udfff" for one in value)


def check_created(item: JsonDataSet) -> None:
    """Raise BadRequest unless a workitem may be created with these attributes (column N-CREATE)."""
    _check(item, RULES, lambda rule: rule.create)
    if text(item, "00741000") != State.SCHEDULED:
        raise BadRequest("A workitem is created with the ProcedureStepState SCHEDULED.")
    if text(item, "00080016") not in ("", UPS_PUSH):
        raise BadRequest("The SOPClassUID of a workitem is that of Unified Procedure Step - Push.")
    _check_values(item)


def check_changes(changes: JsonDataSet) -> None:
    """Raise BadRequest unless these attributes may be set (column N-SET)."""
    known = [rule for rule in RULES if rule.tag in changes]
    _check(changes, known, lambda rule: rule.update)
    _check_values(changes)


def unmet(item: JsonDataSet, final: State) -> list[str]:
    """Keywords of the attributes that lack what a final state needs (PS3.4 section CC.2.5.1.1)."""
    codes = {"R", "P", "P0"} if final is State.COMPLETED else {"R", "X"}
    return sorted(set(_unmet(item, RULES, codes)))


def _unmet(item: JsonDataSet, rules: Sequence[Rule], codes: set[str]) -> Iterator[str]:
    for rule in rules:
        if rule.final == "P0" and rule.final in codes:
            if rule.tag not in item:
                yield rule.keyword
        elif rule.final in codes and not values(item, rule.tag):
            yield rule.keyword
        elif rule.final in codes:
            for child in items(item, rule.tag):
                yield from _unmet(child, rule.items, codes)


def _check(item: JsonDataSet, rules: Iterable[Rule], column: Callable[[Rule], str]) -> None:
    faults: dict[str, list[str]] = {"lacks": [], "leaves empty": [], "may not have": [], "must leave empty": []}
    for fault, keyword in _faults(item, rules, column):
        faults[fault].append(keyword)
    said = [f"{fault} {_named(keywords)}" for fault, keywords in faults.items() if keywords]
    if said:
        raise BadRequest(f"The workitem {'; it '.join(said)}.")


def _named(keywords: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(keywords))
    more = len(distinct) - _MAX_NAMED
    return ", ".join(distinct[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _faults(item: JsonDataSet, rules: Iterable[Rule], column: Callable[[Rule], str]) -> Iterator[tuple[str, str]]:
    for rule in rules:
        needed, present, valued = column(rule), rule.tag in item, bool(values(item, rule.tag))
        if needed == "N" and present:
            yield "may not have", rule.keyword
        elif needed in ("1", "2", "2E") and not present:
            yield "lacks", rule.keyword
        elif needed == "2E" and valued:
            yield "must leave empty", rule.keyword
        elif (needed == "1" or (needed == "3+" and present)) and not valued:
            yield "leaves empty", rule.keyword
        for child in items(item, rule.tag) if needed not in ("N", "2E") else ():
            yield from _faults(child, rule.items, column)
            if rule.is_code and not code(child)[0]:
                yield "lacks", "CodeValue"
            if rule.is_code and text(child, "00080100") and not text(child, "00080102"):
                yield "lacks", "CodingSchemeDesignator"


def _check_values(item: JsonDataSet) -> None:
    for tag, allowed in _ENUMERATED.items():
        if text(item, tag) and text(item, tag) not in allowed:
            raise BadRequest(f"{BY_TAG[tag].keyword} must be one of {', '.join(sorted(allowed))}.")
