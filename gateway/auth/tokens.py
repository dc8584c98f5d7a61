"""Bearer tokens, sessions and one-time links: random secrets of which the catalogue keeps only a hash."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

from pymongo import IndexModel

from dicomweb.remembered import Remembered
from gateway.store import driver
from gateway.store.generations import Generations

Kind = Literal["bearer", "session", "once"]
#: What a token may allow beyond all that who is signed in may; nobody has any of it without being given it.
RIGHTS: Final = frozenset({"reidentify"})
#: How long a worker trusts what it looked up: so long another machine may still accept what was revoked on this one.
_CACHE_S = 15.0
_MAX_CACHED = 10_000
_MAX_SECRET = 256


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sent a request, and what that one may do beside what everybody may."""

    user: str
    kind: str
    rights: frozenset[str] = frozenset()


class Tokens:
    """The tokens of one gateway. Secrets are 256 random bits; an unkeyed hash of such is not guessable.

    The processes that share `revocations` forget what they looked up as soon as one of them revokes something.
    """

    def __init__(self, db: Any, revocations: Generations | None = None) -> None:
        self._tokens = db.tokens
        self._revocations = revocations
        self._cache: Remembered[tuple[float, Principal]] = Remembered(_MAX_CACHED)

    async def start(self) -> None:
        """Let the database drop what has expired."""
        async with driver.wrapped():
            await self._tokens.create_indexes([IndexModel("expires", expireAfterSeconds=0)])

    async def create(
        self, kind: Kind, user: str, valid_for: timedelta | None = None, rights: Iterable[str] = ()
    ) -> str:
        """Make a token with some of RIGHTS and return its secret, which is shown once and kept nowhere."""
        secret = secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        document: dict[str, Any] = {"_id": _hash(secret), "kind": kind, "user": user, "created": now}
        if rights:
            document["rights"] = sorted(rights)
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
        known, version = (_hash(secret), kind), self._revocations.of(None) if self._revocations is not None else 0
        cached = self._cache.get(known, version)
        if cached is not None and cached[0] > time.monotonic():
            return cached[1]
        async with driver.wrapped():
            document = await self._tokens.find_one({"_id": known[0], "kind": kind})
        if document is None or _expired(document):
            return None
        principal = Principal(document["user"], kind, _rights(document))
        self._cache.put(known, version, (time.monotonic() + _trusted_s(document), principal), 1)
        return principal

    async def redeem(self, code: str, session_for: timedelta) -> str | None:
        """Trade a one-time code for a session secret; the code is used up, whoever comes first."""
        if not code or len(code) > _MAX_SECRET:
            return None
        async with driver.wrapped():
            document = await self._tokens.find_one_and_delete({"_id": _hash(code), "kind": "once"})
        if document is None or _expired(document):
            return None
        return await self.create("session", document["user"], session_for, _rights(document))

    async def revoke(self, secret: str) -> None:
        """End a token or session, for all processes of this machine at once."""
        await self._revoke({"_id": _hash(secret)})

    async def revoke_all(self, user: str) -> int:
        """End all tokens, sessions and links of a user as `revoke` does; how many."""
        return await self._revoke({"user": user})

    async def _revoke(self, chosen: dict[str, str]) -> int:
        async with driver.wrapped():
            done = await self._tokens.delete_many(chosen)
        if self._revocations is not None:
            with self._revocations.writing():
                pass  # what is remembered by now is outdated
        return int(done.deleted_count)


def revocations(data_dir: Path) -> Generations:
    """What the processes that work with a data folder tell each other of revocations; blocks. Close it."""
    return Generations(data_dir / "tokens.generations")


def _hash(secret: str) -> str:
    # What a header holds besides ASCII comes as halves of characters.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _rights(document: dict[str, Any]) -> frozenset[str]:
    return frozenset(document.get("rights", ())) & RIGHTS


def _expired(document: dict[str, Any]) -> bool:
    expires = document.get("expires")
    return expires is not None and expires <= datetime.now(UTC)


def _trusted_s(document: dict[str, Any]) -> float:
    """How long a token that was looked up may be trusted: not beyond its end."""
    expires = document.get("expires")
    return _CACHE_S if expires is None else min(_CACHE_S, (expires - datetime.now(UTC)).total_seconds())
