"""QIDO-RS searches on the catalogue: a Query becomes indexed MongoDB conditions, rows become DICOM JSON items."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from typing import Any

from pydicom.datadict import dictionary_VR

from dicomweb.errors import BadRequest, TooLarge
from dicomweb.ports import JsonDataSet, SearchPage
from dicomweb.query import AnyOf, Between, Match, Query, TagPath, Wildcard
from dicomweb.resource import Level
from gateway.store import derived, driver, rows

#: Studies or series that a relational search may narrow to before it is too broad (PS3.18 Table 10.6.3-1, 413).
_MAX_PARENTS = 10_000
_MAX_WILDCARDS = 8
_MAX_PATTERN = 256
_SORT = {
    Level.STUDY: [("sort", -1), ("_id", 1)],
    Level.SERIES: [("study_uid", 1), ("series_uid", 1)],
    Level.INSTANCE: [("study_uid", 1), ("series_uid", 1), ("number", 1), ("_id", 1)],
}
_COLLECTION = {Level.STUDY: "studies", Level.SERIES: "series", Level.INSTANCE: "instances"}


async def search(db: Any, query: Query) -> SearchPage:
    """Answer a query; every write acknowledged before is seen.

    Raises
    ------
    BadRequest : a wildcard pattern with too many wildcards.
    TooLarge : a relational search whose study or series keys match too much.
    """
    await derived.refresh(db, query.study_uid)
    async with driver.wrapped():
        condition = await _condition(db, query)
        collection = db[_COLLECTION[query.level]]
        cursor = collection.find(
            condition, _fields(query), sort=_SORT[query.level], skip=query.offset, limit=query.limit
        )
        found = await cursor.to_list(None)
        total = query.offset + len(found)
        if len(found) == query.limit or (query.offset and not found):
            total = await collection.count_documents(condition)
        parents = await _parents(db, query, found)
    items = [_item(query, document, parents) for document in found]
    return SearchPage(items, max(0, total - query.offset - len(found)))


async def _condition(db: Any, query: Query) -> dict[str, Any]:
    """The condition on the rows of the query's level; keys of upper levels narrow it to their studies and series."""
    by_level: dict[Level, list[dict[str, Any]]] = {level: [] for level in Level}
    for path, match in query.matches:
        by_level[rows.level_of(path)].append(_clause(path, match))
    study = _all_of(by_level[Level.STUDY])
    if query.level is Level.STUDY:
        return study | {"derived": {"$exists": True}} | ({"_id": query.study_uid} if query.study_uid else {})
    scope: dict[str, Any] = {"study_uid": query.study_uid} if query.study_uid else {}
    if study:
        studies = study | ({"_id": query.study_uid} if query.study_uid else {})
        scope = {"study_uid": {"$in": await _identities(db.studies, studies, "_id")}}
    if query.series_uid:
        scope["series_uid"] = query.series_uid
    series = _all_of(by_level[Level.SERIES])
    if query.level is Level.SERIES:
        return scope | series | {"derived": {"$exists": True}}
    if series:
        scope["series_uid"] = {"$in": await _identities(db.series, scope | series, "series_uid")}
    return scope | _all_of(by_level[Level.INSTANCE])


async def _identities(collection: Any, condition: dict[str, Any], field: str) -> list[str]:
    found = await collection.find(condition, {field: 1}, limit=_MAX_PARENTS + 1).to_list(None)
    if len(found) > _MAX_PARENTS:
        raise TooLarge("The search is too broad: narrow it by further keys.")
    return [document[field] for document in found]


def _all_of(clauses: list[dict[str, Any]]) -> dict[str, Any]:
    return {"$and": clauses} if clauses else {}


def _clause(path: TagPath, match: Match) -> dict[str, Any]:
    """The condition of one attribute. Values are compared as strings, never evaluated as operators."""
    field = "keys." + "_".join(path)
    if isinstance(match, AnyOf):
        return {field: {"$in": [rows.key_value(path, value) for value in match.values]}}
    if isinstance(match, Wildcard):
        return {field: {"$regex": _regex(rows.key_value(path, match.pattern))}}
    return {field: {"$elemMatch": _range(match)}}


def _range(match: Between) -> dict[str, str]:
    """Both ends included; a shorter upper end covers all that it begins, as 10 does 10:59:59 (PS3.4 C.2.2.2.5)."""
    low = {"$gte": match.low} if match.low else {"$gt": ""}
    return low | ({"$lte": match.high + "~"} if match.high else {})


def _regex(pattern: str) -> str:
    pattern = re.sub(r"\*+", "*", pattern)
    if pattern.count("*") > _MAX_WILDCARDS or len(pattern) > _MAX_PATTERN:
        raise BadRequest(f"A pattern may have at most {_MAX_WILDCARDS} asterisks and {_MAX_PATTERN} characters.")
    parts = {"*": ".*", "?": "."}
    body = "".join(parts.get(character, re.escape(character)) for character in pattern)
    return f"(?s)^{body}$"


def _fields(query: Query) -> dict[str, int]:
    """The fields of a row that make an item."""
    if query.level is Level.STUDY:
        return {"attributes": 1}
    if query.level is Level.SERIES:
        return {"attributes": 1, "study_uid": 1, "series_uid": 1}
    fields = {"attributes.instance": 1, "study_uid": 1, "series_uid": 1, "transfer_syntax_uid": 1}
    return fields | ({"json_gzip": 1} if _wants_all(query) else {})


def _wants_all(query: Query) -> bool:
    """Whether an instance item needs attributes that are only in the whole DICOM JSON."""
    if query.include is None:
        return True
    ready = frozenset().union(*rows.LEVEL_ATTRIBUTES.values())
    return any(path[0] not in ready for path in query.include)


async def _parents(db: Any, query: Query, found: list[dict[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Attributes of the studies and series that the found rows belong to, by their row identity."""
    if query.level is Level.STUDY:
        return {}
    studies = {document["study_uid"] for document in found}
    cursor = db.studies.find({"_id": {"$in": sorted(studies)}}, {"attributes": 1})
    parents = {document["_id"]: document["attributes"] async for document in cursor}
    if query.level is Level.INSTANCE:
        series = {f"{document['study_uid']}/{document['series_uid']}" for document in found}
        cursor = db.series.find({"_id": {"$in": sorted(series)}}, {"attributes": 1})
        parents |= {document["_id"]: document["attributes"] async for document in cursor}
    return parents


def _item(query: Query, document: dict[str, Any], parents: Mapping[str, Mapping[str, Any]]) -> JsonDataSet:
    """One result: the default attributes of its level and of the levels that the path leaves open, and the included."""
    wanted = set(rows.DEFAULT_ATTRIBUTES[query.level]) | {"0020000D"}
    if query.level is Level.STUDY:
        attributes: dict[str, Any] = document["attributes"]
    else:
        wanted.add("0020000E")
        attributes = dict(parents.get(document["study_uid"], {}))
        if query.study_uid is None:
            wanted |= rows.DEFAULT_ATTRIBUTES[Level.STUDY]
        if query.level is Level.SERIES:
            attributes |= document["attributes"]
        else:
            attributes |= parents.get(f"{document['study_uid']}/{document['series_uid']}", {})
            attributes |= _instance_attributes(document)
            if query.series_uid is None:
                wanted |= rows.DEFAULT_ATTRIBUTES[Level.SERIES]
    chosen = attributes if query.include is None else {tag: attributes.get(tag) for tag in wanted | _tags(query)}
    required = rows.DEFAULT_ATTRIBUTES[query.level] - _CONDITIONAL
    return {
        tag: element or {"vr": dictionary_VR(int(tag, 16))}
        for tag, element in sorted(chosen.items())
        if element is not None or tag in required
    }


#: Default attributes that are left out when they have no value.
_CONDITIONAL = frozenset(
    "00080201 00081190 0008103E 00280008 00280010 00280011 00280100 00400244 00400245 00400275".split()
)


def _tags(query: Query) -> set[str]:
    return {path[0] for path in query.include or ()}


def _instance_attributes(document: dict[str, Any]) -> dict[str, Any]:
    packed = document.get("json_gzip")
    attributes: dict[str, Any] = json.loads(gzip.decompress(packed)) if packed else document["attributes"]["instance"]
    return attributes | {
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00083002": {"vr": "UI", "Value": [document["transfer_syntax_uid"]]},
    }
