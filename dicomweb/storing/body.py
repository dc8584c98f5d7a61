"""The body of a store request: its parts, one after the other, within bounds of size, number and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, nullcontext
from functools import partial

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_exceptions import HTTPRequestEntityTooLarge
from aiohttp.web_protocol import RequestPayloadError

from dicomweb.errors import BadRequest, IsthmusError, RequestTimeout, TooLarge, UnsupportedMediaType
from dicomweb.multipart import Event, PartBegin, PartData, PartEnd, Reader
from dicomweb.negotiate import DICOM, DICOM_JSON, DICOM_XML, JSON, MULTIPART, OCTET_STREAM, parse_media_type
from dicomweb.ports import Limits

#: What the metadata of instances comes as, PS3.18 section 8.7.3.2; the short names are what some clients send.
METADATA = {DICOM_JSON: DICOM_JSON, JSON: DICOM_JSON, DICOM_XML: DICOM_XML}
_ROOTS = frozenset([DICOM, *METADATA])
_ENCODINGS = frozenset(["", "identity", "gzip", "x-gzip", "deflate"])


class Part:
    """One part of the body: an iterator over its bytes, which must be drained before the next part is asked for."""

    def __init__(self, headers: Mapping[str, str], events: AsyncIterator[Event], max_bytes: int, root: str) -> None:
        self.location = headers.get("content-location", "")
        unsaid = OCTET_STREAM if self.location else root
        self.media_type, self.parameters = parse_media_type(headers.get("content-type") or unsaid)
        length = headers.get("content-length", "")
        #: What the part says of its length, which may be wrong.
        self.said_length = int(length) if length.isascii() and length.isdigit() and len(length) < 16 else None
        self._events = events
        self._left = max_bytes
        self._ended = False
        self._error: IsthmusError | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (data := await self._next()) is not None:
            self._left -= len(data)
            if self._left < 0:
                raise TooLarge("An instance is larger than the gateway takes.")
            yield data

    async def drain(self) -> None:
        """Pass over what was not read. That it is too much is no matter then."""
        if isinstance(self._error, TooLarge):
            self._error = None
        while await self._next() is not None:
            pass

    def raise_again(self, error: IsthmusError) -> None:
        """Raise what ended the part once more, where it is read on."""
        self._error = error

    async def whole(self, max_bytes: int) -> bytes:
        """All of it in memory; raise TooLarge, having drained it, if it is more than `max_bytes`."""
        data = bytearray()
        async for chunk in self:
            data += chunk
            if len(data) > max_bytes:
                await self.drain()
                raise TooLarge(f"The metadata of a request may have at most {max_bytes} bytes.")
        return bytes(data)

    async def _next(self) -> bytes | None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self._ended:
            return None
        async for event in self._events:
            if isinstance(event, PartData):
                return event.data
            break
        self._ended = True
        return None


async def parts(request: web.Request, limits: Limits) -> AsyncIterator[Part]:
    """The parts of a request body; raises UnsupportedMediaType, BadRequest, RequestTimeout, TooLarge."""
    if request.headers.get("Content-Encoding", "").strip().lower() not in _ENCODINGS:
        raise UnsupportedMediaType("A body may be compressed with gzip or deflate, and in no other way.")
    media_type, parameters = parse_media_type(request.headers.get("Content-Type", ""))
    chunks = body(request, limits)
    if media_type in _ROOTS:
        yield Part({}, _single(chunks), limits.max_part_bytes, media_type)
        return
    root = parse_media_type(parameters.get("type", DICOM))[0]
    if media_type != MULTIPART or root not in _ROOTS:
        raise UnsupportedMediaType(
            f'Instances are stored as {MULTIPART} of type "{DICOM}", "{DICOM_JSON}" or "{DICOM_XML}".'
        )
    count = 0
    async with aclosing(_events(chunks, Reader(parameters.get("boundary", "")))) as events:
        async for event in events:
            if isinstance(event, PartBegin):
                count += 1
                if count > limits.max_parts:
                    raise TooLarge(f"A request may have at most {limits.max_parts} parts.")
                yield Part(event.headers, events, limits.max_part_bytes, root)


async def body(request: web.Request, limits: Limits) -> AsyncIterator[bytes]:
    """A request body as it arrives, in pieces as large as the system gave them.

    Raises
    ------
    RequestTimeout : it pauses for too long, or all the waiting for it is more than its bytes make up for.
    BadRequest : its chunks or its compression are broken.
    """
    content, waited_s, received = request.content, 0.0, 0
    # Pieces of a body that comes in HTTP chunks are joined, as those may be tiny; others are not, which saves a copy.
    read = content.readany if request.content_length is None else partial(_piece, content)
    while True:
        begin = time.monotonic()
        patience_s = limits.read_timeout_s + received / limits.min_bytes_per_s - waited_s
        wait = content.total_bytes == received and not content.is_eof()
        try:
            async with asyncio.timeout(min(limits.read_timeout_s, patience_s)) if wait else nullcontext():
                chunk = await read()
        except TimeoutError:
            raise RequestTimeout from None
        except (HttpProcessingError, RequestPayloadError) as exc:
            raise BadRequest("The body of the request is not encoded as its headers say.") from exc
        except HTTPRequestEntityTooLarge as exc:
            raise TooLarge from exc
        if not chunk:
            return
        waited_s += time.monotonic() - begin
        received += len(chunk)
        yield chunk


async def _piece(content: StreamReader) -> bytes:
    return (await content.readchunk())[0]


async def _events(chunks: AsyncIterator[bytes], reader: Reader) -> AsyncGenerator[Event]:
    async for chunk in chunks:
        for event in reader.feed(chunk):
            yield event
    reader.finish()


async def _single(chunks: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    async for chunk in chunks:
        yield PartData(chunk)
    yield PartEnd()
