"""Response bodies from memory and byte ranges of stored files, with ETag and Range; and bodies made on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from aiohttp import web
from multidict import CIMultiDict

from dicomweb import multipart
from dicomweb.errors import NotAcceptable, RangeNotSatisfiable
from dicomweb.negotiate import Offer, accepted, choose
from dicomweb.ports import StoredObject

#: Bodies up to this are sent in one piece: one write for most frames.
_WHOLE_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """A byte range of a stored file."""

    source: StoredObject
    offset: int
    length: int

    def __len__(self) -> int:
        return self.length


Piece = bytes | Span


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body: its pieces, its media type and the URL of what it represents."""

    content_type: str
    location: str
    pieces: Sequence[Piece]

    @property
    def size(self) -> int:
        """Length of the payload in bytes."""
        return sum(map(len, self.pieces))


def negotiate(request: web.Request, offers: Sequence[Offer]) -> Offer:
    """The representation that the caller wants; raise NotAcceptable, naming what there is."""
    accept = accepted(request.headers.get("Accept"), request.query.get("accept"))
    offer = choose(offers, accept)
    if offer is None:
        raise not_acceptable(offers)
    return offer


def not_acceptable(offers: Iterable[Offer]) -> NotAcceptable:
    """The error for a caller who accepts none of the offers."""
    types = ", ".join(dict.fromkeys(one.content_type for one in offers))
    return NotAcceptable(f"Nothing that is acceptable can be sent. Available: {types}.")


def not_modified(request: web.Request, etag: str) -> web.Response | None:
    """A 304 response if the caller has this representation."""
    known = request.if_none_match or ()
    if any(one.value in (etag, "*") for one in known):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": f'"{etag}"', "Vary": "Accept"})
    return None


def multipart_type(offer: Offer, boundary: str) -> str:
    """Content-Type of a multipart body whose parts are as offered."""
    return f'multipart/related; type="{offer.media_type}"; boundary="{boundary}"'


def multipart_pieces(boundary: str, parts: Iterable[Part]) -> list[Piece]:
    """The pieces of a whole multipart body."""
    pieces: list[Piece] = []
    for part in parts:
        pieces.append(multipart.part_head(boundary, part.content_type, part.size, part.location, first=not pieces))
        pieces += part.pieces
    return [*pieces, multipart.closing(boundary)]


async def send(
    request: web.Request,
    pieces: Sequence[Piece],
    content_type: str,
    etag: str,
    status: int = HTTPStatus.OK,
    warnings: Sequence[str] = (),
    fields: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer with pieces, or with the range of them that was asked for (RFC 9110 section 14).

    `warnings` are the values of Warning header fields, `fields` other header fields.
    """
    total = sum(map(len, pieces))
    headers = _headers(content_type, etag, warnings, fields)
    headers["Accept-Ranges"] = "bytes"
    is_whole = status != HTTPStatus.OK or request.method == "HEAD"  # ranges are for GET only (RFC 9110 section 14.2)
    wanted = None if is_whole else _range(request, total, etag)
    if wanted is not None:
        start, end = wanted
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
        status, pieces, total = HTTPStatus.PARTIAL_CONTENT, list(_cut(pieces, start, end)), end - start
    if total <= _WHOLE_BYTES and request.method != "HEAD":
        body = b"".join([await _read(piece) for piece in pieces])
        return web.Response(body=body, status=status, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = total
    await response.prepare(request)
    if request.method != "HEAD":
        for piece in pieces:
            await _write(request, response, piece)
        await response.write_eof()
    return response


async def send_stream(
    request: web.Request,
    chunks: AsyncIterator[bytes],
    content_type: str,
    etag: str,
    status: int = HTTPStatus.OK,
    warnings: Sequence[str] = (),
    fields: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer with what is made on the way, of unknown length.

    The first chunk is awaited before the headers go, so that what cannot be made at all still answers with its error.
    """
    headers = _headers(content_type, etag, warnings, fields)
    first = await anext(chunks, b"")
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    if request.method != "HEAD":
        await response.write(first)
        async for chunk in chunks:
            await response.write(chunk)
        await response.write_eof()
    return response


def _headers(
    content_type: str, etag: str, warnings: Sequence[str], fields: Mapping[str, str] | None
) -> CIMultiDict[str]:
    headers = CIMultiDict(fields or {})
    headers.update({"Content-Type": content_type, "ETag": f'"{etag}"', "Vary": "Accept"})
    for warning in warnings:
        headers.add("Warning", warning)
    return headers


async def _read(piece: Piece) -> bytes:
    return piece if isinstance(piece, bytes) else await piece.source.read(piece.offset, piece.length)


async def _write(request: web.Request, response: web.StreamResponse, piece: Piece) -> None:
    if isinstance(piece, bytes):
        await response.write(piece)
    elif len(piece) <= _WHOLE_BYTES:
        await response.write(await _read(piece))
    elif piece.source.path is not None and request.transport is not None:
        await _send_file(request.transport, piece.source.path, piece)
    else:
        async for chunk in piece.source.stream(piece.offset, piece.length):
            await response.write(chunk)


async def _send_file(transport: asyncio.Transport, path: Path, span: Span) -> None:
    """Let the kernel send a long range: half the CPU time of reading it (6 MB: 3.4 ms for 6.9); no gain below 1 MB."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        await asyncio.get_running_loop().sendfile(transport, file, span.offset, span.length)
    finally:
        file.close()


def _range(request: web.Request, total: int, etag: str) -> tuple[int, int] | None:
    """The single range that is asked for, end exclusive; None for the whole. Several ranges are not supported."""
    condition = request.headers.get("If-Range")
    if condition is not None and condition != f'"{etag}"':
        return None
    try:
        asked = request.http_range
    except ValueError:
        return None
    if asked.start is None and asked.stop is None:
        return None
    start, end, _ = asked.indices(total)
    if start >= end or request.headers["Range"].endswith("=-0"):  # the last no bytes
        raise RangeNotSatisfiable(total)
    return start, end


def _cut(pieces: Iterable[Piece], start: int, end: int) -> Iterator[Piece]:
    """The bytes from `start` to `end` of the pieces laid end to end."""
    position = 0
    for piece in pieces:
        low, high = max(start - position, 0), min(end - position, len(piece))
        if low < high:
            if isinstance(piece, bytes):
                yield piece[low:high]
            else:
                yield Span(piece.source, piece.offset + low, high - low)
        position += len(piece)
