"""Which workitems match a search or the filter of a subscription, and what a result shows (PS3.18 section 11.9).

The searchable values of a workitem are a tree of its shape: `{"00741204": ["a"], "00404018": [{"00080100": ["x"]}]}`.
Keys into one sequence must hold in the same item (PS3.4 C.2.2.2.6). `matches` decides on such a tree; a store that
turns the same keys into a query of its own must agree with it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydicom.datadict import dictionary_VR

from dicomweb.errors import BadRequest
from dicomweb.matching import canonical, folded, sounds, vr_of, words
from dicomweb.ports import JsonDataSet, Limits
from dicomweb.query import AllOf, AnyOf, Between, Empty, Key, Match, Query, SearchKeys, Span, TagPath, Wildcard
from dicomweb.query_parse import ParsedQuery, parse
from dicomweb.resource import Level
from dicomweb.worklist.attributes import items, text
from dicomweb.worklist.table import RETURNED, RETURNED_IF_SET, RULES, Rule

Tree = Mapping[str, Any]
Matches = Sequence[tuple[TagPath, Match]]

#: Attributes of the UPS IOD beyond those of the table that can be matched.
_OTHERS = """
00081080 00100021 00101010 0040A370.00080050 0040A370.00401001 0040A370.0020000D 0040A370.00402016 0040A370.00402017
0040A370.00321033 0040A370.00321032 0040A370.00080090 00404021.0020000D 00404021.0020000E
00404021.00081199.00081155 00741216.00404033.0020000D 00741216.00404033.0020000E
00741216.00404033.00081199.00081155 00741224.00081155
""".split()
_NEVER = frozenset(["00081195", "00400280"])
_WORDS = "~"  # after the tag of a person name: its words, for fuzzy matching
_FILTER_PARTS = re.compile(r",(?=[0-9A-Za-z_.]+=)")
_MAX_VALUES = 1_000


def _paths(rules: Iterable[Rule], before: TagPath = ()) -> Iterable[TagPath]:
    for rule in rules:
        if rule.items:
            yield from _paths(rule.items, (*before, rule.tag))
        elif rule.tag not in _NEVER and dictionary_VR(int(rule.tag, 16)) != "SQ":
            yield (*before, rule.tag)


#: What workitems can be searched by.
KEYS: Mapping[TagPath, Key] = MappingProxyType(
    {path: Key(Level.INSTANCE, vr_of(path)) for path in [*_paths(RULES), *(tuple(name.split(".")) for name in _OTHERS)]}
)
_SEQUENCES = frozenset(path[:end] for path in KEYS for end in range(1, len(path)))


def parsed(parameters: Iterable[tuple[str, str]], limits: Limits) -> ParsedQuery:
    """Read the parameters of a search for workitems; raise BadRequest."""
    return parse(Level.INSTANCE, parameters, limits=limits, keys=SearchKeys(KEYS))


def filter_pairs(text: str) -> list[tuple[str, str]]:
    """The matching keys of a filter, `attribute=value` with commas between (PS3.18 section 11.10.1.2)."""
    pairs = [part.partition("=") for part in _FILTER_PARTS.split(text) if part.strip()]
    if not pairs or not all(separator for _, separator, _ in pairs):
        raise BadRequest("The filter must be attribute=value, several of them with commas between.")
    found = [(name.strip(), value.strip()) for name, _, value in pairs]
    query = parsed(found, Limits())
    if query.warnings or query.query.include is None or not query.query.matches:
        raise BadRequest("The filter names an attribute that workitems cannot be matched by, or matches everything.")
    return found


def tree_of(item: JsonDataSet) -> dict[str, Any]:
    """The searchable values of a workitem."""
    return _tree(item, ())


def _tree(item: JsonDataSet, before: TagPath) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for tag in item:
        path = (*before, tag)
        if path in _SEQUENCES:
            tree[tag] = [_tree(child, path) for child in items(item, tag)[:_MAX_VALUES]]
        elif path in KEYS:
            found = [one for value in (item[tag].get("Value") or ())[:_MAX_VALUES] for one in _texts(value)]
            tree[tag] = list(dict.fromkeys(canonical(KEYS[path].vr, one) for one in found))
            if KEYS[path].vr == "PN":
                tree[tag + _WORDS] = words(found)
    return {tag: values for tag, values in tree.items() if values}


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [str(value[group]) for group in ("Alphabetic", "Ideographic", "Phonetic") if value.get(group)]
    return [] if value in (None, "") else [str(value)]


def by_first_step(matches: Matches) -> dict[str, list[tuple[TagPath, Match]]]:
    """Matches by the attribute that their paths begin with, and what is left of the paths."""
    grouped: dict[str, list[tuple[TagPath, Match]]] = defaultdict(list)
    for path, match in matches:
        grouped[path[0]].append((path[1:], match))
    return grouped


def matches(tree: Tree, wanted: Matches, *, fuzzy: bool = False, before: TagPath = ()) -> bool:
    """Whether a workitem with these values satisfies all matches."""
    return all(_holds(tree, tag, rest, (*before, tag), fuzzy) for tag, rest in by_first_step(wanted).items())


def _holds(tree: Tree, tag: str, rest: Matches, path: TagPath, fuzzy: bool) -> bool:
    if rest[0][0]:
        return any(matches(child, rest, fuzzy=fuzzy, before=path) for child in tree.get(tag) or [{}])
    vr = KEYS[path].vr
    if fuzzy and vr == "PN" and isinstance(rest[0][1], AnyOf | Wildcard):
        return sounds_like(rest[0][1], tree.get(tag + _WORDS, []))
    return _satisfies(rest[0][1], vr, tree.get(tag, []))


def _satisfies(match: Match, vr: str, values: Sequence[str]) -> bool:
    match match:
        case AnyOf(wanted):
            return any(canonical(vr, one) in values for one in wanted)
        case AllOf(wanted):
            return all(canonical(vr, one) in values for one in wanted)
        case Wildcard(pattern):
            shape = re.compile(regex(canonical(vr, pattern)))
            return any(shape.match(value) for value in values)
        case Between() | Span():
            low, high = bounds(match, vr)
            return any(low <= value <= high for value in values)
        case Empty():
            return not values


def bounds(match: Between | Span, vr: str) -> tuple[str, str]:
    """Both ends included; a shorter upper end covers all that it begins, as 10 does 10:59:59 (PS3.4 C.2.2.2.5)."""
    low = canonical(vr, match.low) if match.low else ""
    return low, (canonical(vr, match.high) if match.high else "") + "~"


def regex(pattern: str) -> str:
    """A pattern with `*` and `?` as a regular expression that both Python and PCRE read alike.

    Each piece between asterisks is taken where it is found first, and never again elsewhere: no pattern takes long.
    """
    first, *others = (re.escape(piece).replace(r"\?", ".") for piece in pattern.split("*"))
    middle = "".join(f"(?>.*?{piece})" for piece in others[:-1] if piece)
    return f"(?s)^{first}{middle}" + "".join(f".*{last}" for last in others[-1:]) + "$"


def wanted_words(match: AnyOf | Wildcard) -> list[tuple[str, list[str]]]:
    """For each word of a name that is searched for: its beginning, and how it may sound (PS3.4 C.2.2.2.1.1)."""
    asked = match.values if isinstance(match, AnyOf) else (match.pattern,)
    found = [word for one in asked for word in re.findall(r"[^\W_]+", folded(one))]
    return [(word, ["~" + code for code in sounds(word)]) for word in found]


def sounds_like(match: AnyOf | Wildcard, known: Sequence[str]) -> bool:
    """Whether every word of a name that is searched for begins or sounds like a known one."""
    return all(any(one.startswith(word) or one in codes for one in known) for word, codes in wanted_words(match))


def result(item: JsonDataSet, query: Query) -> JsonDataSet:
    """What a search shows of a workitem (section 11.9.2): its required return keys and what was asked for."""
    if query.include is None:
        return item
    wanted = {path[0] for path in query.include} - {"00081195"}
    shown = {tag: element for tag, element in item.items() if tag in RETURNED | RETURNED_IF_SET | wanted}
    empty = {tag: {"vr": dictionary_VR(int(tag, 16))} for tag in RETURNED - item.keys()}
    return dict(sorted((shown | empty | _character_set(item)).items()))


def _character_set(item: JsonDataSet) -> JsonDataSet:
    return {"00080005": item["00080005"]} if "00080005" in item else {}


def is_ready(item: JsonDataSet) -> bool:
    """Whether all that the performer needs is there."""
    return text(item, "00404041") == "READY"
