"""Series and study rows, derived from instance rows; `arrivals.py` says when.

Nothing is counted up: a row is made anew from all instances of its series, so that it cannot drift from them. It says
which change number it was made after, by `version`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from pymongo import DeleteOne, ReplaceOne

from dicomweb.resource import Level, Resource
from gateway.store import driver, items
from gateway.store.rows import data_set_of
from gateway.store.scheme import Scheme

Pair = tuple[str, str]
Document = dict[str, Any]
_MEMBER = dict.fromkeys(("study_uid", "study", "keys.00080060", "classes", "instances", "size", "first", "version"), 1)


async def derive(db: Any, scheme: Scheme, touched: Iterable[Pair], version: int, session: Any) -> None:
    """Make the rows of series, given after their studies, and of the studies anew; delete those of nothing.

    It belongs into a transaction that holds the position of the feed: two at once would not see each other's rows.
    """
    pairs = sorted(touched)
    groups = await _grouped(db, pairs, session)
    firsts = [group["first"]["uid"] for group in groups.values()]
    cursor = db.instances.find({"_id": {"$in": firsts}}, {"json_gzip": 1}, session=session)
    headers = {row["_id"]: row async for row in cursor}
    series: list[Any] = []
    for pair in pairs:
        await asyncio.sleep(0)  # each takes some tenths of a millisecond
        identity, group = "/".join(pair), groups.get(pair)
        if group is None:
            series.append(DeleteOne({"_id": identity}))
        else:
            header = scheme.attributes(data_set_of(headers[group["first"]["uid"]]))
            row = _series(scheme, pair, group, header)
            series.append(ReplaceOne({"_id": identity}, row | {"version": version}, upsert=True))
    await db.series.bulk_write(series, ordered=False, session=session)
    gone = ["/".join(pair) for pair in pairs if pair not in groups]
    if gone:
        await db.metadata.delete_many({"_id": {"$in": gone}}, session=session)
    await _derive_studies(db, scheme, sorted({study for study, _ in pairs}), version, session)


async def _grouped(db: Any, pairs: list[Pair], session: Any) -> dict[Pair, Document]:
    """What the instances of series add up to."""
    chosen = {"study_uid": {"$in": sorted({study for study, _ in pairs})}, "series_uid": {"$in": [p[1] for p in pairs]}}
    group = {
        "_id": {"study": "$study_uid", "series": "$series_uid"},
        "first": {"$min": {"at": "$at", "uid": "$_id"}},
        "classes": {"$addToSet": "$sop_class_uid"},
        "instances": {"$sum": 1},
        "size": {"$sum": "$size"},
    }
    found = await driver.aggregate(db.instances, [{"$match": chosen}, {"$group": group}], session=session)
    return {(one["_id"]["study"], one["_id"]["series"]): one for one in found}


def _series(scheme: Scheme, pair: Pair, group: Document, header: Mapping[str, Document]) -> Document:
    """The row of a series, described by the instance of it that came first."""
    study_uid, series_uid = pair
    attributes = header["series"] | {
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "0020000D": {"vr": "UI", "Value": [study_uid]},
        "0020000E": {"vr": "UI", "Value": [series_uid]},
        "00201209": {"vr": "IS", "Value": [group["instances"]]},
    }
    return {
        "study_uid": study_uid,
        "series_uid": series_uid,
        "attributes": attributes,
        "item": items.ready(Level.SERIES, header["study"] | attributes, Resource(study_uid, series_uid)),
        "keys": scheme.search_keys(attributes, Level.SERIES),
        "study": header["study"],
        "image_type": header["instance"].get("00080008", {}).get("Value", []),
        "classes": sorted(group["classes"]),
        "instances": group["instances"],
        "size": group["size"],
        "first": group["first"],
        "scheme": scheme.id,
    }


async def _derive_studies(db: Any, scheme: Scheme, study_uids: list[str], version: int, session: Any) -> None:
    members: dict[str, list[Document]] = {study_uid: [] for study_uid in study_uids}
    async for row in db.series.find({"study_uid": {"$in": study_uids}}, _MEMBER, session=session):
        members[row["study_uid"]].append(row)
    studies: list[Any] = []
    for study_uid, series in members.items():
        await asyncio.sleep(0)
        if series:
            row = _study(scheme, study_uid, series) | {"version": version}
            studies.append(ReplaceOne({"_id": study_uid}, row, upsert=True))
        else:
            studies.append(DeleteOne({"_id": study_uid}))
    await db.studies.bulk_write(studies, ordered=False, session=session)


def _study(scheme: Scheme, study_uid: str, members: list[Document]) -> Document:
    """The row of a study, described by the instance of it that came first."""
    first = min(members, key=lambda member: (member["first"]["at"], member["first"]["uid"]))
    modalities = sorted({modality for member in members for modality in member["keys"].get("00080060", []) if modality})
    classes = sorted({uid for member in members for uid in member["classes"]})
    count = sum(member["instances"] for member in members)
    attributes = first["study"] | {
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00080061": {"vr": "CS", "Value": modalities},
        "00080062": {"vr": "UI", "Value": classes},
        "0020000D": {"vr": "UI", "Value": [study_uid]},
        "00201206": {"vr": "IS", "Value": [len(members)]},
        "00201208": {"vr": "IS", "Value": [count]},
    }
    keys = scheme.search_keys(attributes, Level.STUDY)
    return {
        "attributes": attributes,
        "item": items.ready(Level.STUDY, attributes, Resource(study_uid)),
        "keys": keys,
        "sort": keys["00080020"][0] + keys["00080030"][0],
        "instances": count,
        "size": sum(member["size"] for member in members),
        "first": first["first"],
        "scheme": scheme.id,
    }
