"""The catalogue, on MongoDB: one row an instance is the only truth; studies and series are derived from rows.

Collections: `instances` (the rows), `series` and `studies` (derived), `changes` (the ordered change feed), `tombstones`
(what was deleted), `counters`, `metadata` (ready DICOM JSON of a series). To store is one insert of rows; the feed and
what is derived follow before anybody reads them, see `arrivals.py`. To delete or replace is a transaction.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import BulkWriteError, ConnectionFailure

from dicomweb.errors import Gone, NotFound
from dicomweb.pixels.frames import FrameTable
from dicomweb.ports import StoredInstance
from dicomweb.remembered import Remembered
from dicomweb.resource import Level, Resource
from gateway.store import arrivals, changes, derived, driver
from gateway.store.arrivals import FEED, Overtaken, Position, Stream
from gateway.store.changes import MAX_RECORDED
from gateway.store.generations import Generations
from gateway.store.scheme import DERIVATION, Scheme

_MAX_FLUSH = 256
#: Rows that are read in one piece: a thousand hold the event loop for ten milliseconds.
_BATCH = 250
#: Instances that are remembered for the next retrieval, about 600 bytes each.
_REMEMBERED = 20_000
#: Instances of one series that are read at once.
_SIBLINGS = 1000
#: MongoDB's code of a violated unique index.
DUPLICATE_KEY = 11000


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """An instance as the catalogue keeps it.

    `digest` is the sameness of what was received, `stored_digest` of what is kept, `checksum` of the whole stored file;
    `keys` come from `scheme.py`, `number` and `item`, the text of a search result, from `items.py`; `json_gzip` is the
    compressed DICOM JSON.
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
    number: int
    item: bytes
    json_gzip: bytes
    source: str

    def document(self, arrival: int, at: datetime, scheme_id: str) -> dict[str, Any]:
        """The document of the row."""
        fields = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        fields["_id"] = fields.pop("instance_uid")
        return fields | {"frames": self.frames.pack(), "arrival": arrival, "at": at, "scheme": scheme_id}


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
        self._asked: Remembered[int] = Remembered(_REMEMBERED // _SIBLINGS)
        self._stream = Stream(self.db)
        #: The numbers of all studies when what is derived was last known to be complete.
        self._complete = b""
        self._completing = asyncio.Lock()
        #: How many have asked for that, and how many of the first of them have it.
        self._asking = self._served = 0
        self._waiting: list[tuple[InstanceRow, asyncio.Future[Added]]] = []
        self._flusher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Create the indexes; raise CatalogueUnavailable."""
        async with driver.wrapped():
            for name, indexes in _INDEXES.items():
                await self.db[name].create_indexes(indexes + key_indexes(self.scheme, name, extra=False))
            scheme = {"derivation": DERIVATION, "keys": self.scheme.names}
            await self.db.schemes.update_one({"_id": self.scheme.id}, {"$setOnInsert": scheme}, upsert=True)
            await self.db.counters.update_one(FEED, {"$setOnInsert": {"value": 0}}, upsert=True)

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
        if resource.level is Level.INSTANCE and self._is_second(resource, generation):
            return await self._with_siblings(resource, generation)
        async with driver.wrapped():
            order = [("series_uid", ASCENDING), ("number", ASCENDING), ("_id", ASCENDING)]
            cursor = self.db.instances.find(selector(resource), RETRIEVAL, sort=order, batch_size=_BATCH)
            instances: list[StoredInstance] = []
            while batch := await cursor.to_list(_BATCH):
                instances += map(stored_instance, batch)
        if not instances:
            await self.raise_missing(resource)
        self._remembered.put(resource, generation, instances, sum(map(_weight, instances)))
        return instances

    def _is_second(self, resource: Resource, generation: int | None) -> bool:
        """Whether this is the second instance of its series that has to be asked for: the others follow."""
        series = resource.study_uid, resource.series_uid
        times = (self._asked.get(series, generation) or 0) + 1
        self._asked.put(series, generation, times, 1)
        return times == 2 and generation is not None

    async def _with_siblings(self, resource: Resource, generation: int | None) -> list[StoredInstance]:
        """An instance, and with it the next of its series, in one question: each takes 0.05 ms then and not 0.6."""
        async with driver.wrapped():
            series = selector(Resource(resource.study_uid, resource.series_uid))
            cursor = self.db.instances.find(series, RETRIEVAL, limit=_SIBLINGS, batch_size=_BATCH)
            while batch := await cursor.to_list(_BATCH):
                for instance in map(stored_instance, batch):
                    self._remembered.put(instance.resource, generation, [instance], _weight(instance))
        return await self.instances(resource)

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
        async with self._turn():
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
        """Decide what is new and write it; decide again if one of the rows was there before."""
        async with driver.wrapped():
            # most rows are new: write first, and look only if one is not
            known = await self._known(rows) if self._replace else {}
            while True:
                outcomes, new = self._decide(rows, known)
                if not new:
                    return outcomes
                moved = [known[row.instance_uid] for row in new if row.instance_uid in known]
                studies = [row.study_uid for row in new] + [document["study_uid"] for document in moved]
                with self.generations.writing(studies):
                    documents = await self._documents(new)
                    if await (self._replaced(documents, moved) if moved else self._inserted(documents)):
                        return outcomes
                known = await self._known(rows)

    async def _documents(self, rows: list[InstanceRow]) -> list[dict[str, Any]]:
        """The documents of rows, numbered in the order in which they are to be inserted."""
        at = datetime.now(UTC)
        numbers = await self._stream.numbers(len(rows))
        return [row.document(number, at, self.scheme.id) for number, row in zip(numbers, rows, strict=True)]

    async def _inserted(self, documents: list[dict[str, Any]]) -> bool:
        """Insert rows in their order; False if one was there: those after it are not inserted."""
        try:
            await self.db.instances.insert_many(documents)
        except BaseException as exc:
            if isinstance(exc, BulkWriteError) and _is_duplicate(exc):
                return False
            self._stream.end()
            raise
        return True

    async def _replaced(self, documents: list[dict[str, Any]], moved: list[dict[str, Any]]) -> bool:
        """Replace rows, which are recorded as deleted, as they may have been of another study; False to look again."""

        async def work(session: Any) -> None:
            await self._remove(position, moved, session)
            await self.db.instances.insert_many(documents, session=session)

        position = await Position.read(self.db)
        if any(map(position.is_behind, moved)):
            await arrivals.catch_up(self.db, self.scheme)
            return False
        try:
            await driver.transaction(self.client, work)
        except Overtaken:
            return False
        except BaseException as exc:
            if isinstance(exc, BulkWriteError) and _is_duplicate(exc):
                return False
            self._stream.end()
            raise
        return True

    async def _known(self, rows: list[InstanceRow]) -> dict[str, dict[str, Any]]:
        """What the catalogue holds under the UIDs of these rows."""
        condition = {"_id": {"$in": [row.instance_uid for row in rows]}}
        fields = dict.fromkeys(("digest", "stored_digest", "key", "study_uid", "series_uid", "arrival"), 1)
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


def _fail(group: list[tuple[InstanceRow, asyncio.Future[Added]]], exc: Exception) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(exc)


def _is_duplicate(exc: BulkWriteError) -> bool:
    """Whether another writer was faster, and nothing else went wrong."""
    errors = (exc.details or {}).get("writeErrors", [])
    return bool(errors) and all(error.get("code") == DUPLICATE_KEY for error in errors)


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
