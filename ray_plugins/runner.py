"""Runs tasks, here (LocalRunner) or on Ray (RayRunner). The only module that imports ray, and only once it is needed.

A runner executes and forgets: states, timeouts and retries are gateway/jobs'. Both runners do the same work,
`ray_plugins.execution.execute`, and differ in where it happens.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Self

from ray_plugins.execution import Reporter, execute
from ray_plugins.registry import Registry
from ray_plugins.sdk import Cancelled, Context, Event, Log, Progress
from ray_plugins.task import DicomObject, MeshFiles, RunCancelled, RunFailed, Task, TaskResult

__all__ = [
    "DicomObject",
    "Event",
    "Handle",
    "LocalRunner",
    "Log",
    "MeshFiles",
    "Progress",
    "RunCancelled",
    "RunFailed",
    "Runner",
    "Task",
    "TaskResult",
]


class Handle:
    """A submitted run: iterate over its events while it runs, await its result, cancel it.

    One thread follows the run and hands events to the loop. Their number is bounded at the source, by
    `execution.Reporter`, so a consumer that is slow or absent costs little memory.
    """

    def __init__(self, work: Callable[[Callable[[Event], None]], TaskResult], cancel: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._outcome: Future[TaskResult] = Future()
        self._work = work
        self._cancel = cancel
        threading.Thread(target=self._follow, name="isthmus-run", daemon=True).start()

    def __aiter__(self) -> AsyncIterator[Event]:
        """Give events as they happen, until the run has ended."""
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event
        self._events.put_nowait(None)

    async def result(self) -> TaskResult:
        """Wait for the result.

        Raises
        ------
        RunFailed : with one sentence.
        RunCancelled : if `cancel` came before the end.
        """
        return await asyncio.shield(asyncio.wrap_future(self._outcome))

    async def cancel(self) -> None:
        """Ask the run to end; `result` raises RunCancelled once it has. Does nothing after the end."""
        if not self._outcome.done():
            await asyncio.to_thread(self._cancel)

    def _follow(self) -> None:
        try:
            self._outcome.set_result(self._work(self._tell))
        except Cancelled:
            self._outcome.set_exception(RunCancelled())
        except BaseException as exc:  # noqa: BLE001 - whatever happened belongs to who awaits the result
            self._outcome.set_exception(exc)
        self._tell(None)

    def _tell(self, event: Event | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


class Runner(ABC):
    """Where tasks run. An asynchronous context manager: `async with LocalRunner() as runner`."""

    async def start(self) -> None:  # noqa: B027 - most need nothing
        """Get ready."""

    async def close(self) -> None:  # noqa: B027
        """End what still runs and leave nothing behind."""

    @abstractmethod
    async def submit(self, task: Task) -> Handle:
        """Start a task."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()


class LocalRunner(Runner):
    """Runs tasks in threads of this process: tests, and `isthmus plugins run`."""

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry or Registry()
        self._running: set[threading.Event] = set()

    async def submit(self, task: Task) -> Handle:
        """Start a task in a thread."""
        cancelled = threading.Event()

        def work(report: Callable[[Event], None]) -> TaskResult:
            self._running.add(cancelled)
            try:
                return execute(task, self._registry, Context(Reporter(report), cancelled.is_set))
            finally:
                self._running.discard(cancelled)

        return Handle(work, cancelled.set)

    async def close(self) -> None:
        """Cancel what runs; each ends at its next `check_cancelled`."""
        for cancelled in tuple(self._running):
            cancelled.set()
