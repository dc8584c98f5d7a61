"""Performs the workitems that ask for plugins: claims them, has runs queued, tells in them what became of the runs.

The run's identity is written with the claim, before the run is queued under it: after a crash between the two the same
run is queued, once. What a run came to is written into its workitem, and its state changed, in one write.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from dicomweb.errors import Conflict, IsthmusError, NotFound
from dicomweb.ports import Archive, JsonDataSet
from dicomweb.resource import Resource
from dicomweb.worklist import transitions
from dicomweb.worklist.attributes import items
from dicomweb.worklist.states import State as Step
from dicomweb.worklist.transitions import Change, lock_of
from gateway.errors import CatalogueUnavailable
from gateway.jobs import outcomes
from gateway.jobs.model import Run, State, new_id
from gateway.jobs.orders import Order
from gateway.jobs.queue import QueueFull, RunQueue
from gateway.jobs.workitems import Decision, Stored, WorkitemStore
from ray_plugins.registry import Registry
from ray_plugins.sdk import PluginError

logger = logging.getLogger(__name__)

POLL_S = 2.0
#: Changes are gathered for this long: a run's report and its end are often one.
_GATHER_S = 0.1
#: Workitems that are claimed at a time; others stay SCHEDULED, where anybody may cancel them at once.
MAX_CLAIMED = 100
_PROGRESS, _PERFORMED = "00741002", "00741216"


class Performer:
    """Of any number, one leads at a time: the dispatcher runs it while it holds its lease.

    Parameters
    ----------
    prefix : the path before ours as callers see it, for what is told of meshes.
    """

    def __init__(
        self, store: WorkitemStore, queue: RunQueue, archive: Archive, registry: Registry, prefix: str = ""
    ) -> None:
        self._store = store
        self._queue = queue
        self._archive = archive
        self._registry = registry
        self._prefix = prefix
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Perform until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(self._store.signals), name="performer-workitems")
            group.create_task(self._listen(self._queue.changes), name="performer-runs")
            while True:
                self._wake.clear()
                with suppress(CatalogueUnavailable):
                    await self.work()
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._wake.wait()
                        await asyncio.sleep(_GATHER_S)

    async def work(self) -> None:
        """Claim what is due, and bring what is in progress up to date."""
        now = datetime.now(UTC)
        due = {"state": str(Step.SCHEDULED), "order": {"$ne": None}, "ready": True, "due": {"$lte": now}}
        claimed = {"state": str(Step.IN_PROGRESS), "run_id": {"$ne": ""}}
        free = MAX_CLAIMED - len(await self._store.uids_of(claimed))
        if free > 0:
            async for stored in self._store.all_of(due, free):
                await self._guarded(stored, self._claim)
        async for stored in self._store.all_of(claimed):
            await self._guarded(stored, self._advance)

    async def _guarded(self, stored: Stored, act: Callable[[Stored], Awaitable[None]]) -> None:
        """One workitem that cannot be dealt with is no fault of the others."""
        try:
            await act(stored)
        except (CatalogueUnavailable, asyncio.CancelledError):
            raise
        except QueueFull:
            logger.info("too many runs wait; a workitem for a plugin waits too")
        except IsthmusError as exc:
            logger.warning("a workitem for a plugin could not be performed now: %s", exc.message)
        except Exception:
            logger.exception("a workitem for a plugin cannot be performed")
            await self._give_up(stored, "The server failed to perform it; its log has the details.")

    async def _claim(self, stored: Stored) -> None:
        """IN PROGRESS under a Transaction UID of our own, unless somebody else was faster."""
        lock, run_id = lock_of(secrets.token_hex(16)), new_id()

        def decide(now: Stored) -> Decision:
            if now.workitem.state is not Step.SCHEDULED:
                return Decision(now)
            change = transitions.changed_state(now.workitem, Step.IN_PROGRESS, lock, datetime.now(UTC))
            return Decision.of(now, change, run_id=run_id)

        await self._store.change([stored.workitem.uid], decide)

    async def _advance(self, stored: Stored) -> None:
        run = await self._run_of(stored)
        if run is None:
            return
        if stored.cancel is not None and not run.state.is_final:
            if stored.own_run and not await self._is_shared(stored):
                with suppress(Conflict):  # it has just ended
                    run = await self._queue.cancel(run.id)
            else:  # others wait for the same run: it goes on without this workitem
                run = replace(run, state=State.CANCELLED)
        classes = await self._classes(run) if run.state is State.SUCCEEDED else {}
        tell = partial(_told, run=run, classes=classes, prefix=self._prefix)
        if tell(stored).stored != stored:
            await self._store.change([stored.workitem.uid], tell)

    async def _run_of(self, stored: Stored) -> Run | None:
        """The run that was announced. It is queued if it was not yet; where the same one is already, that is joined."""
        with suppress(NotFound):
            return await self._queue.get(stored.run_id)
        order = Order.from_document(stored.order or {})
        try:
            plugin = await asyncio.to_thread(self._registry.get, order.plugin)
        except PluginError as exc:
            await self._give_up(stored, str(exc))
            return None
        taken = await self._queue.enqueue(order.run(stored.run_id, plugin))
        logger.info("run %s of %s is performed for a workitem", taken.id, taken.plugin)
        if taken.id != stored.run_id:
            await self._store.change(
                [stored.workitem.uid], lambda now: Decision(replace(now, run_id=taken.id, own_run=False))
            )
        return taken

    async def _give_up(self, stored: Stored, why: str) -> None:
        reason = {"00741238": {"vr": "LT", "Value": [why]}}
        await self._store.change([stored.workitem.uid], lambda now: _canceled(now, reason))

    async def _is_shared(self, stored: Stored) -> bool:
        """Whether another workitem in progress waits for the same run."""
        waiting = await self._store.uids_of({"run_id": stored.run_id, "state": str(Step.IN_PROGRESS), "cancel": None})
        return any(uid != stored.workitem.uid for uid in waiting)

    async def _classes(self, run: Run) -> outcomes.Classes:
        """The SOP classes of a run's outputs."""
        found: dict[Resource, dict[str, str]] = {}
        for output in run.outputs:
            if output.mesh_id is None:
                with suppress(IsthmusError):  # it was deleted meanwhile
                    stored = await self._archive.instances(output.resource)
                    found[output.resource] = {one.instance_uid: one.sop_class_uid for one in stored}
        return found

    async def _listen(self, signals: Callable[[], AsyncIterator[None]]) -> None:
        while True:
            with suppress(CatalogueUnavailable):
                async for _ in signals():
                    self._wake.set()
            await asyncio.sleep(POLL_S)


def _told(stored: Stored, run: Run, classes: outcomes.Classes, prefix: str) -> Decision:
    """What the state of a run makes of its workitem."""
    workitem, now = stored.workitem, datetime.now(UTC)
    if workitem.state is not Step.IN_PROGRESS:
        return Decision(stored)
    if run.state is State.SUCCEEDED:
        done = outcomes.performed(workitem.item, run, classes, prefix)
        given = {_PERFORMED: {"vr": "SQ", "Value": [done]}, _PROGRESS: _sequence(stored, outcomes.progress(run))}
        return Decision.of(stored, transitions.performed(workitem, given, now))
    if run.state.is_final:
        return _canceled(stored, outcomes.discontinued(run, asked=stored.cancel or {}))
    said = _sequence(stored, outcomes.progress(run))
    if run.state is not State.RUNNING or workitem.item.get(_PROGRESS) == said:
        return Decision(stored)
    return Decision.of(stored, transitions.revised(workitem, {_PROGRESS: said}, now))


def _canceled(stored: Stored, reason: JsonDataSet) -> Decision:
    if stored.workitem.state is not Step.IN_PROGRESS:
        return Decision(stored)
    change: Change = transitions.canceled(stored.workitem, reason, datetime.now(UTC))
    return Decision.of(stored, change)


def _sequence(stored: Stored, progress: JsonDataSet) -> dict[str, Any]:
    """The Progress Information Sequence with what is new."""
    before = next(iter(items(stored.workitem.item, _PROGRESS)), {})
    return {"vr": "SQ", "Value": [dict(sorted((before | progress).items()))]}
