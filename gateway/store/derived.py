"""Series and study rows, derived from instance rows when they are first read after a change.

A derived row says which version it was derived from (`derived`) and which is current (`version`, the number of the
last change). It is replaced only by one derived from a later version, so that late or repeated work cannot harm, and
a reader who refreshes first sees every write that was acknowledged before.
"""

from __future__ import annotations

from typing import Any

from dicomweb.resource import Level
from gateway.store import driver, rows


async def refresh(db: Any, study_uid: str | None = None) -> None:
    """Derive what is stale, of one study or of all."""
    condition: dict[str, Any] = {"stale": True} if study_uid is None else {"_id": study_uid, "stale": True}
    async with driver.wrapped():
        async for study in db.studies.find(condition, {"version": 1}):
            await _refresh_study(db, study["_id"], study["version"])


async def _refresh_study(db: Any, study_uid: str, version: int) -> None:
    """Derive the stale series of a study, then the study; what changes meanwhile leaves it stale for the next one."""
    stale = db.series.find({"study_uid": study_uid, "stale": True}, {"series_uid": 1, "version": 1})
    for series in await stale.to_list(None):
        await _refresh_series(db, study_uid, series)
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
    keys = rows.search_keys(attributes, Level.STUDY)
    fields = {
        "attributes": attributes,
        "keys": keys,
        "sort": keys["00080020"][0] + keys["00080030"][0],
        "instances": count,
        "size": sum(member["size"] for member in members),
        "first": members[0]["first"],
    }
    await _replace(db.studies, study_uid, version, fields)


async def _refresh_series(db: Any, study_uid: str, series: dict[str, Any]) -> None:
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
        "keys": rows.search_keys(attributes, Level.SERIES),
    }
    await _replace(db.series, series["_id"], series["version"], fields)


async def _replace(collection: Any, identity: str, version: int, fields: dict[str, Any]) -> None:
    """Set what was derived from `version`, unless something newer is there; stale stays set if more has changed."""
    values = {name: {"$literal": value} for name, value in fields.items()}
    await collection.update_one(
        {"_id": identity, "$or": [{"derived": {"$exists": False}}, {"derived": {"$lte": version}}]},
        [{"$set": values | {"derived": version, "stale": {"$gt": ["$version", version]}}}],
    )
