"""Starting, following and cancelling runs of plugins."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

from dicomweb.errors import BadRequest, NotFound, Refused, Unavailable
from dicomweb.resource import Resource, checked_uid
from gateway.api.plugins import find, require, series_of
from gateway.api.request import integer, read_object
from gateway.api.services import SERVICES, ApiServices
from gateway.jobs.model import Run, new_id
from ray_plugins.sdk import ParameterError, Plugin

MAX_PAGE = 500
#: How often a log that is followed is read: a running plugin's lines are written at most that often.
LOG_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class Order:
    """The body of a request for a run."""

    series: Resource
    parameters: Mapping[str, Any]

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Check the form of a body; raise BadRequest."""
        unknown = sorted(body.keys() - {"study", "series", "parameters"})
        if unknown:
            raise BadRequest(
                f"The body has an unknown member {unknown[0][:80]}; it takes study, series and parameters."
            )
        study_uid, series_uids, parameters = body.get("study"), body.get("series"), body.get("parameters", {})
        if not isinstance(study_uid, str):
            raise BadRequest("study must be a Study Instance UID.")
        if not (isinstance(series_uids, list) and len(series_uids) == 1 and isinstance(series_uids[0], str)):
            raise BadRequest("series must be a list of one Series Instance UID: a plugin works on one series.")
        if not isinstance(parameters, dict):
            raise BadRequest("parameters must be a JSON object.")
        return cls(Resource.parse(study_uid, series_uids[0]), parameters)


async def start_run(request: web.Request) -> web.Response:
    """Queue a run; the same run that is queued or running already is joined instead."""
    services = request.app[SERVICES]
    plugin = find(services.registry, request.match_info["name"])
    order = Order.parse(await read_object(request))
    parameters = _validated(plugin, order.parameters)
    await _check_series(request, plugin, order.series)
    if not services.runs_enabled:
        raise Unavailable("Plugins are switched off on this server (ray.enabled = false).")
    run = Run(
        id=new_id(),
        plugin=plugin.name,
        version=plugin.version,
        title=plugin.title,
        study_uid=order.series.study_uid,
        series_uids=(order.series.series_uid or "",),
        parameters=parameters,
    )
    taken = await services.queue.enqueue(run)
    location = f"{services.prefix}/api/v1/runs/{taken.id}"
    return web.json_response(taken.to_json(services.prefix), status=202, headers={"Location": location})


async def list_runs(request: web.Request) -> web.Response:
    """List runs, the newest first."""
    study_uid = request.query.get("study")
    if study_uid is not None:
        checked_uid(study_uid, "study")
    services = request.app[SERVICES]
    runs = await services.queue.newest(study_uid, integer(request, "limit", 100, 1, MAX_PAGE))
    return web.json_response({"runs": [run.to_json(services.prefix) for run in runs]})


async def get_run(request: web.Request) -> web.Response:
    """Show a run."""
    services = request.app[SERVICES]
    run = await services.queue.get(request.match_info["id"])
    return web.json_response(run.to_json(services.prefix))


async def cancel_run(request: web.Request) -> web.Response:
    """Cancel a run: a queued one at once, a running one as soon as its plugin lets go."""
    services = request.app[SERVICES]
    run = await services.queue.cancel(request.match_info["id"])
    return web.json_response(run.to_json(services.prefix), status=202)


async def stream_log(request: web.Request) -> web.StreamResponse:
    """Stream the log of a run as text, from its start until the run ends."""
    services, run_id = request.app[SERVICES], request.match_info["id"]
    await services.queue.get(run_id)
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8", "X-Accel-Buffering": "no"})
    await response.prepare(request)
    with suppress(ConnectionError):  # the reader left
        await _follow_log(services, run_id, response)
        await response.write_eof()
    return response


async def _follow_log(services: ApiServices, run_id: str, response: web.StreamResponse) -> None:
    last, ended = -1, False
    while not ended:
        ended = (await services.queue.get(run_id)).state.is_final or services.events.closed.is_set()
        while lines := await services.queue.log(run_id, last):  # read after the state: nothing comes after the end
            await response.write("".join(f"{text}\n" for _, text in lines).encode())
            last = lines[-1][0]
        if not ended:
            await services.events.wait_closed(LOG_INTERVAL_S)


def _validated(plugin: Plugin, parameters: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return plugin.validate(parameters)
    except ParameterError as exc:
        raise BadRequest(str(exc)) from exc


async def _check_series(request: web.Request, plugin: Plugin, series: Resource) -> None:
    """Raise NotFound or Gone if there is no such series, Refused if the plugin does not take it."""
    services = request.app[SERVICES]
    for item in await series_of(request, services, Resource(series.study_uid)):
        if item["SeriesInstanceUID"] == series.series_uid:
            reason = plugin.accepts_series(item)
            if reason is not None:
                raise Refused(f"{plugin.title} does not take this series. {reason}")
            return
    await require(request, services, series)
    raise NotFound("There is no such series.")
