"""Runs from the queue to the archive: a real archive, real plugins in threads, and everything that can go wrong."""

import asyncio
import zlib
from dataclasses import replace
from datetime import timedelta

import pytest

from dicomweb.errors import Gone, NotFound
from dicomweb.ports import StoreOutcome
from dicomweb.resource import Resource
from gateway.archive import BoundArchive
from gateway.jobs import dispatcher, executor
from gateway.jobs.lease import Lease
from gateway.jobs.meshes import MeshStore
from gateway.jobs.model import Output, State
from gateway.jobs.queue import RunQueue
from ray_plugins.runner import LocalRunner
from ray_plugins.task import RunFailed
from tests.integration import jobs_plugins
from tests.integration.jobs_support import dispatching, ended, order, plugins, store_series, until


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    """Attempts follow one another quickly, and leases are lost quickly."""
    monkeypatch.setattr(executor, "FIRST_DELAY", timedelta(milliseconds=50))
    monkeypatch.setattr(dispatcher, "POLL_S", 0.1)


@pytest.fixture
async def queue(core):
    queue = RunQueue(core.catalogue.db)
    await queue.create_indexes()
    return queue


@pytest.fixture
async def ask(core, queue, data_folder):
    """Store a CT and ask for runs on it: `run = await ask(how="well")`."""
    study_uid, series_uid = await store_series(core, data_folder / "ct-abdomen-labelled")

    async def ask(plugin="act", version="1.0.0", **parameters):
        wanted = order(
            plugin=plugin, version=version, study_uid=study_uid, series_uids=(series_uid,), parameters=parameters
        )
        return await queue.enqueue(wanted)

    ask.study, ask.series = study_uid, series_uid
    return ask


async def series_of(core, study_uid):
    return sorted(item["SeriesInstanceUID"] for item in await core.catalogue.series_summary(study_uid))


async def kept(core):
    """Keys of all objects."""
    return {info.key async for info in core.objects.list()}


async def test_a_run_files_a_series_of_images(core, queue, ask):
    async with dispatching(core):
        run = await ended(queue, await ask(how="images"))
    assert (run.state, run.error) == (State.SUCCEEDED, None)
    (output,) = run.outputs
    assert (output.kind, output.instance_uid) == ("images", None)
    stored = await core.archive.instances(output.resource)
    source = await core.archive.instances(Resource(ask.study, ask.series))
    assert len(stored) == len(source) == 20
    assert {one.sop_class_uid for one in stored} == {one.sop_class_uid for one in source}
    assert not {one.instance_uid for one in stored} & {one.instance_uid for one in source}


async def test_a_series_of_images_is_taken_back_whole(core, queue, ask, monkeypatch):
    left = 7
    store = BoundArchive.store

    async def store_some(archive, part, *, study_uid=None):
        nonlocal left
        left -= 1
        if left < 0:
            return StoreOutcome(failure=0xA700, reason="No room is left.")
        return await store(archive, part, study_uid=study_uid)

    monkeypatch.setattr(BoundArchive, "store", store_some)
    async with dispatching(core):
        run = await ended(queue, await ask(how="images"))
    assert run.state is State.FAILED
    assert run.outputs == ()
    assert await series_of(core, ask.study) == [ask.series]


async def test_a_run_files_what_it_found(core, queue, ask):
    async with dispatching(core):
        run = await ended(queue, await ask(how="well"))
    assert (run.state, run.error, run.progress, run.attempt) == (State.SUCCEEDED, None, 1.0, 1)
    seg, sr, mesh = run.outputs
    assert [output.kind for output in run.outputs] == ["seg", "sr", "mesh"]
    for output in (seg, sr):
        (stored,) = await core.archive.instances(output.resource)
        assert stored.study_uid == ask.study
    assert run.measurements[0]["name"] == "Block: Volume"
    stored = await MeshStore(core.catalogue.db, core.objects).get(mesh.mesh_id)
    assert (stored.study_uid, stored.series_uid) == (ask.study, ask.series)
    x3d = await core.objects.open(stored.keys["x3d"], stored.sizes["x3d"]).read()
    assert b"<X3D" in zlib.decompress(x3d, wbits=31)
    assert set(stored.keys.values()) <= await core.catalogue.referenced(list(stored.keys.values()))
    lines = [text for _, text in await queue.log(run.id)]
    assert "acts well, number 0" in lines


async def test_asking_again_gives_new_objects(core, queue, ask):
    async with dispatching(core):
        first = await ended(queue, await ask(how="well"))
        second = await ended(queue, await ask(how="well"))
    assert (first.state, second.state) == (State.SUCCEEDED, State.SUCCEEDED)
    assert not {o.instance_uid for o in first.outputs[:2]} & {o.instance_uid for o in second.outputs[:2]}


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("sentence", "There is no bone in this series."),
        ("fault", "The plugin failed with KeyError; the run's log has the details."),
    ],
)
async def test_a_failing_plugin_gives_one_sentence(core, queue, ask, how, error):
    async with dispatching(core):
        run = await ended(queue, await ask(how=how))
    assert (run.state, run.error, run.outputs, run.attempt) == (State.FAILED, error, (), 1)


async def test_a_run_that_found_nothing_succeeds(core, queue, ask):
    async with dispatching(core):
        run = await ended(queue, await ask(how="quietly"))
    assert (run.state, run.outputs) == (State.SUCCEEDED, ())


async def test_a_run_may_not_take_longer_than_its_plugin_says(core, queue, ask, monkeypatch):
    """The time begins before the plugin does: on a busy machine it may be over by then, so more is given."""
    for timeout_s in (1.5, 6, 24):
        monkeypatch.setattr(jobs_plugins, "hurry", replace(jobs_plugins.hurry, timeout_s=timeout_s))
        async with dispatching(core):
            run = await ended(queue, await ask(plugin="hurry"))
        error = f"It did not finish within {timeout_s:g} s and was ended."
        assert (run.state, run.error) == (State.TIMED_OUT, error)
        lines = [text for _, text in await queue.log(run.id)]
        if "hurries" in lines:
            break
    assert "hurries" in lines


async def test_a_running_run_is_cancelled(core, queue, ask):
    async with dispatching(core):
        run = await ask(how="slowly")
        await until(lambda: queue.log(run.id))
        await queue.cancel(run.id)
        done = await ended(queue, run)
    assert (done.state, done.error) == (State.CANCELLED, None)


async def test_no_more_runs_than_allowed_run_at_once(core, queue, ask):
    runs = [await ask(how="slowly", number=number) for number in range(4)]
    async with dispatching(core):

        async def running():
            states = [(await queue.get(run.id)).state for run in runs]
            assert states.count(State.RUNNING) <= core.settings.ray.max_runs
            return states.count(State.RUNNING) == core.settings.ray.max_runs

        await until(running)
        await queue.cancel(runs[0].id)
        await until(lambda: queue.log(runs[2].id))
        assert (await queue.get(runs[3].id)).state is State.QUEUED


class Failing(LocalRunner):
    """A cluster that loses its first runs."""

    def __init__(self, failures):
        super().__init__(plugins())
        self.failures = failures

    async def submit(self, task):
        if self.failures:
            self.failures -= 1
            raise RunFailed("The worker process of the run died.", retryable=True)
        return await super().submit(task)


async def test_a_run_whose_worker_died_is_started_again(core, queue, ask):
    async with dispatching(core, Failing(2)):
        run = await ended(queue, await ask(how="quietly"))
    assert (run.state, run.attempt) == (State.SUCCEEDED, 3)


async def test_but_not_for_ever(core, queue, ask):
    async with dispatching(core, Failing(100)):
        run = await ended(queue, await ask(how="quietly"))
    assert run.state is State.FAILED
    assert run.error == "The worker process of the run died. It was started 3 times."


async def test_a_cluster_that_does_not_start_is_tried_again(core, queue, ask, monkeypatch):
    monkeypatch.setattr(dispatcher, "RESTART_S", 0.05)

    class Late(LocalRunner):
        starts = 0

        async def start(self):
            self.starts += 1
            if self.starts < 3:
                raise OSError("no cluster")

    async with dispatching(core, Late(plugins())):
        run = await ended(queue, await ask(how="quietly"))
    assert run.state is State.SUCCEEDED


async def test_a_cluster_that_dies_is_started_again(core, queue, ask, monkeypatch):
    monkeypatch.setattr(dispatcher, "HEALTH_S", 0.05)

    said = []

    class Mortal(LocalRunner):
        async def start(self):
            said.append("start")

        async def close(self):
            said.append("close")

        async def is_healthy(self):
            return said != ["start"]

    async with dispatching(core, Mortal(plugins())):

        async def restarted():
            return said == ["start", "close", "start"]

        await until(restarted)
        assert (await ended(queue, await ask(how="quietly"))).state is State.SUCCEEDED


async def test_when_one_object_is_refused_nothing_is_kept(core, queue, ask, monkeypatch):
    before = await kept(core)
    real, calls = BoundArchive.store, []

    async def refuse_the_second(self, part, **rest):
        calls.append(part)
        return await real(self, part, **rest) if len(calls) == 1 else StoreOutcome(failure=0xC000, reason="No.")

    monkeypatch.setattr(BoundArchive, "store", refuse_the_second)
    async with dispatching(core):
        run = await ended(queue, await ask(how="well"))
    assert run.state is State.FAILED
    assert run.error.startswith("The archive refused the SR object")
    assert len(calls) == 2
    assert await series_of(core, ask.study) == [ask.series]
    assert await core.catalogue.db["meshes"].count_documents({}) == 0
    assert await kept(core) == before


async def test_a_run_left_by_a_lost_machine_starts_again_and_what_it_filed_is_gone(core, queue, ask):
    async with dispatching(core):
        seg, _, mesh = (await ended(queue, await ask(how="well", number=1))).outputs
    run = await ask(how="well")
    lost = await queue.claim("a dispatcher that is gone")
    await queue.stage(lost, [seg, mesh, Output("sr", "not stored yet", ask.study, "1.2.3", "1.2.3.4")])
    async with dispatching(core):
        done = await ended(queue, run)
    assert (done.state, done.attempt) == (State.SUCCEEDED, 2)
    with pytest.raises(Gone):
        await core.archive.instances(seg.resource)
    with pytest.raises(NotFound):
        await MeshStore(core.catalogue.db, core.objects).get(mesh.mesh_id)


async def test_a_run_that_is_lost_again_and_again_fails(core, queue, ask):
    run = await ask(how="well")
    for _ in range(executor.MAX_ATTEMPTS - 1):
        await queue.requeue(await queue.claim("lost"), reason="", delay=timedelta(0))
    await queue.claim("lost")
    async with dispatching(core):
        done = await ended(queue, run)
    assert (done.state, done.error) == (State.FAILED, "The machine that ran it was lost. It was started 3 times.")


async def test_a_run_that_was_to_be_cancelled_when_its_machine_was_lost_is_cancelled(core, queue, ask):
    run = await ask(how="well")
    await queue.claim("lost")
    await queue.cancel(run.id)
    async with dispatching(core):
        assert (await ended(queue, run)).state is State.CANCELLED


async def test_stopped_a_dispatcher_hands_its_runs_back(core, queue, ask):
    run = await ask(how="slowly")
    async with dispatching(core):
        await until(lambda: queue.log(run.id))
    waiting = await queue.get(run.id)
    assert (waiting.state, waiting.attempt) == (State.QUEUED, 0)
    assert waiting.message == "The server was stopped; the run will be started again."
    assert await Lease(core.catalogue.db).acquire()


async def test_of_two_dispatchers_one_works_and_the_other_takes_over(core, queue, ask, monkeypatch):
    monkeypatch.setattr(Lease.__init__, "__kwdefaults__", {"name": "dispatcher", "lease_s": 0.8})
    async with dispatching(core) as first:
        run = await ask(how="quietly")
        assert (await ended(queue, run)).state is State.SUCCEEDED
        async with dispatching(core):
            slow = await ask(how="slowly")
            await until(lambda: queue.log(slow.id))
            first.cancel()
            await asyncio.wait([first])

            async def taken_over():
                now = await queue.get(slow.id)
                return now.state is State.RUNNING and now.attempt == 1 and (await queue.cancel(slow.id))

            await until(taken_over)
            assert (await ended(queue, slow)).state is State.CANCELLED


async def test_a_dispatcher_that_lost_its_lease_stops_and_may_lead_again(core, queue, ask, monkeypatch):
    monkeypatch.setattr(Lease.__init__, "__kwdefaults__", {"name": "dispatcher", "lease_s": 0.8})
    async with dispatching(core):
        run = await ask(how="slowly")
        await until(lambda: queue.log(run.id))
        thief = {"$set": {"token": "thief"}, "$currentDate": {"renewed": True}}
        await core.catalogue.db["leases"].update_one({"_id": "dispatcher"}, thief)

        async def queued():
            return (await queue.get(run.id)).state is State.QUEUED

        async def running():
            return (await queue.get(run.id)).state is State.RUNNING

        await until(queued)
        await until(running)
        await queue.cancel(run.id)
        assert (await ended(queue, run)).state is State.CANCELLED


async def test_a_run_on_a_series_that_was_deleted_fails_with_a_sentence(core, queue, ask):
    run = await ask(how="well")
    await core.archive.delete(Resource(ask.study))
    async with dispatching(core):
        done = await ended(queue, run)
    assert done.state in (State.CANCELLED, State.FAILED)
    assert await core.catalogue.series_summary(ask.study) == []


async def test_a_deleted_study_takes_meshes_and_outputs_with_it(core, queue, ask):
    async with dispatching(core):
        run = await ended(queue, await ask(how="well"))
        assert len(run.outputs) == 3
        await core.archive.delete(run.outputs[0].resource)

        async def outputs():
            return len((await queue.get(run.id)).outputs)

        async def two_left():
            return await outputs() == 2

        async def none_left():
            return await outputs() == 0 and await core.catalogue.db["meshes"].count_documents({}) == 0

        await until(two_left)
        await core.archive.delete(Resource(ask.study))
        await until(none_left)
        assert await kept(core) == set()


async def test_a_run_of_another_version_is_not_executed(core, queue, ask):
    async with dispatching(core):
        run = await ended(queue, await ask(version="0.9.0", how="well"))
    assert run.error == "It was asked of version 0.9.0, but 1.0.0 is installed; start it anew."
