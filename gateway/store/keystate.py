"""Which search keys are ready: those that the scheme of every row holds. The rows are asked, so it cannot be wrong."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from dicomweb.query import UNIQUE_KEYS, Key, SearchKeys, TagPath
from gateway.store import driver
from gateway.store.scheme import DERIVATION, Scheme

_ROWS = ("instances", "series", "studies")
#: Once all keys are ready that is believed for so long: other machines may run with other settings for a while.
_BELIEVED_S = 10.0
_UNIQUE = frozenset(UNIQUE_KEYS.values())


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a key is built: in `done` of `total` instances."""

    path: TagPath
    key: Key
    declared: bool
    ready: bool
    done: int
    total: int


class KeyStates:
    """What can be searched by now."""

    def __init__(self, db: Any, scheme: Scheme) -> None:
        self._db = db
        self._scheme = scheme
        self._ready_until = 0.0

    async def usable(self) -> SearchKeys:
        """All keys, and those that some row lacks."""
        if time.monotonic() < self._ready_until:
            return SearchKeys(self._scheme.keys)
        building = await self._lacking()
        if not building:
            self._ready_until = time.monotonic() + _BELIEVED_S
        return SearchKeys(self._scheme.keys, building)

    async def progress(self) -> list[Progress]:
        """Each key with how far it is."""
        lacking = await self._lacking()
        async with driver.wrapped():
            counts = await driver.aggregate(self._db.instances, [{"$group": {"_id": "$scheme", "count": {"$sum": 1}}}])
            known = await self._known()
        total = sum(group["count"] for group in counts)
        return [
            Progress(
                path,
                key,
                path in self._scheme.extra,
                path not in lacking,
                sum(one["count"] for one in counts if path in _UNIQUE or name in known.get(one["_id"], ())),
                total,
            )
            for path, key in sorted(self._scheme.keys.items())
            for name in [self._scheme.name_of(path)]
        ]

    async def _lacking(self) -> frozenset[TagPath]:
        """The keys that some row was not derived with."""
        async with driver.wrapped():
            present: set[str | None] = set()
            for name in _ROWS:
                present.update(await self._db[name].distinct("scheme"))
                if await self._db[name].find_one({"scheme": None}, {"_id": 1}):
                    present.add(None)
            present.discard(self._scheme.id)
            known = await self._known() if present else {}
        return frozenset(
            path
            for path in self._scheme.keys
            if path not in _UNIQUE and any(self._scheme.name_of(path) not in known.get(one, ()) for one in present)
        )

    async def _known(self) -> dict[str | None, frozenset[str]]:
        """The keys of each scheme that derives them as this one does."""
        cursor = self._db.schemes.find({"derivation": DERIVATION})
        return {document["_id"]: frozenset(document["keys"]) async for document in cursor}
