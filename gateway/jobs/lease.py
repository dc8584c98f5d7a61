"""A lease in MongoDB that makes one worker of many: who stops renewing it, or is too slow, loses it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from gateway.jobs.queue import Database, LeaseLost
from gateway.store.driver import wrapped


class Lease:
    """The right to be the one that does `name` on a database; `token` names this holder. Times are the database's."""

    def __init__(self, db: Database, *, name: str = "dispatcher", lease_s: float = 10.0) -> None:
        self._name = name
        self._leases = db["leases"]
        self._lease_ms = int(lease_s * 1000)
        self.renew_every_s = lease_s / 4
        self.token = ""

    @wrapped()
    async def acquire(self) -> bool:
        """Take the lease, under a new token, if it is free or expired; say whether it is held now."""
        free = {"token": "", "renewed": datetime(1970, 1, 1, tzinfo=UTC)}
        await self._leases.update_one({"_id": self._name}, {"$setOnInsert": free}, upsert=True)
        self.token = secrets.token_hex(8)
        expired = {"$expr": {"$lt": ["$renewed", {"$subtract": ["$$NOW", self._lease_ms]}]}}
        return await self._write({"$or": [{"token": ""}, expired]}, self.token)

    @wrapped()
    async def renew(self) -> None:
        """Hold it longer. Raises LeaseLost if another holder took it."""
        if not await self._write({"token": self.token}, self.token):
            raise LeaseLost("Another has taken over.")

    @wrapped()
    async def release(self) -> None:
        """Give it up, so that another may take it at once. Idempotent."""
        await self._write({"token": self.token}, "")

    async def _write(self, condition: dict[str, Any], token: str) -> bool:
        change = {"$set": {"token": token}, "$currentDate": {"renewed": True}}
        return bool((await self._leases.update_one({"_id": self._name} | condition, change)).matched_count)
