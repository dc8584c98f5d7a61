"""QIDO-RS: search for studies, series and instances (PS3.18 section 10.6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from http import HTTPStatus

from aiohttp import web
from multidict import CIMultiDict

from dicomweb.answers import DATA_SET_OFFERS, Answer
from dicomweb.bodies import negotiate
from dicomweb.negotiate import accepts_coding
from dicomweb.ports import JsonDataSet, SearchPage, Services
from dicomweb.query import SearchKeys
from dicomweb.query_parse import ParsedQuery, parse, split
from dicomweb.ready import ReadyItems
from dicomweb.remembered import Remembered
from dicomweb.resource import Level, Resource, checked_uid

_UIDS = {Level.STUDY: ("0020000D",), Level.SERIES: ("0020000D", "0020000E")}
_UIDS[Level.INSTANCE] = (*_UIDS[Level.SERIES], "00080018")
_REMEMBERED_BYTES = 16 << 20
#: What a remembered page takes besides its body: its key and header fields.
_WEIGHT_BYTES = 2000


class Qido:
    """Handlers of the search resources. Pages are remembered as they were sent, until something is stored or gone."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._remembered: Remembered[Answer] = Remembered(_REMEMBERED_BYTES)

    def search(self, level: Level) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The handler of searches for resources of a level, below whatever the path names."""

        async def handler(request: web.Request) -> web.StreamResponse:
            return await self._search(request, level)

        return handler

    async def _search(self, request: web.Request, level: Level) -> web.StreamResponse:
        offer = negotiate(request, DATA_SET_OFFERS)  # nothing is searched for who cannot read the answer
        compressed = accepts_coding(request.headers.get("Accept-Encoding"), "gzip")
        archive, base = self._services.archive(request), self._services.public_base(request)
        version = archive.version(request.match_info.get("study"))
        keys = await archive.search_keys()
        asked = (request.rel_url.raw_path_qs, offer, compressed, base, keys.building)
        answer = self._remembered.get(asked, version)
        if answer is None:
            parsed = self._parse(request, level, keys)
            page = await archive.search(replace(parsed.query, limit=max(1, parsed.query.limit)))
            if not parsed.query.limit:  # only the number of results is wanted
                page = SearchPage((), page.remaining + len(page.items), page.is_exact)
            items, fields = _with_retrieve_urls(page.items, level, base), _warnings(base, parsed, page)
            answer = await self._services.run(Answer.validated, items, offer, compressed, HTTPStatus.OK, fields)
            weight = _WEIGHT_BYTES + 4 * len(asked[0]) + len(answer.body)  # warnings repeat what was asked
            self._remembered.put(asked, version, answer, weight)
        return answer.response(request)

    def _parse(self, request: web.Request, level: Level, keys: SearchKeys) -> ParsedQuery:
        study, series = request.match_info.get("study"), request.match_info.get("series")
        return parse(
            level,
            split(request.rel_url.raw_query_string),
            study_uid=checked_uid(study, "Study Instance UID") if study else None,
            series_uid=checked_uid(series, "Series Instance UID") if series else None,
            limits=self._services.limits,
            keys=keys,
        )


def _warnings(base: str, parsed: ParsedQuery, page: SearchPage) -> CIMultiDict[str]:
    """The Warning fields, in the words of PS3.18 section 8.3.4.4.1."""
    texts = list(parsed.warnings)
    if page.remaining:
        at_least = "" if page.is_exact else "at least "
        texts.append(f"There are {at_least}{page.remaining} additional results that can be requested")
    return CIMultiDict([("Warning", f"299 {base}: {text}") for text in texts])


def _with_retrieve_urls(items: Sequence[JsonDataSet], level: Level, base: str) -> Sequence[JsonDataSet]:
    return items.at(base) if isinstance(items, ReadyItems) else [_with_retrieve_url(one, level, base) for one in items]


def _with_retrieve_url(item: JsonDataSet, level: Level, base: str) -> JsonDataSet:
    """Add Retrieve URL (0008,1190), which depends on how the caller reaches the server."""
    uids = [item[tag]["Value"][0] for tag in _UIDS[level]]
    url = {"vr": "UR", "Value": [f"{base}/{Resource(*uids).path}"]}
    return dict(sorted({**item, "00081190": url}.items()))
