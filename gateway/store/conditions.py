"""Matches as conditions on rows: what `scheme.py` derives is compared with what a search asks for.

Values are only ever compared as strings, never evaluated as operators. Every condition but a leading wildcard is
bounded by an index range, and no pattern can backtrack: its pieces are matched one after the other, each once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dicomweb.matching import canonical, folded, sounds, words
from dicomweb.query import AllOf, AnyOf, Between, Empty, Key, Match, Span, TagPath, Wildcard
from gateway.store.scheme import BETWEEN, PARTS

Condition = dict[str, Any]
#: Sorts after everything that begins with the text before it.
_AFTER = "\U0010ffff"
#: The end of a value; a dollar sign would also match before a last line feed.
_END = "(?!.)"
_STUDY_DATE = ("00080020",)


@dataclass(frozen=True, slots=True)
class _Field:
    """The field of a key in its row or item, how its values compare, and whether they also stand in one text."""

    name: str
    vr: str
    in_one_text: bool


def conditions(
    matches: Iterable[tuple[TagPath, Match]], keys: Mapping[TagPath, Key], *, fuzzy: bool
) -> list[Condition]:
    """Conditions on the rows of one level, all of which must hold.

    All matches below one sequence must hold in the same item of it (PS3.4 section C.2.2.2.6).
    """
    chosen = [
        (path, _leaf(_Field(path[-1], keys[path].vr, path in PARTS), match, fuzzy=fuzzy)) for path, match in matches
    ]
    return _nested(chosen, "keys.")


def in_order(matches: Iterable[tuple[TagPath, Match]]) -> list[Condition]:
    """What studies that match a range of StudyDate have in common by their place in the order of answers.

    It leaves out none of them: with it the first page is read where the range begins, however long the range is.
    """
    found: list[Condition] = []
    for path, match in matches:
        if path == _STUDY_DATE and isinstance(match, Between | Span):
            vr = "DA" if isinstance(match, Between) else "DT"
            low, high = (end and canonical(vr, end) for end in (match.low, match.high))
            found.append({"sort": _bounds(low, high)})
    return found


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


def _leaf(field: _Field, match: Match, *, fuzzy: bool) -> list[Condition]:
    name, vr = field.name, field.vr
    if isinstance(match, Empty):
        return [{name: ""}]
    if isinstance(match, Between):
        return [_range(name, *(end and canonical(vr, end) for end in (match.low, match.high)))]
    if isinstance(match, Span):
        return [_range(name + "t", *(end and canonical("DT", end) for end in (match.low, match.high)))]
    if isinstance(match, AllOf):
        return [{name: canonical(vr, value)} for value in match.values]
    if vr == "PN":
        text = match.values[0] if isinstance(match, AnyOf) else match.pattern
        return [_name(field, group, match, fuzzy=fuzzy) for group in _groups(text)]
    if isinstance(match, Wildcard):
        return [_pattern(field, canonical(vr, match.pattern))]
    return [{name: {"$in": [canonical(vr, value) for value in match.values]}}]


def _groups(text: str) -> list[str]:
    """The component groups that a name gives: any group of a stored name may match each (PS3.5 section 6.2.1)."""
    given = [group for group in text.split("=") if canonical("PN", group).strip("*")]
    return given or ([] if "*" in text else [""])  # delimiters alone are the empty name


def _name(field: _Field, group: str, match: Match, *, fuzzy: bool) -> Condition:
    text = canonical("PN", group)
    literal = _pattern(field, text) if isinstance(match, Wildcard) else {field.name: text}
    words_too = _fuzzy(field.name + "w", group) if fuzzy else []
    # Fuzzy matching finds no less than literal matching: `*anz*` is in Panza, though no word begins so.
    return {"$or": [literal, all_of(words_too)]} if words_too else literal


def _fuzzy(name: str, text: str) -> list[Condition]:
    """Each word begins a word of the name, or sounds like one; a word with wild cards is taken literally."""
    found: list[Condition] = []
    for word in re.split(r"[\s^,]+", text):
        plain = word.strip("*")
        if "*" in plain or "?" in plain:
            found.append(_pattern(_Field(name, "PN", in_one_text=False), folded(word)))
            continue
        for piece in words([plain]):
            if not piece.startswith("~"):
                alternatives = [_range(name, piece, piece, ends=False)]
                alternatives += [{name: "~" + code} for code in sounds(piece)]
                found.append({"$or": alternatives} if len(alternatives) > 1 else alternatives[0])
    return found


def _range(field: str, low: str | None, high: str | None, *, ends: bool = True) -> Condition:
    """Both ends included; a shorter upper end covers all that it begins, as 10 does 10:59:59 (PS3.4 C.2.2.2.5).

    An open lower end leaves out what has no value.
    """
    return {field: {"$elemMatch": _bounds(low, high, ends=ends)}}


def _bounds(low: str | None, high: str | None, *, ends: bool = True) -> Condition:
    bounds = {"$gte": low} if low else {"$gt": ""}
    if high is not None:
        bounds["$lt"] = high + (":" if ends else _AFTER)  # a colon sorts after the digits and the point
    return bounds


def _pattern(field: _Field, pattern: str) -> Condition:
    """A wild card match: by the range of its literal beginning, and by an expression where that does not say all.

    One that begins with a wild card looks at everything. Where all values stand in one text it need not look further
    than the index of that: MongoDB reads rows for an index of arrays, which takes ten times as long.
    """
    literal = re.split(r"[*?]", pattern, maxsplit=1)[0]
    if not literal and pattern != "*" and field.in_one_text:
        return {field.name + "s": {"$regex": expression(pattern, one_of_several=True), "$options": "s"}}
    bounds: Condition = {"$gte": literal, "$lt": literal + _AFTER} if literal else {}
    if pattern != literal + "*":
        bounds |= {"$regex": expression(pattern), "$options": "s"}
    return {field.name: {"$elemMatch": bounds}} if bounds else {}


def expression(pattern: str, *, one_of_several: bool = False) -> str:
    """A regular expression for a wild card pattern; with `one_of_several` it fits one value of a text of several.

    Between asterisks the first place where a piece fits is as good as any later one, so each is an atomic group, and a
    match takes at most length of pattern times length of value steps.
    """
    one, start, end = (f"[^{BETWEEN}]", f"(?:^|{BETWEEN})", f"(?![^{BETWEEN}])") if one_of_several else (".", "^", _END)
    first, *rest = ["".join(one if each == "?" else re.escape(each) for each in piece) for piece in pattern.split("*")]
    if not rest:
        return f"{start}{first}{end}"
    *middle, last = rest
    pieces = "".join(f"(?>{one}*?{piece})" for piece in middle if piece)
    return f"{start}{first}{pieces}" + (f"{one}*{last}{end}" if last else "")
