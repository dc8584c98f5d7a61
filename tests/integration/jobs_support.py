"""What the tests of runs and of the REST API share."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from gateway.archive import Source
from gateway.config import MongoSettings
from gateway.jobs import dispatcher
from gateway.jobs.model import Run, new_id
from gateway.jobs.queue import RunQueue
from gateway.store import driver
from ray_plugins.registry import GROUP, Registry
from ray_plugins.runner import LocalRunner


@pytest.fixture
async def db(mongod_uri, databases):
    """A database without documents."""
    connection = driver.connect(MongoSettings(), mongod_uri)
    with databases.one() as name:
        yield driver.database(connection.client, name)
    await driver.close(connection)


def order(**values):
    """A run to be queued."""
    fields = {
        "id": new_id(),
        "plugin": "act",
        "version": "1.0.0",
        "title": "Acts as told",
        "study_uid": "1.2.3",
        "series_uids": ("1.2.3.4",),
        "parameters": {},
    }
    return Run(**fields | values)


async def until(condition, timeout_s=30.0):
    """Poll an asynchronous condition until it gives something true, and return that."""
    async with asyncio.timeout(timeout_s):
        while not (value := await condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return value


def plugins() -> Registry:
    """The plugins of tests, found as installed ones are."""
    return Registry(EntryPoint(name, f"tests.integration.jobs_plugins:{name}", GROUP) for name in ("act", "hurry"))


async def chunks(path: Path) -> AsyncIterator[bytes]:
    yield await asyncio.to_thread(path.read_bytes)


async def store_series(core, folder: Path):
    """Store all files of a folder, which are one series; return study and series UID."""
    archive = core.archive.for_source(Source("import"))
    files = await asyncio.to_thread(lambda: sorted(folder.glob("*.dcm")))
    outcomes = [await archive.store(chunks(path)) for path in files]
    assert outcomes
    assert not any(outcome.failure for outcome in outcomes)
    return outcomes[0].stored.study_uid, outcomes[0].stored.series_uid


@asynccontextmanager
async def dispatching(core, runner=None, registry=None):
    """A dispatcher that works until the block ends; gives its task."""
    registry = registry or plugins()
    task = asyncio.create_task(
        dispatcher.run(
            core.settings,
            core.catalogue.db,
            lambda kind: core.archive.for_source(Source(kind)),
            core.objects,
            runner or LocalRunner(registry),
            registry,
        )
    )
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def ended(queue: RunQueue, run: Run) -> Run:
    """Wait for the end of a run."""

    async def final():
        now = await queue.get(run.id)
        return now if now.state.is_final else None

    return await until(final)
