"""WADO-RS: whole studies, series and instances, and their metadata (PS3.18 section 10.4)."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from http import HTTPStatus

from aiohttp import web

from dicomweb import multipart
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
from dicomweb.codecs import can_decode
from dicomweb.negotiate import DICOM, DICOM_JSON, EXPLICIT_LITTLE_ENDIAN, JSON, Offer, accepted, choose
from dicomweb.ports import Services, StoredInstance
from dicomweb.resource import Level, Resource
from dicomweb.stored import Headers, Reader
from dicomweb.transcode import Undecodable

_METADATA = [Offer(DICOM_JSON), Offer(JSON)]


class Wado:
    """Handlers of the instance and metadata resources."""

    def __init__(self, services: Services, headers: Headers) -> None:
        self._services = services
        self._headers = headers

    async def metadata(self, request: web.Request) -> web.StreamResponse:
        """`…/metadata`: DICOM JSON, ready and compressed since it was stored."""
        offer = negotiate(request, _METADATA)
        metadata = await self._services.archive(request).metadata(resource_of(request))
        compressed = "gzip" in request.headers.get("Accept-Encoding", "")
        etag = metadata.etag + ("-gzip" if compressed else "")
        if response := not_modified(request, etag):
            return response
        headers = {"Content-Type": offer.media_type, "ETag": f'"{etag}"', "Vary": "Accept, Accept-Encoding"}
        if compressed:
            return web.Response(body=metadata.gzip_body, headers=headers | {"Content-Encoding": "gzip"})
        return web.Response(body=await self._services.run(gzip.decompress, metadata.gzip_body), headers=headers)

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """A study, a series or an instance as Part 10 files."""
        resource = resource_of(request)
        archive = self._services.archive(request)
        instances = await archive.instances(resource)
        chosen = _choose(request, instances, single=resource.level is Level.INSTANCE)
        offer = next((one for one in chosen if one), None)
        if offer is None:
            raise not_acceptable(file_offers(instances[0].transfer_syntax_uid, decodable=_is_decodable(instances[0])))
        readers = [Reader(archive, one, self._headers, self._services.run) for one in instances]
        found = [(reader, one) for reader, one in zip(readers, chosen, strict=True) if one]
        etag = multipart.boundary_for(*(f"{reader.instance.etag} {one}" for reader, one in found))
        if response := not_modified(request, etag):
            return response
        as_stored = all(one.transfer_syntax == reader.instance.transfer_syntax_uid for reader, one in found)
        if not offer.multipart:
            reader = readers[0]
            if as_stored:
                return await send(request, [reader.whole], offer.content_type, etag)
            return await send_stream(request, reader.native_file(), offer.content_type, etag)
        base = self._services.public_base(request)
        # 206 is for studies of which not every instance is acceptable (Table 10.4.3-1).
        status = HTTPStatus.OK if len(found) == len(instances) else HTTPStatus.PARTIAL_CONTENT
        content_type = multipart_type(offer, etag)
        if as_stored:
            parts = [Part(one.content_type, _location(base, reader), [reader.whole]) for reader, one in found]
            return await send(request, multipart_pieces(etag, parts), content_type, etag, status)
        return await send_stream(request, _transcoded(base, etag, found), content_type, etag, status)


def resource_of(request: web.Request) -> Resource:
    """The study, series or instance that the path names; raise BadRequest if a UID is malformed."""
    path = request.match_info
    return Resource.parse(path["study"], path.get("series"), path.get("instance"))


def file_offers(transfer_syntax_uid: str, *, decodable: bool, single: bool = False) -> list[Offer]:
    """How a stored file can be sent: as it is, or as Explicit VR Little Endian if it can be decoded."""
    native = Offer(DICOM, EXPLICIT_LITTLE_ENDIAN, multipart=True)
    offers = [native]
    if transfer_syntax_uid != EXPLICIT_LITTLE_ENDIAN:
        stored = Offer(DICOM, transfer_syntax_uid, multipart=True, default=not decodable)
        offers = [stored, native] if decodable else [stored]
    return offers + [replace(one, multipart=False) for one in offers if single]


def _choose(request: web.Request, instances: Sequence[StoredInstance], *, single: bool) -> list[Offer | None]:
    """The representation of each instance; None where none is acceptable."""
    accept = accepted(request.headers.get("Accept"), request.query.get("accept"))
    kinds = [(one.transfer_syntax_uid, _is_decodable(one)) for one in instances]
    by_kind = {
        (syntax, decodable): choose(file_offers(syntax, decodable=decodable, single=single), accept)
        for syntax, decodable in set(kinds)
    }
    return [by_kind[kind] for kind in kinds]


def _is_decodable(instance: StoredInstance) -> bool:
    return can_decode(instance.transfer_syntax_uid) and (instance.frames.count > 0 or not instance.pixel_offset)


def _location(base: str, reader: Reader) -> str:
    return f"{base}/{reader.instance.resource.path}"


async def _transcoded(base: str, boundary: str, found: Sequence[tuple[Reader, Offer]]) -> AsyncIterator[bytes]:
    """A multipart body whose files are decoded as they are sent; parts do not tell their length."""
    for number, (reader, offer) in enumerate(found):
        syntax = reader.instance.transfer_syntax_uid
        chunks = reader.whole.source.stream() if offer.transfer_syntax == syntax else reader.native_file()
        try:
            start = await anext(chunks)
        except Undecodable:  # one bad instance must not end the study: it goes, and is labelled, as it is stored
            offer, chunks, start = replace(offer, transfer_syntax=syntax), reader.whole.source.stream(), b""
        yield multipart.part_head(boundary, offer.content_type, None, _location(base, reader), first=number == 0)
        yield start
        async for chunk in chunks:
            yield chunk
    yield multipart.closing(boundary)
