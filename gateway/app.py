"""The web application of one HTTP worker: routes, middleware, resources."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import prometheus_client
from aiohttp import web
from prometheus_client import multiprocess

import viewer.static
from dicomweb import openapi
from dicomweb import routes as dicomweb_routes
from dicomweb.ports import Limits, Services
from dicomweb.storing.spool import SpoolFolder
from gateway import __version__, middleware
from gateway.api import routes as api_routes
from gateway.api.events import EventHub
from gateway.api.info import describe
from gateway.api.services import ApiServices
from gateway.api.worklist import attach, worklist_of, worklist_services
from gateway.archive import Source
from gateway.auth import web as auth
from gateway.auth.tokens import Tokens, revocations
from gateway.commitments import ArchiveCommitments
from gateway.config import Settings
from gateway.forwarding import FORWARDING, Forwarding
from gateway.jobs.meshes import MeshStore
from gateway.jobs.queue import RunQueue
from gateway.returns import Returns
from gateway.store.generations import Generations
from gateway.wiring import DICOMWEB, VIEWER_DIST, VIEWER_OHIF, Core, dicomweb_path
from ray_plugins.registry import Registry

CORE = web.AppKey("core", Core)
#: Requests still running after this are ended at shutdown.
SHUTDOWN_TIMEOUT_S = 8.0


async def create_app(core: Core, *, dicom_address: str, demo: bool = False) -> web.Application:
    """Build the application around an open archive."""
    settings = core.settings
    told = await core.workers.run(revocations, settings.data.dir)
    tokens = Tokens(core.catalogue.db, told)
    forwarding = Forwarding(settings.http.public_url, settings.http.trusted_proxies)
    app = web.Application(
        middlewares=[
            middleware.observe,
            middleware.answer_errors,
            middleware.preflight,
            auth.middleware(settings, tokens, forwarding),
        ]
    )
    app[CORE] = core
    app[FORWARDING] = forwarding
    app.on_cleanup.append(_closing(told))
    app.on_response_prepare.append(middleware.headers(settings.http.cors_origins))
    app.router.add_get("/health/live", _live)
    app.router.add_get("/health/ready", _ready)
    app.router.add_get("/metrics", _metrics)
    auth.add_routes(app, settings, tokens, forwarding)
    commitments = await _commitments(app, core)
    registry = await core.workers.run(Registry)  # reads entry points from disk
    worklist = worklist_services(core, registry)
    attach(app, worklist)
    dicomweb = replace(_dicomweb_services(core, forwarding, commitments), worklist=worklist_of(core, worklist, _user))
    table = dicomweb_routes.add_routes(app, dicomweb, prefix=DICOMWEB)
    uri_table = dicomweb_routes.add_uri_service(app, dicomweb)
    services = _api_services(core, registry, describe(settings, dicom_address) | {"demo": demo}, forwarding.prefix)
    api_routes.add_routes(app, services, described=openapi.paths(table, DICOMWEB) | openapi.paths(uri_table, ""))
    viewer.static.add_routes(app, VIEWER_DIST, VIEWER_OHIF, forwarding.prefix)
    return app


async def _commitments(app: web.Application, core: Core) -> ArchiveCommitments:
    """Storage commitment, which lets go of its work when the application ends."""
    commitments = ArchiveCommitments(core.archive, lambda request: Source("stow", _user(request)), core.workers.run)
    await commitments.start()

    async def close(_: web.Application) -> None:
        await commitments.close()

    app.on_cleanup.append(close)
    return commitments


def _closing(told: Generations) -> Callable[[web.Application], Awaitable[None]]:
    async def close(_: web.Application) -> None:
        told.close()

    return close


def _dicomweb_services(core: Core, forwarding: Forwarding, commitments: ArchiveCommitments) -> Services:
    root = dicomweb_path(core.settings)
    archive_of = lru_cache(maxsize=256)(lambda user: core.archive.for_source(Source("stow", user)))
    return Services(
        archive=lambda request: archive_of(_user(request)),
        run=core.workers.run,
        public_base=lambda request: f"{forwarding.origin(request)}{root}",
        spool=_spool(core.settings),
        uploads=core.archive.uploads,
        commitments=commitments,
        anonymizer=core.archive.anonymizer,
        limits=Limits(
            max_part_bytes=core.settings.http.max_part_bytes,
            max_results=core.settings.search.max_results,
            default_results=core.settings.search.default_results,
        ),
        search_keys=core.catalogue.scheme.keys,
    )


def _spool(settings: Settings) -> SpoolFolder:
    """Below the data folder, if no other is set: it is private, and as large as what is stored."""
    return SpoolFolder(settings.http.spool_dir or settings.data.dir / "spool", max_bytes=settings.http.max_spool_bytes)


def _api_services(core: Core, registry: Registry, info: Mapping[str, Any], prefix: str) -> ApiServices:
    db = core.catalogue.db
    return ApiServices(
        archive=lambda request: core.archive.for_source(Source("api", _user(request))),
        search_keys=core.archive.key_states.progress,
        series_summary=core.catalogue.series_summary,
        db=db,
        complete=core.catalogue.complete,
        queue=RunQueue(db),
        meshes=MeshStore(db, core.objects),
        registry=registry,
        events=EventHub(db, core.catalogue.complete, prefix),
        audit=core.audit,
        identities=core.identities,
        returns=Returns(core.settings, core.archive, core.identities, core.audit, core.workers),
        info=info,
        runs_enabled=core.settings.ray.enabled,
        prefix=prefix,
    )


def _user(request: web.Request) -> str:
    principal = request.get(auth.PRINCIPAL)
    return principal.user if principal is not None else ""


async def _live(_: web.Request) -> web.Response:
    """The process answers."""
    return web.json_response({"status": "live"})


async def _ready(request: web.Request) -> web.Response:
    """The catalogue and the object store can be used; Ray is not waited for."""
    core = request.app[CORE]
    await core.catalogue.ping()
    return web.json_response({"status": "ready", "version": __version__})


async def _metrics(_: web.Request) -> web.Response:
    """Prometheus metrics of all workers."""
    registry = prometheus_client.CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    body = prometheus_client.generate_latest(registry)
    return web.Response(body=body, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})
