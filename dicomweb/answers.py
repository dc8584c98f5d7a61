"""How data sets are answered: search results, metadata, responses of transactions, as JSON or XML, compressed."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from dicomweb import dicom_json, multipart
from dicomweb.bodies import multipart_type, negotiate, not_modified
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


@dataclass(frozen=True, slots=True)
class Answer:
    """A body as it is sent, perhaps compressed, and the header fields that belong to it."""

    body: bytes
    fields: CIMultiDict[str]
    status: int = HTTPStatus.OK
    etag: str = ""

    @classmethod
    def validated(cls, *what: Any) -> Answer:
        """`make` one with a validator: the next who asks for the same may have it."""
        answer = make(*what)
        warnings = "\0".join(answer.fields.getall("Warning", ()))  # who has the body may have counted other results
        etag = hashlib.sha256(answer.body + warnings.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        answer.fields["ETag"] = f'"{etag}"'
        return replace(answer, etag=etag)

    def response(self, request: web.Request) -> web.Response:
        """The answer, once more; 304 if the caller has it."""
        if self.etag and (known := not_modified(request, self.etag)):
            known.headers["Vary"] = self.fields["Vary"]
            return known
        return web.Response(body=self.body, status=self.status, headers=self.fields)


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
    compressed = accepts_coding(request.headers.get("Accept-Encoding"), "gzip")
    what = (content, offer, compressed, status, headers)
    answer = make(*what) if short else await services.run(make, *what)
    return answer.response(request)


def make(
    content: JsonDataSet | Sequence[JsonDataSet],
    offer: Offer,
    compressed: bool,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Encode data sets as offered, and compress them if the caller takes that and it is worth it. Pure CPU."""
    if offer.multipart and not content:  # there is no multipart body without a part
        return Answer(b"", CIMultiDict({"Vary": "Accept"}), HTTPStatus.NO_CONTENT)
    boundary = multipart.boundary_for()
    body, is_compressed = _encode(content, offer, boundary, compressed)
    fields = CIMultiDict(headers or {})
    content_type = multipart_type(offer, boundary) if offer.multipart else offer.media_type
    fields.update({"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"})
    if is_compressed:
        fields["Content-Encoding"] = "gzip"
    return Answer(body, fields, status)


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
