"""Response bodies from memory and byte ranges of stored files, with ETag and Range; and bodies made on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

from aiohttp import web
from multidict import CIMultiDict

from dicomweb import multipart
from dicomweb.errors import NotAcceptable, RangeNotSatisfiable
from dicomweb.negotiate import Offer, accepted, choose
from dicomweb.pieces import Piece, Span, cut, joined, send_pieces

#: Bodies up to this are read and sent in one piece.
_WHOLE_BYTES = 64 << 10


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
    offer = _negotiated(request.headers.get("Accept"), request.query.get("accept"), tuple(offers))
    if offer is None:
        raise not_acceptable(offers)
    return offer


@lru_cache(maxsize=512)  # clients send the same few again and again
def _negotiated(header: str | None, parameter: str | None, offers: Sequence[Offer]) -> Offer | None:
    return choose(offers, accepted(header, parameter))


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
        status, pieces, total = HTTPStatus.PARTIAL_CONTENT, list(cut(pieces, start, end)), end - start
    if request.method != "HEAD" and (total <= _WHOLE_BYTES or not any(isinstance(one, Span) for one in pieces)):
        return web.Response(body=await joined(pieces), status=status, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = total
    await send_pieces(request, response, pieces if request.method != "HEAD" else ())
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
