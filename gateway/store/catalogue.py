"""The catalogue, on MongoDB: one row an instance is the only truth; studies and series are derived from rows.

Collections: `instances` (the rows), `series` and `studies` (derived, marked stale by every write), `changes` (the
ordered change feed), `tombstones` (what was deleted), `counters`, `metadata` (ready DICOM JSON of a series).
A write is one transaction: rows, change numbers and stale marks appear together or not at all, in commit order.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn

from bson import Binary
from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne
from pymongo.errors import BulkWriteError, ConnectionFailure, DuplicateKeyError

from dicomweb.errors import Gone, NotFound
from dicomweb.pixels.frames import FrameTable
from dicomweb.ports import StoredInstance
from dicomweb.remembered import Remembered
from dicomweb.resource import Level, Resource
from gateway.store import driver
from gateway.store.generations import Generations
from gateway.store.scheme import DERIVATION, Scheme

#: Rows that one transaction deletes: it stays far below MongoDB's limits of time and size.
_DELETE_BATCH = 500
_MAX_FLUSH = 256
#: Instances that are remembered for the next retrieval, about 600 bytes each.
_REMEMBERED = 20_000
#: MongoDB's code of a violated unique index.
DUPLICATE_KEY = 11000


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """An instance as the catalogue keeps it.

    `digest` is the sameness of what was received, `stored_digest` of what is kept, `checksum` of the whole stored file;
    `keys` and `attributes` come from `scheme.py`, `json_gzip` is the compressed DICOM JSON.
    """

    study_uid: str
    series_uid: str
    instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    key: str
    size: int
    checksum: bytes
    digest: bytes
    stored_digest: bytes
    frames: FrameTable
    pixel_offset: int
    keys: dict[str, Any]
    attributes: dict[str, Any]
    json_gzip: bytes
    source: str

    def document(self, seq: int, at: datetime) -> dict[str, Any]:
        """The document of the row."""
        fields = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        fields["frames"] = Binary(self.frames.pack())
        fields["_id"] = fields.pop("instance_uid")
        return fields | {"seq": seq, "at": at, "number": _instance_number(self.attributes)}


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a row: new, the same as one that is there, or in conflict with it.

    `superseded` is the object key of the instance that a replacing row took the place of.
    """

    status: str
    superseded: str | None = None


def stored_instance(document: dict[str, Any]) -> StoredInstance:
    """Read a row as what retrieval needs."""
    return StoredInstance(
        study_uid=document["study_uid"],
        series_uid=document["series_uid"],
        instance_uid=document["_id"],
        sop_class_uid=document["sop_class_uid"],
        transfer_syntax_uid=document["transfer_syntax_uid"],
        key=document["key"],
        size=document["size"],
        etag=document["checksum"].hex()[:32],
        frames=FrameTable.unpack(document["frames"]),
        pixel_offset=document["pixel_offset"],
    )


#: The part of a row that `stored_instance` reads.
RETRIEVAL = dict.fromkeys(
    "study_uid series_uid sop_class_uid transfer_syntax_uid key size checksum frames pixel_offset".split(), 1
)


class Catalogue:
    """Rows in, rows out. Belongs to the event loop that made it.

    `turn` gives a block in which other processes of this machine do not commit, see `turn.py`; `generations` tell what
    may be remembered of it, see `generations.py`.
    """

    def __init__(
        self,
        client: Any,
        database: str,
        *,
        replace: bool = False,
        turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        scheme: Scheme | None = None,
        generations: Generations | None = None,
    ) -> None:
        self.client = client
        self.db = driver.database(client, database)
        self.generations = generations or Generations()
        self._replace = replace
        self._turn = turn
        #: How rows are searched.
        self.scheme = scheme or Scheme()
        self._remembered: Remembered[list[StoredInstance]] = Remembered(_REMEMBERED)
        self._waiting: list[tuple[InstanceRow, asyncio.Future[Added]]] = []
        self._flusher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Create the indexes; raise CatalogueUnavailable."""
        async with driver.wrapped():
            for name, indexes in _INDEXES.items():
                await self.db[name].create_indexes(indexes + key_indexes(self.scheme, name, extra=False))
            scheme = {"derivation": DERIVATION, "keys": self.scheme.names}
            await self.db.schemes.update_one({"_id": self.scheme.id}, {"$setOnInsert": scheme}, upsert=True)
            await self.db.counters.update_one({"_id": "changes"}, {"$setOnInsert": {"value": 0}}, upsert=True)

    async def ping(self) -> None:
        """Raise CatalogueUnavailable if the catalogue does not answer."""
        async with driver.wrapped():
            await self.client.admin.command("ping")

    async def close(self) -> None:
        """Finish the writes in flight."""
        if self._flusher is not None:
            await self._flusher

    async def add(self, row: InstanceRow) -> Added:
        """Commit a row durably. Rows that arrive while one commit runs share the next."""
        future: asyncio.Future[Added] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, future))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush_all(), name="catalogue-flush")
        return await asyncio.shield(future)

    async def instances(self, resource: Resource) -> list[StoredInstance]:
        """All instances of a resource by series and instance number; raise NotFound or Gone."""
        generation = self.generations.of(resource.study_uid)
        known = self._remembered.get(resource, generation)
        if known is not None:
            return known
        async with driver.wrapped():
            cursor = self.db.instances.find(selector(resource), RETRIEVAL | {"number": 1})
            order = [("series_uid", ASCENDING), ("number", ASCENDING), ("_id", ASCENDING)]
            found = await cursor.sort(order).to_list(None)
        if not found:
            await self.raise_missing(resource)
        instances = [stored_instance(document) for document in found]
        self._remembered.put(resource, generation, instances, sum(map(_weight, instances)))
        return instances

    async def raise_missing(self, resource: Resource) -> NoReturn:
        """Raise Gone if the resource, or anything of it, was deleted, else NotFound."""
        name = resource.level.name.lower()
        async with driver.wrapped():
            if await self.db.tombstones.find_one(selector(resource)):
                raise Gone(f"The {name} was deleted.")
        raise NotFound(f"There is no such {name}.")

    async def delete(self, resource: Resource) -> list[str]:
        """Delete all rows of a resource, leaving tombstones; return the object keys that are now unreferenced."""
        keys: list[str] = []
        while batch := await self._find(selector(resource), {"key": 1, "study_uid": 1, "series_uid": 1}, _DELETE_BATCH):
            await self._delete_batch(batch)
            keys += [document["key"] for document in batch]
        if not keys:
            await self.raise_missing(resource)
        return keys

    async def referenced(self, keys: Sequence[str]) -> set[str]:
        """Which of these object keys a row, a mesh or ready metadata refers to."""
        found: set[str] = set()
        async with driver.wrapped():
            for name, field in (("instances", "key"), ("metadata", "key"), ("meshes", "objects")):
                found.update(await self.db[name].distinct(field, {field: {"$in": list(keys)}}))
        return found

    async def count(self) -> int:
        """How many instances are stored."""
        async with driver.wrapped():
            return int(await self.db.instances.count_documents({}))

    async def series_summary(self, study_uid: str) -> list[dict[str, Any]]:
        """For each series what decides whether a plugin accepts it: modality, class, instances and the like."""
        grouped = await self._grouped(study_uid)
        return [
            {
                "SeriesInstanceUID": group["_id"],
                "Modality": _first(group["series"], "00080060"),
                "SeriesDescription": _first(group["series"], "0008103E"),
                "BodyPartExamined": _first(group["series"], "00180015"),
                "ImageType": (group["instance"].get("00080008") or {}).get("Value", []),
                "SOPClassUIDs": sorted(group["classes"]),
                "SOPClassUID": min(group["classes"]),
                "instances": group["count"],
            }
            for group in grouped
        ]

    async def _grouped(self, study_uid: str) -> list[dict[str, Any]]:
        async with driver.wrapped():
            return await driver.aggregate(
                self.db.instances,
                [
                    {"$match": {"study_uid": study_uid}},
                    {"$sort": {"series_uid": 1, "seq": 1}},
                    {
                        "$group": {
                            "_id": "$series_uid",
                            "series": {"$first": "$attributes.series"},
                            "instance": {"$first": "$attributes.instance"},
                            "classes": {"$addToSet": "$sop_class_uid"},
                            "count": {"$sum": 1},
                        }
                    },
                    {"$sort": {"_id": 1}},
                ],
            )

    async def _find(self, condition: dict[str, Any], fields: dict[str, int], limit: int) -> list[dict[str, Any]]:
        async with driver.wrapped():
            found: list[dict[str, Any]] = await self.db.instances.find(condition, fields, limit=limit).to_list(None)
            return found

    async def _flush_all(self) -> None:
        """Commit what is waiting, group by group, until nothing is."""
        try:
            while self._waiting:
                async with self._turn():  # what arrives while others commit joins the group
                    group, self._waiting = self._waiting[:_MAX_FLUSH], self._waiting[_MAX_FLUSH:]
                    await self._flush(group)
        except Exception as exc:  # noqa: BLE001 - no turn could be had: nobody may wait for ever
            unserved, self._waiting = self._waiting, []
            _fail(unserved, exc)
        finally:
            self._flusher = None

    async def _flush(self, group: list[tuple[InstanceRow, asyncio.Future[Added]]]) -> None:
        try:
            outcomes = await self._commit([row for row, _ in group])
        except Exception as exc:  # noqa: BLE001 - each waiter gets the failure, the flusher goes on
            if len(group) > 1 and not isinstance(exc.__cause__, ConnectionFailure):
                for one in group:  # what one row is at fault for is no failure of the others
                    await self._flush([one])
                return
            _fail(group, exc)
        else:
            for (_, future), outcome in zip(group, outcomes, strict=True):
                if not future.done():
                    future.set_result(outcome)

    async def _commit(self, rows: list[InstanceRow]) -> list[Added]:
        """Decide what is new and write it; decide again if another process wrote one of the rows meanwhile."""
        async with driver.wrapped():
            # most rows are new: write first, and look only if one is not
            known = await self._known(rows) if self._replace else {}
            while True:
                outcomes, new = self._decide(rows, known)
                if not new:
                    return outcomes
                moved = [known[row.instance_uid] for row in new if row.instance_uid in known]
                if await self._written(new, moved):
                    return outcomes
                known = await self._known(rows)

    async def _written(self, new: list[InstanceRow], moved: list[dict[str, Any]]) -> bool:
        """Write rows in one transaction; whether no other process had written one of them."""
        studies = [row.study_uid for row in new] + [document["study_uid"] for document in moved]
        with self.generations.writing(studies):
            try:
                await driver.transaction(self.client, partial(self._write, new, moved))
            except (DuplicateKeyError, BulkWriteError) as exc:
                if not _is_duplicate(exc):
                    raise
                return False
        return True

    async def _known(self, rows: list[InstanceRow]) -> dict[str, dict[str, Any]]:
        """What the catalogue holds under the UIDs of these rows."""
        condition = {"_id": {"$in": [row.instance_uid for row in rows]}}
        fields = dict.fromkeys(("digest", "stored_digest", "key", "study_uid", "series_uid"), 1)
        cursor = self.db.instances.find(condition, fields)
        return {document["_id"]: document async for document in cursor}

    def _decide(
        self, rows: list[InstanceRow], known: Mapping[str, dict[str, Any]]
    ) -> tuple[list[Added], list[InstanceRow]]:
        """The outcome of each row, and the rows to write. The first of several with one UID wins."""
        known = dict(known)
        outcomes: list[Added] = []
        new: list[InstanceRow] = []
        for row in rows:
            present = known.get(row.instance_uid)
            if present is not None and present["key"] == row.key:  # a commit whose answer was lost had been made
                outcomes.append(Added("new"))
            elif present is not None and _same(row, present):
                outcomes.append(Added("same"))
            elif present is not None and not self._replace:
                outcomes.append(Added("conflict"))
            else:
                outcomes.append(Added("new", present["key"] if present else None))
                new = [other for other in new if other.instance_uid != row.instance_uid] + [row]
                known[row.instance_uid] = {
                    "digest": row.digest, "stored_digest": row.stored_digest, "key": row.key,
                }  # fmt: skip
        return outcomes, new

    async def _write(self, rows: list[InstanceRow], replaced: list[dict[str, Any]], session: Any) -> None:
        """Insert rows; what they replace is recorded as deleted, as it may have been of another study."""
        at = datetime.now(UTC)
        last = await self._number(session, len(replaced) + len(rows))
        first = last - len(replaced) - len(rows) + 1
        if replaced:
            gone = [document | {"seq": seq} for seq, document in enumerate(replaced, first)]
            await self.db.instances.delete_many({"_id": {"$in": [one["_id"] for one in gone]}}, session=session)
            await self._record(session, gone, "deleted", at)
        scheme = {"scheme": self.scheme.id}
        documents = [row.document(seq, at) | scheme for seq, row in enumerate(rows, first + len(replaced))]
        await self.db.instances.insert_many(documents, session=session)
        await self._record(session, documents, "stored", at)
        await self.db.tombstones.delete_many({"_id": {"$in": [row.instance_uid for row in rows]}}, session=session)

    async def _delete_batch(self, batch: list[dict[str, Any]]) -> None:
        async def work(session: Any) -> None:
            last = await self._number(session, len(batch))
            at = datetime.now(UTC)
            numbered = [document | {"seq": last - len(batch) + 1 + index} for index, document in enumerate(batch)]
            gone = {"_id": {"$in": [document["_id"] for document in batch]}}
            await self.db.instances.delete_many(gone, session=session)
            await self._record(session, numbered, "deleted", at)
            await self.db.tombstones.delete_many(gone, session=session)
            fields = ("_id", "study_uid", "series_uid")
            tombstones = [{name: document[name] for name in fields} | {"at": at} for document in batch]
            await self.db.tombstones.insert_many(tombstones, session=session)

        async with driver.wrapped(), self._turn():
            with self.generations.writing({document["study_uid"] for document in batch}):
                await driver.transaction(self.client, work)

    async def _number(self, session: Any, count: int) -> int:
        """Take `count` change numbers. The counter makes writers of all processes commit one after the other."""
        counter = await self.db.counters.find_one_and_update(
            {"_id": "changes"}, {"$inc": {"value": count}}, upsert=True, return_document=True, session=session
        )
        return int(counter["value"])

    async def _record(self, session: Any, documents: list[dict[str, Any]], action: str, at: datetime) -> None:
        """Append to the change feed and mark as stale what is derived from the changed rows."""
        await self.db.changes.insert_many(
            [
                {
                    "_id": document["seq"], "action": action, "study": document["study_uid"],
                    "series": document["series_uid"], "instance": document["_id"], "at": at,
                }
                for document in documents
            ],
            session=session,
        )  # fmt: skip
        series = {(document["study_uid"], document["series_uid"]): document["seq"] for document in documents}
        studies = {document["study_uid"]: document["seq"] for document in documents}
        await self.db.series.bulk_write(
            [
                UpdateOne(
                    {"_id": f"{study}/{uid}"},
                    {"$set": {"study_uid": study, "series_uid": uid, "version": seq, "stale": True}},
                    upsert=True,
                )
                for (study, uid), seq in sorted(series.items())
            ],
            session=session,
        )
        await self.db.studies.bulk_write(
            [
                UpdateOne({"_id": study}, {"$set": {"version": seq, "stale": True}}, upsert=True)
                for study, seq in sorted(studies.items())
            ],
            session=session,
        )


def _fail(group: list[tuple[InstanceRow, asyncio.Future[Added]]], exc: Exception) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(exc)


def _is_duplicate(exc: DuplicateKeyError | BulkWriteError) -> bool:
    """Whether another writer was faster, and nothing else went wrong."""
    errors = (exc.details or {}).get("writeErrors", []) if isinstance(exc, BulkWriteError) else []
    return all(error.get("code") == DUPLICATE_KEY for error in errors)


def _same(row: InstanceRow, present: dict[str, Any]) -> bool:
    """Whether a row brings nothing new: the same was received, what was retrieved came back, or it is stored alike."""
    return row.digest in (present["digest"], present["stored_digest"]) or row.stored_digest == present["stored_digest"]


def selector(resource: Resource) -> dict[str, Any]:
    """The condition that selects the rows of a resource."""
    if resource.level is Level.INSTANCE:
        return {"_id": resource.instance_uid, "study_uid": resource.study_uid, "series_uid": resource.series_uid}
    condition = {"study_uid": resource.study_uid}
    return condition if resource.series_uid is None else condition | {"series_uid": resource.series_uid}


def _weight(instance: StoredInstance) -> int:
    return 1 + len(instance.frames.lengths) // 64


def _first(attributes: dict[str, Any], tag: str) -> str:
    values = (attributes or {}).get(tag, {}).get("Value") or [""]
    return str(values[0])


def _instance_number(attributes: dict[str, Any]) -> int:
    """InstanceNumber for sorting; instances without one come last."""
    value = (attributes["instance"].get("00200013", {}).get("Value") or [None])[0]
    try:
        return int(value)
    except (TypeError, ValueError):
        return 1 << 31


def key_indexes(scheme: Scheme, collection: str, *, extra: bool) -> list[IndexModel]:
    """The indexes of search keys: of the standard's, or of those that were declared."""
    level = {"studies": Level.STUDY, "series": Level.SERIES, "instances": Level.INSTANCE}.get(collection)
    fields = scheme.indexed(level, extra=extra) if level is not None else ()
    order = {True: [("sort", DESCENDING), ("_id", ASCENDING)], False: [("_id", ASCENDING)]}
    return [IndexModel([(field, ASCENDING), *order[field.endswith("s")]]) for field in fields]


_INDEXES: dict[str, list[IndexModel]] = {
    "instances": [
        IndexModel([("study_uid", ASCENDING), ("series_uid", ASCENDING), ("number", ASCENDING), ("_id", ASCENDING)]),
        IndexModel([("study_uid", ASCENDING), ("series_uid", ASCENDING), ("seq", ASCENDING)]),
        IndexModel([("key", ASCENDING)], unique=True),
        IndexModel([("scheme", ASCENDING)]),
    ],
    "series": [
        IndexModel([("study_uid", ASCENDING), ("series_uid", ASCENDING)], unique=True),
        IndexModel([("series_uid", ASCENDING)]),
        IndexModel([("stale", ASCENDING)], partialFilterExpression={"stale": True}),
        IndexModel([("scheme", ASCENDING)]),
    ],
    "studies": [
        IndexModel([("stale", ASCENDING)], partialFilterExpression={"stale": True}),
        IndexModel([("sort", DESCENDING), ("_id", ASCENDING)]),
        IndexModel([("scheme", ASCENDING)]),
    ],
    "tombstones": [IndexModel([("study_uid", ASCENDING), ("series_uid", ASCENDING)])],
    "changes": [IndexModel([("study", ASCENDING), ("_id", ASCENDING)])],
    "metadata": [IndexModel([("key", ASCENDING)], sparse=True)],
}
