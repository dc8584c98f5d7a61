"""QIDO-RS: search for studies, series and instances (PS3.18 section 10.6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from aiohttp import web

from dicomweb import dicom_json
from dicomweb.bodies import negotiate
from dicomweb.negotiate import DICOM_JSON, JSON, Offer
from dicomweb.ports import JsonDataSet, SearchPage, Services
from dicomweb.query_parse import parse
from dicomweb.resource import Level, Resource, checked_uid

_OFFERS = [Offer(DICOM_JSON), Offer(JSON)]
_UIDS = {Level.STUDY: ("0020000D",), Level.SERIES: ("0020000D", "0020000E")}
_UIDS[Level.INSTANCE] = (*_UIDS[Level.SERIES], "00080018")


class Qido:
    """Handlers of the search resources."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def search(self, level: Level) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The handler of searches for resources of a level, below whatever the path names."""

        async def handler(request: web.Request) -> web.StreamResponse:
            return await self._search(request, level)

        return handler

    async def _search(self, request: web.Request, level: Level) -> web.StreamResponse:
        offer = negotiate(request, _OFFERS)
        study, series = request.match_info.get("study"), request.match_info.get("series")
        parsed = parse(
            level,
            request.query.items(),
            study_uid=checked_uid(study, "Study Instance UID") if study else None,
            series_uid=checked_uid(series, "Series Instance UID") if series else None,
            limits=self._services.limits,
        )
        page = await self._services.archive(request).search(replace(parsed.query, limit=max(1, parsed.query.limit)))
        if not parsed.query.limit:  # only the number of results is wanted
            page = SearchPage((), page.remaining + len(page.items))
        base = self._services.public_base(request)
        body = await self._services.run(_encode, page.items, level, base)
        response = web.Response(body=body, headers={"Content-Type": offer.media_type, "Vary": "Accept"})
        for warning in parsed.warnings:
            response.headers.add("Warning", f"299 {base}: {warning}")
        if page.remaining:
            text = f"There are {page.remaining} additional results that can be requested"
            response.headers.add("Warning", f"299 {base}: {text}")
        return response


def _encode(items: Sequence[JsonDataSet], level: Level, base: str) -> bytes:
    return dicom_json.dumps([_with_retrieve_url(item, level, base) for item in items])


def _with_retrieve_url(item: JsonDataSet, level: Level, base: str) -> JsonDataSet:
    """Add Retrieve URL (0008,1190), which depends on how the caller reaches the server."""
    uids = [item[tag]["Value"][0] for tag in _UIDS[level]]
    url = {"vr": "UR", "Value": [f"{base}/{Resource(*uids).path}"]}
    return dict(sorted({**item, "00081190": url}.items()))
