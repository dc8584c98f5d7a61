"""WADO-RS: rendered presentation states: the images that they refer to, as they show them (PS3.18 8.3.5.1.6)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from aiohttp import web
from pydicom import Dataset

from dicomweb import multipart
from dicomweb.bodies import multipart_type, not_modified, send, send_stream
from dicomweb.errors import BadRequest, IsthmusError, NotAcceptable, NotFound, TooLarge
from dicomweb.negotiate import Offer, accepted, choose
from dicomweb.pixels import transcode
from dicomweb.ports import Archive, Services
from dicomweb.rendering import encoders, presentation
from dicomweb.rendering.color_profiles import check
from dicomweb.rendering.encoders import MEDIA_TYPES
from dicomweb.rendering.options import Options
from dicomweb.rendering.render import finish
from dicomweb.rendering.renderer import guarded
from dicomweb.rendering.renditions import not_rendered
from dicomweb.resource import Resource
from dicomweb.stored import Headers, Reader

Shown = Sequence[tuple[Reader, int]]


class RenderedStates:
    """Answers for rendered presentation state instances."""

    def __init__(self, services: Services, headers: Headers) -> None:
        self._services = services
        self._headers = headers

    async def send(
        self, request: web.Request, archive: Archive, state: Reader, options: Options, warnings: Sequence[str]
    ) -> web.StreamResponse:
        """The images of a state: one bare or as a part, several as parts."""
        _check(request, options)
        header = await state.header()
        shown = await self._shown(archive, state, header)
        single = len(shown) == 1
        offers = [Offer(name) for name in MEDIA_TYPES if single] + [Offer(name, multipart=True) for name in MEDIA_TYPES]
        offer = choose(offers, accepted(request.headers.get("Accept"), request.query.get("accept")))
        if offer is None:
            raise not_rendered([one.instance for one, _ in shown])
        check(options.icc_profile, offer.media_type)
        validators = [f"{one.instance.etag} {frame}" for one, frame in shown]
        etag = multipart.boundary_for(state.instance.etag, *validators, str(options), str(offer))
        if response := not_modified(request, etag):
            return response
        url = f"{self._services.public_base(request)}/{state.instance.resource.path}/rendered"
        if offer.multipart:
            chunks = self._multipart(url, header, shown, options, offer, etag)
            return await send_stream(request, chunks, multipart_type(offer, etag), etag, warnings=warnings)
        body = await self._render(header, *shown[0], options, offer.media_type)
        fields = {"Content-Location": url}
        return await send(request, [body], offer.content_type, etag, warnings=warnings, fields=fields)

    async def _shown(self, archive: Archive, state: Reader, header: Dataset) -> Shown:
        """The frames that a state refers to and that are in the archive: they are of its study (PS3.3 C.11.11)."""
        instances = await archive.instances(Resource(state.instance.study_uid))
        by_uid = {one.instance_uid: one for one in instances if one.pixel_offset}
        found = []
        for reference in await self._services.run(guarded, presentation.references, header):
            instance = by_uid.get(reference.instance_uid)
            if instance is not None:
                reader = Reader(archive, instance, self._headers, self._services.run)
                frames = reference.frames or range(1, instance.frames.count + 1)
                found += [(reader, frame) for frame in frames if 1 <= frame <= instance.frames.count]
        if not found:
            raise NotFound("None of the images that the presentation state refers to is here.")
        return found

    async def _multipart(
        self, url: str, state: Dataset, shown: Shown, options: Options, offer: Offer, boundary: str
    ) -> AsyncIterator[bytes]:
        is_first = True
        failure: IsthmusError = NotAcceptable("None of the images of the presentation state can be rendered.")
        for reader, frame in shown:
            try:
                body = await self._render(state, reader, frame, options, offer.media_type)
            except (BadRequest, NotAcceptable, TooLarge) as exc:
                failure = exc
                continue
            yield multipart.part_head(boundary, offer.content_type, len(body), url, first=is_first)
            yield body
            is_first = False
        if is_first:
            raise failure
        yield multipart.closing(boundary)

    async def _render(self, state: Dataset, reader: Reader, frame: int, options: Options, media_type: str) -> bytes:
        stored, header = await reader.stored_frame(frame), await reader.header()
        syntax = reader.instance.transfer_syntax_uid
        return await self._services.run(_render, state, header, syntax, stored, frame, options, media_type)


def _check(request: web.Request, options: Options) -> None:
    """What a presentation state says itself cannot be asked for otherwise (8.3.5.1.3, 8.3.5.1.4, 8.3.5.1.6)."""
    if options.window is not None:
        raise BadRequest("A presentation state has its own window; the parameter window cannot be used with it.")
    if request.query.get("viewport", "").count(",") > 1:
        raise BadRequest("A presentation state has its own displayed area; the parameter viewport is width,height.")
    if "frames" in request.match_info:
        raise BadRequest("A presentation state has no frames.")


def _render(
    state: Dataset, header: Dataset, syntax: str, stored: bytes, frame: int, options: Options, media_type: str
) -> bytes:
    pixels, photometric = transcode.decode(header, syntax, stored, rgb=True)
    image = guarded(presentation.picture, state, header, pixels, photometric, frame, options.viewport)
    image, profile = guarded(finish, image, options, state if "ICCProfile" in state else header, frame)
    return encoders.encode(image, media_type, options.quality, profile)
