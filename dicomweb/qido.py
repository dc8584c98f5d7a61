"""QIDO-RS: search for studies, series and instances (PS3.18 section 10.6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from aiohttp import web
from multidict import CIMultiDict

from dicomweb.answers import DATA_SET_OFFERS, data_sets
from dicomweb.bodies import negotiate
from dicomweb.ports import JsonDataSet, SearchPage, Services
from dicomweb.query_parse import ParsedQuery, parse, split
from dicomweb.ready import ReadyItems
from dicomweb.resource import Level, Resource, checked_uid

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
        negotiate(request, DATA_SET_OFFERS)  # nothing is searched for who cannot read the answer
        archive = self._services.archive(request)
        study, series = request.match_info.get("study"), request.match_info.get("series")
        parsed = parse(
            level,
            split(request.rel_url.raw_query_string),
            study_uid=checked_uid(study, "Study Instance UID") if study else None,
            series_uid=checked_uid(series, "Series Instance UID") if series else None,
            limits=self._services.limits,
            keys=await archive.search_keys(),
        )
        page = await archive.search(replace(parsed.query, limit=max(1, parsed.query.limit)))
        if not parsed.query.limit:  # only the number of results is wanted
            page = SearchPage((), page.remaining + len(page.items))
        base = self._services.public_base(request)
        items = _with_retrieve_urls(page.items, level, base)
        return await data_sets(request, self._services, items, headers=_warnings(base, parsed, page))


def _warnings(base: str, parsed: ParsedQuery, page: SearchPage) -> CIMultiDict[str]:
    """The Warning fields, in the words of PS3.18 section 8.3.4.4.1."""
    texts = list(parsed.warnings)
    if page.remaining:
        texts.append(f"There are {page.remaining} additional results that can be requested")
    return CIMultiDict([("Warning", f"299 {base}: {text}") for text in texts])


def _with_retrieve_urls(items: Sequence[JsonDataSet], level: Level, base: str) -> Sequence[JsonDataSet]:
    return items.at(base) if isinstance(items, ReadyItems) else [_with_retrieve_url(one, level, base) for one in items]


def _with_retrieve_url(item: JsonDataSet, level: Level, base: str) -> JsonDataSet:
    """Add Retrieve URL (0008,1190), which depends on how the caller reaches the server."""
    uids = [item[tag]["Value"][0] for tag in _UIDS[level]]
    url = {"vr": "UR", "Value": [f"{base}/{Resource(*uids).path}"]}
    return dict(sorted({**item, "00081190": url}.items()))
