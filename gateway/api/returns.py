"""Returning results to a PACS, for callers with the right to know whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from dicomweb.errors import BadRequest
from dicomweb.resource import checked_uid
from gateway.api.request import read_object
from gateway.api.rights import require_right
from gateway.api.services import SERVICES
from gateway.returns import MAX_INSTANCES, Order, Returned

_MEMBERS = frozenset({"study", "to", "series", "instances"})


async def return_results(request: web.Request) -> web.Response:
    """Send results of a study to a remote, re-identified, and say what became of each."""
    caller = await require_right(request, "reidentify")
    order = _order(await read_object(request))
    done = await request.app[SERVICES].returns.send(order, caller)
    answer = {"study": order.study_uid, "to": order.to, "results": [_described(one) for one in done]}
    return web.json_response(answer, headers={"Cache-Control": "no-store"})


def _order(body: Mapping[str, Any]) -> Order:
    """What a body asks for; raise BadRequest without quoting it."""
    if body.keys() - _MEMBERS or {"series", "instances"} <= body.keys():
        raise BadRequest("The body takes study, to, and one of series and instances, and no more.")
    study_uid, to = body.get("study"), body.get("to")
    if not isinstance(study_uid, str) or not isinstance(to, str):
        raise BadRequest("study must be a Study Instance UID, and to the name of a remote.")
    return Order(checked_uid(study_uid, "study"), to, _uids(body, "series"), _uids(body, "instances"))


def _uids(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    if name not in body:
        return ()
    uids = body[name]
    if isinstance(uids, list) and 0 < len(uids) <= MAX_INSTANCES and all(isinstance(one, str) for one in uids):
        return tuple(dict.fromkeys(checked_uid(one, name) for one in uids))
    raise BadRequest(f"{name} must be a list of 1 to {MAX_INSTANCES} UIDs.")


def _described(one: Returned) -> dict[str, Any]:
    described = {
        "series": one.instance.series_uid,
        "instance": one.instance.instance_uid,
        "outcome": one.outcome,
        "status": one.status,
        "reason": one.reason,
    }
    return {name: value for name, value in described.items() if value is not None and value != ""}
