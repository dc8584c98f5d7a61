"""WADO-RS: metadata (PS3.18 section 10.4.1.1.2) as JSON, ready since it was stored, and as XML, made of it."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from dicomweb import multipart
from dicomweb.answers import DATA_SET_OFFERS
from dicomweb.bodies import multipart_type, negotiate, not_modified
from dicomweb.dicom_xml import to_xml
from dicomweb.negotiate import DICOM_XML, Offer, accepts_coding
from dicomweb.ports import JsonDataSet, Metadata, Services
from dicomweb.remembered import Remembered
from dicomweb.resource import Resource
from dicomweb.targets import resource_of

_BATCH = 32  # documents of a piece: 0.4 ms each
_LEVEL = 4
_REMEMBERED_BYTES = 16 << 20


class WadoMetadata:
    """The handler of the metadata resources."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._remembered: Remembered[bytes] = Remembered(_REMEMBERED_BYTES)

    async def metadata(self, request: web.Request) -> web.StreamResponse:
        """`…/metadata`; always in UTF-8, whatever the charset parameter asks for (section 8.8.1)."""
        offer = negotiate(request, DATA_SET_OFFERS)
        metadata = await self._services.archive(request).metadata(resource_of(request))
        compressed = accepts_coding(request.headers.get("Accept-Encoding"), "gzip")
        variant = "-xml" if offer.multipart else ""
        etag = metadata.etag + variant + ("-gzip" if compressed else "")
        vary = {"Vary": "Accept, Accept-Encoding"}
        if response := not_modified(request, etag):
            response.headers.update(vary)
            return response
        headers = {"ETag": f'"{etag}"'} | vary | ({"Content-Encoding": "gzip"} if compressed else {})
        if offer.multipart:
            return await self._send_xml(request, metadata, offer, headers)
        headers["Content-Type"] = offer.media_type
        body = metadata.gzip_body if compressed else await self._plain(metadata)
        return web.Response(body=body, headers=headers)

    async def _plain(self, metadata: Metadata) -> bytes:
        """The body decompressed. The ETag is its digest: what is remembered under it cannot become wrong."""
        body = self._remembered.get(metadata.etag, 0)
        if body is None:
            body = await self._services.run(gzip.decompress, metadata.gzip_body)
            self._remembered.put(metadata.etag, 0, body, len(body))
        return body

    async def _send_xml(
        self, request: web.Request, metadata: Metadata, offer: Offer, headers: dict[str, str]
    ) -> web.StreamResponse:
        """One part for each instance; only some of them are in memory at a time."""
        boundary = multipart.boundary_for(metadata.etag)
        headers["Content-Type"] = multipart_type(offer, boundary)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        chunks = self._parts(metadata, boundary, self._services.public_base(request))
        if "Content-Encoding" in headers:
            chunks = self._compressed(chunks)
        async for chunk in chunks:
            await response.write(chunk)
        await response.write_eof()
        return response

    async def _parts(self, metadata: Metadata, boundary: str, base: str) -> AsyncIterator[bytes]:
        run = self._services.run
        items = await run(read_items, metadata)
        for start in range(0, len(items), _BATCH):
            yield await run(_documents, items[start : start + _BATCH], boundary, base, start == 0)
        yield multipart.closing(boundary)

    async def _compressed(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        engine = zlib.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        async for chunk in chunks:
            yield await self._services.run(engine.compress, chunk)
        yield engine.flush()


def read_items(metadata: Metadata) -> Sequence[JsonDataSet]:
    """The data sets of a metadata body."""
    items: Sequence[JsonDataSet] = json.loads(gzip.decompress(metadata.gzip_body))
    return items


def instance_of(item: JsonDataSet) -> Resource:
    """The instance that a data set describes."""
    return Resource(*(item[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")))


def _documents(items: Sequence[JsonDataSet], boundary: str, base: str, first: bool) -> bytes:
    pieces: list[bytes] = []
    for number, item in enumerate(items):
        document, location = to_xml(item), f"{base}/{instance_of(item).path}/metadata"
        is_first = first and number == 0
        pieces += [multipart.part_head(boundary, DICOM_XML, len(document), location, first=is_first), document]
    return b"".join(pieces)
