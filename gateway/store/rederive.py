"""Re-derives rows of other schemes from the DICOM JSON that they carry, in batches small enough to wait for.

What is left to do is what the rows say, so that a derivation that was killed goes on where it stood, and rows that a
machine with other settings writes meanwhile are found as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pymongo import UpdateOne

from dicomweb.resource import Level, Resource
from gateway.store import arrivals, changes, derived, driver, items
from gateway.store.catalogue import Catalogue, key_indexes
from gateway.store.rows import data_set_of
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
            fields = dict.fromkeys(("json_gzip", "study_uid", "series_uid", "transfer_syntax_uid", "key"), 1)
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
        """Give rows their new keys, and derive anew what is derived from them, at one stroke."""
        updates = await self._run(_rederived, self._scheme, batch)

        async def work(session: Any) -> None:
            number = await arrivals.lock(self._db, session)
            await self._db.instances.bulk_write(updates, ordered=False, session=session)
            await derived.derive(self._db, self._scheme, changes.series_of(batch), number, session)

        async with self._catalogue.changing({row["study_uid"] for row in batch}):
            await driver.transaction(self._catalogue.client, work)

    async def _derived_rows(self) -> int:
        """Derive again what another scheme derived from rows that are right."""
        async with driver.wrapped():
            pairs = {"study_uid": 1, "series_uid": 1}
            series = await self._db.series.find(self._other(), pairs, limit=_BATCH).to_list(None)
            if not series:
                studies = await self._db.studies.find(self._other(), {"_id": 1}, limit=_BATCH).to_list(None)
                members = {"study_uid": {"$in": [study["_id"] for study in studies]}}
                series = await self._db.series.find(members, pairs).to_list(None) if studies else []
            if not series:
                return 0

            async def work(session: Any) -> None:
                number = await arrivals.lock(self._db, session)
                await derived.derive(self._db, self._scheme, changes.series_of(series), number, session)

            async with self._catalogue.changing({row["study_uid"] for row in series}):
                await driver.transaction(self._catalogue.client, work)
        return len(series)

    def _other(self) -> dict[str, Any]:
        return {"scheme": {"$ne": self._scheme.id}}


def _rederived(scheme: Scheme, batch: list[dict[str, Any]]) -> list[UpdateOne]:
    """The changes of rows. One whose object was replaced meanwhile is left alone: it has new keys already."""
    updates = []
    for row in batch:
        data_set = data_set_of(row)
        resource = Resource(row["study_uid"], row["series_uid"], row["_id"])
        fields = {
            "item": items.ready_instance(data_set, resource, row["transfer_syntax_uid"]),
            "keys": scheme.search_keys(data_set, Level.INSTANCE),
            "scheme": scheme.id,
        }
        updates.append(UpdateOne({"_id": row["_id"], "key": row["key"]}, {"$set": fields}))
    return updates
