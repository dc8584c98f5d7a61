"""Builds search keys over what is stored: in the background, on one machine at a time, for as long as rows lack any."""

from __future__ import annotations

import asyncio
import logging

from gateway.errors import CatalogueUnavailable
from gateway.jobs.lease import Lease
from gateway.jobs.queue import LeaseLost
from gateway.store.rederive import Rederivation

logger = logging.getLogger(__name__)

#: How often to look for rows of other schemes, which other machines may still write.
EVERY_S = 5.0


async def keep_built(rederivation: Rederivation, lease: Lease, *, every_s: float = EVERY_S) -> None:
    """Build what is missing until cancelled."""
    indexed = False
    while True:
        try:
            if await lease.acquire():
                try:
                    await _build(rederivation, lease, index=not indexed)
                    indexed = True
                finally:
                    await lease.release()
        except CatalogueUnavailable:
            logger.warning("the catalogue cannot be reached; no search key is built until it can")
        except Exception:
            logger.exception("building search keys failed; trying again")
        await asyncio.sleep(every_s)


async def _build(rederivation: Rederivation, lease: Lease, *, index: bool) -> None:
    """Build all that is missing, or stop when another machine has taken over."""
    work = asyncio.create_task(_steps(rederivation, index=index), name="search-keys")
    try:
        while not (await asyncio.wait([work], timeout=lease.renew_every_s))[0]:
            await lease.renew()
        await work
    except LeaseLost:
        logger.warning("another machine goes on building search keys")
    finally:
        work.cancel()
        await asyncio.wait([work])


async def _steps(rederivation: Rederivation, *, index: bool) -> None:
    if index:
        await rederivation.index()
    total = 0
    while count := await rederivation.step():
        total += count
    if total:
        logger.info("search keys were built in %d rows", total)
