"""WADO-RS: all bulk data, or all pixel data, of a study, a series or an instance (PS3.18 section 10.4.3.3.5 and .6)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from dicomweb import dicom_json, multipart, offers, pixel_parts
from dicomweb.bodies import (
    Part,
    multipart_pieces,
    multipart_type,
    not_acceptable,
    not_modified,
    send_stream,
)
from dicomweb.bodies import send as send_pieces
from dicomweb.errors import NotFound
from dicomweb.negotiate import Offer
from dicomweb.pieces import Piece, Span
from dicomweb.pixel_parts import MadePart
from dicomweb.ports import Archive, JsonDataSet, Services, StoredInstance
from dicomweb.resource import Resource
from dicomweb.stored import Headers, Reader
from dicomweb.targets import resource_of
from dicomweb.wado_metadata import instance_of, read_items
from dicomweb.wado_pixels import PIXEL_TAGS, document_media_type

_MARK = "/bulkdata/"


@dataclass(frozen=True, slots=True)
class _Value:
    """One bulk data value of an instance, and what it is sent as; `path` is empty for its pixel data."""

    reader: Reader
    path: str
    offer: Offer


class WadoBulk:
    """Handlers of the bulk data and pixel data resources of more than one value."""

    def __init__(self, services: Services, headers: Headers) -> None:
        self._services = services
        self._headers = headers

    async def bulk_data(self, request: web.Request) -> web.StreamResponse:
        """`…/bulkdata`: each value that the metadata refers to, under the URL that it has there."""
        return await self._answer(request, pixels_only=False)

    async def pixel_data(self, request: web.Request) -> web.StreamResponse:
        """`…/pixeldata` of a study or series: the pixel data of each instance."""
        return await self._answer(request, pixels_only=True)

    async def _answer(self, request: web.Request, *, pixels_only: bool) -> web.StreamResponse:
        resource = resource_of(request)
        archive = self._services.archive(request)
        instances = await archive.instances(resource)
        return await self.send(request, archive, resource, instances, pixels_only=pixels_only)

    async def send(
        self,
        request: web.Request,
        archive: Archive,
        resource: Resource,
        instances: Sequence[StoredInstance],
        *,
        pixels_only: bool = False,
    ) -> web.StreamResponse:
        """Answer with the bulk data of instances; raise NotFound if there is none, NotAcceptable if none can be sent.

        What is not acceptable is left out, which the status and a warning tell (Table 10.4.3-1).
        """
        paths = {} if pixels_only else await self._paths(archive, resource)
        readers = [Reader(archive, one, self._headers, self._services.run) for one in instances]
        total, values = 0, list[_Value]()
        for reader in readers:
            found, wanted = await _plan(request, reader, paths.get(reader.instance.instance_uid, ()))
            total += wanted
            values += found
        if not total:
            raise NotFound("There is no pixel data here." if pixels_only else "There is no bulk data here.")
        if not values:
            raise not_acceptable(offers.frames(*offers.kind_of(instances[0]), False))
        base, missing = self._services.public_base(request), total - len(values)
        etag = multipart.boundary_for(*(f"{one.reader.instance.etag} {one.path} {one.offer}" for one in values))
        if response := not_modified(request, etag):
            return response
        status = HTTPStatus.PARTIAL_CONTENT if missing else HTTPStatus.OK
        warnings = [f"299 {base}: {missing} values cannot be sent as any media type in Accept"] if missing else []
        content_type = multipart_type(values[0].offer, etag)
        pieces = _pieces(values, base, etag)
        if pieces is not None:
            return await send_pieces(request, pieces, content_type, etag, status, warnings)
        chunks = pixel_parts.body(self._parts(values, base), etag)
        return await send_stream(request, chunks, content_type, etag, status, warnings)

    async def _paths(self, archive: Archive, resource: Resource) -> dict[str, Sequence[tuple[str, str]]]:
        """The bulk data of each instance, as its metadata tells, pixel data excepted."""
        metadata = await archive.metadata(resource)
        items = await self._services.run(read_items, metadata)
        return await self._services.run(_bulk_paths, items)

    async def _parts(self, values: Sequence[_Value], base: str) -> AsyncIterator[MadePart]:
        for value in values:
            location = f"{base}/{value.reader.instance.resource.path}"
            if value.path:
                header = await value.reader.header()
                data = await self._services.run(dicom_json.bulk_value, header, value.path)
                url = f"{location}{_MARK}{value.path}"
                yield MadePart(value.offer.content_type, url, len(data), _chunks([data]))
            else:
                async for part in _pixels(value, location):
                    yield part


def _bulk_paths(items: Sequence[JsonDataSet]) -> dict[str, Sequence[tuple[str, str]]]:
    return {instance_of(item).instance_uid or "": list(_paths_of(item)) for item in items}


def _paths_of(item: JsonDataSet) -> Iterator[tuple[str, str]]:
    """The path of each value, and the media type of a document."""
    for tag, element in item.items():
        if "BulkDataURI" in element:
            path = element["BulkDataURI"].partition(_MARK)[2]
            if path not in PIXEL_TAGS:
                document = item.get("00420012", {}).get("Value", [""])[0] if tag == "00420011" else ""
                yield path, document_media_type(document)
        elif element["vr"] == "SQ":
            for nested in element.get("Value", ()):
                yield from _paths_of(nested)


async def _plan(request: web.Request, reader: Reader, paths: Sequence[tuple[str, str]]) -> tuple[list[_Value], int]:
    """What is sent of an instance, and how many values it has."""
    found: list[tuple[str, Offer | None]] = [
        (path, offers.pick(request, _value_parts, media_type)) for path, media_type in paths
    ]
    if reader.instance.pixel_offset:
        kind = (*pixel_parts.kind_of(reader.instance), False)
        found.append(("", await offers.settle(request, reader, pixel_parts.all_pixels, *kind)))
    return [_Value(reader, path, offer) for path, offer in found if offer], len(found)


def _value_parts(media_type: str) -> list[Offer]:
    return [one for one in offers.value(media_type) if one.multipart]


def _pieces(values: Sequence[_Value], base: str, boundary: str) -> list[Piece] | None:
    """The whole body if it is made of byte ranges of stored files; else None."""
    parts: list[Part] = []
    for value in values:
        location = f"{base}/{value.reader.instance.resource.path}"
        found = None if value.path else pixel_parts.as_stored(value.reader, value.offer, location)
        if found is None:
            return None
        parts += found
    return multipart_pieces(boundary, parts)


async def _pixels(value: _Value, location: str) -> AsyncIterator[MadePart]:
    stored = pixel_parts.as_stored(value.reader, value.offer, location)
    if stored is None:
        async for made in pixel_parts.made(value.reader, value.offer, location):
            yield made
    for part in stored or ():
        yield MadePart(part.content_type, part.location, part.size, _chunks(part.pieces))


async def _chunks(pieces: Sequence[Piece]) -> AsyncIterator[bytes]:
    for piece in pieces:
        if isinstance(piece, Span):
            async for chunk in piece.source.stream(piece.offset, piece.length):
                yield chunk
        else:
            yield piece
