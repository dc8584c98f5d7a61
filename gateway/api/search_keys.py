"""What the archive can be searched by, and how far keys are built over what was stored before they were declared."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydicom.datadict import keyword_for_tag

from gateway.api.services import SERVICES
from gateway.store.keystate import Progress


async def list_search_keys(request: web.Request) -> web.Response:
    """List the search keys of the archive, and in how many of its instances each is built."""
    return web.json_response({"keys": [_key(one) for one in await request.app[SERVICES].search_keys()]})


def _key(progress: Progress) -> dict[str, Any]:
    keywords = [keyword_for_tag(int(tag, 16)) for tag in progress.path]
    return {
        "key": ".".join(progress.path),
        "name": ".".join(keywords) if all(keywords) else "",
        "level": progress.key.level.name.lower(),
        "vr": progress.key.vr,
        "declared": progress.declared,
        "state": "built" if progress.ready else "building",
        "done": progress.done,
        "total": progress.total,
    }
