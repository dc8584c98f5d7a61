"""WADO-RS: rendered pictures and thumbnails at every level (PS3.18 sections 10.4.1.1.3 and 10.4.1.1.4)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from aiohttp import web
from pydicom import Dataset

from dicomweb import multipart, render, transcode
from dicomweb.bodies import negotiate, not_modified, send
from dicomweb.errors import BadRequest, NotAcceptable, NotFound
from dicomweb.negotiate import COMPRESSED, Offer
from dicomweb.ports import Services, StoredInstance
from dicomweb.resource import Level
from dicomweb.stored import Headers, Reader
from dicomweb.wado import resource_of
from dicomweb.wado_pixels import parse_frames

_THUMBNAIL = render.Viewport(256, 256)
_CACHED_THUMBNAILS = 512
_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
#: Pictures of something else, which stand for a series only where nothing better is in it (PS3.4 Table B.5-1).
_OVERLAYS = frozenset(
    [
        "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
        "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
        "1.2.840.10008.5.1.4.1.1.30",  # Parametric Map
        "1.2.840.10008.5.1.4.1.1.481.2",  # RT Dose
    ]
)


class WadoRendered:
    """Handlers of the rendered and thumbnail resources."""

    def __init__(self, services: Services, headers: Headers) -> None:
        self._services = services
        self._headers = headers
        self._thumbnails: OrderedDict[str, bytes] = OrderedDict()

    async def rendered(self, request: web.Request) -> web.StreamResponse:
        """`…/rendered`: a picture; documents and videos as what they are."""
        reader, frame = await self._reader(request, middle=False)
        stream_type = _stream_type(reader.instance)
        if stream_type:
            return await self._send_stream(request, reader, stream_type)
        options = render.parse_options(request.query, self._services.limits.max_pixels)
        offer = negotiate(request, [Offer(name) for name in render.MEDIA_TYPES])
        etag = multipart.boundary_for(reader.instance.etag, str(frame), str(options), str(offer))
        if response := not_modified(request, etag):
            return response
        picture = await self._render(reader, frame, options, offer.media_type)
        return await send(request, [picture], offer.content_type, etag)

    async def thumbnail(self, request: web.Request) -> web.StreamResponse:
        """`…/thumbnail`: one small picture that stands for the resource; kept for the next who asks."""
        reader, frame = await self._reader(request, middle=True)
        options = render.parse_options(request.query, self._services.limits.max_pixels, thumbnail=True)
        options = render.Options(options.viewport or _THUMBNAIL)
        offer = negotiate(request, [Offer(name) for name in render.MEDIA_TYPES])
        etag = multipart.boundary_for(reader.instance.etag, str(frame), str(options), str(offer))
        if response := not_modified(request, etag):
            return response
        picture = self._thumbnails.get(etag)
        if picture is None:
            picture = await self._render(reader, frame, options, offer.media_type)
            self._thumbnails[etag] = picture
            if len(self._thumbnails) > _CACHED_THUMBNAILS:
                self._thumbnails.popitem(last=False)
        return await send(request, [picture], offer.content_type, etag)

    async def _reader(self, request: web.Request, *, middle: bool) -> tuple[Reader, int]:
        """The instance and the frame that stand for what is asked for."""
        archive = self._services.archive(request)
        resource = resource_of(request)
        instances = await archive.instances(resource)
        instance = instances[0] if resource.level is Level.INSTANCE else representative(instances)
        frame = max(1, (instance.frames.count + 1) // 2) if middle else 1
        if "frames" in request.match_info:
            numbers = parse_frames(request.match_info["frames"])
            if len(numbers) != 1:
                raise BadRequest("One frame can be rendered at a time.")
            frame = numbers[0]
        return Reader(archive, instance, self._headers, self._services.run), frame

    async def _render(self, reader: Reader, frame: int, options: render.Options, media_type: str) -> bytes:
        if not reader.instance.pixel_offset:
            raise NotFound("The instance has no picture.")
        stored = await reader.stored_frame(frame)
        header = await reader.header()
        return await self._services.run(_picture, header, reader.instance, stored, frame, options, media_type)

    async def _send_stream(self, request: web.Request, reader: Reader, media_type: str) -> web.StreamResponse:
        """A PDF or a video as it is stored."""
        offer = negotiate(request, [Offer(media_type)])
        etag = multipart.boundary_for(reader.instance.etag, media_type)
        if response := not_modified(request, etag):
            return response
        if media_type != "application/pdf":
            return await send(request, reader.pixel_pieces(), media_type, etag)
        header = await reader.header()
        # Documents are padded to an even length (PS3.3 section C.24.2); a PDF ends at its last %%EOF in any case.
        return await send(request, [header.EncapsulatedDocument], offer.content_type, etag)


def representative(instances: Sequence[StoredInstance]) -> StoredInstance:
    """The middle instance of the series with most frames; of pictures rather than of what is laid over them.

    Raises
    ------
    NotFound : if no instance has pixels.
    """
    pictures = [one for one in instances if one.frames.count]
    pictures = [one for one in pictures if one.sop_class_uid not in _OVERLAYS] or pictures
    if not pictures:
        raise NotFound("There is no picture in this resource.")
    series: dict[str, list[StoredInstance]] = {}
    for one in pictures:
        series.setdefault(one.series_uid, []).append(one)
    largest = max(series.values(), key=lambda members: sum(one.frames.count for one in members))
    return largest[len(largest) // 2]


def _stream_type(instance: StoredInstance) -> str | None:
    """The media type of what is not a picture but can be shown as it is stored."""
    if instance.sop_class_uid == _ENCAPSULATED_PDF:
        return "application/pdf"
    media_type = COMPRESSED.get(instance.transfer_syntax_uid, "")
    return media_type if media_type.startswith("video/") else None


def _picture(
    header: Dataset,
    instance: StoredInstance,
    frame: bytes,
    number: int,
    options: render.Options,
    media_type: str,
) -> bytes:
    pixels, photometric = transcode.decode(header, instance.transfer_syntax_uid, frame, rgb=True)
    try:
        return render.render(pixels, photometric, header, number, options, media_type)
    except (ValueError, TypeError, AttributeError, OverflowError) as exc:  # what pydicom raises on malformed attributes
        raise NotAcceptable("The image has malformed attributes and cannot be rendered.") from exc
