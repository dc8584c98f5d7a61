"""Subscriptions to workitems, to all and to those that match a filter (PS3.4 section CC.2.3), durable in MongoDB."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pymongo import ASCENDING

from dicomweb.errors import NotFound, Unavailable
from dicomweb.ports import JsonDataSet, Limits
from dicomweb.query import Query
from dicomweb.worklist.events import state_report
from dicomweb.worklist.search import matches, parsed, tree_of
from dicomweb.worklist.subscriptions import FILTERED, GLOBAL, STEPS, WELL_KNOWN, Action, Step
from dicomweb.worklist.subscriptions import Subscription as State
from gateway.jobs.queue import Database
from gateway.jobs.workitem_search import condition
from gateway.jobs.workitems import MAX_SUBSCRIBERS, Decision, Stored, Subscriber, WorkitemStore
from gateway.store.driver import wrapped

MAX_REGISTRATIONS = 1_000
_LISTENERS_REMEMBERED_S = 30 * 86_400
_VIA = {GLOBAL: "global", FILTERED: "filtered"}


@dataclass(frozen=True, slots=True)
class Registration:
    """A subscription to the workitems that will be created: all, or those that match."""

    uid: str
    ae: str
    user: str
    locked: bool
    pairs: tuple[tuple[str, str], ...] = ()

    @property
    def query(self) -> Query:
        """The filter as a search."""
        return parsed(self.pairs, Limits()).query

    def subscriber(self) -> Subscriber:
        """What it makes of its application entity at a workitem."""
        return Subscriber(self.ae, self.user, self.locked, _VIA[self.uid])


class Subscriptions:
    """Who is told of which workitem."""

    def __init__(self, db: Database, store: WorkitemStore) -> None:
        self._registrations = db["worklist_registrations"]
        self._listeners = db["worklist_listeners"]
        self._store = store

    @wrapped()
    async def create_indexes(self) -> None:
        """Create what the look-ups below need. Idempotent."""
        key = [("uid", ASCENDING), ("ae", ASCENDING), ("pairs", ASCENDING)]
        await self._registrations.create_index(key, unique=True)
        await self._listeners.create_index([("seen", ASCENDING)], expireAfterSeconds=_LISTENERS_REMEMBERED_S)

    async def at_creation(self, item: JsonDataSet) -> tuple[Subscriber, ...]:
        """The subscribers of a workitem that is being created; of two subscriptions the one with the lock counts."""
        tree = tree_of(item)
        found: dict[str, Subscriber] = {}
        for one in await self._registered():
            if one.uid == GLOBAL or matches(tree, one.query.matches, fuzzy=one.query.fuzzy):
                known = found.get(one.ae)
                found[one.ae] = one.subscriber() if known is None or not known.locked else known
        return tuple(found.values())[:MAX_SUBSCRIBERS]

    async def join_late(self, stored: Stored) -> None:
        """Add those who subscribed to all while the workitem was being created."""
        for subscriber in await self.at_creation(stored.workitem.item):
            if subscriber.ae not in {one.ae for one in stored.subscribers}:
                await self._store.change([stored.workitem.uid], partial(_joining, subscriber))

    async def subscribe(self, uids: Iterable[str], subscriber: Subscriber) -> None:
        """Subscribe to one workitem, anew or with another lock; the subscriber is told how it stands."""
        action = Action.SUBSCRIBE_LOCKED if subscriber.locked else Action.SUBSCRIBE
        await self._store.change(uids, lambda stored: _decided(stored, subscriber, action))

    async def register(self, registration: Registration) -> None:
        """Subscribe to all workitems, or to all that match, that there are and will be."""
        action = Action.SUBSCRIBE_GLOBAL_LOCKED if registration.locked else Action.SUBSCRIBE_GLOBAL
        query = registration.query
        chosen = condition(query.matches, fuzzy=query.fuzzy) if registration.pairs else {}  # may refuse the filter
        await self._register(registration)
        tells = STEPS[action][State.NONE].tells
        await self._store.subscribe_all(registration.subscriber(), chosen, tells=tells)

    @wrapped()
    async def _register(self, one: Registration) -> None:
        if await self._registrations.count_documents({}) >= MAX_REGISTRATIONS:
            raise Unavailable("There are too many subscriptions to the worklist already.")
        key = {"uid": one.uid, "ae": one.ae, "pairs": json.dumps(one.pairs)}
        await self._registrations.update_one(
            key, {"$set": {"user": one.user, "locked": one.locked, "at": datetime.now(UTC)}}, upsert=True
        )

    async def unsubscribe(self, uids: Sequence[str], ae: str) -> None:
        """Remove a subscription; globally, all of them. Raise NotFound if there was none."""
        if uids[0] not in WELL_KNOWN:
            await self._store.change(uids, lambda stored: _leaving(stored, ae))
            return
        everything = uids[0] == GLOBAL
        registered = await self._unregister({"ae": ae} if everything else {"ae": ae, "uid": FILTERED})
        subscribed = await self._store.unsubscribe_all(ae, None if everything else _VIA[FILTERED])
        if not registered and not subscribed:
            raise NotFound("There is no such subscription.")

    async def suspend(self, uid: str, ae: str) -> None:
        """Subscribe to no new workitems; subscriptions to existing ones stay. Raise NotFound."""
        if not await self._unregister({"ae": ae, "uid": uid}):
            raise NotFound("There is no such subscription.")

    @wrapped()
    async def _unregister(self, chosen: dict[str, Any]) -> int:
        return int((await self._registrations.delete_many(chosen)).deleted_count)

    @wrapped()
    async def _registered(self) -> list[Registration]:
        found = await self._registrations.find({}).sort("at", ASCENDING).to_list(None)
        return [
            Registration(one["uid"], one["ae"], one["user"], one["locked"], tuple(map(tuple, json.loads(one["pairs"]))))
            for one in found
        ]

    async def missed_restart(self, ae: str, started: datetime) -> bool:
        """Note that a subscriber has connected; whether it did so last before this server started."""
        async with wrapped():
            before = await self._listeners.find_one_and_update(
                {"_id": ae}, {"$set": {"seen": datetime.now(UTC)}}, upsert=True
            )
        if before is None or before["seen"] >= started:
            return False
        registered = any(one.ae == ae for one in await self._registered())
        return registered or await self._store.has_subscriber(ae)


def _state_of(stored: Stored, ae: str) -> State:
    for one in stored.subscribers:
        if one.ae == ae:
            return State.LOCKED if one.locked else State.UNLOCKED
    return State.NONE


def _decided(stored: Stored, subscriber: Subscriber, action: Action) -> Decision:
    step: Step = STEPS[action][_state_of(stored, subscriber.ae)]
    others = tuple(one for one in stored.subscribers if one.ae != subscriber.ae)
    if len(others) >= MAX_SUBSCRIBERS:
        raise Unavailable("The workitem has too many subscribers already.")
    after = replace(subscriber, locked=step.state is State.LOCKED)
    reports = [state_report(stored.workitem.item)] if step.tells else []
    return Decision(replace(stored, subscribers=(*others, after)), reports, to=[after])


def _joining(subscriber: Subscriber, stored: Stored) -> Decision:
    """A subscriber of all whom the creation did not see yet."""
    if _state_of(stored, subscriber.ae) is not State.NONE:
        return Decision(stored)
    return _decided(stored, subscriber, Action.CREATED_GLOBAL_LOCKED if subscriber.locked else Action.CREATED_GLOBAL)


def _leaving(stored: Stored, ae: str) -> Decision:
    if _state_of(stored, ae) is State.NONE:
        raise NotFound("There is no such subscription.")
    return Decision(replace(stored, subscribers=tuple(one for one in stored.subscribers if one.ae != ae)))
