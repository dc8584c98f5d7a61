"""Series and study rows, derived from instance rows when they are first read after a change.

A derived row says which version it was derived from (`derived`) and which is current (`version`, the number of the
last change). It is replaced only by one derived from a later version, so that late or repeated work cannot harm, and
a reader who refreshes first sees every write that was acknowledged before.
"""

from __future__ import annotations

from typing import Any

from dicomweb.resource import Level
from gateway.store import driver
from gateway.store.scheme import Scheme

#: What a derivation must know of a row before it starts: `marks` counts the re-derivations of its instances.
_BEFORE = {"series_uid": 1, "version": 1, "marks": 1}


async def refresh(db: Any, scheme: Scheme, study_uid: str | None = None) -> None:
    """Derive what is stale, of one study or of all."""
    condition: dict[str, Any] = {"stale": True} if study_uid is None else {"_id": study_uid, "stale": True}
    async with driver.wrapped():
        async for study in db.studies.find(condition, _BEFORE):
            await _refresh_study(db, scheme, study)


async def _refresh_study(db: Any, scheme: Scheme, study: dict[str, Any]) -> None:
    """Derive the stale series of a study, then the study; what changes meanwhile leaves it stale for the next one."""
    study_uid, version = study["_id"], study["version"]
    stale = db.series.find({"study_uid": study_uid, "stale": True}, _BEFORE)
    for series in await stale.to_list(None):
        await _refresh_series(db, scheme, study_uid, series)
    ready = {"study_uid": study_uid, "derived": {"$exists": True}}
    members = await db.series.find(ready).sort("first", 1).to_list(None)
    if not members:
        await db.studies.delete_one({"_id": study_uid, "version": version})
        return
    modalities = sorted({modality for member in members for modality in member["keys"].get("00080060", []) if modality})
    classes = sorted({uid for member in members for uid in member["classes"]})
    count = sum(member["instances"] for member in members)
    attributes = members[0]["study"] | {
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00080061": {"vr": "CS", "Value": modalities},
        "00080062": {"vr": "UI", "Value": classes},
        "00201206": {"vr": "IS", "Value": [len(members)]},
        "00201208": {"vr": "IS", "Value": [count]},
    }
    keys = scheme.search_keys(attributes, Level.STUDY)
    fields = {
        "attributes": attributes,
        "keys": keys,
        "sort": keys["00080020"][0] + keys["00080030"][0],
        "instances": count,
        "size": sum(member["size"] for member in members),
        "first": members[0]["first"],
        "scheme": scheme.id,
    }
    await _replace(db.studies, study, fields)


async def _refresh_series(db: Any, scheme: Scheme, study_uid: str, series: dict[str, Any]) -> None:
    found = await driver.aggregate(
        db.instances,
        [
            {"$match": {"study_uid": study_uid, "series_uid": series["series_uid"]}},
            {"$sort": {"study_uid": 1, "series_uid": 1, "seq": 1}},
            {
                "$group": {
                    "_id": None,
                    "study": {"$first": "$attributes.study"},
                    "series": {"$first": "$attributes.series"},
                    "first": {"$first": "$seq"},
                    "classes": {"$addToSet": "$sop_class_uid"},
                    "instances": {"$sum": 1},
                    "size": {"$sum": "$size"},
                }
            },
        ],
    )
    if not found:
        await db.series.delete_one({"_id": series["_id"], "version": series["version"]})
        await db.metadata.delete_one({"_id": series["_id"]})
        return
    group = found[0]
    attributes = group["series"] | {
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "0020000D": {"vr": "UI", "Value": [study_uid]},
        "00201209": {"vr": "IS", "Value": [group["instances"]]},
    }
    fields = {name: group[name] for name in ("study", "first", "classes", "instances", "size")} | {
        "attributes": attributes,
        "keys": scheme.search_keys(attributes, Level.SERIES),
        "scheme": scheme.id,
    }
    await _replace(db.series, series, fields)


async def _replace(collection: Any, before: dict[str, Any], fields: dict[str, Any]) -> None:
    """Set what was derived from a row as it was before, unless something newer is there.

    It stays stale if more has changed, or if its instances were re-derived meanwhile.
    """
    version, marks = before["version"], before.get("marks", 0)
    later = [{"$gt": ["$version", version]}, {"$gt": [{"$ifNull": ["$marks", 0]}, marks]}]
    values = {name: {"$literal": value} for name, value in fields.items()}
    await collection.update_one(
        {"_id": before["_id"], "$or": [{"derived": {"$exists": False}}, {"derived": {"$lte": version}}]},
        [{"$set": values | {"derived": version, "stale": {"$or": later}}}],
    )
