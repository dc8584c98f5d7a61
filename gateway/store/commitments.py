"""Commitment requests in the catalogue: what was asked, sealed; who works on it; the result, for a while.

A record names what its sender knows, which may be what de-identification removed: it is encrypted with a key of the
gateway, and known by a keyed digest of its transaction UID, so that the catalogue alone tells nothing.
"""

from __future__ import annotations

import gzip
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError

from dicomweb.errors import Conflict, Gone, NotFound
from dicomweb.ports import Reference, Runner
from gateway.store import driver

#: How long a result can be asked for, and how long its transaction UID stays taken (410 in between).
RESULT_KEPT = timedelta(days=7)
_RECORD_KEPT = timedelta(days=30)
#: A worker that has said nothing for so long has ended; whoever asks next takes over.
_LEASE = timedelta(seconds=60)
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Record:
    """A request: `failures` by position, None while it is worked on."""

    references: Sequence[Reference]
    failures: Mapping[int, int] | None


class CommitmentRecords:
    """The collection `commitments`. `run` runs a function in a thread: sealing a large request takes half a second."""

    def __init__(self, db: Any, key: bytes, run: Runner) -> None:
        self._records = db.commitments
        self._cipher = AESGCM(key)
        self._key = key
        self._run = run

    async def start(self) -> None:
        """Let the database drop what has expired."""
        async with driver.wrapped():
            await self._records.create_indexes([IndexModel("forget_at", expireAfterSeconds=0)])

    async def add(self, transaction_uid: str, owner: str, references: Sequence[Reference]) -> None:
        """Keep a request, taken by this worker; raise Conflict if the transaction UID is in use."""
        now = datetime.now(UTC)
        document = {
            "_id": self._id(transaction_uid),
            "owner": owner,
            "sealed": await self._run(self._seal, transaction_uid, references),
            "lease_until": now + _LEASE,
            "expires_at": now + RESULT_KEPT,
            "forget_at": now + _RECORD_KEPT,
        }
        try:
            async with driver.wrapped():
                await self._insert(document)
        except _Taken:
            raise Conflict("The transaction UID is in use already.") from None

    async def get(self, transaction_uid: str, owner: str) -> Record:
        """A request of this owner; raise NotFound, or Gone if its result is kept no longer."""
        async with driver.wrapped():
            document = await self._records.find_one({"_id": self._id(transaction_uid), "owner": owner})
        if document is None:
            raise NotFound("There is no such commitment request.")
        if document["expires_at"] <= datetime.now(UTC):
            raise Gone("The result of this commitment request is not kept any longer.")
        failures = document.get("failures")
        found = None if failures is None else {int(number): int(reason) for number, reason in failures}
        return Record(await self._run(self._open, transaction_uid, document["sealed"]), found)

    async def take_over(self, transaction_uid: str) -> bool:
        """Work on a request that nobody works on; True if it is this worker's now."""
        now = datetime.now(UTC)
        free = {"_id": self._id(transaction_uid), "failures": None, "lease_until": {"$lte": now}}
        async with driver.wrapped():
            taken = await self._records.update_one(free, {"$set": {"lease_until": now + _LEASE}})
        return bool(taken.modified_count)

    async def renew(self, transaction_uid: str) -> None:
        """Say that the work goes on."""
        until = datetime.now(UTC) + _LEASE
        async with driver.wrapped():
            await self._records.update_one({"_id": self._id(transaction_uid)}, {"$set": {"lease_until": until}})

    async def let_go(self, transaction_uid: str) -> None:
        """Leave the work to whoever asks next."""
        async with driver.wrapped():
            now = datetime.now(UTC)
            await self._records.update_one({"_id": self._id(transaction_uid)}, {"$set": {"lease_until": now}})

    async def finish(self, transaction_uid: str, failures: Mapping[int, int]) -> None:
        """Keep the result."""
        result = [[number, reason] for number, reason in failures.items()]
        async with driver.wrapped():
            await self._records.update_one({"_id": self._id(transaction_uid)}, {"$set": {"failures": result}})

    async def _insert(self, document: dict[str, Any]) -> None:
        try:
            await self._records.insert_one(document)
        except DuplicateKeyError:
            raise _Taken from None

    def _id(self, transaction_uid: str) -> bytes:
        """What a request is known by: its sender's UID may be made of a date and a place."""
        return hmac.digest(self._key, b"transaction:" + transaction_uid.encode("ascii"), "sha256")

    def _seal(self, transaction_uid: str, references: Sequence[Reference]) -> bytes:
        rows = [[one.sop_class_uid, one.instance_uid, one.study_uid, one.series_uid] for one in references]
        nonce = os.urandom(_NONCE_BYTES)
        plain = gzip.compress(json.dumps(rows).encode("ascii"), 1)
        return nonce + self._cipher.encrypt(nonce, plain, transaction_uid.encode("ascii"))

    def _open(self, transaction_uid: str, sealed: bytes) -> list[Reference]:
        nonce, box = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        plain = self._cipher.decrypt(nonce, box, transaction_uid.encode("ascii"))
        return [Reference(*row) for row in json.loads(gzip.decompress(plain))]


class _Taken(Exception):
    """The transaction UID is taken."""
