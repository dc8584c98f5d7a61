"""WADO-RS: frames, pixel data and single values of an instance (PS3.18 sections 10.4.1.1.5 and 10.4.1.1.6)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiohttp import web

from dicomweb import dicom_json, multipart, offers, pixel_parts
from dicomweb.bodies import (
    Part,
    multipart_pieces,
    multipart_type,
    negotiate,
    not_acceptable,
    not_modified,
    send,
    send_stream,
)
from dicomweb.errors import BadRequest, NotFound
from dicomweb.negotiate import EXPLICIT_LITTLE_ENDIAN, Offer
from dicomweb.pieces import Piece
from dicomweb.pixel_parts import PIXEL_DATA
from dicomweb.ports import Services
from dicomweb.stored import Headers, Reader
from dicomweb.targets import resource_of

PIXEL_TAGS = frozenset(["7FE00008", "7FE00009", "7FE00010"])
_DOCUMENT = "00420011"
_MAX_FRAMES = 10_000


class WadoPixels:
    """Handlers of the frame, bulk data and pixel data resources of one instance."""

    def __init__(self, services: Services, headers: Headers) -> None:
        self._services = services
        self._headers = headers

    async def frames(self, request: web.Request) -> web.StreamResponse:
        """`…/frames/{list}`: each frame as one part, a single one also bare."""
        reader = await self._reader(request)
        numbers = parse_frames(request.match_info["frames"])
        if len(numbers) > 1:
            reader.instance.frames.index()
        for number in numbers:
            reader.frame_pieces(number)  # 404 before anything is sent
        kind = (*offers.kind_of(reader.instance), len(numbers) == 1)
        offer = await offers.settle(request, reader, offers.frames, *kind)
        if offer is None:
            raise not_acceptable(offers.frames(*kind))
        return await self._send_frames(request, reader, offer, numbers)

    async def pixel_data(self, request: web.Request) -> web.StreamResponse:
        """`…/pixeldata`: uncompressed it is one value, compressed a part for each frame (section 8.7.3.3)."""
        return await self._send_pixels(request, await self._reader(request))

    async def bulk_data(self, request: web.Request) -> web.StreamResponse:
        """`…/bulkdata/{path}`: the value that the metadata refers to."""
        reader = await self._reader(request)
        path = request.match_info["path"].upper()
        if path in PIXEL_TAGS:
            return await self._send_pixels(request, reader)
        header = await reader.header()
        value = await self._services.run(dicom_json.bulk_value, header, path)
        document_type = document_media_type(header.get("MIMETypeOfEncapsulatedDocument")) if path == _DOCUMENT else ""
        offer = negotiate(request, offers.value(document_type))
        return await self._send_part(request, reader, offer, [value], f"bulkdata/{path}")

    async def _reader(self, request: web.Request) -> Reader:
        archive = self._services.archive(request)
        (instance,) = await archive.instances(resource_of(request))
        return Reader(archive, instance, self._headers, self._services.run)

    async def _send_pixels(self, request: web.Request, reader: Reader) -> web.StreamResponse:
        instance = reader.instance
        if not instance.pixel_offset:
            raise NotFound("The instance has no pixel data.")
        kind = (*pixel_parts.kind_of(instance), True)
        offer = await offers.settle(request, reader, pixel_parts.all_pixels, *kind)
        if offer is None:
            raise not_acceptable(pixel_parts.all_pixels(*kind))
        location = self._location(request, reader)
        parts = pixel_parts.as_stored(reader, offer, location)
        if parts is not None and len(parts) == 1:
            return await self._send_part(request, reader, offer, parts[0].pieces, PIXEL_DATA)
        if instance.frames.count == 1 or (parts is None and offer.transfer_syntax != EXPLICIT_LITTLE_ENDIAN):
            return await self._send_frames(request, reader, offer, range(1, instance.frames.count + 1))
        etag = multipart.boundary_for(instance.etag, PIXEL_DATA, str(offer))
        if response := not_modified(request, etag):
            return response
        if parts is not None:
            return await send(request, multipart_pieces(etag, parts), multipart_type(offer, etag), etag)
        made = pixel_parts.made(reader, offer, location)
        if offer.multipart:
            return await send_stream(request, pixel_parts.body(made, etag), multipart_type(offer, etag), etag)
        part = await anext(made)
        fields = {"Content-Location": part.location}
        return await send_stream(request, part.chunks, offer.content_type, etag, fields=fields)

    async def _send_part(
        self, request: web.Request, reader: Reader, offer: Offer, pieces: Sequence[Piece], name: str
    ) -> web.StreamResponse:
        """Answer with one value, bare or as the only part."""
        etag = multipart.boundary_for(reader.instance.etag, name, str(offer))
        if response := not_modified(request, etag):
            return response
        location = f"{self._location(request, reader)}/{name}"
        if not offer.multipart:
            fields = {"Content-Location": location}
            return await send(request, pieces, offer.content_type, etag, fields=fields)
        part = Part(offer.content_type, location, pieces)
        return await send(request, multipart_pieces(etag, [part]), multipart_type(offer, etag), etag)

    async def _send_frames(
        self, request: web.Request, reader: Reader, offer: Offer, numbers: Sequence[int]
    ) -> web.StreamResponse:
        etag = multipart.boundary_for(reader.instance.etag, str(offer), *map(str, numbers))
        if response := not_modified(request, etag):
            return response
        location = self._location(request, reader)
        parts = None
        if offer.transfer_syntax == reader.instance.transfer_syntax_uid:
            parts = pixel_parts.frame_parts(reader, offer, location, numbers)
        elif len(numbers) == 1:
            frame = await reader.frame_in(numbers[0], offer.transfer_syntax or "")
            parts = [Part(offer.content_type, f"{location}/frames/{numbers[0]}", [frame])]
        if parts is None:
            made = pixel_parts.made_frames(reader, offer, location, numbers)
            return await send_stream(request, pixel_parts.body(made, etag), multipart_type(offer, etag), etag)
        if offer.multipart:
            return await send(request, multipart_pieces(etag, parts), multipart_type(offer, etag), etag)
        fields = {"Content-Location": parts[0].location}
        return await send(request, parts[0].pieces, offer.content_type, etag, fields=fields)

    def _location(self, request: web.Request, reader: Reader) -> str:
        return f"{self._services.public_base(request)}/{reader.instance.resource.path}"


def document_media_type(text: object) -> str:
    """The media type of an encapsulated document as a header field may carry it; empty if it is none."""
    return text.lower() if isinstance(text, str) and re.fullmatch(r"[\w.+-]+/[\w.+-]+", text, re.ASCII) else ""


def parse_frames(text: str) -> list[int]:
    """Read a frame list such as `1,2,7`; raise BadRequest if it is none or repeats a frame."""
    if not re.fullmatch(r"[1-9]\d{0,8}(,[1-9]\d{0,8})*", text) or text.count(",") >= _MAX_FRAMES:
        raise BadRequest("Frames are given as a comma-separated list of numbers from 1 on.")
    numbers = [int(number) for number in text.split(",")]
    if len(set(numbers)) < len(numbers):
        raise BadRequest("A frame is asked for more than once.")
    return numbers
