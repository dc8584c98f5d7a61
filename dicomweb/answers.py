"""How data sets are answered: search results, metadata, responses of transactions, as JSON or XML, compressed."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from aiohttp import web
from multidict import CIMultiDict

from dicomweb import dicom_json, multipart
from dicomweb.bodies import multipart_type, negotiate
from dicomweb.dicom_xml import to_xml
from dicomweb.negotiate import DICOM_JSON, DICOM_XML, JSON, Offer, accepts_coding
from dicomweb.ports import JsonDataSet, Services
from dicomweb.ready import ReadyItems

#: A list of data sets: a JSON array, or one XML part each (PS3.18 Table 8.7.3-3 and section 8.6.1.2).
DATA_SET_OFFERS = [Offer(DICOM_JSON), Offer(JSON), Offer(DICOM_XML, multipart=True)]
#: One data set: a JSON object, or one XML document, bare or as the only part.
ONE_DATA_SET_OFFERS = [Offer(DICOM_JSON), Offer(JSON), Offer(DICOM_XML), Offer(DICOM_XML, multipart=True)]

_MIN_COMPRESSED_BYTES = 1024
_LEVEL = 4  # 3.4 MB of CT headers: 11 ms where level 1 takes 7 and leaves twice the bytes


async def data_sets(
    request: web.Request,
    services: Services,
    items: Sequence[JsonDataSet],
    *,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Answer with a list of data sets; raise NotAcceptable.

    A handler that does something before it answers calls `negotiate(request, DATA_SET_OFFERS)` first: then nothing is
    done for a caller who cannot take the answer.
    """
    offer = negotiate(request, DATA_SET_OFFERS)
    return await _answer(request, services, offer, items, status, headers)


async def data_set(
    request: web.Request,
    services: Services,
    item: JsonDataSet,
    *,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
    array: bool = False,
    short: bool = False,
) -> web.Response:
    """Answer with one data set: in JSON an object, or with `array` an array of one; raise NotAcceptable.

    One that is `short` is encoded here and now: to hand a few hundred bytes to a thread takes longer.
    """
    offer = negotiate(request, ONE_DATA_SET_OFFERS)
    return await _answer(request, services, offer, [item] if array else item, status, headers, short=short)


def xml_parts(items: Sequence[JsonDataSet], boundary: str) -> bytes:
    """A multipart body with one XML document for each data set."""
    pieces: list[bytes] = []
    for item in items:
        document = to_xml(item)
        pieces.append(multipart.part_head(boundary, DICOM_XML, len(document), None, first=not pieces))
        pieces.append(document)
    return b"".join(pieces) + multipart.closing(boundary)


async def _answer(
    request: web.Request,
    services: Services,
    offer: Offer,
    content: JsonDataSet | Sequence[JsonDataSet],
    status: int,
    headers: Mapping[str, str] | None,
    *,
    short: bool = False,
) -> web.Response:
    if offer.multipart and not content:  # there is no multipart body without a part
        return web.Response(status=HTTPStatus.NO_CONTENT, headers={"Vary": "Accept"})
    compressed = accepts_coding(request.headers.get("Accept-Encoding"), "gzip")
    boundary = multipart.boundary_for()
    what = (content, offer, boundary, compressed)
    body, is_compressed = _encode(*what) if short else await services.run(_encode, *what)
    content_type = multipart_type(offer, boundary) if offer.multipart else offer.media_type
    fields = CIMultiDict(headers or {})
    fields.update({"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"})
    if is_compressed:
        fields["Content-Encoding"] = "gzip"
    return web.Response(body=body, status=status, headers=fields)


def _encode(
    content: JsonDataSet | Sequence[JsonDataSet], offer: Offer, boundary: str, compressed: bool
) -> tuple[bytes, bool]:
    """The body, and whether it is compressed."""
    if offer.media_type != DICOM_XML:
        body = content.json() if isinstance(content, ReadyItems) else dicom_json.dumps(content)
    elif offer.multipart:
        body = xml_parts([content] if isinstance(content, dict) else content, boundary)
    else:
        body = to_xml(content if isinstance(content, dict) else content[0])
    if compressed and len(body) > _MIN_COMPRESSED_BYTES:
        return gzip.compress(body, _LEVEL, mtime=0), True
    return body, False
