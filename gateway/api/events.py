"""Live events: a MongoDB change stream while somebody listens, fanned out to browsers as server-sent events.

The last event of each batch of changes carries the number of its last change as id: a browser that reconnects says it
in Last-Event-ID and is first sent what it missed, from the change feed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from dicomweb.errors import Unavailable
from gateway.errors import CatalogueUnavailable
from gateway.jobs.model import Run
from gateway.jobs.queue import Database
from gateway.store import changes, driver
from gateway.store.change_stream import RECONNECT_S, ChangeStream
from gateway.store.changes import Change

logger = logging.getLogger(__name__)

MAX_CLIENTS = 200
#: Events that may wait for one client; one that is slower than that is told to come again.
MAX_WAITING = 256
#: Changes are gathered for this long: a series that arrives is one event, not one for each instance.
GATHER_S = 0.25
_PAGE = 5_000

_WATCHED = [
    {
        "$match": {
            "$or": [
                {"ns.coll": "runs", "operationType": {"$in": ["insert", "update", "replace"]}},
                {"ns.coll": "changes", "operationType": "insert"},
            ]
        }
    },
]


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event. With a `seq` its client has seen all changes up to that number."""

    name: str
    data: Mapping[str, Any]
    seq: int = 0

    def encode(self) -> bytes:
        """The event as it travels (WHATWG HTML section 9.2)."""
        number = f"id: {self.seq}\n" if self.seq else ""
        return f"{number}event: {self.name}\ndata: {json.dumps(dict(self.data))}\n\n".encode()


#: The last event of a stream that the server ends; browsers reconnect by themselves.
END = Event("end", {"reason": "The stream ends here; connect again for what follows."})


class Subscription:
    """The events of one client, in order, until `END`."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING)
        self._ended = False

    async def get(self) -> Event:
        """Wait for the next event."""
        return await self._waiting.get()

    def put(self, event: Event) -> None:
        """Hand over an event; too many that were not taken end the subscription."""
        if self._ended:
            return
        if self._waiting.full():
            self.end()
        else:
            self._waiting.put_nowait(event)

    def end(self) -> None:
        """End with `END`, which replaces whatever was not taken."""
        self._ended = True
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting.put_nowait(END)


class EventHub:
    """Watches the database and tells every subscriber. Runs while its application does."""

    def __init__(self, db: Database, complete: Callable[[], Awaitable[None]], prefix: str = "") -> None:
        """`complete` has the change feed hold all that was stored before."""
        self._db = db
        self._complete = complete
        self._prefix = prefix
        self._clients: set[Subscription] = set()
        self._gathered: list[Change] = []
        self._stream = ChangeStream("events", db, _WATCHED, self._take, self._end_all, full_document="updateLookup")
        self.closed = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled; over an interruption no event is lost silently, every client is ended."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_complete(), name="event-feed")
            await self._stream.run()

    async def _keep_complete(self) -> None:
        """While somebody listens, have the feed follow what is stored; otherwise the jobs process does, less often."""
        while True:
            await asyncio.sleep(GATHER_S)
            if self._clients:
                try:
                    await self._complete()
                except CatalogueUnavailable:
                    continue
                except Exception:  # whoever listens hears of runs all the same
                    logger.exception("what is stored could not be followed")
                    await asyncio.sleep(RECONNECT_S)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[Subscription]:
        """Take part from now on; raise Unavailable if too many do, or nothing can be heard."""
        if len(self._clients) >= MAX_CLIENTS or self.closed.is_set():
            raise Unavailable("Too many clients listen for events already; try again shortly.")
        subscription = Subscription()
        self._clients.add(subscription)
        try:
            async with self._stream.listening():
                yield subscription
        finally:
            self._clients.discard(subscription)

    async def since(self, seq: int) -> AsyncIterator[Event]:
        """What happened to the archive after change number `seq`."""
        await self._complete()
        while True:
            async with driver.wrapped():
                page = await changes.read(self._db, seq, _PAGE)
            if not page:
                return
            for event in summarise(page):
                yield event
            seq = page[-1].seq

    def close(self) -> None:
        """End all clients, so that the server can stop. Idempotent."""
        self.closed.set()
        self._end_all()

    async def wait_closed(self, timeout_s: float) -> None:
        """Pause, but not beyond the end of the hub."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.closed.wait()

    def _take(self, change: Mapping[str, Any]) -> None:
        document = change.get("fullDocument")
        if document is None:
            return
        if change["ns"]["coll"] == "runs":
            self._publish([Event("run", Run.from_document(document).to_json(self._prefix))])
        else:
            self._gather(changes.unpack(document))

    def _gather(self, found: Iterable[Change]) -> None:
        if not self._gathered:
            asyncio.get_running_loop().call_later(GATHER_S, self._publish_gathered)
        self._gathered += found

    def _publish_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        self._publish(summarise(gathered))

    def _publish(self, events: Iterable[Event]) -> None:
        for event in events:
            for client in self._clients:
                client.put(event)

    def _end_all(self) -> None:
        for client in self._clients:
            client.end()


def summarise(found: Iterable[Change]) -> list[Event]:
    """Changes of the feed as events: instances stored counted for each series, deletions named once for each study.

    Events come in the order of their last change. The last one alone has a number: who has seen it has seen them all.
    """
    counts: dict[tuple[str, str, str], int] = {}
    seq = 0
    for change in found:
        key = (change.action, change.study_uid, change.series_uid if change.action == "stored" else "")
        counts[key] = counts.pop(key, 0) + 1
        seq = change.seq
    events = [
        Event(action, {"study": study, **({"series": series, "instances": count} if series else {})})
        for (action, study, series), count in counts.items()
    ]
    return [*events[:-1], replace(events[-1], seq=seq)] if events else []
