"""Runs from the queue over a real local Ray to the archive: results, a killed worker, a cancelled run."""

import importlib
from datetime import timedelta

import pytest

from gateway.jobs import executor
from gateway.jobs.model import State
from gateway.jobs.queue import RunQueue
from ray_plugins.registry import Registry
from ray_plugins.runner import RayRunner
from tests.conftest import ROOT
from tests.integration.jobs_support import dispatching, ended, order, store_series, until


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The plugins of tests, installed as a third party's are; what the workers of Ray need to find them."""
    info = tmp_path / "site" / "acting-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[isthmus.plugins]\nact = tests.integration.jobs_plugins:act\n")
    monkeypatch.syspath_prepend(info.parent)
    importlib.invalidate_caches()
    return {"PYTHONPATH": f"{info.parent}:{ROOT}"}


async def test_runs_on_ray(core, data_folder, installed, ray_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "FIRST_DELAY", timedelta(milliseconds=50))
    study_uid, series_uid = await store_series(core, data_folder / "ct-abdomen-labelled")
    queue = RunQueue(core.catalogue.db)
    await queue.create_indexes()
    runner = RayRunner(ray_folder, cpus=2, object_store_bytes=96 << 20, environment=installed)

    async def ask(**parameters):
        return await queue.enqueue(order(study_uid=study_uid, series_uids=(series_uid,), parameters=parameters))

    async with dispatching(core, runner, Registry()):
        asked = await ask(how="well")
        killed = await ask(how="death once", grave=str(tmp_path / "grave"))
        done = await until(lambda: _ended(queue, asked), 120)
        assert (done.state, done.error) == (State.SUCCEEDED, None)
        assert [output.kind for output in done.outputs] == ["seg", "sr", "mesh"]
        assert await core.archive.instances(done.outputs[0].resource)
        assert "acts well, number 0" in [text for _, text in await queue.log(asked.id)]
        repeated = await until(lambda: _ended(queue, killed), 60)
        assert (repeated.state, repeated.attempt) == (State.SUCCEEDED, 2)
        slow = await ask(how="slowly")
        await until(lambda: queue.log(slow.id), 60)
        await queue.cancel(slow.id)
        assert (await ended(queue, slow)).state is State.CANCELLED


async def _ended(queue, run):
    now = await queue.get(run.id)
    return now if now.state.is_final else None
