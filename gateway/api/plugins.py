"""Which plugins there are, what they take, and which of them accept a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from dicomweb.errors import NotFound, Unavailable
from dicomweb.resource import Resource
from gateway.api.services import SERVICES, ApiServices
from ray_plugins.registry import BrokenPlugin, Registry, UnknownPlugin
from ray_plugins.sdk import Plugin


async def list_plugins(request: web.Request) -> web.Response:
    """List the installed plugins."""
    return web.json_response([_summary(plugin) for plugin in request.app[SERVICES].registry])


async def describe_plugin(request: web.Request) -> web.Response:
    """Describe a plugin and, as JSON Schema, its parameters."""
    return web.json_response(find(request.app[SERVICES].registry, request.match_info["name"]).manifest)


async def list_for_study(request: web.Request) -> web.Response:
    """List the plugins, each with those series of a study that it accepts."""
    services = request.app[SERVICES]
    series = await series_of(request, services, Resource.parse(request.match_info["study"]))
    listed = []
    for plugin in services.registry:
        taken = [item["SeriesInstanceUID"] for item in series if plugin.accepts_series(item) is None]
        listed.append(_summary(plugin) | {"series": taken})
    return web.json_response(listed)


def find(registry: Registry, name: str) -> Plugin:
    """Find a plugin; raise NotFound, or Unavailable if it is installed but broken."""
    try:
        return registry.get(name)
    except UnknownPlugin as exc:
        raise NotFound(str(exc)) from exc
    except BrokenPlugin as exc:
        raise Unavailable(f"Plugin {name} is installed but cannot be loaded; the log of the server says why.") from exc


async def series_of(request: web.Request, services: ApiServices, study: Resource) -> Sequence[Mapping[str, Any]]:
    """The series of a study; raise NotFound or Gone."""
    found = await services.series_summary(study.study_uid)
    if not found:
        await require(request, services, study)
    return found


async def require(request: web.Request, services: ApiServices, resource: Resource) -> None:
    """Raise NotFound or Gone if the caller's archive does not hold the resource."""
    if not await services.archive(request).instances(resource):
        raise NotFound


def _summary(plugin: Plugin) -> dict[str, Any]:
    """A plugin without its parameters."""
    return {key: value for key, value in plugin.manifest.items() if key != "parameters"}
