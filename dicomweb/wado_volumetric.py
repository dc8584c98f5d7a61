"""WADO-RS: rendered MPR and 3D volume resources at every level (PS3.18 sections 10.4.1.1.7 and 10.4.1.1.8)."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from aiohttp import web

from dicomweb import multipart
from dicomweb.answers import data_set
from dicomweb.bodies import Part, multipart_pieces, multipart_type, negotiate, not_modified, send
from dicomweb.errors import BadRequest, NotAcceptable
from dicomweb.negotiate import Offer
from dicomweb.ports import Services, StoredInstance
from dicomweb.rendering import color_profiles
from dicomweb.rendering.encoders import ANIMATED, MEDIA_TYPES
from dicomweb.rendering.renderer import guarded
from dicomweb.rendering.renditions import check_accept
from dicomweb.resource import Level, Resource
from dicomweb.stored import Headers, Reader
from dicomweb.targets import resource_of
from dicomweb.volumetric.options import Reformatting, VolumeOptions, parse
from dicomweb.volumetric.pictures import picture, response_module
from dicomweb.volumetric.planes import Plane, planes_of
from dicomweb.volumetric.selection import select
from dicomweb.volumetric.volumes import Volumes
from dicomweb.wado_pixels import parse_frames

_MALFORMED = "The images have malformed attributes and cannot be rendered as a volume."


class WadoVolumetric:
    """The handlers of rendered volumes.

    One is loaded and rendered at a time: other requests keep a processor, and those that wait hold no volume.
    """

    def __init__(self, services: Services, headers: Headers) -> None:
        self._services = services
        self._headers = headers
        self._volumes = Volumes(services.run, services.limits)
        self._turn = asyncio.Lock()

    def rendered(self, reformatting: Reformatting) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The handler of `…/renderedmpr` or `…/rendered3d`."""

        async def handler(request: web.Request) -> web.StreamResponse:
            options, warnings = parse(request.query, reformatting, self._services.limits.max_pixels)
            return await self._rendered(request, options, warnings)

        return handler

    async def _rendered(
        self, request: web.Request, options: VolumeOptions, warnings: Sequence[str]
    ) -> web.StreamResponse:
        offer = None if options.metadata_only else _offer(request, options)
        archive, resource = self._services.archive(request), resource_of(request)
        instances = await archive.instances(resource)
        metadata = await archive.metadata(resource)
        frames = parse_frames(request.match_info["frames"]) if "frames" in request.match_info else None
        planes = await self._services.run(_planes, metadata.gzip_body, resource, frames, options)
        used = {plane.instance_uid for plane in planes}
        readers = {
            one.instance_uid: Reader(archive, one, self._headers, self._services.run)
            for one in instances
            if one.instance_uid in used
        }
        if len(readers) < len(used):
            raise NotAcceptable("The images changed while they were read; ask again.")
        key = _key(planes, readers)
        etag = multipart.boundary_for(key, str(options), str(offer))
        if offer is not None and (response := not_modified(request, etag)):
            return response
        if offer is None:
            async with self._turn:
                loaded = await self._volumes.get(key, planes, readers)
                module = await self._services.run(guarded, response_module, loaded.volume, options)
            return await data_set(request, self._services, module)
        header = await readers[planes[len(planes) // 2].instance_uid].header()
        async with self._turn:
            loaded = await self._volumes.get(key, planes, readers)
            body = await self._services.run(guarded, picture, loaded, options, header, offer.media_type)
        fields = [f"299 {self._services.public_base(request)}: {text}" for text in warnings]
        if not offer.multipart:
            return await send(request, [body], offer.content_type, etag, warnings=fields)
        url = f"{self._services.public_base(request)}/{resource.path}/{request.path.rsplit('/', 1)[1]}"
        pieces = multipart_pieces(etag, [Part(offer.content_type, url, [body])])
        return await send(request, pieces, multipart_type(offer, etag), etag, warnings=fields)


def _offer(request: web.Request, options: VolumeOptions) -> Offer:
    """The media type to render in: an animation is a GIF."""
    check_accept(request)
    types = (ANIMATED,) if options.animation else MEDIA_TYPES
    single = [Offer(name) for name in types]
    offer = negotiate(request, single + [replace(one, multipart=True) for one in single])
    color_profiles.check(options.image.icc_profile, offer.media_type)
    return offer


def _planes(gzip_body: bytes, resource: Resource, frames: Sequence[int] | None, options: VolumeOptions) -> list[Plane]:
    """The planes of the volume that is asked for."""
    try:
        found: list[Plane] = []
        for item in json.loads(gzip.decompress(gzip_body)):
            try:
                found += planes_of(item, frames)
            except BadRequest:
                if resource.level is not Level.STUDY:  # a study also holds what is no volume
                    raise
        return select(found, options.selection)
    except (ValueError, TypeError, AttributeError, ArithmeticError, LookupError) as exc:
        raise NotAcceptable(_MALFORMED) from exc


def _key(planes: Sequence[Plane], readers: dict[str, Reader]) -> str:
    """Names the content of a volume: its planes in their order, each as it is stored."""

    def name(plane: Plane) -> str:
        instance: StoredInstance = readers[plane.instance_uid].instance
        return f"{instance.etag} {plane.frame}"

    return multipart.boundary_for(*map(name, planes))
