"""The data set in the body of a worklist request: one, as JSON or XML (PS3.18 section 11.1.3), bounded."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from dicomweb.dicom_xml import from_xml
from dicomweb.errors import BadRequest, RequestTimeout, TooLarge, UnsupportedMediaType
from dicomweb.multipart import PartBegin, PartData, Reader
from dicomweb.negotiate import DICOM_JSON, DICOM_XML, JSON, MULTIPART, parse_media_type
from dicomweb.ports import JsonDataSet, Services
from dicomweb.worklist.attributes import check_form

#: A workitem with the references of some thousand instances; longer ones are refused.
MAX_BYTES = 1 << 20


async def read(request: web.Request, services: Services) -> JsonDataSet:
    """Read and check the data set of a request.

    Raises
    ------
    BadRequest, TooLarge, RequestTimeout, UnsupportedMediaType
    """
    media_type, parameters = parse_media_type(request.headers.get("Content-Type", ""))
    if media_type == MULTIPART:
        media_type = parse_media_type(parameters.get("type", ""))[0] or DICOM_XML
        boundary = parameters.get("boundary", "")
    else:
        boundary = ""
    if media_type not in (DICOM_JSON, JSON, DICOM_XML):
        raise UnsupportedMediaType(f"A workitem is sent as {DICOM_JSON} or {DICOM_XML}.")
    body = await _bytes(request, services.limits.read_timeout_s)
    return await services.run(_parse, body, media_type, boundary)


async def read_optional(request: web.Request, services: Services) -> JsonDataSet:
    """Read the data set of a request that may have none."""
    return await read(request, services) if request.can_read_body else {}


async def _bytes(request: web.Request, timeout_s: float) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise TooLarge(f"A workitem may have at most {MAX_BYTES} bytes.")
    except TimeoutError:
        raise RequestTimeout from None
    return bytes(body)


def _parse(body: bytes, media_type: str, boundary: str) -> JsonDataSet:
    if boundary:
        body = _only_part(body, boundary)
    item = from_xml(body) if media_type == DICOM_XML else _from_json(body)
    check_form(item)
    return item


def _only_part(body: bytes, boundary: str) -> bytes:
    reader = Reader(boundary)
    events = list(reader.feed(body))
    reader.finish()
    if sum(isinstance(event, PartBegin) for event in events) != 1:
        raise BadRequest("A request carries one workitem.")
    return b"".join(event.data for event in events if isinstance(event, PartData))


def _from_json(body: bytes) -> JsonDataSet:
    """One DICOM JSON object, alone or in an array of one."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise BadRequest("The body is not valid JSON.") from exc
    if isinstance(content, list):
        if len(content) != 1:
            raise BadRequest("A request carries one workitem.")
        content = content[0]
    if not isinstance(content, dict):
        raise BadRequest("A data set of the DICOM JSON model is an object.")
    return content
