"""Re-derives rows of other schemes from the DICOM JSON that they carry, in batches small enough to wait for.

What is left to do is what the rows say, so that a derivation that was killed goes on where it stood, and rows that a
machine with other settings writes meanwhile are found as well.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

from pymongo import UpdateMany, UpdateOne

from dicomweb.resource import Level
from gateway.store import derived, driver
from gateway.store.catalogue import Catalogue, key_indexes
from gateway.store.scheme import Scheme

_BATCH = 100
_BATCH_BYTES = 16 << 20  # of compressed DICOM JSON: a row may have as many by itself
Run = Callable[..., Awaitable[Any]]


class Rederivation:
    """Brings the rows of a catalogue to its scheme. `run` runs a function in a thread."""

    def __init__(self, catalogue: Catalogue, run: Run) -> None:
        self._catalogue = catalogue
        self._db = catalogue.db
        self._scheme = catalogue.scheme
        self._run = run

    async def index(self) -> None:
        """Create the indexes of declared keys, and drop those of keys that are declared no more."""
        async with driver.wrapped():
            for name in ("instances", "series", "studies"):
                collection = self._db[name]
                wanted = key_indexes(self._scheme, name, extra=False) + key_indexes(self._scheme, name, extra=True)
                names = {index.document["name"] for index in wanted}
                for present in await collection.index_information():
                    if present.startswith("keys.") and present not in names:
                        await collection.drop_index(present)
                if wanted:
                    await collection.create_indexes(wanted)

    async def step(self) -> int:
        """Re-derive one batch; return how many rows it was, 0 if nothing is left."""
        async with driver.wrapped():
            fields = {"json_gzip": 1, "study_uid": 1, "series_uid": 1, "key": 1}
            batch, size = list[dict[str, Any]](), 0
            async with self._db.instances.find(self._other(), fields, limit=_BATCH) as rows:
                async for row in rows:
                    batch.append(row)
                    size += len(row["json_gzip"])
                    if size > _BATCH_BYTES:
                        break
            if batch:
                await self._rewrite(batch)
                return len(batch)
        return await self._derived_rows()

    async def _rewrite(self, batch: list[dict[str, Any]]) -> None:
        """Give rows their new keys, and have what is derived from them derived again, at one stroke."""
        changes = await self._run(_rederived, self._scheme, batch)
        studies = sorted({row["study_uid"] for row in batch})
        series = sorted({f"{row['study_uid']}/{row['series_uid']}" for row in batch})

        async def work(session: Any) -> None:
            await self._db.instances.bulk_write(changes, ordered=False, session=session)
            for collection, identities in ((self._db.series, series), (self._db.studies, studies)):
                await collection.bulk_write([_stale({"_id": {"$in": identities}})], session=session)

        await driver.transaction(self._catalogue.client, work)

    async def _derived_rows(self) -> int:
        """Derive again what another scheme derived from rows that are right."""
        async with driver.wrapped():
            left = self._other() | {"derived": {"$exists": True}}
            series = await self._db.series.find(left, {"study_uid": 1}, limit=_BATCH).to_list(None)
            if series:
                marked = _stale({"_id": {"$in": [row["_id"] for row in series]}})
                await self._db.series.bulk_write([marked])
            studies = {row["study_uid"] for row in series}
            studies |= {row["_id"] for row in await self._db.studies.find(left, {"_id": 1}, limit=_BATCH).to_list(None)}
            if studies:
                await self._db.studies.bulk_write([_stale({"_id": {"$in": sorted(studies)}})])
        for study_uid in sorted(studies):
            await derived.refresh(self._db, self._scheme, study_uid)
        return len(studies)

    def _other(self) -> dict[str, Any]:
        return {"scheme": {"$ne": self._scheme.id}}


def _rederived(scheme: Scheme, batch: list[dict[str, Any]]) -> list[UpdateOne]:
    """The changes of rows. One whose object was replaced meanwhile is left alone: it has new keys already."""
    changes = []
    for row in batch:
        data_set = json.loads(gzip.decompress(row["json_gzip"]))
        fields = {
            "attributes": scheme.attributes(data_set),
            "keys": scheme.search_keys(data_set, Level.INSTANCE),
            "scheme": scheme.id,
        }
        changes.append(UpdateOne({"_id": row["_id"], "key": row["key"]}, {"$set": fields}))
    return changes


def _stale(condition: dict[str, Any]) -> UpdateMany:
    """Have rows derived again; `marks` tells a derivation under way that it came too early."""
    return UpdateMany(condition, {"$set": {"stale": True}, "$inc": {"marks": 1}})
