"""Storage commitment (PS3.18 chapter 13) by the archive's own truth: a committed row, and its whole object beside.

What is committed is kept until somebody with the right to deletes it. Requests live in the catalogue, so that any
worker answers for any other, and one that ended is taken over by whoever is asked next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from dicomweb.errors import IsthmusError, Unavailable
from dicomweb.ports import Commitment, Reference, Runner
from gateway.archive import Archive, Source
from gateway.errors import ObjectNotFound
from gateway.store import driver
from gateway.store.commitments import CommitmentRecords

logger = logging.getLogger(__name__)
#: Most requests are answered at once; what takes longer goes on behind the answer 202.
_PATIENCE_S = 3.0
_BATCH = 500
_AT_ONCE = 8
#: Requests that one worker checks at a time; each may name some ten thousand instances.
_MAX_REQUESTS = 16
# PS3.3 section C.14.1.1.
_PROCESSING_FAILURE, _NO_SUCH_INSTANCE, _CLASS_CONFLICT = 0x0110, 0x0112, 0x0119
_ROW = dict.fromkeys(("study_uid", "series_uid", "sop_class_uid", "key", "size"), 1)


class ArchiveCommitments:
    """Implements `dicomweb.ports.Commitments`.

    `source` tells where the caller's objects come from; `run` runs a function in a thread.
    """

    def __init__(self, archive: Archive, source: Callable[[web.Request], Source], run: Runner) -> None:
        self._archive = archive
        self._source = source
        self._records = CommitmentRecords(archive.catalogue.db, archive.secret("commitment"), run)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Prepare the collection."""
        await self._records.start()

    async def close(self) -> None:
        """Leave what is not finished to whoever is asked next."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def request(
        self, request: web.Request, transaction_uid: str, references: Sequence[Reference]
    ) -> Commitment | None:
        """Keep the request and check what it names."""
        if len(self._tasks) >= _MAX_REQUESTS:
            raise Unavailable("Too many commitment requests are being checked; try again shortly.")
        source = self._source(request)
        await self._records.add(transaction_uid, str(source), references)
        return await self._work(transaction_uid, source, references)

    async def result(self, request: web.Request, transaction_uid: str) -> Commitment | None:
        """The result, or what is missing for it taken over from a worker that ended."""
        source = self._source(request)
        record = await self._records.get(transaction_uid, str(source))
        is_free = len(self._tasks) < _MAX_REQUESTS
        if record.failures is None and is_free and await self._records.take_over(transaction_uid):
            return await self._work(transaction_uid, source, record.references)
        return None if record.failures is None else Commitment(record.references, record.failures)

    async def _work(self, transaction_uid: str, source: Source, references: Sequence[Reference]) -> Commitment | None:
        """Check in a task of its own, and wait for it a little."""
        found: dict[int, int] = {}
        task = asyncio.create_task(self._check(transaction_uid, source, references, found), name="commitment")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait([task], timeout=_PATIENCE_S)
        succeeded = task.done() and not task.cancelled() and task.exception() is None
        return Commitment(references, found) if succeeded else None

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it has said what it has to say

    async def _check(
        self, transaction_uid: str, source: Source, references: Sequence[Reference], failures: dict[int, int]
    ) -> None:
        """Check all references and keep the result; when the server itself fails, leave them for another time."""
        try:
            stored_uid = await self._archive.uid_map(source)
            for start in range(0, len(references), _BATCH):
                batch = references[start : start + _BATCH]
                for number, reason in (await self._check_batch(batch, stored_uid)).items():
                    failures[start + number] = reason
                await self._records.renew(transaction_uid)
            await self._records.finish(transaction_uid, failures)
        except BaseException as exc:
            if isinstance(exc, IsthmusError):
                logger.warning("a commitment request could not be checked: %s", exc.message)
            await asyncio.shield(self._records.let_go(transaction_uid))
            raise

    async def _check_batch(self, batch: Sequence[Reference], stored_uid: Callable[[str], str]) -> dict[int, int]:
        """Failure Reasons by position. An instance is found by the UID it was sent with or is stored under."""
        names = {one.instance_uid for one in batch}
        names |= {stored_uid(name) for name in names}
        async with driver.wrapped():
            cursor = self._archive.catalogue.db.instances.find({"_id": {"$in": sorted(names)}}, _ROW)
            rows = {row["_id"]: row async for row in cursor}
        failures: dict[int, int] = {}
        present: list[tuple[int, dict[str, Any]]] = []
        for number, one in enumerate(batch):
            row = rows.get(stored_uid(one.instance_uid)) or rows.get(one.instance_uid)
            if row is None or not _is_of(row, one, stored_uid):
                failures[number] = _NO_SUCH_INSTANCE
            elif row["sop_class_uid"] != one.sop_class_uid:
                failures[number] = _CLASS_CONFLICT
            else:
                present.append((number, row))
        return failures | await self._incomplete(present)

    async def _incomplete(self, present: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[int, int]:
        """Failures of instances whose object is not there as a whole."""
        turns = asyncio.Semaphore(_AT_ONCE)

        async def is_whole(row: Mapping[str, Any]) -> bool:
            async with turns:
                try:
                    return bool((await self._archive.objects.info(row["key"])).size == row["size"])
                except ObjectNotFound:
                    return False

        whole = await asyncio.gather(*(is_whole(row) for _, row in present))
        failed = [number for (number, _), fine in zip(present, whole, strict=True) if not fine]
        if failed:
            logger.error("%d stored objects are missing or incomplete; run: isthmus verify", len(failed))
        return dict.fromkeys(failed, _PROCESSING_FAILURE)


def _is_of(row: Mapping[str, Any], reference: Reference, stored_uid: Callable[[str], str]) -> bool:
    """Whether the row is of the study and series that the reference names, if it names them."""
    pairs = ((reference.study_uid, row["study_uid"]), (reference.series_uid, row["series_uid"]))
    return all(not named or stored in (named, stored_uid(named)) for named, stored in pairs)
