"""Records that are only ever added, numbered without gaps, each of which vouches for all before it.

The link of a record is a hash of its content and of the link before; its MAC is one of the link, with a key that the
database does not have. So one MAC that is right vouches for every record up to it, also for those whose key is gone.
Links take no key: a last record whose MAC is not right may be forged, and none is linked to it. The chain begins anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from pymongo.errors import DuplicateKeyError

from gateway.store import driver

_START: Final = bytes(32)
#: In place of the link before, where that is not proven.
_ANEW: Final = b"anew"
_OWN_FIELDS: Final = ("link", "key", "mac")
_BATCH: Final = 500
_CANONICAL: Final = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a record: `kind` is changed, missing, or unproven if no key is left that vouches for it."""

    kind: str
    number: int


class Ledger:
    """The records of one collection. The number of the last is kept elsewhere, so that a cut end is noticed."""

    def __init__(self, db: Any, name: str, keys: Mapping[str, bytes], current: str) -> None:
        """Add with the key named `current`; the others vouch for older records."""
        self._records = db[name]
        self._heads = db.keys
        self._name = name
        self._keys = keys
        self._current = current
        self._one = asyncio.Lock()

    async def append(self, fields: Mapping[str, Any]) -> int:
        """Add a record, durably when this returns; the number that it got."""
        async with self._one, driver.wrapped():
            while True:
                head = await self._head()  # before the last record: then it is none behind, unless the end was cut
                number, before = await self._last()
                record = {"_id": max(head, number) + 1, **fields}
                link = _link(before, record)
                mac = hmac.digest(self._keys[self._current], link, "sha256")
                try:
                    await self._records.insert_one(record | {"link": link, "key": self._current, "mac": mac})
                except DuplicateKeyError:
                    continue  # another process was faster: this one comes after
                await self._note(record["_id"])
                return int(record["_id"])

    async def _last(self) -> tuple[int, bytes]:
        """Number of the last record, and what the next one is linked to."""
        last = await self._records.find_one({}, dict.fromkeys(_OWN_FIELDS, 1), sort=[("_id", -1)])
        if last is None:
            return 0, _START
        return last["_id"], _bytes(last, "link") if self._proves(last) else _ANEW

    async def _head(self) -> int:
        """The number of the last record that was ever added."""
        return int((await self._heads.find_one({"_id": self._name}) or {"number": 0})["number"])

    async def _note(self, number: int) -> None:
        """Remember the last number."""
        while True:
            try:
                await self._heads.update_one({"_id": self._name}, {"$max": {"number": number}}, upsert=True)
            except DuplicateKeyError:
                continue  # another process has just made it
            return

    async def records(self, since: int = 0) -> AsyncIterator[dict[str, Any]]:
        """All records after a number, in order."""
        async with driver.wrapped():
            async for record in self._records.find({"_id": {"$gt": since}}, sort=[("_id", 1)], batch_size=_BATCH):
                yield record

    async def verify(self) -> AsyncIterator[Flaw]:
        """Go through all records and tell what is wrong."""
        async with driver.wrapped():
            head = await self._head()
        last, link, unproven = 0, _START, list[int]()
        async for record in self.records():
            number = record["_id"]
            for missing in range(last + 1, number):
                yield Flaw("missing", missing)
            before, link = link if number == last + 1 else None, _bytes(record, "link")
            if before is None or link == _link(_ANEW, record):  # it vouches for none before
                for one in unproven:
                    yield Flaw("unproven", one)
                unproven.clear()
                before = None
            last = number
            is_known = record.get("key") in self._keys
            if (before is not None and link != _link(before, record)) or (is_known and not self._proves(record)):
                yield Flaw("changed", number)
            elif is_known:
                unproven.clear()
            else:
                unproven.append(number)
        for missing in range(last + 1, head + 1):
            yield Flaw("missing", missing)
        for number in unproven:
            yield Flaw("unproven", number)

    def _proves(self, record: Mapping[str, Any]) -> bool:
        """Whether the MAC of a record is right, by a key that is known."""
        key = self._keys.get(record.get("key", ""))
        if key is None:
            return False
        return hmac.compare_digest(hmac.digest(key, _bytes(record, "link"), "sha256"), _bytes(record, "mac"))


def _link(before: bytes, record: Mapping[str, Any]) -> bytes:
    """The hash of a record and of all before it."""
    content = {name: value for name, value in record.items() if name not in _OWN_FIELDS}
    return hashlib.sha256(before + orjson.dumps(content, default=_moment, option=_CANONICAL)).digest()


def _bytes(record: Mapping[str, Any], name: str) -> bytes:
    """Bytes of a record, in which somebody may have put anything."""
    value = record.get(name)
    return value if isinstance(value, bytes) else b""


def _moment(value: Any) -> str:
    """A time as text: the same before it is written and once it is read. What else there may be, others put there."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds") if isinstance(value, datetime) else repr(value)
