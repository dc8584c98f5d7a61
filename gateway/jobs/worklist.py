"""The worklist as one caller sees it: `dicomweb.ports.Worklist` on the stores, under the profile of the caller."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dicomweb.errors import BadRequest, Forbidden, TooLarge, Unavailable
from dicomweb.ports import EventQueue, JsonDataSet, Limits, Runner, SearchPage
from dicomweb.query import AnyOf, Query
from dicomweb.worklist import transitions
from dicomweb.worklist.attributes import check_created
from dicomweb.worklist.events import CANCEL_INFORMATION, WORKLIST, status_change
from dicomweb.worklist.search import KEYS, is_ready, parsed
from dicomweb.worklist.states import CREATED_MODIFIED, UPDATED_MODIFIED
from dicomweb.worklist.subscriptions import WELL_KNOWN
from dicomweb.worklist.transitions import Workitem, lock_of
from gateway.deid.workitems import WorkitemDeidentifier
from gateway.jobs import orders, outcomes
from gateway.jobs.subscriptions import Registration, Subscriptions
from gateway.jobs.workitems import MAX_ITEM_BYTES, Decision, Stored, Subscriber, WorkitemStore, size_of
from gateway.jobs.worklist_hub import WorklistHub
from ray_plugins.registry import Registry
from ray_plugins.sdk import Plugin

#: Attributes that a filter may name under a profile besides UIDs: those that cannot tell who a patient is.
_HARMLESS_KEYS = ("0074", "00404005", "00404011", "00404018", "00404025", "00404026", "00404027", "00404041")

_LOCK = "00081195"


@dataclass(frozen=True, slots=True)
class WorklistServices:
    """What the worklist of any caller works with.

    Attributes
    ----------
    series_summary : what decides which plugins accept the series of a study; empty for an unknown study.
    runs_enabled : whether there is a dispatcher; without one no workitem for a plugin is taken.
    """

    store: WorkitemStore
    subscriptions: Subscriptions
    hub: WorklistHub
    registry: Registry
    series_summary: Callable[[str], Awaitable[Sequence[Mapping[str, Any]]]]
    run: Runner
    runs_enabled: bool = True


class BoundWorklist:
    """The worklist of one caller.

    Parameters
    ----------
    deidentifier : gives the treatment of what the caller sends; of None, everything is kept.
    user : in whose name subscriptions are made.
    """

    def __init__(
        self,
        services: WorklistServices,
        deidentifier: Callable[[], Awaitable[WorkitemDeidentifier | None]],
        user: str,
    ) -> None:
        self._services = services
        self._deidentifier = deidentifier
        self._user = user

    async def create(self, uid: str, item: JsonDataSet) -> tuple[str, str]:
        """Add a workitem."""
        now, deid = datetime.now(UTC), await self._deidentifier()
        check_created(item)  # what is wrong with what was sent, before any of it is taken out
        plugin = await self._services.run(orders.plugin_of, item, self._services.registry)
        kept_uid, kept = (deid.uid(uid), await self._services.run(deid, item)) if deid else (uid, item)
        stored = Stored(Workitem(kept_uid, kept), due=orders.due(item))
        if plugin is not None:
            order = await self._ordered(item, kept, plugin, deid)
            kept = kept | outcomes.scheduled(order, plugin)
            stored = replace(stored, order=order.to_document())
            if is_ready(item):
                await self._check_series(order, plugin)
        change = transitions.admitted(kept_uid, kept, now)
        stored = replace(stored, subscribers=await self._services.subscriptions.at_creation(change.workitem.item))
        decision = Decision.of(stored, change)
        await self._services.store.add(decision)
        await self._services.subscriptions.join_late(decision.stored)
        return kept_uid, change.warning or (CREATED_MODIFIED if kept != item or kept_uid != uid else "")

    async def get(self, uid: str) -> JsonDataSet:
        """A workitem."""
        return (await self._services.store.get(await self._uids(uid))).workitem.item

    async def update(self, uid: str, changes: JsonDataSet, transaction_uid: str) -> str:
        """Set attributes."""
        deid, lock, now = await self._deidentifier(), lock_of(transaction_uid), datetime.now(UTC)
        kept = await self._services.run(deid, changes) if deid else changes

        def decide(stored: Stored) -> Decision:
            change = transitions.updated(stored.workitem, changes, lock, now, kept)
            if size_of(change.workitem.item) > MAX_ITEM_BYTES:
                raise TooLarge(f"A workitem may have at most {MAX_ITEM_BYTES} bytes.")
            if stored.order is not None and {orders.CODES, orders.PARAMETERS, orders.INPUT} & changes.keys():
                raise BadRequest("What a plugin is to do cannot be changed; cancel the workitem and create another.")
            start = orders.due(stored.workitem.item | changes) if "00404005" in changes else stored.due
            return Decision.of(stored, change, due=start)

        await self._services.store.change(await self._uids(uid), decide)
        return UPDATED_MODIFIED if any(kept.get(tag) != changes[tag] for tag in changes if tag != _LOCK) else ""

    async def change_state(self, uid: str, information: JsonDataSet, transaction_uid: str) -> str:
        """Set the state."""
        state, lock, now = transitions.checked_state(information), lock_of(transaction_uid), datetime.now(UTC)

        def decide(stored: Stored) -> Decision:
            return Decision.of(stored, transitions.changed_state(stored.workitem, state, lock, now))

        return (await self._services.store.change(await self._uids(uid), decide)).warning

    async def request_cancel(self, uid: str, information: JsonDataSet, requester: str) -> str:
        """Ask that a workitem be canceled; one that this server performs, it cancels."""
        now = datetime.now(UTC)
        said = {tag: information[tag] for tag in CANCEL_INFORMATION if tag in information}
        deid = await self._deidentifier()
        kept = await self._services.run(deid, said) if deid else said

        def decide(stored: Stored) -> Decision:
            change = transitions.cancel_requested(stored.workitem, kept, requester, now)
            return Decision.of(stored, change, cancel=stored.cancel if change.warning else kept)

        return (await self._services.store.change(await self._uids(uid), decide)).warning

    async def search(self, query: Query) -> SearchPage:
        """Find workitems."""
        return SearchPage(*await self._services.store.search(query))

    async def subscribe(self, uid: str, title: str, *, locked: bool, pairs: Sequence[tuple[str, str]]) -> bool:
        """Subscribe an application entity; deletion locks are always granted."""
        subscriptions = self._services.subscriptions
        if uid in WELL_KNOWN:
            kept = tuple([await self._harmless(*pair) for pair in pairs])
            await subscriptions.register(Registration(uid, title, self._user, locked, kept))
        else:
            await subscriptions.subscribe(await self._uids(uid), Subscriber(title, self._user, locked))
        return True

    async def unsubscribe(self, uid: str, title: str) -> None:
        """Remove a subscription."""
        await self._services.subscriptions.unsubscribe(await self._uids(uid), title)

    async def suspend(self, uid: str, title: str) -> None:
        """Subscribe to no further workitems."""
        await self._services.subscriptions.suspend(uid, title)

    @asynccontextmanager
    async def listen(self, title: str | None) -> AsyncIterator[EventQueue]:
        """The events from now on."""
        hub = self._services.hub
        async with hub.connect(title, self._user) as connection:
            if title is not None and await self._services.subscriptions.missed_restart(title, hub.started):
                connection.put(WORKLIST, status_change("RESTARTED"))
            yield connection

    async def _uids(self, uid: str) -> list[str]:
        """Under which UIDs a workitem may be kept that the caller calls `uid`."""
        deid = await self._deidentifier()
        return [uid, deid.uid(uid)] if deid else [uid]

    async def _harmless(self, name: str, value: str) -> tuple[str, str]:
        """A key of a filter as it may be kept: UIDs as they are stored, nothing that names a person."""
        deid = await self._deidentifier()
        if deid is None:
            return name, value
        query = parsed([(name, value)], Limits()).query
        if not query.matches:
            return name, value
        path, match = query.matches[0]
        if KEYS[path].vr == "UI" and isinstance(match, AnyOf):
            return name, ",".join(map(deid.uid, match.values))
        if not path[0].startswith(_HARMLESS_KEYS) or deid.text(value) != value:
            raise Forbidden("A filter may not hold what could identify a patient.")
        return name, value

    async def _ordered(
        self, item: JsonDataSet, kept: JsonDataSet, plugin: Plugin, deid: WorkitemDeidentifier | None
    ) -> orders.Order:
        """What is asked of a plugin: its parameters as they were sent, its series as it is stored."""
        if not self._services.runs_enabled:
            raise Unavailable("Plugins are switched off on this server (ray.enabled = false).")
        asked = {**item, **{tag: kept[tag] for tag in (orders.INPUT,) if tag in kept}}
        clean = deid.text if deid else None
        return await self._services.run(orders.order_of, asked, plugin, clean)  # may import the validator

    async def _check_series(self, order: orders.Order, plugin: Plugin) -> None:
        for one in await self._services.series_summary(order.series.study_uid):
            if one["SeriesInstanceUID"] == order.series.series_uid:
                reason = plugin.accepts_series(one)
                if reason is not None:
                    raise BadRequest(f"{plugin.title} does not take this series. {reason}")
                return
        raise BadRequest("InputInformationSequence names a series that the archive does not hold.")
