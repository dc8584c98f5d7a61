"""One archive with known objects, served once for all conformance tests; no test may change what another one reads."""

import inspect
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer

from gateway.app import create_app
from gateway.wiring import open_core
from tests.conformance import objects
from tests.conformance.caller import Caller, keep
from tests.conftest import KEYS, settings_for


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of this folder in the loop of the server."""
    for item in items:
        if item.path.parent.name == "conformance" and inspect.iscoroutinefunction(item.function):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def empty_server(mongod_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Caller]:
    """A caller of a server whose archive keeps objects as they come."""
    async with _served(mongod_uri, tmp_path_factory.mktemp("conformance")) as caller:
        yield caller


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(empty_server: Caller) -> Caller:
    """The same with all known objects in it."""
    await keep(empty_server, *objects.everything())
    return empty_server


@pytest_asyncio.fixture(loop_scope="session")
async def configured(mongod_uri: str, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Caller]]]:
    """Serve an empty archive with other settings: `server = await configured(ISTHMUS_HTTP__PUBLIC_URL="…")`."""
    async with AsyncExitStack() as stack:

        async def make(**environment: str) -> Caller:
            folder = tmp_path / secrets.token_hex(4)
            return await stack.enter_async_context(_served(mongod_uri, folder, **environment))

        yield make


@asynccontextmanager
async def _served(mongod_uri: str, folder: Path, **environment: str) -> AsyncIterator[Caller]:
    settings = settings_for(folder, **({"ISTHMUS_INGEST__PROFILE": "none"} | environment))
    async with open_core(settings, mongod_uri, KEYS) as core:
        app = await create_app(core, dicom_address="127.0.0.1:11112")
        async with (
            TestServer(app, host="127.0.0.1") as server,
            aiohttp.ClientSession(auto_decompress=False, headers={"Accept-Encoding": "identity"}) as session,
        ):
            yield Caller(session, str(server.make_url("")).rstrip("/"))
        await core.catalogue.client.drop_database(settings.mongodb.database)


@pytest.fixture
def fresh() -> str:
    """A name that no other test uses."""
    return secrets.token_hex(6).upper()
