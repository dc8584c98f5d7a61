"""The workitems of one database. A change is decided on what was read and written only if nobody was faster.

A document has the workitem, its searchable values, who is subscribed to it, and in `notice` whom its last change
concerns and what is reported of it: change and report are one write, which every process sees in the change stream.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pymongo import ASCENDING, UpdateOne
from pymongo.errors import DuplicateKeyError

from dicomweb.errors import Conflict, Gone, NotFound, Unavailable
from dicomweb.ports import JsonDataSet
from dicomweb.query import Query
from dicomweb.worklist.events import Report, state_report
from dicomweb.worklist.search import result, tree_of
from dicomweb.worklist.transitions import Change, Workitem
from gateway.jobs.queue import Database
from gateway.jobs.workitem_search import condition
from gateway.store import driver
from gateway.store.driver import wrapped

MAX_WORKITEMS = 100_000
#: Of one workitem; who comes later to a subscription of all goes without it.
MAX_SUBSCRIBERS = 200
#: Bytes of a workitem as JSON that updates may make it grow to: as BSON, with what is kept beside it, it may have four
#: times as many, and a document 16 MiB.
MAX_ITEM_BYTES = 2 << 20
#: Bytes of stored workitems in one page of results; the rest is left for the next page.
MAX_PAGE_BYTES = 16 << 20
#: How long it is known that a workitem did exist.
_REMEMBERED = timedelta(days=30)
_ATTEMPTS = 100
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Subscriber:
    """An application entity that is told of a workitem. `via` is how it came to be; `user` who subscribed it."""

    ae: str
    user: str
    locked: bool
    via: str = "workitem"


@dataclass(frozen=True, slots=True)
class Stored:
    """A workitem with what the server keeps beside it.

    Attributes
    ----------
    order : of the run that the server performs for it, if it does (`gateway.jobs.orders.Order` as plain data).
    run_id : of the run that performs it, once it is claimed; `own_run` unless another had asked for the same before.
    cancel : what was said in the last request to cancel it, None if there was none.
    """

    workitem: Workitem
    subscribers: tuple[Subscriber, ...] = ()
    order: Mapping[str, Any] | None = None
    run_id: str = ""
    own_run: bool = True
    cancel: Mapping[str, Any] | None = None
    due: datetime = field(default_factory=lambda: datetime(1970, 1, 1, tzinfo=UTC))
    ended: datetime | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read a document."""
        workitem = Workitem(document["_id"], document["item"], document["lock"])
        subscribers = tuple(Subscriber(**one) for one in document["subscribers"])
        names = ("order", "run_id", "own_run", "cancel", "due", "ended")
        return cls(workitem, subscribers, **{name: document[name] for name in names})

    def to_document(self, keep: timedelta) -> dict[str, Any]:
        """The fields of its document but for identity and version; `keep` is the time that a finished one stays."""
        workitem = self.workitem
        locked = any(one.locked for one in self.subscribers)
        return {
            "item": workitem.item,
            "size": size_of(workitem.item),
            "lock": workitem.lock,
            "keys": tree_of(workitem.item),
            "state": str(workitem.state),
            "ready": workitem.item.get("00404041", {}).get("Value") == ["READY"],
            "subscribers": [asdict(one) for one in self.subscribers],
            "order": self.order,
            "run_id": self.run_id,
            "own_run": self.own_run,
            "cancel": self.cancel,
            "due": self.due,
            "ended": self.ended,
            "expires": self.ended + keep if self.ended is not None and not locked else None,
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """What a change comes to: the new state of things, and reports to `to`, or to all subscribers."""

    stored: Stored
    reports: Sequence[Report] = ()
    to: Sequence[Subscriber] | None = None
    warning: str = ""

    @classmethod
    def of(cls, stored: Stored, change: Change, **values: Any) -> Self:
        """The decision that a change of the workitem itself makes."""
        ended = stored.ended
        if change.workitem.state.is_final and ended is None:
            ended = datetime.now(UTC)
        after = replace(stored, workitem=change.workitem, ended=ended, **values)
        return cls(after, change.reports, None, change.warning)


class WorkitemStore:
    """Workitems in MongoDB."""

    def __init__(self, db: Database, *, keep: timedelta, max_workitems: int = MAX_WORKITEMS) -> None:
        self._items = db["workitems"]
        self.keep = keep
        self._max = max_workitems

    @wrapped()
    async def create_indexes(self) -> None:
        """Create what searches and the performer need. Idempotent."""
        await self._items.create_index([("due", ASCENDING), ("_id", ASCENDING)])
        await self._items.create_index([("state", ASCENDING), ("due", ASCENDING)])
        await self._items.create_index([("subscribers.ae", ASCENDING)])
        await self._items.create_index([("expires", ASCENDING)])
        await self._items.create_index([("forget", ASCENDING)], expireAfterSeconds=0)

    @wrapped()
    async def add(self, decision: Decision) -> None:
        """Keep a new workitem; raise Conflict if there is or was one with its UID."""
        if await self._items.estimated_document_count() >= self._max and await self._count() >= self._max:
            raise Unavailable("The worklist is full; try again when some workitems have expired.")
        document = decision.stored.to_document(self.keep) | _notice(decision, 1)
        try:
            await self._items.insert_one({"_id": decision.stored.workitem.uid, "version": 1, **document})
        except DuplicateKeyError:
            raise Conflict("There is a workitem with this UID already.") from None

    async def _count(self) -> int:
        """How many workitems there are, without those of which only the UID is left."""
        return int(await self._items.count_documents({"state": {"$gt": ""}}))

    @wrapped()
    async def get(self, uids: Iterable[str]) -> Stored:
        """Read the first of these that there is; raise NotFound or Gone."""
        return Stored.from_document(await self._document(uids))

    @wrapped()
    async def change(self, uids: Iterable[str], decide: Callable[[Stored], Decision]) -> Decision:
        """Decide on a change and write it, or nothing where it changes nothing; whatever `decide` raises, passes."""
        for _ in range(_ATTEMPTS):
            document = await self._document(uids)
            stored = Stored.from_document(document)
            decision = decide(stored)
            if decision.stored == stored and not decision.reports:
                return decision
            version = document["version"] + 1
            fields = decision.stored.to_document(self.keep) | _notice(decision, version)
            chosen = {"_id": document["_id"], "version": document["version"]}
            written = await self._items.update_one(chosen, {"$set": {**fields, "version": version}})
            if written.matched_count:
                return decision
        raise Unavailable("The workitem is being changed by many at once; try again shortly.")

    async def _document(self, uids: Iterable[str]) -> dict[str, Any]:
        for uid in dict.fromkeys(uids):
            document: dict[str, Any] | None = await self._items.find_one({"_id": uid})
            if document is not None:
                if "gone" in document or (document["expires"] and document["expires"] <= datetime.now(UTC)):
                    raise Gone("The workitem was finished and has expired.")
                return document
        raise NotFound("There is no such workitem.")

    @wrapped()
    async def search(self, query: Query) -> tuple[list[JsonDataSet], int]:
        """One page of results, and how many more there are."""
        chosen = {"$and": [_present(), condition(query.matches, fuzzy=query.fuzzy)]}
        cursor = self._items.find(chosen, {"item": 1, "size": 1}).sort([("due", ASCENDING), ("_id", ASCENDING)])
        found: list[JsonDataSet] = []
        size = 0
        async for document in cursor.skip(query.offset).limit(query.limit):
            size += document["size"]
            if found and size > MAX_PAGE_BYTES:
                break
            found.append(result(document["item"], query))
        total = await self._items.count_documents(chosen) if found or query.offset else 0
        return found, max(0, total - query.offset - len(found))

    async def all_of(self, chosen: Mapping[str, Any], limit: int = 0) -> AsyncIterator[Stored]:
        """Workitems that a condition on their documents holds for, in the order in which they are due."""
        async with wrapped():
            cursor = self._items.find({"$and": [_present(), chosen]}).sort("due", ASCENDING).limit(limit)
            async for document in cursor:
                yield Stored.from_document(document)

    async def uids_of(self, chosen: Mapping[str, Any]) -> list[str]:
        """UIDs of the workitems that a condition on their documents holds for."""
        async with wrapped():
            cursor = self._items.find({"$and": [_present(), chosen]}, {"_id": 1}).sort("due", ASCENDING)
            return [document["_id"] async for document in cursor]

    async def signals(self) -> AsyncIterator[None]:
        """Yield whenever there may be something for the performer to do."""
        changed: list[dict[str, Any]] = [
            {"$match": {"operationType": {"$in": ["insert", "update"]}}},
            {"$project": {"_id": 1}},
        ]
        async with wrapped(), driver.watch(self._items, changed) as stream:
            async for _ in stream:
                yield

    @wrapped()
    async def subscribe_all(self, subscriber: Subscriber, chosen: Mapping[str, Any], *, tells: bool) -> None:
        """Add a subscriber to those of all chosen workitems that it is not among yet, where there is room."""
        room = {f"subscribers.{MAX_SUBSCRIBERS - 1}": {"$exists": False}, "subscribers.ae": {"$ne": subscriber.ae}}
        missing = {"$and": [_present(), room, chosen]}
        shown = dict.fromkeys(["version", "item.00741000", "item.00404041"], 1)
        while page := await self._items.find(missing, shown).limit(_BATCH).to_list(None):
            await self._items.bulk_write([_subscribing(one, subscriber, tells=tells) for one in page], ordered=False)

    @wrapped()
    async def unsubscribe_all(self, ae: str, via: str | None) -> int:
        """Remove an application entity from the subscribers of all workitems; return of how many."""
        entry = {"ae": ae} if via is None else {"ae": ae, "via": via}
        change = {"$pull": {"subscribers": entry}, "$inc": {"version": 1}}
        removed = await self._items.update_many({"subscribers": {"$elemMatch": entry}}, change)
        released = {"ended": {"$ne": None}, "expires": None, "subscribers.locked": {"$ne": True}}
        kept_ms = self.keep // timedelta(milliseconds=1)
        await self._items.update_many(released, [{"$set": {"expires": {"$add": ["$ended", kept_ms]}}}])
        return int(removed.modified_count)

    @wrapped()
    async def has_subscriber(self, ae: str) -> bool:
        """Whether an application entity is told of any workitem."""
        return await self._items.find_one({"subscribers.ae": ae}, {"_id": 1}) is not None

    @wrapped()
    async def expire(self) -> None:
        """Drop the contents of finished workitems whose time is over; for a while it is known that they did exist."""
        now = datetime.now(UTC)
        stone = {"_id": "$_id", "gone": {"$literal": True}, "forget": {"$literal": now + _REMEMBERED}}
        await self._items.update_many({"expires": {"$lte": now}}, [{"$replaceWith": stone}])


def size_of(item: JsonDataSet) -> int:
    """How large a workitem is, in bytes of JSON."""
    return len(json.dumps(item))


def _present() -> dict[str, Any]:
    return {"gone": {"$exists": False}, "$or": [{"expires": None}, {"expires": {"$gt": datetime.now(UTC)}}]}


def _subscribing(document: Mapping[str, Any], subscriber: Subscriber, *, tells: bool) -> UpdateOne:
    version = document["version"] + 1
    reports = [state_report(document["item"])] if tells else []
    change = {"version": version, "notice": _said(version, [subscriber], reports)}
    unlimited = {"expires": None} if subscriber.locked else {}
    chosen = {"_id": document["_id"], "version": document["version"]}
    return UpdateOne(chosen, {"$push": {"subscribers": asdict(subscriber)}, "$set": change | unlimited})


def _notice(decision: Decision, version: int) -> dict[str, str]:
    to = decision.stored.subscribers if decision.to is None else decision.to
    return {"notice": _said(version, to, decision.reports)}


def _said(version: int, to: Sequence[Subscriber], reports: Sequence[Report]) -> str:
    """Whom a change concerns and what is reported, as one value that differs from the one before."""
    events = [[int(kind), attributes] for kind, attributes in reports] if to else []
    return json.dumps({"version": version, "to": [[one.ae, one.user] for one in to], "reports": events})
