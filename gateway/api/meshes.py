"""Meshes that runs made, in the encoding that the caller wants."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from http import HTTPStatus

from aiohttp import ETag, hdrs, web

from dicomweb.errors import NotAcceptable
from dicomweb.negotiate import Offer, accepted, choose
from dicomweb.resource import Resource
from gateway.api.plugins import require
from gateway.api.services import SERVICES
from gateway.jobs.meshes import KEPT_ZIPPED
from gateway.store.objects import ObjectReader

#: Media type (IANA) -> encoding in the mesh store; the first is the default.
MEDIA_TYPES = {"model/x3d+xml": "x3d", "model/gltf-binary": "glb", "model/stl": "stl"}
_OFFERS = [Offer(media_type) for media_type in MEDIA_TYPES]


async def get_mesh(request: web.Request) -> web.StreamResponse:
    """Send a mesh as X3D, binary glTF or STL, in millimetres and patient coordinates (LPS)."""
    services = request.app[SERVICES]
    mesh = await services.meshes.get(request.match_info["id"])
    await require(request, services, Resource(mesh.study_uid, mesh.series_uid))
    offer = choose(_OFFERS, accepted(request.headers.get(hdrs.ACCEPT), request.query.get("accept")))
    if offer is None:
        raise NotAcceptable(f"A mesh comes as {', '.join(MEDIA_TYPES)}.")
    encoding = MEDIA_TYPES[offer.media_type]
    zipped = encoding in KEPT_ZIPPED and "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "")
    etag = f"{mesh.id}-{encoding}{'-gzip' if zipped else ''}"
    response = web.StreamResponse(headers={"Vary": "Accept, Accept-Encoding"})
    response.etag = ETag(etag)
    if any(known.value in (etag, "*") for known in request.if_none_match or ()):
        response.set_status(HTTPStatus.NOT_MODIFIED)
        return response
    response.content_type = offer.media_type
    if zipped:
        response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    await _send(request, response, services.meshes.open(mesh, encoding), unzip=encoding in KEPT_ZIPPED and not zipped)
    return response


async def _send(request: web.Request, response: web.StreamResponse, stored: ObjectReader, *, unzip: bool) -> None:
    if not unzip:
        response.content_length = stored.size
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD:
        chunks = stored.stream()
        async for chunk in _unzipped(chunks) if unzip else chunks:
            await response.write(chunk)
    await response.write_eof()


async def _unzipped(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Decompress what is kept compressed, in pieces of bounded size."""
    decoder = zlib.decompressobj(wbits=31)
    async for chunk in chunks:
        rest = chunk
        while rest:
            yield decoder.decompress(rest, 1 << 20)
            rest = decoder.unconsumed_tail
    yield decoder.flush()
