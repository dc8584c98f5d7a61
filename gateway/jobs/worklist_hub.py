"""Events of workitems on their way to the WebSockets of this process: a change stream, fanned out to subscribers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from dicomweb.errors import Unavailable
from dicomweb.ports import JsonDataSet
from dicomweb.worklist.events import WORKLIST, Report, status_change
from gateway.errors import CatalogueUnavailable
from gateway.jobs.queue import Database
from gateway.jobs.workitems import WorkitemStore
from gateway.store.change_stream import ChangeStream

MAX_CONNECTIONS = 200
#: Events that may wait for one connection; one that is slower is closed, and may come again.
MAX_WAITING = 1_000
_EXPIRE_EVERY_S = 60.0
_NOTICED: list[dict[str, Any]] = [
    {
        "$match": {
            "$or": [
                {"operationType": "insert"},
                {"updateDescription.updatedFields.notice": {"$exists": True}},
            ]
        }
    },
    {"$project": {"documentKey": 1, "updateDescription.updatedFields.notice": 1, "fullDocument.notice": 1}},
]


class Connection:
    """The events of one connection: of one application entity, or of all that a user has subscribed."""

    def __init__(self, ae: str | None, user: str) -> None:
        self._ae = ae
        self._user = user
        self._ended = False
        self._waiting: asyncio.Queue[tuple[str, tuple[int, JsonDataSet]] | None] = asyncio.Queue(MAX_WAITING + 1)

    async def get(self) -> tuple[str, tuple[int, JsonDataSet]] | None:
        """Wait for the next event; None ends the connection."""
        return await self._waiting.get()

    def concerns(self, ae: str, user: str) -> bool:
        """Whether what an application entity is told goes here."""
        return ae == self._ae if self._ae is not None else user == self._user

    def put(self, uid: str, report: tuple[int, JsonDataSet]) -> None:
        """Hand over an event, or the end if too many wait."""
        if self._ended:
            return
        if self._waiting.qsize() >= MAX_WAITING:
            self.end()
        else:
            self._waiting.put_nowait((uid, report))

    def end(self) -> None:
        """Let it end after what waits already."""
        if not self._ended:
            self._ended = True
            self._waiting.put_nowait(None)


class WorklistHub:
    """Watches the workitems and tells the subscribers that are connected here. Runs while its application does."""

    def __init__(self, db: Database, store: WorkitemStore) -> None:
        self._stream = ChangeStream("the worklist", db["workitems"], _NOTICED, self._take, self._end_all)
        self._store = store
        self._connections: set[Connection] = set()
        self._closed = False
        self.started = datetime.now(UTC)

    async def run(self) -> None:
        """Watch until cancelled. Over an interruption events are lost: connections end, and their users look again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._expire(), name="worklist-expiry")
            await self._stream.run()

    def _take(self, change: Mapping[str, Any]) -> None:
        fields = change.get("fullDocument") or change["updateDescription"]["updatedFields"]
        if "notice" in fields:
            self._publish(change["documentKey"]["_id"], json.loads(fields["notice"]))

    def _publish(self, uid: str, notice: dict[str, Any]) -> None:
        for connection in self._connections:
            if any(connection.concerns(ae, user) for ae, user in notice["to"]):
                for kind, attributes in notice["reports"]:
                    connection.put(uid, (kind, attributes))

    @asynccontextmanager
    async def connect(self, ae: str | None, user: str) -> AsyncIterator[Connection]:
        """Take part from now on; raise Unavailable if too many do, or nothing can be heard."""
        if self._closed or len(self._connections) >= MAX_CONNECTIONS:
            raise Unavailable("Too many subscribers are connected already; try again shortly.")
        connection = Connection(ae, user)
        self._connections.add(connection)
        try:
            async with self._stream.listening():
                yield connection
        finally:
            self._connections.discard(connection)

    def close(self) -> None:
        """Tell who is connected that this server goes down, and end their connections. Idempotent."""
        if not self._closed:
            self._closed = True
            self._tell(status_change("GOING DOWN"))
            self._end_all()

    def _tell(self, report: Report) -> None:
        for connection in self._connections:
            connection.put(WORKLIST, report)

    def _end_all(self) -> None:
        for connection in self._connections:
            connection.end()

    async def _expire(self) -> None:
        while True:
            with suppress(CatalogueUnavailable):
                await self._store.expire()
            await asyncio.sleep(_EXPIRE_EVERY_S)
