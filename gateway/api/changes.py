"""The ordered change feed: what was stored and deleted, in commit order, so that `since` never misses one."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.api.request import integer
from gateway.api.services import SERVICES
from gateway.store.driver import wrapped

MAX_PAGE = 5_000


async def list_changes(request: web.Request) -> web.Response:
    """List changes of the archive after number `since`, oldest first, and the number of the latest."""
    since = integer(request, "since", 0, 0, (1 << 63) - 1)
    limit = integer(request, "limit", 1_000, 1, MAX_PAGE)
    feed = request.app[SERVICES].db["changes"]
    async with wrapped():
        newest = await feed.find_one({}, {"_id": 1}, sort=[("_id", -1)])
        page = await feed.find({"_id": {"$gt": since}}).sort("_id", 1).limit(limit).to_list(None)
    latest = max(newest["_id"] if newest else 0, page[-1]["_id"] if page else 0)
    return web.json_response({"changes": [_change(document) for document in page], "latest": latest})


def _change(document: dict[str, Any]) -> dict[str, Any]:
    at = document["at"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    named = {name: document[name] for name in ("action", "study", "series", "instance")}
    return {"seq": document["_id"], **named, "at": at}
