"""The archive as a command finds it, and who runs the command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from gateway.audit import Caller
from gateway.config import Settings
from gateway.deid.keys import load_keys
from gateway.opening import check_keys
from gateway.store.embedded import EmbeddedMongo, running_uri
from gateway.wiring import Core, open_core


def operator() -> Caller:
    """Who runs a command, as the audit names them."""
    return Caller(f"uid:{os.getuid()}", "command line")


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Core]:
    """The archive, by the catalogue of the gateway that runs on this data folder, else started for the command."""
    keys = load_keys(settings, settings.data.dir)
    async with AsyncExitStack() as stack:
        uri: str | None = settings.mongodb.uri or await asyncio.to_thread(running_uri, settings.data.dir)
        if not uri:
            uri = (await stack.enter_async_context(EmbeddedMongo(settings.mongodb, settings.data.dir))).uri
        core = await stack.enter_async_context(open_core(settings, uri, keys))
        await check_keys(core, keys)
        yield core
