"""The worklist of an application: its stores, its hub that runs while the application does, bound to each caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta

from aiohttp import web

from gateway.archive import Source
from gateway.jobs.subscriptions import Subscriptions
from gateway.jobs.workitems import WorkitemStore
from gateway.jobs.worklist import BoundWorklist, WorklistServices
from gateway.jobs.worklist_hub import WorklistHub
from gateway.wiring import Core
from ray_plugins.registry import Registry


def worklist_services(core: Core, registry: Registry) -> WorklistServices:
    """What the worklist over an open archive works with."""
    db = core.catalogue.db
    store = WorkitemStore(db, keep=timedelta(hours=core.settings.worklist.keep_hours))
    return WorklistServices(
        store=store,
        subscriptions=Subscriptions(db, store),
        hub=WorklistHub(db, store),
        registry=registry,
        series_summary=core.catalogue.series_summary,
        run=core.workers.run,
        runs_enabled=core.settings.ray.enabled,
    )


def worklist_of(
    core: Core, services: WorklistServices, user: Callable[[web.Request], str]
) -> Callable[[web.Request], BoundWorklist]:
    """Gives the worklist as the caller of a request sees it: what it sends is treated as what it would store."""

    def bound(request: web.Request) -> BoundWorklist:
        source = Source("stow", user(request))
        return BoundWorklist(services, lambda: core.archive.treatment_of_workitems(source), source.name)

    return bound


def attach(app: web.Application, services: WorklistServices) -> None:
    """Let the hub run while the application does, and tell subscribers when it ends."""

    async def running(_: web.Application) -> AsyncIterator[None]:
        await services.store.create_indexes()
        await services.subscriptions.create_indexes()
        hub = asyncio.create_task(services.hub.run(), name="worklist-hub")
        yield
        hub.cancel()
        with suppress(asyncio.CancelledError):
            await hub

    async def going_down(_: web.Application) -> None:
        services.hub.close()

    app.cleanup_ctx.append(running)
    app.on_shutdown.append(going_down)
