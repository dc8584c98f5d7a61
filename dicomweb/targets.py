"""The resource that the path of a request names."""

from __future__ import annotations

from aiohttp import web

from dicomweb.resource import Resource


def resource_of(request: web.Request) -> Resource:
    """The study, series or instance that the path names; raise BadRequest if a UID is malformed."""
    path = request.match_info
    return Resource.parse(path["study"], path.get("series"), path.get("instance"))
