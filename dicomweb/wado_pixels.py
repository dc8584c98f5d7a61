"""WADO-RS: frames, bulk data and pixel data (PS3.18 sections 10.4.1.1.5 and 10.4.1.1.6)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from aiohttp import web

from dicomweb import dicom_json, multipart
from dicomweb.bodies import (
    Part,
    Piece,
    multipart_pieces,
    multipart_type,
    negotiate,
    not_modified,
    send,
    send_stream,
)
from dicomweb.codecs import can_decode
from dicomweb.errors import BadRequest, NotFound
from dicomweb.negotiate import COMPRESSED, EXPLICIT_LITTLE_ENDIAN, OCTET_STREAM, Offer
from dicomweb.ports import Services, StoredInstance
from dicomweb.stored import Headers, Reader
from dicomweb.wado import resource_of

_PIXEL_DATA = frozenset(["7FE00008", "7FE00009", "7FE00010"])
_MAX_FRAMES = 10_000


class WadoPixels:
    """Handlers of the frame, bulk data and pixel data resources of one instance."""

    def __init__(self, services: Services, headers: Headers) -> None:
        self._services = services
        self._headers = headers

    async def frames(self, request: web.Request) -> web.StreamResponse:
        """`…/frames/{list}`: each frame as one part, a single one also bare."""
        reader = await self._reader(request)
        return await self._send_frames(request, reader, parse_frames(request.match_info["frames"]))

    async def pixel_data(self, request: web.Request) -> web.StreamResponse:
        """`…/pixeldata`: native pixel data is one value, encapsulated pixel data a part for each frame."""
        return await self._send_pixels(request, await self._reader(request))

    async def bulk_data(self, request: web.Request) -> web.StreamResponse:
        """`…/bulkdata/{path}`: the value that the metadata refers to."""
        reader = await self._reader(request)
        path = request.match_info["path"].upper()
        if path in _PIXEL_DATA:
            return await self._send_pixels(request, reader)
        header = await reader.header()
        value = await self._services.run(dicom_json.bulk_value, header, path)
        offers = [Offer(OCTET_STREAM), Offer(OCTET_STREAM, multipart=True)]
        document_type = header.get("MIMETypeOfEncapsulatedDocument")
        if path == "00420011" and document_type and re.fullmatch(r"[\w.+-]+/[\w.+-]+", document_type):
            known = Offer(document_type.lower())
            offers = [known, replace(known, multipart=True), *offers]
        offer = negotiate(request, offers)
        return await self._send_part(request, reader, offer, [value], f"bulkdata/{path}")

    async def _reader(self, request: web.Request) -> Reader:
        archive = self._services.archive(request)
        (instance,) = await archive.instances(resource_of(request))
        return Reader(archive, instance, self._headers, self._services.run)

    async def _send_pixels(self, request: web.Request, reader: Reader) -> web.StreamResponse:
        instance = reader.instance
        if not instance.pixel_offset:
            raise NotFound("The instance has no pixel data.")
        compressed = COMPRESSED.get(instance.transfer_syntax_uid, OCTET_STREAM)
        if instance.frames.bits:
            offers = [
                Offer(OCTET_STREAM, EXPLICIT_LITTLE_ENDIAN),
                Offer(OCTET_STREAM, EXPLICIT_LITTLE_ENDIAN, multipart=True),
            ]
        elif compressed.startswith("video/") or not instance.frames.count:
            offers = stream_offers(instance)
        else:
            return await self._send_frames(request, reader, range(1, instance.frames.count + 1))
        offer = negotiate(request, offers)
        return await self._send_part(request, reader, offer, reader.pixel_pieces(), "bulkdata/7FE00010")

    async def _send_part(
        self, request: web.Request, reader: Reader, offer: Offer, pieces: Sequence[Piece], name: str
    ) -> web.StreamResponse:
        """Answer with one value, bare or as the only part."""
        etag = multipart.boundary_for(reader.instance.etag, name, str(offer))
        if response := not_modified(request, etag):
            return response
        if not offer.multipart:
            return await send(request, pieces, offer.content_type, etag)
        part = Part(offer.content_type, self._location(request, reader, name), pieces)
        return await send(request, multipart_pieces(etag, [part]), multipart_type(offer, etag), etag)

    async def _send_frames(self, request: web.Request, reader: Reader, numbers: Sequence[int]) -> web.StreamResponse:
        instance = reader.instance
        found = [reader.frame_pieces(number) for number in numbers]  # also: 404 before anything is sent
        offer = negotiate(request, frame_offers(instance, single=len(numbers) == 1))
        etag = multipart.boundary_for(instance.etag, str(offer), *map(str, numbers))
        if response := not_modified(request, etag):
            return response
        as_stored = offer.transfer_syntax == instance.transfer_syntax_uid or bool(instance.frames.bits)
        pieces = [piece for piece in found if piece is not None]
        if as_stored and len(pieces) == len(numbers):
            if not offer.multipart:
                return await send(request, pieces[0], offer.content_type, etag)
            parts = [
                Part(offer.content_type, self._location(request, reader, f"frames/{number}"), piece)
                for number, piece in zip(numbers, pieces, strict=True)
            ]
            return await send(request, multipart_pieces(etag, parts), multipart_type(offer, etag), etag)
        if len(numbers) == 1:
            frame, _ = await reader.native_frame(numbers[0])
            return await self._send_part(request, reader, offer, [frame], f"frames/{numbers[0]}")
        base = self._location(request, reader, "frames")
        return await send_stream(
            request, _decoded(reader, numbers, offer, etag, base), multipart_type(offer, etag), etag
        )

    def _location(self, request: web.Request, reader: Reader, name: str) -> str:
        return f"{self._services.public_base(request)}/{reader.instance.resource.path}/{name}"


def parse_frames(text: str) -> list[int]:
    """Read a frame list such as `1,2,7`; raise BadRequest if it is none or repeats a frame."""
    if not re.fullmatch(r"[1-9]\d{0,8}(,[1-9]\d{0,8})*", text) or text.count(",") >= _MAX_FRAMES:
        raise BadRequest("Frames are given as a comma-separated list of numbers from 1 on.")
    numbers = [int(number) for number in text.split(",")]
    if len(set(numbers)) < len(numbers):
        raise BadRequest("A frame is asked for more than once.")
    return numbers


def frame_offers(instance: StoredInstance, *, single: bool) -> list[Offer]:
    """How frames can be sent: the stored bytes under either name, or decoded.

    An octet-stream without transfer syntax means Explicit VR Little Endian (PS3.18 section 8.7.3.3.1); `*` prefers what
    is stored.
    """
    stored = instance.transfer_syntax_uid
    native = Offer(OCTET_STREAM, EXPLICIT_LITTLE_ENDIAN, multipart=True)
    offers = [native]
    if not instance.frames.bits:
        decodable = can_decode(stored)
        offers = [Offer(OCTET_STREAM, stored, multipart=True, default=not decodable)]
        offers += [native] if decodable else []
        offers += [Offer(COMPRESSED[stored], stored, multipart=True)] if stored in COMPRESSED else []
    return offers + [replace(one, multipart=False) for one in offers if single]


def stream_offers(instance: StoredInstance) -> list[Offer]:
    """How a stream that is not cut into frames, such as a video, can be sent: bare first, for players."""
    stored = instance.transfer_syntax_uid
    types = [COMPRESSED[stored], OCTET_STREAM] if stored in COMPRESSED else [OCTET_STREAM]
    return [Offer(name, stored, multipart=multiple) for name in types for multiple in (False, True)]


async def _decoded(
    reader: Reader, numbers: Sequence[int], offer: Offer, boundary: str, base: str
) -> AsyncIterator[bytes]:
    """A multipart body of frames that are decoded one by one as they are sent."""
    for index, number in enumerate(numbers):
        frame, _ = await reader.native_frame(number)
        yield multipart.part_head(boundary, offer.content_type, len(frame), f"{base}/{number}", first=index == 0)
        yield frame
    yield multipart.closing(boundary)
