"""The audit: who asked for identity, for whose, and what came of it. It holds pseudonyms and issued UIDs alone.

A record is durable before an answer leaves; who cannot be recorded is not answered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.assignment import Keys
from gateway.deid.keys import check_value, derive
from gateway.logs import request_id
from gateway.store.ledger import Flaw, Ledger

_MAX_CHARACTERS: Final = 200
_MAX_VALUES: Final = 100
What = Mapping[str, str | list[str]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and from where."""

    user: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record: `what` names pseudonyms and UIDs that were issued; `request` is the id in the log."""

    number: int
    at: datetime
    user: str
    address: str
    request: str
    action: str
    outcome: str
    what: What


class Audit:
    """The audit of one archive; any number of processes add to it."""

    def __init__(self, db: Any, keys: Keys) -> None:
        audit_keys = [derive(key, "audit") for key in (keys.vault, *keys.previous)]
        by_name = {check_value(key): key for key in audit_keys}
        self._ledger = Ledger(db, "audit", by_name, check_value(audit_keys[0]))

    async def record(self, action: str, outcome: str, caller: Caller, what: What | None = None) -> int:
        """Note that `caller` did `action` with `outcome`, durably when this returns; raise Unavailable."""
        now = datetime.now(UTC)
        fields = {
            "at": now - timedelta(microseconds=now.microsecond % 1000),  # as the database keeps it
            "user": caller.user[:_MAX_CHARACTERS],
            "address": caller.address[:_MAX_CHARACTERS],
            "request": request_id.get(),
            "action": action,
            "outcome": outcome,
            "what": {name: _bounded(value) for name, value in (what or {}).items()},
        }
        return await self._ledger.append(fields)

    async def entries(self, since: int = 0) -> AsyncIterator[Entry]:
        """All records after a number."""
        async for record in self._ledger.records(since):
            fields = {name: record[name] for name in Entry.__slots__ if name != "number"}
            yield Entry(number=record["_id"], **fields)

    def verify(self) -> AsyncIterator[Flaw]:
        """What is wrong with the audit: records that were changed or removed."""
        return self._ledger.verify()


def _bounded(value: str | list[str]) -> str | list[str]:
    if isinstance(value, str):
        return value[:_MAX_CHARACTERS]
    return [one[:_MAX_CHARACTERS] for one in value[:_MAX_VALUES]]
