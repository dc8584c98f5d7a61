"""The route table of the REST API: what is registered is what is described."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from aiohttp import web

from gateway.api import changes, identities, info, meshes, openapi, plugins, returns, runs, search_keys, stream
from gateway.api.openapi import Operation
from gateway.api.schemas import COUNT, TEXT, UID, ref
from gateway.api.services import SERVICES, ApiServices

_BAD, _MISSING, _GONE = HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.GONE
_V1 = "/api/v1"

OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", f"{_V1}/info", info.get_info, ref("Info")),
    Operation("GET", f"{_V1}/plugins", plugins.list_plugins, {"type": "array", "items": ref("Plugin")}),
    Operation("GET", f"{_V1}/plugins/{{name}}", plugins.describe_plugin, ref("PluginDetail"), errors=(_MISSING,)),
    Operation(
        "POST",
        f"{_V1}/plugins/{{name}}/runs",
        runs.start_run,
        ref("Run"),
        HTTPStatus.ACCEPTED,
        body="NewRun",
        errors=(_BAD, _MISSING, _GONE, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY),
    ),
    Operation(
        "GET",
        f"{_V1}/studies/{{study}}/plugins",
        plugins.list_for_study,
        {"type": "array", "items": ref("PluginForStudy")},
        errors=(_BAD, _MISSING, _GONE),
    ),
    Operation(
        "GET",
        f"{_V1}/runs",
        runs.list_runs,
        ref("RunList"),
        query={"study": UID, "limit": {"type": "integer", "minimum": 1, "maximum": runs.MAX_PAGE, "default": 100}},
        errors=(_BAD,),
    ),
    Operation("GET", f"{_V1}/runs/{{id}}", runs.get_run, ref("Run"), errors=(_MISSING,)),
    Operation(
        "DELETE",
        f"{_V1}/runs/{{id}}",
        runs.cancel_run,
        ref("Run"),
        HTTPStatus.ACCEPTED,
        errors=(_MISSING, HTTPStatus.CONFLICT),
    ),
    Operation("GET", f"{_V1}/runs/{{id}}/log", runs.stream_log, media_types=("text/plain",), errors=(_MISSING,)),
    Operation(
        "GET",
        f"{_V1}/meshes/{{id}}",
        meshes.get_mesh,
        media_types=tuple(meshes.MEDIA_TYPES),
        query={"accept": {**TEXT, "description": "A media type, where the Accept header cannot be set."}},
        errors=(_MISSING, _GONE, HTTPStatus.NOT_ACCEPTABLE),
    ),
    Operation(
        "POST",
        f"{_V1}/identities/search",
        identities.search_identities,
        ref("Identity"),
        body="IdentitySearch",
        errors=(_BAD, HTTPStatus.FORBIDDEN, _MISSING, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    ),
    Operation(
        "POST",
        f"{_V1}/returns",
        returns.return_results,
        ref("ReturnedResults"),
        body="ResultsToReturn",
        errors=(
            _BAD,
            HTTPStatus.FORBIDDEN,
            _MISSING,
            HTTPStatus.CONFLICT,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.BAD_GATEWAY,
        ),
    ),
    Operation("GET", f"{_V1}/search-keys", search_keys.list_search_keys, ref("SearchKeyList")),
    Operation(
        "GET",
        f"{_V1}/events",
        stream.stream_events,
        media_types=("text/event-stream",),
        headers={"Last-Event-ID": {**COUNT, "description": "The last id seen: what came after it is sent first."}},
    ),
    Operation(
        "GET",
        f"{_V1}/changes",
        changes.list_changes,
        ref("ChangeList"),
        query={
            "since": {**COUNT, "default": 0},
            "limit": {"type": "integer", "minimum": 1, "maximum": changes.MAX_PAGE, "default": 1_000},
        },
        errors=(_BAD,),
    ),
)

#: Handlers that stream until something ends: HEAD would never be answered.
_ENDLESS = frozenset({runs.stream_log, stream.stream_events})


def add_routes(app: web.Application, services: ApiServices, described: Mapping[str, Any] | None = None) -> None:
    """Register the API and let its event hub run while the application does.

    `described` are OpenAPI path items of other services, which its description is to hold too.
    """
    app[SERVICES] = services
    for operation in OPERATIONS:
        if operation.method == "GET":
            app.router.add_get(operation.path, operation.handler, allow_head=operation.handler not in _ENDLESS)
        else:
            app.router.add_route(operation.method, operation.path, operation.handler)
    app.router.add_get("/api/openapi.json", openapi.handler(OPERATIONS, described, services.prefix))
    app.cleanup_ctx.append(_running)
    app.on_shutdown.append(_end_streams)


async def _running(app: web.Application) -> AsyncIterator[None]:
    """Create the indexes, import the plugins off the loop, and keep the event hub running."""
    services = app[SERVICES]
    await services.queue.create_indexes()
    await services.meshes.create_indexes()
    await asyncio.to_thread(list, services.registry)
    hub = asyncio.create_task(services.events.run(), name="event-hub")
    yield
    hub.cancel()
    with suppress(asyncio.CancelledError):
        await hub


async def _end_streams(app: web.Application) -> None:
    app[SERVICES].events.close()
