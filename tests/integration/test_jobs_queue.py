"""The queue of runs on a real MongoDB: who may write a run, and what happens in races."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from dicomweb.errors import Conflict, NotFound
from gateway.jobs.lease import Lease
from gateway.jobs.model import Output, State
from gateway.jobs.queue import LOG_LINES, LeaseLost, QueueFull, RunQueue
from ray_plugins.sdk import Progress
from tests.integration.jobs_support import db, order, until  # noqa: F401

NOW = timedelta(0)
SEG = Output("seg", "Bone", "1.2.3", "1.2.3.5", "1.2.3.5.1")
IMAGES = Output("images", "Defaced", "1.2.3", "1.2.3.6")
MESH = Output("mesh", "Bone", "1.2.3", "1.2.3.4", mesh_id="m", triangles=12)


@pytest.fixture
async def queue(db):  # noqa: F811
    queue = RunQueue(db)
    await queue.create_indexes()
    return queue


async def test_a_run_is_queued_claimed_reported_and_finished(queue):
    queued = await queue.enqueue(order(parameters={"low": 180, "$odd": "$value"}))
    assert (queued.state, queued.started, queued.parameters) == (State.QUEUED, None, {"low": 180, "$odd": "$value"})
    claimed = await queue.claim("a")
    assert (claimed.id, claimed.state, claimed.attempt) == (queued.id, State.RUNNING, 1)
    await queue.report(claimed, progress=Progress(0.5, "half-way"), lines=["one", "two"])
    await queue.report(claimed, lines=["three"])
    assert await queue.log(queued.id) == [(0, "one"), (1, "two"), (2, "three")]
    assert await queue.log(queued.id, after=1) == [(2, "three")]
    measured = [{"name": "Volume", "value": 1.5, "unit": "mL"}]
    await queue.finish(claimed, State.SUCCEEDED, outputs=[SEG, MESH], measurements=measured)
    done = await queue.get(queued.id)
    assert (done.state, done.progress, done.message, done.outputs) == (State.SUCCEEDED, 1.0, "half-way", (SEG, MESH))
    assert list(done.measurements) == measured
    assert done.created <= done.started <= done.finished
    assert await queue.claim("a") is None


async def test_the_longest_waiting_run_is_claimed_first_and_by_one_only(queue):
    ids = [(await queue.enqueue(order(parameters={"n": n}))).id for n in range(8)]
    claimed = await asyncio.gather(*(queue.claim(str(n)) for n in range(12)))
    assert sorted(run.id for run in claimed if run) == sorted(ids)
    await queue.enqueue(order(parameters={"n": 100}))
    await queue.enqueue(order(parameters={"n": 101}))
    assert (await queue.claim("a")).parameters == {"n": 100}


async def test_the_same_run_is_joined_while_it_is_active_and_new_after(queue):
    first, *others = await asyncio.gather(*(queue.enqueue(order()) for _ in range(6)))
    assert {run.id for run in others} == {first.id}
    await queue.finish(await queue.claim("a"), State.SUCCEEDED)
    assert (await queue.enqueue(order())).id != first.id


async def test_a_full_queue_takes_nothing(db):  # noqa: F811
    queue = RunQueue(db, max_queued=2)
    await queue.create_indexes()
    for n in range(2):
        await queue.enqueue(order(parameters={"n": n}))
    with pytest.raises(QueueFull):
        await queue.enqueue(order(parameters={"n": 2}))
    await queue.claim("a")
    await queue.enqueue(order(parameters={"n": 2}))


async def test_who_lost_the_lease_cannot_write(queue):
    await queue.enqueue(order())
    lost = await queue.claim("a")
    adopted = await queue.adopt("b")
    assert adopted.id == lost.id
    assert adopted.lease != lost.lease
    for write in (
        queue.report(lost, progress=Progress(0.9), lines=["late"]),
        queue.stage(lost, [SEG]),
        queue.staged(lost),
        queue.finish(lost, State.SUCCEEDED, outputs=[SEG]),
        queue.requeue(lost, reason="late", delay=NOW),
    ):
        with pytest.raises(LeaseLost):
            await write
    assert await queue.log(lost.id) == []
    await queue.finish(adopted, State.FAILED, error="The machine that ran it was lost")
    ended = await queue.get(lost.id)
    assert (ended.state, ended.error, ended.outputs) == (State.FAILED, "The machine that ran it was lost.", ())


async def test_what_its_owner_executes_is_not_adopted(queue):
    await queue.enqueue(order())
    run = await queue.claim("a")
    assert await queue.adopt("a", [run.id]) is None
    assert (await queue.adopt("a")).id == run.id


async def test_an_ended_run_stays_as_it_ended(queue):
    await queue.enqueue(order())
    run = await queue.claim("a")
    await queue.finish(run, State.TIMED_OUT, error="Too slow.")
    with pytest.raises(LeaseLost):
        await queue.finish(run, State.SUCCEEDED)
    with pytest.raises(Conflict, match="timed out"):
        await queue.cancel(run.id)
    assert (await queue.get(run.id)).state is State.TIMED_OUT


async def test_a_requeued_run_waits_for_its_delay_and_counts_its_attempts(queue):
    await queue.enqueue(order())
    run = await queue.claim("a")
    await queue.requeue(run, reason="The worker was lost.", delay=timedelta(milliseconds=400))
    waiting = await queue.get(run.id)
    assert (waiting.state, waiting.message, waiting.progress, waiting.started) == (
        State.QUEUED, "The worker was lost.", 0.0, None,
    )  # fmt: skip
    assert await queue.claim("a") is None
    again = await until(lambda: queue.claim("a"))
    assert again.attempt == 2
    await queue.requeue(again, reason="stopped", delay=NOW, counted=False)
    assert (await queue.claim("a")).attempt == 2


async def test_a_queued_run_is_cancelled_at_once_and_a_running_one_on_request(queue):
    queued = await queue.enqueue(order())
    assert (await queue.cancel(queued.id)).state is State.CANCELLED
    assert (await queue.cancel(queued.id)).state is State.CANCELLED
    await queue.enqueue(order())
    run = await queue.claim("a")
    assert await queue.cancel_requests("a") == []
    assert (await queue.cancel(run.id)).state is State.RUNNING
    assert await queue.cancel_requests("a") == [run.id]
    assert await queue.cancel_requests("b") == []
    with pytest.raises(NotFound):
        await queue.cancel("0" * 32)


async def test_the_log_keeps_its_last_lines(queue):
    await queue.enqueue(order())
    run = await queue.claim("a")
    await queue.report(run, lines=[f"line {n}" for n in range(LOG_LINES)])
    await queue.report(run, lines=["x" * 5000, "last"])
    first = await queue.log(run.id, limit=1)
    assert first == [(2, "line 2")]
    tail = await queue.log(run.id, after=LOG_LINES - 1)
    assert [len(tail[0][1]), tail[1]] == [2000, (LOG_LINES + 1, "last")]


async def test_what_is_staged_is_known_to_who_adopts(queue):
    await queue.enqueue(order())
    run = await queue.claim("a")
    assert await queue.staged(run) == []
    await queue.stage(run, [SEG, MESH])
    adopted = await queue.adopt("b")
    assert await queue.staged(adopted) == [SEG, MESH]
    assert (await queue.get(run.id)).outputs == ()


async def test_runs_are_listed_newest_first_and_by_study(queue):
    ids = [(await queue.enqueue(order(parameters={"n": n}))).id for n in range(3)]
    await queue.enqueue(order(study_uid="9.9"))
    assert [run.id for run in await queue.newest("1.2.3", 2)] == ids[:0:-1]
    assert len(await queue.newest(None, 100)) == 4


async def test_deleted_objects_leave_the_outputs(queue):
    await queue.enqueue(order())
    run = await queue.claim("a")
    await queue.finish(run, State.SUCCEEDED, outputs=[SEG, IMAGES, MESH])
    await queue.forget_instances([SEG.instance_uid, "9.9"])
    assert (await queue.get(run.id)).outputs == (IMAGES, MESH)
    await queue.forget_series("1.2.3", IMAGES.series_uid)
    assert (await queue.get(run.id)).outputs == (MESH,)
    active = await queue.enqueue(order())
    await queue.forget_series("1.2.3", "1.2.3.4")
    assert (await queue.get(run.id)).outputs == ()
    assert (await queue.get(active.id)).state is State.CANCELLED


async def test_signals_tell_of_new_requeued_and_cancelled_runs(queue):
    seen = asyncio.Queue()

    async def listen():
        async for _ in queue.signals():
            seen.put_nowait(None)

    listener = asyncio.create_task(listen())
    try:
        warm_up = 0

        async def heard():
            nonlocal warm_up
            warm_up += 1
            await queue.enqueue(order(parameters={"warm": warm_up}))
            return not seen.empty()

        await until(heard)  # the stream is open
        await until(lambda: _drained(queue, seen))
        await queue.enqueue(order())
        await asyncio.wait_for(seen.get(), 5)
        run = await queue.claim("a")
        await queue.report(run, progress=Progress(0.5))
        await queue.requeue(run, reason="again", delay=NOW)
        await asyncio.wait_for(seen.get(), 5)
        run = await queue.claim("a")
        await queue.cancel(run.id)
        await asyncio.wait_for(seen.get(), 5)
        assert seen.empty()  # neither claims nor reports wake anybody
    finally:
        listener.cancel()


async def _drained(queue, seen):
    """Empty the queue of warm-up runs and of what was heard of them."""
    while run := await queue.claim("warm"):
        await queue.finish(run, State.SUCCEEDED)
    while not seen.empty():
        seen.get_nowait()
    await asyncio.sleep(0.2)
    return seen.empty()


class TestLease:
    async def test_one_holds_it(self, db):  # noqa: F811
        leases = [Lease(db) for _ in range(5)]
        assert sum(await asyncio.gather(*(lease.acquire() for lease in leases))) == 1

    async def test_it_is_renewed_by_its_holder_only(self, db):  # noqa: F811
        first, second = Lease(db), Lease(db)
        assert await first.acquire()
        await first.renew()
        assert not await second.acquire()
        with pytest.raises(LeaseLost):
            await second.renew()

    async def test_who_stops_renewing_loses_it(self, db):  # noqa: F811
        first, second = Lease(db, lease_s=0.3), Lease(db, lease_s=0.3)
        assert await first.acquire()
        await until(second.acquire)
        with pytest.raises(LeaseLost):
            await first.renew()

    async def test_released_it_is_free_at_once(self, db):  # noqa: F811
        first, second = Lease(db), Lease(db)
        assert await first.acquire()
        await second.release()
        assert not await second.acquire()
        await first.release()
        assert await second.acquire()


def test_a_run_is_immutable():
    with pytest.raises(AttributeError):
        order().state = State.FAILED
    assert replace(order(), state=State.FAILED).state is State.FAILED
