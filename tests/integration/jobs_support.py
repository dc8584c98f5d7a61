"""What the tests of runs and of the REST API share."""

import asyncio
import secrets

import pytest

from gateway.config import MongoSettings
from gateway.jobs.model import Run, new_id
from gateway.store import driver


@pytest.fixture
async def db(mongod_uri):
    """An empty database."""
    client = driver.connect(MongoSettings(), mongod_uri)
    name = f"test_{secrets.token_hex(6)}"
    yield driver.database(client, name)
    await client.drop_database(name)
    await driver.close(client)


def order(**values):
    """A run to be queued."""
    fields = {
        "id": new_id(),
        "plugin": "act",
        "version": "1.0.0",
        "title": "Acts",
        "study_uid": "1.2.3",
        "series_uids": ("1.2.3.4",),
        "parameters": {},
    }
    return Run(**fields | values)


async def until(condition, timeout_s=20.0):
    """Poll an asynchronous condition until it gives something true, and return that."""
    async with asyncio.timeout(timeout_s):
        while not (value := await condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return value
