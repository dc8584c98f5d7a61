"""Executes claimed runs: inputs to the runner, events to the queue, results to the archive, a verdict at the end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from dicomweb.errors import IsthmusError, Unavailable
from dicomweb.ports import Archive
from dicomweb.resource import Resource
from gateway.jobs.filing import Filing
from gateway.jobs.model import Run, State
from gateway.jobs.queue import LeaseLost, RunQueue
from gateway.jobs.relay import relay
from gateway.store.objects import ObjectStore
from ray_plugins.registry import Registry
from ray_plugins.runner import Handle, Runner
from ray_plugins.sdk import PluginError
from ray_plugins.task import RunCancelled, RunFailed, Task, TaskResult

logger = logging.getLogger(__name__)

#: How often a run is started at most, when the machine or the storage fails rather than the run.
MAX_ATTEMPTS = 3
#: Pause before the second attempt; doubled before the third.
FIRST_DELAY = timedelta(seconds=5)
#: How long a run that was told to end may take before nobody waits for it any more. SIGTERM leaves 15 s for everything.
GRACE_S = 4.0


class TimeLimitError(Exception):
    """The run took longer than its plugin allows."""


class Executor:
    """Executes runs, any number at once, and writes how each ended."""

    def __init__(
        self,
        queue: RunQueue,
        filing: Filing,
        archive: Archive,
        objects: ObjectStore,
        runner: Runner,
        registry: Registry,
    ) -> None:
        self._queue = queue
        self._filing = filing
        self._archive = archive
        self._objects = objects
        self._runner = runner
        self._registry = registry
        self._deadlines: dict[str, asyncio.Timeout] = {}
        self._cancelled: set[str] = set()

    async def execute(self, run: Run) -> None:
        """Execute a run to its end, whatever that is. Cancelled by the dispatcher, it is queued again."""
        logger.info("run %s of %s starts, attempt %d", run.id, run.plugin, run.attempt)
        try:
            result = await self._compute(run)
            outputs = await self._filing.file(run, result)
            await self._queue.finish(run, State.SUCCEEDED, outputs=outputs, measurements=result.measurements)
            logger.info("run %s of %s succeeded", run.id, run.plugin)
        except asyncio.CancelledError:
            with suppress(TimeoutError, IsthmusError):  # what is left to do, the next dispatcher does
                async with asyncio.timeout(GRACE_S):
                    await self._hand_back(run)
            raise
        except Exception as exc:  # noqa: BLE001 - every fault of a run ends in its document
            await self.give_up(run, exc)
        finally:
            self._cancelled.discard(run.id)

    def cancel(self, run_id: str) -> None:
        """End a run that is being computed. One whose results are being filed may finish."""
        deadline = self._deadlines.get(run_id)
        if deadline is not None and not deadline.expired():
            self._cancelled.add(run_id)
            deadline.reschedule(asyncio.get_running_loop().time())

    async def give_up(self, run: Run, reason: Exception) -> None:
        """After an attempt that did not succeed: take back what it filed, then end the run or queue it again."""
        verdict = _verdict(reason)
        unforeseen = reason if verdict.unforeseen else None
        # What a plugin says of a fault is for who asked for the run: it may quote the objects.
        kind = type(reason).__qualname__
        logger.info("run %s of %s: %s (%s)", run.id, run.plugin, verdict.state, kind, exc_info=unforeseen)
        while True:
            try:
                return await self._write(run, verdict)
            except LeaseLost:
                return logger.warning("run %s was taken over by another dispatcher", run.id)
            except Unavailable:
                await asyncio.sleep(1)

    async def _write(self, run: Run, verdict: Verdict) -> None:
        await self._filing.take_back(run)
        if not verdict.retryable:
            await self._queue.finish(run, verdict.state, error=verdict.error)
        elif run.cancel_requested:
            await self._queue.finish(run, State.CANCELLED)
        elif run.attempt < MAX_ATTEMPTS:
            delay = FIRST_DELAY * 2 ** (run.attempt - 1)
            await self._queue.requeue(run, reason=f"{verdict.error} It will be started again.", delay=delay)
        else:
            await self._queue.finish(run, State.FAILED, error=f"{verdict.error} It was started {run.attempt} times.")

    async def _hand_back(self, run: Run) -> None:
        await self._filing.take_back(run)
        reason = "The server was stopped; the run will be started again."
        await self._queue.requeue(run, reason=reason, delay=timedelta(0), counted=False)

    async def _compute(self, run: Run) -> TaskResult:
        """Have a run executed.

        Raises
        ------
        RunCancelled, TimeLimitError, RunFailed, PluginError, IsthmusError
        """
        plugin = await asyncio.to_thread(self._registry.get, run.plugin)  # the first time imports it
        if plugin.version != run.version:
            raise RunFailed(f"It was asked of version {run.version}, but {plugin.version} is installed; start it anew.")
        # A lease is never given twice: what two attempts store can never be mistaken for one another.
        seed = f"{run.id} {run.lease}"
        task = Task(run.id, run.plugin, run.parameters, await self._inputs(run), seed, run.created)
        try:
            async with asyncio.timeout(plugin.timeout_s) as deadline:
                self._deadlines[run.id] = deadline
                return await self._observe(run, await self._runner.submit(task))
        except TimeoutError:
            if not deadline.expired():
                raise
            if run.id in self._cancelled:
                raise RunCancelled from None
            raise TimeLimitError(f"It did not finish within {plugin.timeout_s:g} s and was ended.") from None
        finally:
            self._deadlines.pop(run.id, None)

    async def _inputs(self, run: Run) -> tuple[str, ...]:
        """The files of the run's series."""
        uris: list[str] = []
        for series_uid in run.series_uids:
            instances = await self._archive.instances(Resource(run.study_uid, series_uid))
            uris += [self._objects.uri(instance.key) for instance in instances]
        return tuple(uris)

    async def _observe(self, run: Run, handle: Handle) -> TaskResult:
        try:
            await relay(handle, self._queue, run)
            return await handle.result()
        except asyncio.CancelledError:
            with suppress(TimeoutError, RunCancelled, RunFailed):
                async with asyncio.timeout(GRACE_S):
                    await handle.cancel()
                    await handle.result()
            raise


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended: the state that follows, the sentence for the user, whether another attempt can help."""

    state: State
    error: str | None = None
    retryable: bool = False
    unforeseen: bool = False


def _verdict(reason: Exception) -> Verdict:
    match reason:
        case RunCancelled():
            return Verdict(State.CANCELLED)
        case TimeLimitError():
            return Verdict(State.TIMED_OUT, str(reason))
        case RunFailed() | IsthmusError():
            return Verdict(State.FAILED, str(reason), reason.retryable)
        case PluginError():
            return Verdict(State.FAILED, str(reason))
    return Verdict(State.FAILED, "The gateway failed in this run; its log has the details.", unforeseen=True)
