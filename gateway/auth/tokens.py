"""Bearer tokens, sessions and one-time links: random secrets of which the catalogue keeps only a hash."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pymongo import IndexModel

from gateway.store import driver

Kind = Literal["bearer", "session", "once"]
#: How long a worker trusts what it looked up; revoking a token takes effect within this time everywhere.
_CACHE_S = 15.0
_MAX_CACHED = 10_000
_MAX_SECRET = 256


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sent a request."""

    user: str
    kind: str


class Tokens:
    """The tokens of one gateway. Secrets are 256 random bits; an unkeyed hash of such is not guessable."""

    def __init__(self, db: Any) -> None:
        self._tokens = db.tokens
        self._cache: dict[str, tuple[float, Principal]] = {}

    async def start(self) -> None:
        """Let the database drop what has expired."""
        async with driver.wrapped():
            await self._tokens.create_indexes([IndexModel("expires", expireAfterSeconds=0)])

    async def create(self, kind: Kind, user: str, valid_for: timedelta | None = None) -> str:
        """Make a token and return its secret, which is shown once and kept nowhere."""
        secret = secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        document: dict[str, Any] = {"_id": _hash(secret), "kind": kind, "user": user, "created": now}
        if valid_for is not None:
            document["expires"] = now + valid_for
        async with driver.wrapped():
            await self._tokens.insert_one(document)
        return secret

    async def adopt(self, secret: str, user: str) -> None:
        """Register a bearer token whose secret already exists, such as the one in the data folder."""
        document = {"kind": "bearer", "user": user, "created": datetime.now(UTC)}
        async with driver.wrapped():
            await self._tokens.update_one({"_id": _hash(secret)}, {"$setOnInsert": document}, upsert=True)

    async def check(self, secret: str, kind: Kind) -> Principal | None:
        """Who holds this bearer token or session; None if nobody does or it expired."""
        if not secret or len(secret) > _MAX_SECRET:
            return None
        digest = _hash(secret)
        cached = self._cache.get(digest)
        if cached is not None and cached[0] > time.monotonic() and cached[1].kind == kind:
            return cached[1]
        async with driver.wrapped():
            document = await self._tokens.find_one({"_id": digest, "kind": kind})
        if document is None or _expired(document):
            return None
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        principal = Principal(document["user"], kind)
        self._cache[digest] = (time.monotonic() + _CACHE_S, principal)
        return principal

    async def redeem(self, code: str, session_for: timedelta) -> str | None:
        """Trade a one-time code for a session secret; the code is used up, whoever comes first."""
        if not code or len(code) > _MAX_SECRET:
            return None
        async with driver.wrapped():
            document = await self._tokens.find_one_and_delete({"_id": _hash(code), "kind": "once"})
        if document is None or _expired(document):
            return None
        return await self.create("session", document["user"], session_for)

    async def revoke(self, secret: str) -> None:
        """End a token or session."""
        self._cache.pop(_hash(secret), None)
        async with driver.wrapped():
            await self._tokens.delete_one({"_id": _hash(secret)})


def _hash(secret: str) -> str:
    # What a header holds besides ASCII comes as halves of characters.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _expired(document: dict[str, Any]) -> bool:
    expires = document.get("expires")
    return expires is not None and expires <= datetime.now(UTC)
