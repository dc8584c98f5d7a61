"""The ordered change feed: what was stored and deleted, numbered without gaps in the order in which it became visible.

One document holds the changes that were recorded together. Its `_id` is the number of the first of them and `last` that
of the last; UIDs are grouped by series, since a group is mostly of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

#: Changes that are recorded together at most, in a transaction: MongoDB's makers advise to change no more in one.
MAX_RECORDED = 1000

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one instance; `action` is stored or deleted."""

    seq: int
    action: str
    study_uid: str
    series_uid: str
    instance_uid: str
    at: datetime


def record(first: int, action: str, rows: Sequence[Row], at: datetime) -> dict[str, Any]:
    """The document of changes of rows, numbered from `first`; those of a series stay in their order."""
    series = [
        {"study": study_uid, "series": series_uid, "instances": [row["_id"] for row in members]}
        for (study_uid, series_uid), members in groupby(sorted(rows, key=_series), _series)
    ]
    return {"_id": first, "last": first + len(rows) - 1, "action": action, "at": at, "series": series}


def unpack(document: Mapping[str, Any]) -> Iterator[Change]:
    """The changes of a document, in their order."""
    seq = document["_id"]
    for group in document["series"]:
        for instance_uid in group["instances"]:
            yield Change(seq, document["action"], group["study"], group["series"], instance_uid, document["at"])
            seq += 1


async def read(db: Any, since: int, limit: int) -> list[Change]:
    """The first changes after number `since`. What was stored must have been numbered before, see `arrivals.py`."""
    found: list[Change] = []
    # A document that begins before `since` may end after it, and none has more numbers than this.
    condition = {"_id": {"$gt": since - MAX_RECORDED}, "last": {"$gt": since}}
    async with db.changes.find(condition).sort("_id", 1) as documents:
        async for document in documents:
            found += (change for change in unpack(document) if change.seq > since)
            if len(found) >= limit:
                break
    return found[:limit]


async def latest(db: Any) -> int:
    """The number of the last change, 0 if there is none."""
    newest = await db.changes.find_one({}, {"last": 1}, sort=[("_id", -1)])
    return int(newest["last"]) if newest else 0


def series_of(rows: Iterable[Row]) -> set[tuple[str, str]]:
    """The series that rows are of, each after its study."""
    return set(map(_series, rows))


def _series(row: Row) -> tuple[str, str]:
    return row["study_uid"], row["series_uid"]
