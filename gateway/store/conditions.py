"""Matches as conditions on rows: what `scheme.py` derives is compared with what a search asks for.

Values are only ever compared as strings, never evaluated as operators. Every condition but a leading wildcard is
bounded by an index range, and no pattern can backtrack: its pieces are matched one after the other, each once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from dicomweb.matching import canonical, folded, sounds, words
from dicomweb.query import AllOf, AnyOf, Between, Empty, Key, Match, Span, TagPath, Wildcard

Condition = dict[str, Any]
#: Sorts after everything that begins with the text before it.
_AFTER = "\U0010ffff"
#: The end of a value; a dollar sign would also match before a last line feed.
_END = "(?!.)"


def conditions(
    matches: Iterable[tuple[TagPath, Match]], keys: Mapping[TagPath, Key], *, fuzzy: bool
) -> list[Condition]:
    """Conditions on the rows of one level, all of which must hold.

    All matches below one sequence must hold in the same item of it (PS3.4 section C.2.2.2.6).
    """
    chosen = [(path, _leaf(path[-1], match, keys[path].vr, fuzzy=fuzzy)) for path, match in matches]
    return _nested(chosen, "keys.")


def all_of(clauses: list[Condition]) -> Condition:
    """One condition of several; of none, what every row fulfils."""
    return {"$and": clauses} if clauses else {}


def _nested(chosen: list[tuple[TagPath, list[Condition]]], prefix: str) -> list[Condition]:
    found: list[Condition] = []
    below: dict[str, list[tuple[TagPath, list[Condition]]]] = {}
    for path, clauses in chosen:
        if len(path) > 1:
            below.setdefault(path[0], []).append((path[1:], clauses))
        else:
            found += [_prefixed(clause, prefix) for clause in clauses]
    for sequence, items in below.items():
        found.append({prefix + sequence: {"$elemMatch": all_of(_nested(items, ""))}})
    return found


def _prefixed(clause: Condition, prefix: str) -> Condition:
    """The same condition on fields below `prefix`."""
    return {
        name if name.startswith("$") else prefix + name: (
            [_prefixed(one, prefix) for one in value] if name.startswith("$") else value
        )
        for name, value in clause.items()
    }


def _leaf(field: str, match: Match, vr: str, *, fuzzy: bool) -> list[Condition]:
    if isinstance(match, Empty):
        return [{field: ""}]
    if isinstance(match, Between):
        return [_range(field, *(None if end is None else canonical(vr, end) for end in (match.low, match.high)))]
    if isinstance(match, Span):
        return [_range(field + "t", match.low, match.high)]
    if isinstance(match, AllOf):
        return [{field: canonical(vr, value)} for value in match.values]
    texts = match.values if isinstance(match, AnyOf) else (match.pattern,)
    if vr == "PN":
        return [clause for group in _groups(texts[0]) for clause in _name(field, group, match, fuzzy=fuzzy)]
    if isinstance(match, Wildcard):
        return [_pattern(field, canonical(vr, match.pattern))]
    return [{field: {"$in": [canonical(vr, value) for value in texts]}}]


def _groups(text: str) -> list[str]:
    """The component groups that a name gives: any group of a stored name may match each (PS3.5 section 6.2.1)."""
    return [group for group in text.split("=") if group.strip("*^ ")]


def _name(field: str, group: str, match: Match, *, fuzzy: bool) -> list[Condition]:
    if fuzzy:
        return _fuzzy(field + "w", group)
    text = canonical("PN", group)
    return [_pattern(field, text) if isinstance(match, Wildcard) else {field: text}]


def _fuzzy(field: str, text: str) -> list[Condition]:
    """Each word begins a word of the name, or sounds like one; a word with wild cards is taken literally."""
    found: list[Condition] = []
    for word in re.split(r"[\s^,]+", text):
        plain = word.strip("*")
        if "*" in plain or "?" in plain:
            found.append(_pattern(field, folded(word)))
            continue
        for piece in words([plain]):
            if not piece.startswith("~"):
                alternatives = [_range(field, piece, piece, ends=False)]
                alternatives += [{field: "~" + code} for code in sounds(piece)]
                found.append({"$or": alternatives} if len(alternatives) > 1 else alternatives[0])
    return found


def _range(field: str, low: str | None, high: str | None, *, ends: bool = True) -> Condition:
    """Both ends included; a shorter upper end covers all that it begins, as 10 does 10:59:59 (PS3.4 C.2.2.2.5).

    An open lower end leaves out what has no value.
    """
    bounds = {"$gte": low} if low else {"$gt": ""}
    if high is not None:
        bounds["$lt"] = high + (":" if ends else _AFTER)  # a colon sorts after the digits and the point
    return {field: {"$elemMatch": bounds}}


def _pattern(field: str, pattern: str) -> Condition:
    """A wild card match: by the range of its literal beginning, and by an expression where that does not say all."""
    literal = re.split(r"[*?]", pattern, maxsplit=1)[0]
    bounds: Condition = {"$gte": literal, "$lt": literal + _AFTER} if literal else {}
    if pattern != literal + "*":
        bounds |= {"$regex": expression(pattern), "$options": "s"}
    return {field: {"$elemMatch": bounds}} if bounds else {}


def expression(pattern: str) -> str:
    """A regular expression for a wild card pattern that takes at most length of pattern times length of value steps.

    Between asterisks the first place where a piece fits is as good as any later one, so each is an atomic group.
    """
    first, *rest = ["".join("." if one == "?" else re.escape(one) for one in piece) for piece in pattern.split("*")]
    if not rest:
        return f"^{first}{_END}"
    *middle, last = rest
    return f"^{first}" + "".join(f"(?>.*?{piece})" for piece in middle if piece) + (f".*{last}{_END}" if last else "")
