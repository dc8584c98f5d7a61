"""Rows as the items of a search answer (PS3.18 section 10.6.3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydicom.datadict import dictionary_VR

from dicomweb.ports import JsonDataSet
from dicomweb.query import Query, TagPath
from dicomweb.ready import ready_text
from dicomweb.resource import Level, Resource
from gateway.store.rows import CONDITIONAL, DEFAULT_ATTRIBUTES, data_set_of

Document = dict[str, Any]
#: Attributes of studies and series, by the identity of their row.
Parents = Mapping[str, Mapping[str, Any]]
_ONLINE = {"vr": "CS", "Value": ["ONLINE"]}


def ready(level: Level, attributes: Mapping[str, Any], resource: Resource) -> bytes:
    """The text of an item of a search that asks for default attributes alone and whose path names what is above."""
    defaults = _defaults(Query(level, "", ""))
    return ready_text(_ascending(defaults, {tag: attributes.get(tag) for tag in defaults}), resource.path)


def ready_instance(attributes: Mapping[str, Any], resource: Resource, transfer_syntax_uid: str) -> bytes:
    """The same of an instance, given its attributes."""
    known = {
        "00080056": _ONLINE,
        "00083002": {"vr": "UI", "Value": [transfer_syntax_uid]},
        "0020000D": {"vr": "UI", "Value": [resource.study_uid]},
        "0020000E": {"vr": "UI", "Value": [resource.series_uid]},
    }
    return ready(Level.INSTANCE, {**attributes, **known}, resource)


def instance_number(attributes: Mapping[str, Any]) -> int:
    """InstanceNumber for sorting; instances without one that is an IS (PS3.5 section 6.2) come last."""
    value = (attributes.get("00200013", {}).get("Value") or [None])[0]
    return value if isinstance(value, int) and abs(value) < 1 << 31 else 1 << 31


def are_ready(query: Query) -> bool:
    """Whether the items of an answer are ready in their rows: nothing is asked for that their texts may lack."""
    named = {Level.STUDY: True, Level.SERIES: query.study_uid, Level.INSTANCE: query.study_uid and query.series_uid}
    return query.include is not None and query.include <= _ready_paths(query.level) and bool(named[query.level])


@cache
def _ready_paths(level: Level) -> frozenset[TagPath]:
    return frozenset((tag,) for tag in _defaults(Query(level, "", "")))


def fields(query: Query) -> dict[str, int]:
    """The fields of a row that make an item."""
    if are_ready(query):
        return {"item": 1, "_id": 0}
    if query.level is Level.STUDY:
        return {"attributes": 1}
    if query.level is Level.SERIES:
        return {"attributes": 1, "study_uid": 1, "series_uid": 1}
    return {"json_gzip": 1, "study_uid": 1, "series_uid": 1, "transfer_syntax_uid": 1}


def items(query: Query, documents: list[Document], parents: Parents) -> list[JsonDataSet]:
    """The items of a page: the default attributes of its level and of the levels that the path leaves open, and what
    was asked for besides.
    """
    defaults = _defaults(query)
    wanted = None if query.include is None else sorted(defaults | {path[0] for path in query.include})
    return [_item(query, _attributes(query, document, parents), defaults, wanted) for document in documents]


def _item(
    query: Query, attributes: Mapping[str, Any], defaults: frozenset[str], wanted: list[str] | None
) -> JsonDataSet:
    if query.include is None or wanted is None:
        return _ascending(defaults, attributes)
    chosen = {tag: attributes.get(tag) for tag in wanted} | _private(query, attributes)
    _prune(chosen, query.include, wanted=defaults)
    return _ascending(defaults, chosen)


def _ascending(defaults: frozenset[str], chosen: Mapping[str, Any]) -> JsonDataSet:
    """Attributes ascending by tag; of those without a value the default ones, empty."""
    return {
        tag: element or {"vr": dictionary_VR(int(tag, 16))}
        for tag, element in sorted(chosen.items())
        if element is not None or (tag in defaults and tag not in CONDITIONAL)
    }


def _attributes(query: Query, document: Document, parents: Parents) -> dict[str, Any]:
    """All that an item of the level may hold: attributes of lower levels are not in it."""
    if query.level is Level.STUDY:
        return dict(document["attributes"])
    attributes: dict[str, Any] = dict(parents.get(document["study_uid"], {}))
    if query.level is Level.SERIES:
        attributes |= document["attributes"]
        return attributes
    attributes |= parents.get(f"{document['study_uid']}/{document['series_uid']}", {})
    transfer_syntax = {"vr": "UI", "Value": [document["transfer_syntax_uid"]]}
    return attributes | data_set_of(document) | {"00080056": _ONLINE, "00083002": transfer_syntax}


def _defaults(query: Query) -> frozenset[str]:
    """The tables of the level and of those above it that the path does not fix, and the UIDs of all."""
    wanted = DEFAULT_ATTRIBUTES[query.level] | {"0020000D"}
    if query.level is Level.STUDY:
        return wanted
    if query.study_uid is None:
        wanted |= DEFAULT_ATTRIBUTES[Level.STUDY]
    if query.level is Level.INSTANCE and query.series_uid is None:
        wanted |= DEFAULT_ATTRIBUTES[Level.SERIES]
    return wanted | {"0020000E"}


def _private(query: Query, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Private elements that were asked for, with their creators (PS3.18 section 10.6.3.3).

    With its creator in the request an element is found in whatever block that creator has (PS3.5 section 7.8.1);
    without it, where its tag says.
    """
    found: dict[str, Any] = {}
    for tag in [path[0] for path in query.include or () if int(path[0], 16) >> 16 & 1]:
        group, block, number = tag[:4], tag[4:6], tag[6:]
        creator = query.creators.get(f"{group}00{block}")
        blocks = [block] if creator is None else _blocks(attributes, group, creator)
        if block not in blocks:
            found[tag] = None  # there it is the element of another creator
        for one in blocks:
            if f"{group}{one}{number}" in attributes:
                for name in (f"{group}00{one}", f"{group}{one}{number}"):
                    found[name] = attributes.get(name)
    return found


def _blocks(attributes: Mapping[str, Any], group: str, creator: str) -> list[str]:
    """The blocks of a group that a creator has reserved in a data set."""
    return [
        tag[6:]
        for tag, element in attributes.items()
        if tag.startswith(group + "00") and creator in (element or {}).get("Value", [])
    ]


def _prune(chosen: dict[str, Any], include: frozenset[TagPath], *, wanted: frozenset[str]) -> None:
    """Leave in a sequence only the attributes that were named in it, where it was not asked for as a whole."""
    for tag in (
        {path[0] for path in include if len(path) > 1} - wanted - {path[0] for path in include if len(path) == 1}
    ):
        if chosen.get(tag):
            below = [path[1:] for path in include if path[0] == tag]
            values = [_part(item, below) for item in chosen[tag].get("Value", [])]
            chosen[tag] = {"vr": "SQ", "Value": values} if values else {"vr": "SQ"}


def _part(item: Mapping[str, Any], paths: list[TagPath]) -> dict[str, Any]:
    part: dict[str, Any] = {}
    for tag in sorted({path[0] for path in paths}):
        below = [path[1:] for path in paths if path[0] == tag]
        element = item.get(tag)
        if element is None:
            continue
        if () in below or not isinstance(element.get("Value"), list):
            part[tag] = element
        else:
            part[tag] = element | {"Value": [_part(one, below) for one in element["Value"] if isinstance(one, Mapping)]}
    return part
