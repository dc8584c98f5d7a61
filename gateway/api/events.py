"""Live events: one MongoDB change stream a process, fanned out to browsers as server-sent events.

The last event of each batch of changes carries the number of its last change as id: a browser that reconnects says it
in Last-Event-ID and is first sent what it missed, from the change feed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from dicomweb.errors import Unavailable
from gateway.errors import CatalogueUnavailable
from gateway.jobs.model import Run
from gateway.jobs.queue import Database
from gateway.store import driver

logger = logging.getLogger(__name__)

MAX_CLIENTS = 200
#: Events that may wait for one client; one that is slower than that is told to come again.
MAX_WAITING = 256
#: Changes are gathered for this long: a series that arrives is one event, not one for each instance.
GATHER_S = 0.25
RECONNECT_S = 1.0
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

    def __init__(self, db: Database, prefix: str = "") -> None:
        self._db = db
        self._prefix = prefix
        self._clients: set[Subscription] = set()
        self._gathered: list[dict[str, Any]] = []
        self.closed = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled; over an interruption no event is lost silently, every client is ended."""
        while True:
            try:
                await self._watch()
            except CatalogueUnavailable:
                logger.warning("the change stream was interrupted; it is opened again")
            except Exception:  # one document that cannot be read must not silence all others
                logger.exception("the change stream failed; it is opened again")
            self._end_all()
            await asyncio.sleep(RECONNECT_S)

    async def _watch(self) -> None:
        async with driver.wrapped(), driver.watch(self._db, _WATCHED, full_document="updateLookup") as stream:
            async for change in stream:
                document = change.get("fullDocument")
                if document is None:
                    continue
                if change["ns"]["coll"] == "runs":
                    self._publish([Event("run", Run.from_document(document).to_json(self._prefix))])
                else:
                    self._gather(document)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Take part from now on; raise Unavailable if too many do."""
        if len(self._clients) >= MAX_CLIENTS or self.closed.is_set():
            raise Unavailable("Too many clients listen for events already; try again shortly.")
        subscription = Subscription()
        self._clients.add(subscription)
        try:
            yield subscription
        finally:
            self._clients.discard(subscription)

    async def since(self, seq: int) -> AsyncIterator[Event]:
        """What happened to the archive after change number `seq`."""
        while True:
            async with driver.wrapped():
                page = await self._db["changes"].find({"_id": {"$gt": seq}}).sort("_id", 1).limit(_PAGE).to_list(None)
            if not page:
                return
            for event in summarise(page):
                yield event
            seq = page[-1]["_id"]

    def close(self) -> None:
        """End all clients, so that the server can stop. Idempotent."""
        self.closed.set()
        self._end_all()

    async def wait_closed(self, timeout_s: float) -> None:
        """Pause, but not beyond the end of the hub."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.closed.wait()

    def _gather(self, change: dict[str, Any]) -> None:
        if not self._gathered:
            asyncio.get_running_loop().call_later(GATHER_S, self._publish_gathered)
        self._gathered.append(change)

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


def summarise(changes: Iterable[Mapping[str, Any]]) -> list[Event]:
    """Changes of the feed as events: instances stored counted for each series, deletions named once for each study.

    Events come in the order of their last change. The last one alone has a number: who has seen it has seen them all.
    """
    counts: dict[tuple[str, str, str], int] = {}
    seq = 0
    for change in changes:
        stored = change["action"] == "stored"
        key = (change["action"], change["study"], change["series"] if stored else "")
        counts[key] = counts.pop(key, 0) + 1
        seq = change["_id"]
    events = [
        Event(action, {"study": study, **({"series": series, "instances": count} if series else {})})
        for (action, study, series), count in counts.items()
    ]
    return [*events[:-1], replace(events[-1], seq=seq)] if events else []
