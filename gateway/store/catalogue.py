"""The catalogue, on MongoDB: one row an instance is the only truth; studies and series are derived from rows.

Collections: `instances` (the rows), `series` and `studies` (derived), `changes` (the ordered change feed), `tombstones`
(what was deleted), `counters`, `metadata` (ready DICOM JSON of a series). To store is one insert of rows; the feed and
what is derived follow before anybody reads them, see `arrivals.py`. To delete or replace is a transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from dicomweb.errors import Gone, NotFound
from dicomweb.ports import StoredInstance
from dicomweb.resource import Level, Resource
from gateway.store import arrivals, changes, derived, driver
from gateway.store.arrivals import FEED, Overtaken, Position, Stream
from gateway.store.changes import MAX_RECORDED
from gateway.store.generations import Generations
from gateway.store.retrieval import Retrieval, selector
from gateway.store.row_writer import InstanceRow, RowWriter
from gateway.store.scheme import DERIVATION, Scheme
from gateway.store.turn import Turn


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a row: new, the same as one that is there, or in conflict with it.

    `superseded` is the object key of the instance that a replacing row took the place of.
    """

    status: str
    superseded: str | None = None


class Catalogue:
    """Rows in, rows out. Belongs to the event loop that made it.

    While it holds the `turn`, no other process of this machine deletes or replaces; `generations` tell what may be
    remembered.
    """

    def __init__(
        self,
        connection: driver.Connection,
        database: str,
        *,
        replace: bool = False,
        turn: Turn | None = None,
        scheme: Scheme | None = None,
        generations: Generations | None = None,
    ) -> None:
        self.connection = connection
        self.client = connection.client
        self.db = driver.database(connection.client, database)
        self.generations = generations or Generations()
        self._replace = replace
        self._turn = turn or Turn()
        #: How rows are searched.
        self.scheme = scheme or Scheme()
        self._retrieval = Retrieval(self.db.instances, self.generations)
        blocking = driver.database(connection.blocking, database)
        self._writer = RowWriter(blocking, self.generations, self.scheme.id)
        self._replaced_stream = Stream(blocking)
        #: The numbers of all studies when what is derived was last known to be complete.
        self._complete = b""
        self._completing = asyncio.Lock()
        #: How many have asked for that, and how many of the first of them have it.
        self._asking = self._served = 0

    async def start(self) -> None:
        """Create the indexes; raise CatalogueUnavailable."""
        async with driver.wrapped():
            for name, indexes in _INDEXES.items():
                await self.db[name].create_indexes(indexes + key_indexes(self.scheme, name, extra=False))
            scheme = {"derivation": DERIVATION, "keys": self.scheme.names}
            await self.db.schemes.update_one({"_id": self.scheme.id}, {"$setOnInsert": scheme}, upsert=True)
            await self.db.counters.update_one(FEED, {"$setOnInsert": {"value": 0}}, upsert=True)

    async def settle(self) -> None:
        """Have writes ended of which nobody knows how: once a later one is durable, they are too, or never will be.

        Until then nothing is remembered of what they may have changed.
        """
        if self.generations.unsettled():
            async with driver.wrapped():
                with self.generations.settling():
                    await self.db.counters.update_one({"_id": "settled"}, {"$inc": {"value": 1}}, upsert=True)

    async def ping(self) -> None:
        """Raise CatalogueUnavailable if the catalogue does not answer."""
        async with driver.wrapped():
            await self.client.admin.command("ping")

    async def close(self) -> None:
        """Finish what is in flight."""
        await self._retrieval.settle()

    def insert(self, row: InstanceRow) -> Added | None:
        """Commit a new row durably, from a worker thread; None if that is for `add` to decide."""
        return Added("new") if self._writer.insert(row) else None

    async def add(self, row: InstanceRow) -> Added:
        """Commit a row durably, if it is new or may replace the one that is there."""
        fields = dict.fromkeys(("digest", "stored_digest", "key", "study_uid", "series_uid", "arrival"), 1)
        async with driver.wrapped():
            while True:
                # before the row: whatever happens to that afterwards is noticed
                position = await Position.read(self.db) if self._replace else None
                present = await self.db.instances.find_one({"_id": row.instance_uid}, fields)
                if present is None:
                    if await asyncio.to_thread(self._writer.insert, row):
                        return Added("new")
                elif present["key"] == row.key:  # a commit whose answer was lost had been made
                    return Added("new")
                elif _same(row, present):
                    return Added("same")
                elif position is None:
                    return Added("conflict")
                elif await self._replaced(position, row, present):
                    return Added("new", present["key"])

    async def holds(self, instance: Resource, *digests: bytes) -> bool:
        """Whether an instance is stored of which one of these is the sameness of what was received or is kept."""
        async with driver.wrapped():
            fields = dict.fromkeys(("digest", "stored_digest"), 1)
            present = await self.db.instances.find_one({"_id": instance.instance_uid}, fields)
        return present is not None and not {present["digest"], present["stored_digest"]}.isdisjoint(digests)

    async def instances(self, resource: Resource) -> list[StoredInstance]:
        """All instances of a resource by series and instance number; raise NotFound or Gone."""
        return await self._retrieval.find(resource) or await self.raise_missing(resource)

    async def raise_missing(self, resource: Resource) -> NoReturn:
        """Of a resource that has no rows, raise Gone if it, or anything of it, was deleted, else NotFound."""
        name = resource.level.name.lower()
        async with driver.wrapped():
            if await self.db.tombstones.find_one(selector(resource)):
                raise Gone(f"The {name} was deleted.")
        raise NotFound(f"There is no such {name}.")

    async def complete(self, study_uid: str | None = None) -> None:
        """Have all that was acknowledged before in what is derived, at least of a study, and in the change feed.

        Most often the generations tell without asking MongoDB that it is.
        """
        if self.generations.unchanged(self._complete, study_uid):
            return
        self._asking = number = self._asking + 1
        async with self._completing:
            # by who held the lock, if it began after this had asked: a crowd waits for one, not in a queue
            if number <= self._served or self.generations.unchanged(self._complete, study_uid):
                return
            asking, before = self._asking, self.generations.snapshot()
            await arrivals.catch_up(self.db, self.scheme)
            self._served, self._complete = asking, before

    @asynccontextmanager
    async def changing(self, study_uids: Iterable[str]) -> AsyncIterator[None]:
        """A block that changes rows of these studies; an exception that leaves it leaves open whether it did."""
        async with self._turn.taken():
            with self.generations.writing(study_uids):
                yield

    async def delete(self, resource: Resource) -> list[str]:
        """Delete all rows of a resource, leaving tombstones; return the object keys that are now unreferenced."""
        keys: list[str] = []
        fields = {"key": 1, "study_uid": 1, "series_uid": 1, "arrival": 1}
        async with driver.wrapped():
            while True:
                position = await Position.read(self.db)
                batch = await self.db.instances.find(selector(resource), fields, limit=MAX_RECORDED).to_list(None)
                if not batch:
                    break
                followed = [document for document in batch if not position.is_behind(document)]
                if not followed:  # else those first: while others store there are always some that are not
                    await arrivals.catch_up(self.db, self.scheme)
                elif await self._deleted(position, followed):
                    keys += [document["key"] for document in followed]
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
        await self.complete(study_uid)
        async with driver.wrapped():
            found = await self.db.series.find({"study_uid": study_uid}).sort("series_uid", ASCENDING).to_list(None)
        return [
            {
                "SeriesInstanceUID": series["series_uid"],
                "Modality": _first(series["attributes"], "00080060"),
                "SeriesDescription": _first(series["attributes"], "0008103E"),
                "BodyPartExamined": _first(series["attributes"], "00180015"),
                "ImageType": series["image_type"],
                "SOPClassUIDs": series["classes"],
                "SOPClassUID": series["classes"][0],
                "instances": series["instances"],
            }
            for series in found
        ]

    async def _replaced(self, position: Position, row: InstanceRow, present: dict[str, Any]) -> bool:
        """Replace a row, which is recorded as deleted, as it may have been of another study; False to look again."""

        async def work(session: Any) -> None:
            await self._remove(position, [present], session)
            await self.db.instances.insert_one(document, session=session)

        if position.is_behind(present):
            await arrivals.catch_up(self.db, self.scheme)
            return False
        async with self.changing({row.study_uid, present["study_uid"]}):
            (number,) = await asyncio.to_thread(self._replaced_stream.numbers, 1)
            document = row.document(number, datetime.now(UTC), self.scheme.id)
            try:
                await driver.transaction(self.client, work)
            except (Overtaken, DuplicateKeyError):
                return False
            except BaseException:
                self._replaced_stream.end()
                raise
        return True

    async def _deleted(self, position: Position, batch: list[dict[str, Any]]) -> bool:
        """Delete rows in one transaction; False if the catalogue changed meanwhile."""

        async def work(session: Any) -> None:
            await self._remove(position, batch, session)
            gone = {"_id": {"$in": [document["_id"] for document in batch]}}
            await self.db.tombstones.delete_many(gone, session=session)
            fields = ("_id", "study_uid", "series_uid")
            tombstones = [{name: document[name] for name in fields} | {"at": datetime.now(UTC)} for document in batch]
            await self.db.tombstones.insert_many(tombstones, session=session)

        async with self.changing({document["study_uid"] for document in batch}):
            try:
                await driver.transaction(self.client, work)
            except Overtaken:
                return False
            return True

    async def _remove(self, position: Position, rows: list[dict[str, Any]], session: Any) -> None:
        """Remove rows, record it, and derive what they were part of."""
        await position.move(self.db, session, len(rows))
        await self.db.instances.delete_many({"_id": {"$in": [row["_id"] for row in rows]}}, session=session)
        document = changes.record(position.number + 1, "deleted", rows, datetime.now(UTC))
        await self.db.changes.insert_one(document, session=session)
        await derived.derive(self.db, self.scheme, changes.series_of(rows), document["last"], session)


def _same(row: InstanceRow, present: dict[str, Any]) -> bool:
    """Whether a row brings nothing new: the same was received, what was retrieved came back, or it is stored alike."""
    return row.digest in (present["digest"], present["stored_digest"]) or row.stored_digest == present["stored_digest"]


def _first(attributes: dict[str, Any], tag: str) -> str:
    values = (attributes or {}).get(tag, {}).get("Value") or [""]
    return str(values[0])


def key_indexes(scheme: Scheme, collection: str, *, extra: bool) -> list[IndexModel]:
    """The indexes of search keys: of the standard's, or of those that were declared. They end in the order of answers,
    so that those who have one value of a key are found in it.
    """
    level = {"studies": Level.STUDY, "series": Level.SERIES, "instances": Level.INSTANCE}.get(collection)
    fields = scheme.indexed(level, extra=extra) if level is not None else ()
    order = [("sort", DESCENDING), ("_id", ASCENDING)] if level is Level.STUDY else [("_id", ASCENDING)]
    return [IndexModel([(field, ASCENDING), *order]) for field in fields]


_INDEXES: dict[str, list[IndexModel]] = {
    "instances": [  # each costs every store
        IndexModel([("study_uid", ASCENDING), ("series_uid", ASCENDING), ("number", ASCENDING), ("_id", ASCENDING)]),
        IndexModel([("arrival", ASCENDING)]),
        IndexModel([("key", ASCENDING)]),
        IndexModel([("scheme", ASCENDING)]),
    ],
    "series": [
        IndexModel([("study_uid", ASCENDING), ("series_uid", ASCENDING)], unique=True),
        IndexModel([("series_uid", ASCENDING)]),
        IndexModel([("scheme", ASCENDING)]),
    ],
    "studies": [
        IndexModel([("sort", DESCENDING), ("_id", ASCENDING)]),
        IndexModel([("scheme", ASCENDING)]),
    ],
    "tombstones": [IndexModel([("study_uid", ASCENDING), ("series_uid", ASCENDING)])],
    "metadata": [IndexModel([("key", ASCENDING)], sparse=True)],
}
