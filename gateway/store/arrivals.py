"""How rows that were committed enter the change feed and the rows of series and studies: later, many at a time.

To store is one insert. A writer numbers its rows in the order in which it inserts them, in a stream of its own, so that
nobody else is asked; up to where each stream is followed stands in one document. Whoever reads what is derived, and a
task every now and then, catches up first: one transaction moves these positions, appends to the change feed and derives
the series and studies again. That document makes such transactions happen one after the other; each sees all that the
one before did. So a change number is given once, in order, and what is derived is never behind it.

A row cannot appear behind the position of its stream: its writer inserts one group after the other, in order, and after
a failure whose extent it does not know it goes on in another stream. Streams are used for an hour and followed for more
than a day.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from gateway.store import changes, derived, driver
from gateway.store.changes import MAX_RECORDED
from gateway.store.scheme import Scheme

#: The document of the positions.
FEED = {"_id": "changes"}
#: The number of a row is that of its stream, followed by as many bits that count.
_COUNT_BITS = 40
_USED_S, _FOLLOWED_S = 3600.0, 86400.0


class Overtaken(Exception):
    """Another process has changed what is derived meanwhile."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far the catalogue was followed: the last change number, and the last row of each stream."""

    number: int
    streams: Mapping[str, Mapping[str, Any]]

    @classmethod
    async def read(cls, db: Any) -> Position:
        """The position as it is."""
        document = await db.counters.find_one(FEED) or {}
        return cls(document.get("value", 0), document.get("streams", {}))

    def is_behind(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is still to be followed."""
        arrival = row.get("arrival", 0)
        stream = self.streams.get(str(arrival >> _COUNT_BITS))
        return stream is not None and arrival > stream["last"]

    def unfollowed(self) -> dict[str, Any]:
        """The condition of rows that are still to be followed."""
        ends = ((stream["last"], (int(name) + 1) << _COUNT_BITS) for name, stream in self.streams.items())
        return {"$or": [{"arrival": {"$gt": last, "$lt": end}} for last, end in ends]}

    async def move(self, db: Any, session: Any, count: int, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        """Take `count` change numbers, and go on behind these rows; raise Overtaken."""
        lasts = {f"streams.{row['arrival'] >> _COUNT_BITS}.last": row["arrival"] for row in rows}
        update = {"$inc": {"value": count, "moves": 1}} | ({"$set": lasts} if lasts else {})
        moved = await db.counters.update_one(FEED | {"value": self.number}, update, session=session)
        if not moved.matched_count:
            raise Overtaken


class Stream:
    """The numbers that one writer gives to its rows; for one thread at a time."""

    def __init__(self, db: Any) -> None:
        """Number rows of `db`, a database of a blocking client."""
        self._db = db
        self._next: int | None = None
        self._opened = 0.0

    def numbers(self, count: int) -> range:
        """Numbers for rows that are inserted next, in this order."""
        if self._next is None or not 0 <= time.time() - self._opened < _USED_S:
            self._next = None
            self._open()
        first = self._next or 0
        self._next = first + count
        return range(first, self._next)

    def end(self) -> None:
        """Leave the stream: nobody knows what of it may still arrive."""
        self._next = None

    def _open(self) -> None:
        self._opened = time.time()
        counters = self._db.counters
        feed = counters.find_one_and_update(FEED, {"$inc": {"opened": 1}}, upsert=True, return_document=True)
        last = feed["opened"] << _COUNT_BITS
        opened = {"last": last, "opened": datetime.now(UTC)}
        counters.update_one(FEED, {"$set": {f"streams.{feed['opened']}": opened}})
        self._next = last + 1  # not before it is known to be followed


async def catch_up(db: Any, scheme: Scheme) -> None:
    """Follow every row that was committed before this is called."""
    async with driver.wrapped():
        while True:
            position = await Position.read(db)
            if not position.streams:
                return
            fields = {"study_uid": 1, "series_uid": 1, "arrival": 1, "at": 1}
            rows = await db.instances.find(
                position.unfollowed(), fields, sort=[("arrival", 1)], limit=MAX_RECORDED, batch_size=MAX_RECORDED + 1
            ).to_list(None)
            if not rows:
                return
            try:
                await driver.transaction(db.client, partial(_follow, db, scheme, position, rows))
            except Overtaken:
                continue
            if len(rows) < MAX_RECORDED:  # what has come since is for the next: under load there is always more
                return


async def _follow(db: Any, scheme: Scheme, position: Position, rows: Sequence[Mapping[str, Any]], session: Any) -> None:
    await position.move(db, session, len(rows), rows)
    in_time = sorted(rows, key=lambda row: (row["at"], row["arrival"]))
    document = changes.record(position.number + 1, "stored", in_time, datetime.now(UTC))
    await db.changes.insert_one(document, session=session)
    await derived.derive(db, scheme, changes.series_of(rows), document["last"], session)


async def lock(db: Any, session: Any) -> int:
    """Within a transaction, derive when nobody else does; returns the last change number."""
    feed = await db.counters.find_one_and_update(
        FEED, {"$inc": {"moves": 1}}, upsert=True, return_document=True, session=session
    )
    return int(feed.get("value", 0))


class Retirement:
    """Follows streams no longer that nobody uses any more."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self._old: set[str] = set()

    async def step(self) -> None:
        """Drop what was old at the last step already: whatever was on its way then has arrived."""
        async with driver.wrapped():
            position = await Position.read(self._db)
            now = datetime.now(UTC)
            old = {
                name
                for name, stream in position.streams.items()
                if (now - stream["opened"]).total_seconds() > _FOLLOWED_S
            }
            gone = {f"streams.{name}": "" for name in old & self._old}
            if gone and not await self._db.instances.find_one(position.unfollowed(), {"_id": 1}):
                await self._db.counters.update_one(FEED | {"value": position.number}, {"$unset": gone})
            self._old = old
