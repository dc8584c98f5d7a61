"""Storage commitment (PS3.18 chapter 13): which instances the archive promises to keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web

from dicomweb.answers import ONE_DATA_SET_OFFERS, data_set
from dicomweb.bodies import negotiate
from dicomweb.errors import BadRequest, TooLarge, UnsupportedMediaType
from dicomweb.ports import Commitment, Commitments, JsonDataSet, Reference, Services
from dicomweb.resource import checked_uid, is_uid
from dicomweb.storing import metadata
from dicomweb.storing.body import METADATA, parts

_RETRY_AFTER_S = "2"
_MAX_REFERENCES = 50_000
_SOP_SEQUENCE, _FAILED_SOP_SEQUENCE = "00081199", "00081198"
_STUDY_SEQUENCE, _FAILED_STUDY_SEQUENCE = "00081110", "0008119B"
_SERIES_SEQUENCE, _BY_CLASS_SEQUENCE, _INSTANCE_SEQUENCE = "00081115", "00081112", "0008114A"
_STUDY_UID, _SERIES_UID, _CLASS_UID, _INSTANCE_UID = "0020000D", "0020000E", "00081150", "00081155"
_FAILURE_REASON = "00081197"


class CommitmentRequests:
    """Handlers of `/commitment-requests/{transaction}`."""

    def __init__(self, services: Services, commitments: Commitments) -> None:
        self._services = services
        self._commitments = commitments

    async def request(self, request: web.Request) -> web.StreamResponse:
        """`POST`: ask for a commitment; 200 with the result where it is known at once, else 202."""
        transaction_uid = _transaction(request)
        negotiate(request, ONE_DATA_SET_OFFERS)
        references = await self._references(request)
        commitments = self._commitments
        return await self._answer(request, await commitments.request(request, transaction_uid, references))

    async def result(self, request: web.Request) -> web.StreamResponse:
        """`GET`: the result of an earlier request, or 202 while it is worked on."""
        transaction_uid = _transaction(request)
        negotiate(request, ONE_DATA_SET_OFFERS)
        return await self._answer(request, await self._commitments.result(request, transaction_uid))

    async def _answer(self, request: web.Request, result: Commitment | None) -> web.StreamResponse:
        if result is None:
            return web.Response(status=HTTPStatus.ACCEPTED, headers={"Retry-After": _RETRY_AFTER_S})
        item = await self._services.run(response_module, result)
        return await data_set(request, self._services, item)

    async def _references(self, request: web.Request) -> list[Reference]:
        """What the request names, in one part or in several, as B.29 sends it."""
        limits = self._services.limits
        left = limits.max_metadata_bytes
        found: list[Reference] = []
        async for part in parts(request, limits):
            if part.media_type not in METADATA:
                raise UnsupportedMediaType("A commitment request is DICOM JSON or XML.")
            data = await part.whole(left)
            left -= len(data)
            found += await self._services.run(_parse, METADATA[part.media_type], data)
            if len(found) > _MAX_REFERENCES:
                raise TooLarge(f"A commitment request may name at most {_MAX_REFERENCES} instances.")
        if not found:
            raise BadRequest("The commitment request names no instance.")
        return found


def _transaction(request: web.Request) -> str:
    return checked_uid(request.match_info["transaction"], "Transaction UID")


def _parse(media_type: str, data: bytes) -> list[Reference]:
    return [one for item in metadata.items(media_type, data) for one in references_of(item)]


def references_of(item: JsonDataSet) -> Iterator[Reference]:
    """The instances that a Storage Commitment Request Module names (Table J.1-1); raise BadRequest."""
    for one in _items(item, _SOP_SEQUENCE):
        yield Reference(_uid(one, _CLASS_UID), _uid(one, _INSTANCE_UID))
    for study in _items(item, _STUDY_SEQUENCE):
        study_uid = _uid(study, _STUDY_UID)
        for series in _items(study, _SERIES_SEQUENCE):
            series_uid = _uid(series, _SERIES_UID)
            for group in _items(series, _BY_CLASS_SEQUENCE):
                class_uid = _uid(group, _CLASS_UID)
                for one in _items(group, _INSTANCE_SEQUENCE):
                    yield Reference(class_uid, _uid(one, _INSTANCE_UID), study_uid, series_uid)


def response_module(result: Commitment) -> JsonDataSet:
    """The Storage Commitment Response Module (Table J.2-1): each instance in the form that it was asked for in."""
    numbered = list(enumerate(result.references))
    flat = [(number, one) for number, one in numbered if not one.study_uid]
    nested = [(number, one) for number, one in numbered if one.study_uid]
    failures = result.failures
    sequences = {
        _FAILED_SOP_SEQUENCE: [_flat(one, failures.get(number)) for number, one in flat if number in failures],
        _SOP_SEQUENCE: [_flat(one, None) for number, one in flat if number not in failures],
        _STUDY_SEQUENCE: _studies([pair for pair in nested if pair[0] not in failures], {}),
        _FAILED_STUDY_SEQUENCE: _studies([pair for pair in nested if pair[0] in failures], failures),
    }
    return {tag: _sequence(items) for tag, items in sorted(sequences.items()) if items}


def _flat(reference: Reference, failure: int | None) -> JsonDataSet:
    item = {_CLASS_UID: _ui(reference.sop_class_uid), _INSTANCE_UID: _ui(reference.instance_uid)}
    return item | _reason(failure)


def _studies(pairs: Sequence[tuple[int, Reference]], failures: Mapping[int, int]) -> list[JsonDataSet]:
    """References as studies, series and classes, in the order in which they were first named."""
    tree: dict[str, dict[str, dict[str, list[JsonDataSet]]]] = {}
    for number, one in pairs:
        instances = tree.setdefault(one.study_uid, {}).setdefault(one.series_uid, {}).setdefault(one.sop_class_uid, [])
        instances.append({_INSTANCE_UID: _ui(one.instance_uid)} | _reason(failures.get(number)))
    return [
        {
            _SERIES_SEQUENCE: _sequence([_series(uid, classes) for uid, classes in series.items()]),
            _STUDY_UID: _ui(study_uid),
        }
        for study_uid, series in tree.items()
    ]


def _series(series_uid: str, classes: Mapping[str, list[JsonDataSet]]) -> JsonDataSet:
    groups = [{_INSTANCE_SEQUENCE: _sequence(found), _CLASS_UID: _ui(uid)} for uid, found in classes.items()]
    return {
        _BY_CLASS_SEQUENCE: _sequence([dict(sorted(group.items())) for group in groups]),
        _SERIES_UID: _ui(series_uid),
    }


def _sequence(items: list[JsonDataSet]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": items}


def _ui(uid: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [uid]}


def _reason(failure: int | None) -> JsonDataSet:
    return {} if failure is None else {_FAILURE_REASON: {"vr": "US", "Value": [failure]}}


def _items(item: Any, tag: str) -> list[Any]:
    attribute = item.get(tag) if isinstance(item, dict) else None
    values = attribute.get("Value", []) if isinstance(attribute, dict) else []
    return values if isinstance(values, list) else []


def _uid(item: Any, tag: str) -> str:
    values = _items(item, tag)
    uid = values[0].strip(" \0") if values and isinstance(values[0], str) else ""
    if not is_uid(uid):
        raise BadRequest(f"The commitment request has no valid UID where {tag} must name one.")
    return uid
