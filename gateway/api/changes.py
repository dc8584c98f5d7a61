"""The ordered change feed: what was stored and deleted, in commit order, so that `since` never misses one."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.api.request import integer
from gateway.api.services import SERVICES
from gateway.store import changes
from gateway.store.changes import Change
from gateway.store.driver import wrapped

MAX_PAGE = 5_000


async def list_changes(request: web.Request) -> web.Response:
    """List changes of the archive after number `since`, oldest first, and the number of the latest."""
    since = integer(request, "since", 0, 0, (1 << 63) - 1)
    limit = integer(request, "limit", 1_000, 1, MAX_PAGE)
    services = request.app[SERVICES]
    await services.complete()
    async with wrapped():
        latest = await changes.latest(services.db)
        page = await changes.read(services.db, since, limit)
    latest = max(latest, page[-1].seq if page else 0)
    return web.json_response({"changes": [_change(one) for one in page], "latest": latest})


def _change(change: Change) -> dict[str, Any]:
    return {
        "seq": change.seq,
        "action": change.action,
        "study": change.study_uid,
        "series": change.series_uid,
        "instance": change.instance_uid,
        "at": change.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
