"""The queue of runs in MongoDB: every change is one compare-and-set, so that whoever lost a run can no longer write it.

Times are the database's (`$currentDate`, `$$NOW`): no two machines need to agree on the clock. Collections:

- `runs`: a document is a `Run` and the queue's own fields. `active` is true while the run is queued or running;
  `queued_at` and `delay_ms` say when it may start; `owner` is the dispatcher that runs it; `staged` lists what is being
  filed, to be taken back if filing fails; `log_next` is the number of the next line of its log.
- `run_logs`: {run, seq, text, at}, the last `LOG_LINES` lines of each run, for `LOG_DAYS` days.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from dicomweb.errors import Conflict, NotFound, Unavailable
from gateway.jobs.model import Output, Run, State, predecessors, sentence
from gateway.store import driver
from gateway.store.driver import wrapped
from ray_plugins.sdk import Progress

Database = AsyncDatabase[dict[str, Any]]

#: Runs that may wait.
MAX_QUEUED = 1_000
LOG_LINES = 5_000
LOG_LINE_CHARACTERS = 2_000
MESSAGE_CHARACTERS = 500
LOG_DAYS = 30

#: Updates of `runs` that a dispatcher wants to know of at once: something to start or to cancel.
_SIGNALS: list[dict[str, Any]] = [
    {
        "$match": {
            "$or": [
                {"operationType": "insert"},
                {"updateDescription.updatedFields.state": str(State.QUEUED)},
                {"updateDescription.updatedFields.cancel_requested": True},
            ]
        }
    },
    {"$project": {"_id": 1}},
]


class QueueFull(Unavailable):
    """Too many runs are waiting; try again when some have finished."""


class LeaseLost(Conflict):
    """The run is no longer this dispatcher's."""


class RunQueue:
    """The runs of one database. Any process may enqueue, read and cancel; the leading dispatcher does the rest."""

    def __init__(self, db: Database, *, max_queued: int = MAX_QUEUED) -> None:
        self._runs = db["runs"]
        self._logs = db["run_logs"]
        self._max_queued = max_queued

    @wrapped()
    async def create_indexes(self) -> None:
        """Create what the queries below need. Idempotent."""
        await self._runs.create_index(
            [("key", ASCENDING)], unique=True, partialFilterExpression={"active": True}, name="one_active_run_a_key"
        )
        await self._runs.create_index([("active", ASCENDING), ("state", ASCENDING), ("queued_at", ASCENDING)])
        await self._runs.create_index([("study_uid", ASCENDING), ("created", DESCENDING)])
        await self._runs.create_index([("created", DESCENDING)])
        await self._runs.create_index([("outputs.instance_uid", ASCENDING)], sparse=True)
        await self._logs.create_index([("run", ASCENDING), ("seq", ASCENDING)], unique=True)
        await self._logs.create_index([("at", ASCENDING)], expireAfterSeconds=LOG_DAYS * 86_400)

    # --- for everyone ---------------------------------------------------------------------------------------------

    @wrapped()
    async def enqueue(self, run: Run) -> Run:
        """Take a new run; if the same is queued or running already, return that one instead.

        Raises
        ------
        QueueFull : nothing was taken.
        """
        if await self._runs.count_documents({"active": True, "state": State.QUEUED}) >= self._max_queued:
            raise QueueFull
        document = run.to_document()
        own = {"key": run.key, "active": True, "delay_ms": 0, "owner": "", "staged": [], "log_next": 0}
        run_id, _ = document.pop("_id"), document.pop("created")
        insert = {"$setOnInsert": document | own, "$currentDate": {"created": True, "queued_at": True}}
        while True:
            try:
                await self._runs.update_one({"_id": run_id}, insert, upsert=True)
                return await self.get(run_id)
            except DuplicateKeyError:
                same = await self._runs.find_one({"key": run.key, "active": True})
                if same:  # else it has just finished: try again
                    return Run.from_document(same)

    @wrapped()
    async def get(self, run_id: str) -> Run:
        """Read a run; raise NotFound."""
        document = await self._runs.find_one({"_id": run_id})
        if document is None:
            raise NotFound("There is no such run.")
        return Run.from_document(document)

    @wrapped()
    async def newest(self, study_uid: str | None, limit: int) -> list[Run]:
        """The runs of a study, or of all, newest first."""
        chosen = {} if study_uid is None else {"study_uid": study_uid}
        cursor = self._runs.find(chosen).sort([("created", DESCENDING), ("_id", ASCENDING)]).limit(limit)
        return [Run.from_document(document) async for document in cursor]

    @wrapped()
    async def cancel(self, run_id: str) -> Run:
        """End a queued run, ask that a running one be ended; a cancelled one stays so.

        Raises NotFound, or Conflict if the run has already ended otherwise.
        """
        await self._cancel({"_id": run_id})
        run = await self.get(run_id)
        if run.state.is_final and run.state is not State.CANCELLED:
            raise Conflict(f"The run has already ended; it {_ENDED[run.state]}.")
        return run

    @wrapped()
    async def log(self, run_id: str, after: int = -1, limit: int = 500) -> list[tuple[int, str]]:
        """Lines of a run's log with a number above `after`, as (number, text)."""
        cursor = self._logs.find({"run": run_id, "seq": {"$gt": after}}).sort("seq", ASCENDING).limit(limit)
        return [(line["seq"], line["text"]) async for line in cursor]

    # --- for the dispatcher ---------------------------------------------------------------------------------------

    @wrapped()
    async def claim(self, owner: str) -> Run | None:
        """Give the run that waits longest to `owner`, who alone may write it from now on; None if none is ready."""
        ready = {"$lte": [{"$add": ["$queued_at", "$delay_ms"]}, "$$NOW"]}
        return await self._give(owner, {"active": True, "state": State.QUEUED, "$expr": ready}, {"attempt": 1})

    @wrapped()
    async def adopt(self, owner: str, executing: Collection[str] = ()) -> Run | None:
        """Give `owner` a running run that nobody executes, to be queued again or ended; None if there is none.

        `executing` : the runs that `owner` does execute.
        """
        left = {"active": True, "state": State.RUNNING, "_id": {"$nin": list(executing)}}
        return await self._give(owner, left, {"attempt": 0})

    async def _give(self, owner: str, chosen: Mapping[str, Any], more: Mapping[str, int]) -> Run | None:
        lease = {"state": State.RUNNING, "owner": owner, "lease": secrets.token_hex(8)}
        document = await self._runs.find_one_and_update(
            chosen,
            {"$set": lease, "$inc": more, "$currentDate": {"started": True}},
            sort=[("queued_at", ASCENDING)],
            return_document=ReturnDocument.AFTER,
        )
        return None if document is None else Run.from_document(document)

    @wrapped()
    async def report(self, run: Run, *, progress: Progress | None = None, lines: Sequence[str] = ()) -> None:
        """Show how far a running run is and add lines to its log. Raises LeaseLost."""
        change: dict[str, Any] = {"$inc": {"log_next": len(lines)}}
        if progress is not None:
            fraction = progress.fraction if 0 <= progress.fraction <= 1 else 0.0  # a plugin may say NaN
            change["$set"] = {"progress": fraction, "message": progress.text[:MESSAGE_CHARACTERS]}
        document = await self._runs.find_one_and_update(_mine(run), change, projection={"log_next": 1})
        if document is None:
            raise LeaseLost
        await self._append(run.id, document["log_next"], lines)

    async def _append(self, run_id: str, first: int, lines: Sequence[str]) -> None:
        if not lines:
            return
        now = datetime.now(UTC)
        texts = enumerate((line[:LOG_LINE_CHARACTERS] for line in lines), first)
        await self._logs.insert_many([{"run": run_id, "seq": seq, "text": text, "at": now} for seq, text in texts])
        await self._logs.delete_many({"run": run_id, "seq": {"$lt": first + len(lines) - LOG_LINES}})

    @wrapped()
    async def stage(self, run: Run, outputs: Iterable[Output]) -> None:
        """Note what is about to be filed, before any of it is: after a crash it can be taken back. Raises LeaseLost."""
        await self._change(run, {"$set": {"staged": [asdict(output) for output in outputs]}})

    @wrapped()
    async def staged(self, run: Run) -> list[Output]:
        """What the run may have filed. Raises LeaseLost: then it is for others to take back."""
        document = await self._runs.find_one(_mine(run), {"staged": 1})
        if document is None:
            raise LeaseLost
        return [Output(**output) for output in document["staged"]]

    @wrapped()
    async def finish(
        self,
        run: Run,
        state: State,
        *,
        outputs: Iterable[Output] = (),
        measurements: Sequence[Mapping[str, Any]] = (),
        error: str | None = None,
    ) -> None:
        """End a run; the last write that its lease allows. Raises LeaseLost."""
        found = {"outputs": [asdict(output) for output in outputs], "measurements": [dict(m) for m in measurements]}
        full = {"progress": 1.0} if state is State.SUCCEEDED else {}
        await self._change(run, _end(state, **found, **full, error=None if error is None else sentence(error)), state)

    @wrapped()
    async def requeue(self, run: Run, *, reason: str, delay: timedelta, counted: bool = True) -> None:
        """Queue a running run again, to start after `delay`. Raises LeaseLost.

        `counted` : whether this attempt counts; it does not where the server was stopped.
        """
        waiting: dict[str, Any] = {
            "state": State.QUEUED,
            "owner": "",
            "lease": "",
            "started": None,
            "staged": [],
            "progress": 0.0,
        }
        shown = {"message": reason, "delay_ms": delay // timedelta(milliseconds=1)}
        attempt = {"attempt": run.attempt if counted else run.attempt - 1}
        change = {"$set": waiting | shown | attempt, "$currentDate": {"queued_at": True}}
        await self._change(run, change, State.QUEUED)

    @wrapped()
    async def cancel_requests(self, owner: str) -> list[str]:
        """Runs of this dispatcher that somebody wants to end."""
        asked = {"active": True, "state": State.RUNNING, "owner": owner, "cancel_requested": True}
        return [document["_id"] async for document in self._runs.find(asked, {"_id": 1})]

    async def signals(self) -> AsyncIterator[None]:
        """Yield whenever there may be a run to start or to cancel."""
        async with wrapped(), driver.watch(self._runs, _SIGNALS) as stream:
            async for _ in stream:
                yield

    async def changes(self) -> AsyncIterator[None]:
        """Yield whenever a run has changed."""
        async with wrapped(), driver.watch(self._runs, [{"$project": {"_id": 1}}]) as stream:
            async for _ in stream:
                yield

    @wrapped()
    async def forget_instances(self, instance_uids: Sequence[str]) -> None:
        """Drop deleted objects from the outputs of past runs."""
        gone = {"instance_uid": {"$in": list(instance_uids)}}
        await self._runs.update_many({"outputs": {"$elemMatch": gone}}, {"$pull": {"outputs": gone}})

    @wrapped()
    async def forget_series(self, study_uid: str, series_uid: str) -> None:
        """Cancel what works on a deleted series; drop it, and its meshes, from the outputs of past runs."""
        await self._cancel({"study_uid": study_uid, "series_uids": series_uid})
        made = {"study_uid": study_uid, "outputs.series_uid": series_uid}
        await self._runs.update_many(made, {"$pull": {"outputs": {"series_uid": series_uid}}})

    async def _cancel(self, chosen: Mapping[str, Any]) -> None:
        await self._runs.update_many({**chosen, "active": True, "state": State.QUEUED}, _end(State.CANCELLED))
        running = {**chosen, "active": True, "state": State.RUNNING}
        await self._runs.update_many(running, {"$set": {"cancel_requested": True}})

    async def _change(self, run: Run, change: Mapping[str, Any], state: State | None = None) -> None:
        allowed = {} if state is None else {"state": {"$in": predecessors(state)}}
        if not (await self._runs.update_one(_mine(run) | allowed, change)).matched_count:
            raise LeaseLost


_ENDED = {State.SUCCEEDED: "succeeded", State.FAILED: "failed", State.TIMED_OUT: "timed out"}


def _mine(run: Run) -> dict[str, Any]:
    """The condition that a run is still the one whose lease this is."""
    return {"_id": run.id, "lease": run.lease, "state": State.RUNNING}


def _end(state: State, **values: Any) -> dict[str, Any]:
    ended = {"state": state, "active": False, "owner": "", "lease": "", "staged": []}
    return {"$set": ended | values, "$currentDate": {"finished": True}}
