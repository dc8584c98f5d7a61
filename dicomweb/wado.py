"""WADO-RS: whole studies, series and instances (PS3.18 section 10.4.1.1.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

from aiohttp import web

from dicomweb import multipart, offers, zips
from dicomweb.bodies import (
    Part,
    multipart_pieces,
    multipart_type,
    not_acceptable,
    not_modified,
    send,
    send_stream,
)
from dicomweb.errors import NotAcceptable, NotDicom, TooLarge
from dicomweb.negotiate import DICOM, EXPLICIT_LITTLE_ENDIAN, ZIP, Offer
from dicomweb.ports import Archive, Services, StoredInstance
from dicomweb.resource import Level
from dicomweb.stored import Headers, Reader
from dicomweb.targets import resource_of
from dicomweb.wado_bulk import WadoBulk


@dataclass(frozen=True, slots=True)
class _File:
    """An instance, and what it is sent as."""

    reader: Reader
    offer: Offer

    @property
    def is_as_stored(self) -> bool:
        """Whether no byte of it changes."""
        return self.offer.transfer_syntax == self.reader.instance.transfer_syntax_uid

    @property
    def is_encoded(self) -> bool:
        """Whether its frames are compressed anew."""
        return not self.is_as_stored and self.offer.transfer_syntax != EXPLICIT_LITTLE_ENDIAN


class Wado:
    """The handler of the instance resources."""

    def __init__(self, services: Services, headers: Headers, bulk: WadoBulk) -> None:
        self._services = services
        self._headers = headers
        self._bulk = bulk

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """A study, a series or an instance as Part 10 files, as a zip of them, or as their bulk data."""
        resource = resource_of(request)
        archive = self._services.archive(request)
        instances = await archive.instances(resource)
        single = resource.level is Level.INSTANCE
        chosen = [_pick(request, one, single=single) for one in instances]
        wanted = next((one.media_type for one in chosen if one), None)
        if wanted == ZIP:
            return await self._send_zip(request, archive, instances)
        if wanted == DICOM or wanted is None:
            return await self._send_files(request, archive, instances, chosen, single=single)
        return await self._bulk.send(request, archive, resource, instances)

    async def _send_files(
        self,
        request: web.Request,
        archive: Archive,
        instances: Sequence[StoredInstance],
        chosen: Sequence[Offer | None],
        *,
        single: bool,
    ) -> web.StreamResponse:
        files = [
            _File(Reader(archive, instance, self._headers, self._services.run), offer)
            for instance, offer in zip(instances, chosen, strict=True)
            if offer and offer.media_type == DICOM
        ]
        if any(one.is_encoded for one in files):
            settled = [(one.reader, await _settle(request, one.reader, single=single)) for one in files]
            files = [_File(reader, offer) for reader, offer in settled if offer and offer.media_type == DICOM]
        if not files:
            raise not_acceptable(offers.files(*_kind(instances[0]), single))
        etag = multipart.boundary_for(*(f"{one.reader.instance.etag} {one.offer}" for one in files))
        if response := not_modified(request, etag):
            return response
        if not files[0].offer.multipart:
            return await self._send_one(request, files[0], etag)
        # 206 is for studies of which not every instance is acceptable (Table 10.4.3-1).
        base, missing = self._services.public_base(request), len(instances) - len(files)
        status = HTTPStatus.PARTIAL_CONTENT if missing else HTTPStatus.OK
        warnings = [f"299 {base}: {missing} instances cannot be sent as any media type in Accept"] if missing else []
        content_type = multipart_type(files[0].offer, etag)
        if all(one.is_as_stored for one in files):
            parts = [Part(one.offer.content_type, _location(base, one.reader), [one.reader.whole]) for one in files]
            return await send(request, multipart_pieces(etag, parts), content_type, etag, status, warnings)
        return await send_stream(request, _transcoded(base, etag, files), content_type, etag, status, warnings)

    async def _send_one(self, request: web.Request, file: _File, etag: str) -> web.StreamResponse:
        offer, reader = file.offer, file.reader
        fields = {"Content-Location": _location(self._services.public_base(request), reader)}
        if file.is_as_stored:
            return await send(request, [reader.whole], offer.content_type, etag, fields=fields)
        chunks = reader.file_in(offer.transfer_syntax or "")
        return await send_stream(request, chunks, offer.content_type, etag, fields=fields)

    async def _send_zip(
        self, request: web.Request, archive: Archive, instances: Sequence[StoredInstance]
    ) -> web.StreamResponse:
        etag = multipart.boundary_for("zip", *(one.etag for one in instances))
        if response := not_modified(request, etag):
            return response
        chunks = zips.stream(zips.names(instances), [archive.open(one) for one in instances])
        fields = {"Content-Disposition": 'attachment; filename="dicom.zip"'}
        return await send_stream(request, chunks, ZIP, etag, fields=fields)


def _kind(instance: StoredInstance) -> tuple[str, bool, bool]:
    return (*offers.kind_of(instance), bool(instance.pixel_offset))


def _pick(request: web.Request, instance: StoredInstance, *, single: bool) -> Offer | None:
    return offers.pick(request, offers.files, *_kind(instance), single)


async def _settle(request: web.Request, reader: Reader, *, single: bool) -> Offer | None:
    return await offers.settle(request, reader, offers.files, *_kind(reader.instance), single)


def _location(base: str, reader: Reader) -> str:
    return f"{base}/{reader.instance.resource.path}"


async def _transcoded(base: str, boundary: str, files: Sequence[_File]) -> AsyncIterator[bytes]:
    """A multipart body whose files are decoded as they are sent; parts do not tell their length."""
    for number, (reader, offer) in enumerate((one.reader, one.offer) for one in files):
        chunks = reader.file_in(offer.transfer_syntax or "")
        try:
            start = await anext(chunks)
        except (NotAcceptable, TooLarge, NotDicom):
            # One bad instance must not end the study: it goes as it is stored. The header is gone, and with it the
            # place for a warning; the part's Content-Type names the transfer syntax.
            offer = replace(offer, transfer_syntax=reader.instance.transfer_syntax_uid)
            chunks, start = reader.whole.source.stream(), b""
        yield multipart.part_head(boundary, offer.content_type, None, _location(base, reader), first=number == 0)
        yield start
        async for chunk in chunks:
            yield chunk
    yield multipart.closing(boundary)
