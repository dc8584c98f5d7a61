"""STOW-RS: store instances (PS3.18 section 10.5), as they arrive, one part after the other; and DELETE."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus

from aiohttp import web

from dicomweb.answers import ONE_DATA_SET_OFFERS, data_set
from dicomweb.bodies import negotiate
from dicomweb.errors import BadRequest
from dicomweb.ports import JsonDataSet, Services, StoreOutcome
from dicomweb.resource import checked_uid
from dicomweb.storing.assemble import Assembly
from dicomweb.storing.body import parts
from dicomweb.targets import resource_of

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
#: A response about so many instances is encoded within a millisecond.
_FEW = 32


class Stow:
    """Handlers that change the archive."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._turn = asyncio.Semaphore(1)

    async def store(self, request: web.Request) -> web.StreamResponse:
        """`POST /studies[/{study}]`: what became of each instance is answered as PS3.18 Annex I has it."""
        study = request.match_info.get("study")
        study_uid = checked_uid(study, "Study Instance UID") if study else None
        negotiate(request, ONE_DATA_SET_OFFERS)  # before anything is stored for a caller who cannot take the answer
        base = self._services.public_base(request)
        with self._services.uploads.admitted():
            outcomes = await self._outcomes(request, study_uid, base)
        if not outcomes:
            raise BadRequest("The request has no part to store.")
        return await _response(request, self._services, outcomes, base)

    async def _outcomes(self, request: web.Request, study_uid: str | None, base: str) -> Sequence[StoreOutcome]:
        services = self._services
        spool = services.spool.open(services.run)
        try:
            assembly = Assembly(
                parts(request, services.limits),
                services.archive(request),
                spool,
                services.run,
                services.limits,
                services.uploads,
                turn=self._turn,
                study_uid=study_uid,
                base=base + "/studies",
            )
            return await assembly.run()
        finally:
            await spool.close()

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """`DELETE` of a study, a series or an instance."""
        await self._services.archive(request).delete(resource_of(request))
        return web.Response(status=HTTPStatus.NO_CONTENT)


async def _response(
    request: web.Request, services: Services, outcomes: Sequence[StoreOutcome], base: str
) -> web.Response:
    status = response_status(outcomes)
    studies = {one.stored.study_uid for one in outcomes if one.stored}
    url = f"{base}/studies/{studies.pop()}" if len(studies) == 1 else ""
    headers = {"Location": url, "Content-Location": url} if url else {}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "2"
    item = response_data_set(outcomes, base, url)
    short = len(outcomes) <= _FEW
    response = await data_set(request, services, item, status=status, headers=headers, short=short)
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
    if HTTPStatus.BAD_REQUEST in statuses:  # of the body itself: parts that cannot be stored are conflicts
        return HTTPStatus.BAD_REQUEST
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
