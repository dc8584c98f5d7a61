"""The instances of one request on their way into the archive: small ones several at a time, answered in their order.

The archive commits in one transaction what comes together: one after the other, each instance would wait for its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from dicomweb.errors import IsthmusError
from dicomweb.ports import Archive, StoreOutcome
from dicomweb.storing.body import Part
from dicomweb.storing.uploads import Uploads

#: An instance up to this is stored while the next one arrives, a larger one as it arrives itself.
_SMALL_BYTES = 4 << 20
_AT_A_TIME = 8


class Stores:
    """Stores the parts of a request; their outcomes are put where they belong in `outcomes`."""

    def __init__(
        self, archive: Archive, uploads: Uploads, outcomes: list[StoreOutcome], *, study_uid: str | None
    ) -> None:
        self._archive = archive
        self._uploads = uploads
        self._outcomes = outcomes
        self._study_uid = study_uid
        self._places = asyncio.Semaphore(_AT_A_TIME)
        self._running: set[asyncio.Task[None]] = set()

    async def add(self, part: Part) -> None:
        """Store a part, or receive it and let it be stored."""
        chunks: list[bytes] = []
        is_whole, held = await self._received(part, chunks)
        try:
            if is_whole:
                await self._later(chunks, held)
                held = 0
            else:
                await self._straight(_joined(chunks, part))
        finally:
            self._uploads.give_back(held)

    async def settle(self) -> None:
        """Wait until all is stored."""
        if self._running:
            done, _ = await asyncio.wait(self._running)
            for task in done:
                task.result()

    async def _received(self, part: Part, chunks: list[bytes]) -> tuple[bool, int]:
        """Receive as much of a part as may be held; whether that is all of it, and how many bytes are counted."""
        held = 0
        try:
            async for chunk in part:
                chunks.append(chunk)
                if held + len(chunk) > _SMALL_BYTES or not self._uploads.take(len(chunk)):
                    return False, held
                held += len(chunk)
        except IsthmusError as exc:  # the archive says of which instance, if its header has come
            part.raise_again(exc)
            return False, held
        except BaseException:
            self._uploads.give_back(held)
            raise
        return True, held

    async def _straight(self, chunks: AsyncIterator[bytes]) -> None:
        self._outcomes.append(await self._archive.store(chunks, study_uid=self._study_uid))

    async def _later(self, chunks: list[bytes], held: int) -> None:
        await self._places.acquire()
        self._outcomes.append(StoreOutcome())
        task = asyncio.create_task(self._store(chunks, held, len(self._outcomes) - 1))
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def _store(self, chunks: list[bytes], held: int, position: int) -> None:
        try:
            outcome = await self._archive.store(_joined(chunks), study_uid=self._study_uid)
        except IsthmusError as exc:
            outcome = failure(exc)
        finally:
            self._uploads.give_back(held)
            self._places.release()
        self._outcomes[position] = outcome

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._running.discard(task)  # one that failed is kept for `settle` to raise


def failure(exc: IsthmusError, sop_class_uid: str = "", instance_uid: str = "") -> StoreOutcome:
    """A failure as an outcome: of an instance, or of a part that is none."""
    return StoreOutcome(sop_class_uid, instance_uid, failure=exc.dimse_status, reason=exc.message, status=exc.status)


async def _joined(chunks: Iterable[bytes], rest: Part | None = None) -> AsyncIterator[bytes]:
    """Chunks, and what comes after them."""
    for chunk in chunks:
        yield chunk
    if rest is not None:
        async for chunk in rest:
            yield chunk
