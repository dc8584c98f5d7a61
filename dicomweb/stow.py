"""STOW-RS: store instances (PS3.18 section 10.5), as they arrive, one part after the other; and DELETE."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus

from aiohttp import StreamReader, web

from dicomweb import dicom_json
from dicomweb.errors import BadRequest, IsthmusError, RequestTimeout, TooLarge, UnsupportedMediaType
from dicomweb.multipart import Event, PartBegin, PartData, PartEnd, Reader
from dicomweb.negotiate import DICOM, DICOM_JSON, MULTIPART, parse_media_type
from dicomweb.ports import Archive, JsonDataSet, Services, StoreOutcome
from dicomweb.resource import checked_uid
from dicomweb.wado import resource_of

logger = logging.getLogger(__name__)

#: Where nothing was stored and all failures are alike, their status says more than 409 (Table 10.5.3-1).
_TELLING = frozenset(
    [
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.INSUFFICIENT_STORAGE,
    ]
)
_PROCESSING_FAILURE = 0x0110
_MAX_WARNINGS = 8


class Stow:
    """Handlers that change the archive."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def store(self, request: web.Request) -> web.StreamResponse:
        """`POST /studies[/{study}]`: what became of each instance is answered as PS3.18 Annex I has it."""
        study = request.match_info.get("study")
        study_uid = checked_uid(study, "Study Instance UID") if study else None
        parts = _parts(request, self._services)
        archive = self._services.archive(request)
        outcomes: list[StoreOutcome] = []
        try:
            async for part in parts:
                outcomes.append(await _store(archive, part, study_uid))
                await part.drain()
        except (BadRequest, RequestTimeout, TooLarge) as exc:  # of the body as a whole: what came before stays stored
            outcomes.append(_failure(exc))
        if not outcomes:
            raise BadRequest("The request has no part to store.")
        return _response(outcomes, self._services.public_base(request), study_uid)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """`DELETE` of a study, a series or an instance."""
        await self._services.archive(request).delete(resource_of(request))
        return web.Response(status=HTTPStatus.NO_CONTENT)


class _Part:
    """One part of the body: an iterator over its bytes, which must be drained before the next part is asked for."""

    def __init__(self, media_type: str, events: AsyncIterator[Event], max_bytes: int) -> None:
        self.media_type = media_type
        self._events = events
        self._left = max_bytes
        self._ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (data := await self._next()) is not None:
            self._left -= len(data)
            if self._left < 0:
                raise TooLarge("An instance is larger than the gateway takes.")
            yield data

    async def drain(self) -> None:
        """Pass over what was not read."""
        while await self._next() is not None:
            pass

    async def _next(self) -> bytes | None:
        if self._ended:
            return None
        async for event in self._events:
            if isinstance(event, PartData):
                return event.data
            break
        self._ended = True
        return None


async def _parts(request: web.Request, services: Services) -> AsyncIterator[_Part]:
    """The parts of a request body; raises UnsupportedMediaType, BadRequest, RequestTimeout, TooLarge."""
    limits = services.limits
    chunks = _chunks(request.content, limits.read_timeout_s)
    media_type, parameters = parse_media_type(request.headers.get("Content-Type", ""))
    if media_type == DICOM:
        yield _Part(DICOM, _single(chunks), limits.max_part_bytes)
        return
    if media_type != MULTIPART or parse_media_type(parameters.get("type", DICOM))[0] != DICOM:
        raise UnsupportedMediaType(f'Instances are stored as {MULTIPART}; type="{DICOM}", or one as {DICOM}.')
    events = _events(chunks, Reader(parameters.get("boundary", "")))
    count = 0
    async for event in events:
        if isinstance(event, PartBegin):
            count += 1
            if count > limits.max_parts:
                raise TooLarge(f"A request may have at most {limits.max_parts} parts.")
            part_type = parse_media_type(event.headers.get("content-type", DICOM))[0]
            yield _Part(part_type, events, limits.max_part_bytes)


async def _chunks(content: StreamReader, timeout_s: float) -> AsyncIterator[bytes]:
    """The body as it arrives; raise RequestTimeout if it pauses for too long."""
    while True:
        try:
            async with asyncio.timeout(timeout_s):
                chunk = await content.readany()
        except TimeoutError:
            raise RequestTimeout from None
        if not chunk:
            return
        yield chunk


async def _events(chunks: AsyncIterator[bytes], reader: Reader) -> AsyncIterator[Event]:
    async for chunk in chunks:
        for event in reader.feed(chunk):
            yield event
    reader.finish()


async def _single(chunks: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    async for chunk in chunks:
        yield PartData(chunk)
    yield PartEnd()


async def _store(archive: Archive, part: _Part, study_uid: str | None) -> StoreOutcome:
    """Store one part; its failure is an outcome, whatever its cause, and the parts after it go on."""
    if part.media_type != DICOM:
        return _failure(UnsupportedMediaType(f"A part is not of type {DICOM}."))
    try:
        return await archive.store(aiter(part), study_uid=study_uid)
    except (BadRequest, RequestTimeout):
        raise  # the body is malformed or stalls: there is no next part
    except IsthmusError as exc:
        return _failure(exc)


def _failure(exc: IsthmusError) -> StoreOutcome:
    return StoreOutcome(failure=exc.dimse_status, reason=exc.message, status=exc.status)


def _response(outcomes: Sequence[StoreOutcome], base: str, study_uid: str | None) -> web.Response:
    status = response_status(outcomes)
    studies = {one.stored.study_uid for one in outcomes if one.stored}
    url = f"{base}/studies/{studies.pop()}" if len(studies) == 1 else ""
    headers = {"Content-Type": DICOM_JSON}
    if url:
        headers |= {"Location": url, "Content-Location": url}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "2"
    response = web.Response(
        body=dicom_json.dumps(response_data_set(outcomes, base, url)), status=status, headers=headers
    )
    # Section 10.5.3.2: a DICOM status and a reason, which the data set has no place for.
    reasons = dict.fromkeys((one.failure or one.warning or 0, one.reason) for one in outcomes if one.reason)
    for code, reason in list(reasons)[:_MAX_WARNINGS]:
        response.headers.add("Warning", f"{code:04X} {base}: {reason}")
    return response


def response_status(outcomes: Sequence[StoreOutcome]) -> HTTPStatus:
    """The status of the whole (Table 10.5.3-1)."""
    if all(one.stored and one.warning is None for one in outcomes):
        return HTTPStatus.OK
    if any(one.stored for one in outcomes):
        return HTTPStatus.ACCEPTED
    statuses = {one.status for one in outcomes}
    if len(statuses) == 1 and statuses <= _TELLING:
        return HTTPStatus(statuses.pop())
    return HTTPStatus.CONFLICT


def response_data_set(outcomes: Sequence[StoreOutcome], base: str, study_url: str) -> JsonDataSet:
    """The Store Instances Response Module (Table I.1-1) as DICOM JSON; sequences without items are absent."""
    stored = [_reference(one) | _stored(one, base) for one in outcomes if one.stored]
    failed = [
        _reference(one) | _reason("00081197", one.failure) for one in outcomes if _is_failure(one) and one.instance_uid
    ]
    other = [_reason("00081197", one.failure) for one in outcomes if _is_failure(one) and not one.instance_uid]
    data_set: JsonDataSet = {"00081190": {"vr": "UR", "Value": [study_url]} if study_url else {"vr": "UR"}}
    for tag, items in (("00081198", failed), ("00081199", stored), ("0008119A", other)):
        if items:
            data_set[tag] = {"vr": "SQ", "Value": [dict(sorted(item.items())) for item in items]}
    return data_set


def _is_failure(outcome: StoreOutcome) -> bool:
    return outcome.stored is None


def _reference(outcome: StoreOutcome) -> JsonDataSet:
    return {
        "00081150": {"vr": "UI", "Value": [outcome.sop_class_uid]} if outcome.sop_class_uid else {"vr": "UI"},
        "00081155": {"vr": "UI", "Value": [outcome.instance_uid]},
    }


def _stored(outcome: StoreOutcome, base: str) -> JsonDataSet:
    assert outcome.stored is not None  # noqa: S101 - the caller asked only for what was stored
    item = {"00081190": {"vr": "UR", "Value": [f"{base}/{outcome.stored.path}"]}}
    return item | (_reason("00081196", outcome.warning) if outcome.warning is not None else {})


def _reason(tag: str, code: int | None) -> JsonDataSet:
    return {tag: {"vr": "US", "Value": [_PROCESSING_FAILURE if code is None else code]}}
