"""The dispatcher: takes queued runs, has them executed, files what they made. One leads at a time, on any machine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import timedelta

from dicomweb.ports import Archive
from gateway.config import Settings
from gateway.errors import CatalogueUnavailable
from gateway.jobs.deletions import Deletions
from gateway.jobs.executor import Executor
from gateway.jobs.filing import Filing
from gateway.jobs.lease import Lease
from gateway.jobs.meshes import MeshStore
from gateway.jobs.performer import Performer
from gateway.jobs.queue import Database, LeaseLost, RunQueue
from gateway.jobs.workitems import WorkitemStore
from gateway.store.objects import ObjectStore
from ray_plugins.registry import Registry
from ray_plugins.runner import Runner
from ray_plugins.task import RunFailed

logger = logging.getLogger(__name__)

POLL_S = 2.0
RESTART_S = 30.0
HEALTH_S = 5.0


async def run(
    settings: Settings,
    db: Database,
    archive_for: Callable[[str], Archive],
    objects: ObjectStore,
    runner: Runner,
    registry: Registry,
) -> None:
    """Dispatch until cancelled; then give back what runs, so that the next dispatcher can start it again.

    Parameters
    ----------
    db : the catalogue's database.
    archive_for : gives the archive as a source of that kind sees it; asked for "plugin".
    objects : started; holds the inputs and takes the meshes.
    runner : not started; it is started here, once this process leads.
    """
    queue, meshes, lease = RunQueue(db), MeshStore(db, objects), Lease(db)
    archive = archive_for("plugin")
    executor = Executor(queue, Filing(queue, archive, meshes), archive, objects, runner, registry)
    workitems = WorkitemStore(db, keep=timedelta(hours=settings.worklist.keep_hours))
    performer = Performer(workitems, queue, archive, registry, settings.http.public_path)
    deletions = Deletions(db, queue, meshes)
    dispatcher = Dispatcher(queue, lease, executor, deletions, performer, runner, settings.ray.max_runs)
    try:
        while True:
            try:
                await queue.create_indexes()
                await meshes.create_indexes()
                await workitems.create_indexes()
                await dispatcher.lead()
            except CatalogueUnavailable:
                logger.warning("the catalogue cannot be reached; no run is started until it can")
            await asyncio.sleep(lease.renew_every_s)
    finally:
        await dispatcher.close()


class Dispatcher:
    """The one that leads: starts what is queued, ends what is to be cancelled, follows deletions."""

    def __init__(
        self,
        queue: RunQueue,
        lease: Lease,
        executor: Executor,
        deletions: Deletions,
        performer: Performer,
        runner: Runner,
        max_runs: int,
    ) -> None:
        self._queue = queue
        self._lease = lease
        self._executor = executor
        self._deletions = deletions
        self._performer = performer
        self._runner = runner
        self._max_runs = max_runs
        self._started = False
        self._ready = False
        self._wake = asyncio.Event()

    async def lead(self) -> None:
        """Dispatch as long as the lease is held; return at once if another has it."""
        if not await self._lease.acquire():
            return
        logger.info("this process dispatches the runs of plugins")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hold_lease(), name="dispatcher-lease")
                group.create_task(self._keep_runner(), name="dispatcher-runner")
                group.create_task(self._listen(), name="dispatcher-signals")
                group.create_task(self._performer.run(), name="performer")
                group.create_task(self._dispatch(group), name="dispatcher")
        except* LeaseLost:
            logger.warning("another dispatcher has taken over")
        except* CatalogueUnavailable:
            logger.warning("the catalogue was lost; what ran is adopted when it is back")
        finally:
            with suppress(CatalogueUnavailable):
                await self._lease.release()

    async def close(self) -> None:
        """End the runner, if it was ever started."""
        if self._started:
            await self._runner.close()

    async def _hold_lease(self) -> None:
        while True:
            await asyncio.sleep(self._lease.renew_every_s)
            with suppress(CatalogueUnavailable):  # nobody else can take it then either
                await self._lease.renew()

    async def _keep_runner(self) -> None:
        """Start the runner, and again whenever it has died. Runs wait meanwhile; those it had fail and are repeated."""
        while True:
            try:
                if not self._ready:
                    await self._start_runner()
                await asyncio.sleep(HEALTH_S)
                self._ready = await self._runner.is_healthy()
            except Exception:  # whatever a cluster's client raises
                logger.exception("the runner of plugins did not start; trying again in %.0f s", RESTART_S)
                await asyncio.sleep(RESTART_S)

    async def _start_runner(self) -> None:
        if self._started:
            logger.error("the runner of plugins has died; it is started again")
            await self._runner.close()
        self._started = True
        await self._runner.start()
        self._ready = True
        self._wake.set()

    async def _listen(self) -> None:
        """Wake the dispatcher when something changes; it looks by itself every `POLL_S` seconds too."""
        while True:
            with suppress(CatalogueUnavailable):
                async for _ in self._queue.signals():
                    self._wake.set()
            await asyncio.sleep(POLL_S)

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        running: dict[str, asyncio.Task[None]] = {}
        while True:
            self._wake.clear()
            running = {run_id: task for run_id, task in running.items() if not task.done()}
            with suppress(CatalogueUnavailable):
                await self._adopt(running)
                for run_id in await self._queue.cancel_requests(self._lease.token):
                    self._executor.cancel(run_id)
                await self._deletions.follow()
                await self._claim(running, group)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()

    async def _adopt(self, running: Collection[str]) -> None:
        """Queue again, or end, what nobody executes: a dispatcher is gone, or the answer to a claim was lost."""
        while orphan := await self._queue.adopt(self._lease.token, running):
            logger.warning("run %s was left running and is executed by nobody", orphan.id)
            await self._executor.give_up(orphan, RunFailed("The machine that ran it was lost.", retryable=True))

    async def _claim(self, running: dict[str, asyncio.Task[None]], group: asyncio.TaskGroup) -> None:
        """Start as many runs as may run at once."""
        while self._ready and len(running) < self._max_runs:
            claimed = await self._queue.claim(self._lease.token)
            if claimed is None:
                return
            task = group.create_task(self._executor.execute(claimed), name=f"run-{claimed.id}")
            task.add_done_callback(lambda _: self._wake.set())
            running[claimed.id] = task
