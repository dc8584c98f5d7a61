"""What a run says while it runs, on its way to the queue: gathered, and written twice a second at most."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable
from contextlib import suppress

from dicomweb.errors import IsthmusError
from gateway.jobs.model import Run
from gateway.jobs.queue import LOG_LINES, RunQueue
from ray_plugins.sdk import Event, Progress

logger = logging.getLogger(__name__)

INTERVAL_S = 0.5


async def relay(events: AsyncIterable[Event], queue: RunQueue, run: Run) -> None:
    """Pass events on until there are no more. Never fails: what a run did matters more than what it said."""
    gathered, ended = _Gathered(queue, run), asyncio.Event()
    writer = asyncio.create_task(gathered.write_until(ended), name=f"relay-{run.id}")
    try:
        async for event in events:
            gathered.take(event)
    finally:
        ended.set()  # not cancelled: what is being written would be lost
        await writer


class _Gathered:
    """Events that are not written yet: the last progress and the last lines."""

    def __init__(self, queue: RunQueue, run: Run) -> None:
        self._queue = queue
        self._run = run
        self._progress: Progress | None = None
        self._lines: list[str] = []

    def take(self, event: Event) -> None:
        """Keep an event until it is written."""
        if isinstance(event, Progress):
            self._progress = event
        else:
            self._lines = [*self._lines[1 - LOG_LINES :], event.text]

    async def write_until(self, ended: asyncio.Event) -> None:
        """Write whatever there is, at intervals, and once more at the end."""
        while not ended.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):
                    await ended.wait()
            await self.write()

    async def write(self) -> None:
        """Write what there is, if anything."""
        progress, lines = self._progress, self._lines
        self._progress, self._lines = None, []
        if progress is None and not lines:
            return
        try:
            await self._queue.report(self._run, progress=progress, lines=lines)
        except IsthmusError as exc:
            logger.warning("run %s: what it says could not be written: %s", self._run.id, exc)
