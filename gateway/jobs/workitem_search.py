"""Searches for workitems as MongoDB conditions on their trees of values; agrees with `worklist.search.matches`."""

from __future__ import annotations

import re
from typing import Any

from dicomweb.errors import BadRequest
from dicomweb.matching import canonical
from dicomweb.query import AllOf, AnyOf, Between, Empty, Match, Span, TagPath, Wildcard
from dicomweb.worklist.search import KEYS, Matches, bounds, by_first_step, regex, wanted_words

_MAX_WILDCARDS = 8
_MAX_PATTERN = 256


def condition(wanted: Matches, *, fuzzy: bool = False) -> dict[str, Any]:
    """The condition on a document whose `keys` are the tree of its workitem."""
    clauses = _clauses(wanted, "keys.", (), fuzzy)
    return {"$and": clauses} if clauses else {}


def _clauses(wanted: Matches, prefix: str, before: TagPath, fuzzy: bool) -> list[dict[str, Any]]:
    clauses: list[dict[str, Any]] = []
    for tag, rest in by_first_step(wanted).items():
        path, field = (*before, tag), prefix + tag
        if rest[0][0]:
            inner = {field: {"$elemMatch": {"$and": _clauses(rest, "", path, fuzzy)}}}
            absent = all(isinstance(match, Empty) for _, match in rest)
            clauses.append({"$or": [{field: {"$exists": False}}, inner]} if absent else inner)
        else:
            clauses += _leaf(field, path, rest[0][1], fuzzy)
    return clauses


def _leaf(field: str, path: TagPath, match: Match, fuzzy: bool) -> list[dict[str, Any]]:
    vr = KEYS[path].vr
    if fuzzy and vr == "PN" and isinstance(match, AnyOf | Wildcard):
        return [_sounds(field + "~", word, codes) for word, codes in wanted_words(match)]
    match match:
        case AnyOf(values):
            return [{field: {"$in": [canonical(vr, one) for one in values]}}]
        case AllOf(values):
            return [{field: {"$all": [canonical(vr, one) for one in values]}}]
        case Wildcard(pattern):
            return [{field: {"$regex": regex(_checked(canonical(vr, pattern)))}}]
        case Between() | Span():
            low, high = bounds(match, vr)
            return [{field: {"$elemMatch": {"$gte": low, "$lte": high}}}]
        case Empty():
            return [{field: {"$exists": False}}]


def _sounds(field: str, word: str, codes: list[str]) -> dict[str, Any]:
    begins = {field: {"$regex": "^" + re.escape(word)}}
    return {"$or": [begins, {field: {"$in": codes}}]} if codes else begins


def _checked(pattern: str) -> str:
    if pattern.count("*") > _MAX_WILDCARDS or len(pattern) > _MAX_PATTERN:
        raise BadRequest(f"A pattern may have at most {_MAX_WILDCARDS} asterisks and {_MAX_PATTERN} characters.")
    return pattern
