"""The sealed field of rows: what instances said of patient and study, which only the vault opens.

No answer ever holds it: whoever wants it asks here, and for nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymongo import UpdateOne

from dicomweb.errors import TooLarge
from dicomweb.matching import canonical
from gateway.store import driver
from gateway.store.catalogue import Catalogue

_BATCH: Final = 500
#: Series that one question is answered from; nobody is told a part as if it were all.
_MAX_GROUPS: Final = 5_000
_IS_SEALED: Final = {"sealed": {"$exists": True}}
_FIELDS: Final = {"study_uid": 1, "sealed": 1}


@dataclass(frozen=True, slots=True)
class Seal:
    """The seal of one instance, by its stored UIDs."""

    study_uid: str
    instance_uid: str
    sealed: bytes


class Seals:
    """The seals of a catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._db = catalogue.db

    async def of_instances(self, instance_uids: Sequence[str]) -> list[Seal]:
        """The seals of these instances, as far as they have one."""
        found: list[Seal] = []
        async with driver.wrapped():
            for start in range(0, len(instance_uids), _BATCH):
                named = {"_id": {"$in": list(instance_uids[start : start + _BATCH])}}
                found += [_seal(row) async for row in self._db.instances.find(named | _IS_SEALED, _FIELDS)]
        return found

    async def of_groups(self, uids: Sequence[str]) -> list[Seal]:
        """One seal of each series that is one of `uids`, or belongs to a study that is; raise TooLarge."""
        await self._catalogue.complete()
        named = list(uids)
        wanted = {"$or": [{"study_uid": {"$in": named}}, {"series_uid": {"$in": named}}]}
        pair = {"_id": 0, "study_uid": 1, "series_uid": 1}
        async with driver.wrapped():
            series = _all(await self._db.series.find(wanted, pair, limit=_MAX_GROUPS + 1).to_list(None))
            rows = [await self._db.instances.find_one(one | _IS_SEALED, _FIELDS) for one in series]
        return [_seal(row) for row in rows if row is not None]

    async def studies_of(self, pseudonym: str) -> list[str]:
        """The studies of a patient, by stored UID; raise TooLarge."""
        await self._catalogue.complete()
        async with driver.wrapped():
            wanted = {"keys.00100020": canonical("LO", pseudonym)}
            studies = await self._db.studies.find(wanted, {"_id": 1}, limit=_MAX_GROUPS + 1).to_list(None)
        return sorted(study["_id"] for study in _all(studies))

    async def replace(self, renewed: Callable[[Seal], bytes | None]) -> AsyncIterator[int]:
        """Give every row the seal that `renewed` makes of its own, None to leave it; how many of each batch got one."""
        last = ""
        while True:
            async with driver.wrapped():
                rows = await self._db.instances.find(
                    {"_id": {"$gt": last}} | _IS_SEALED, _FIELDS, sort=[("_id", 1)], limit=_BATCH
                ).to_list(None)
                if not rows:
                    return
                last = rows[-1]["_id"]
                pairs = [(row, renewed(_seal(row))) for row in rows]
                updates = [
                    # one that was replaced meanwhile has a new seal already
                    UpdateOne({"_id": row["_id"], "sealed": row["sealed"]}, {"$set": {"sealed": sealed}})
                    for row, sealed in pairs
                    if sealed is not None
                ]
                result = await self._db.instances.bulk_write(updates, ordered=False) if updates else None
            yield result.modified_count if result is not None else 0


def _all(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(found) > _MAX_GROUPS:
        raise TooLarge(f"More than {_MAX_GROUPS} series or studies belong to it.")
    return found


def _seal(row: dict[str, Any]) -> Seal:
    return Seal(row["study_uid"], row["_id"], bytes(row["sealed"]))
