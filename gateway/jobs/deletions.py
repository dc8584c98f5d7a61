"""What happens to runs and meshes when the archive deletes: they follow the change feed from where they last stood."""

from __future__ import annotations

from gateway.jobs.meshes import MeshStore
from gateway.jobs.queue import Database, RunQueue
from gateway.store import changes
from gateway.store.changes import Change
from gateway.store.driver import wrapped

_PAGE = 1_000


class Deletions:
    """A reader of the change feed whose position survives a restart: no deletion is missed, one may be seen twice.

    Any number of processes may follow at the same time.
    """

    def __init__(self, db: Database, queue: RunQueue, meshes: MeshStore) -> None:
        self._db = db
        self._instances = db["instances"]
        self._positions = db["leases"]
        self._queue = queue
        self._meshes = meshes

    @wrapped()
    async def follow(self) -> None:
        """Act on every deletion since the last call."""
        position = await self._positions.find_one({"_id": "deletions"})
        last = position["seq"] if position else 0
        while page := await changes.read(self._db, last, _PAGE):
            await self._forget([change for change in page if change.action == "deleted"])
            last = page[-1].seq
            await self._positions.update_one({"_id": "deletions"}, {"$max": {"seq": last}}, upsert=True)

    async def _forget(self, deleted: list[Change]) -> None:
        if not deleted:
            return
        await self._queue.forget_instances([change.instance_uid for change in deleted])
        for study_uid, series_uid in sorted({(change.study_uid, change.series_uid) for change in deleted}):
            if not await self._instances.find_one({"study_uid": study_uid, "series_uid": series_uid}, {"_id": 1}):
                await self._queue.forget_series(study_uid, series_uid)
                await self._meshes.forget(study_uid, series_uid)
