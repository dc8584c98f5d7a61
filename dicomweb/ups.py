"""UPS-RS: create, retrieve, update, search workitems, change their state, ask to cancel them (PS3.18 chapter 11)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus

from aiohttp import web

from dicomweb import answers
from dicomweb.errors import BadRequest
from dicomweb.ports import JsonDataSet, Services, Worklist
from dicomweb.query_parse import split
from dicomweb.resource import checked_uid, is_uid
from dicomweb.worklist import body, search
from dicomweb.worklist.attributes import items, text
from dicomweb.worklist.states import UPDATE_INCONSISTENT, Told, Unfit
from dicomweb.worklist.subscriptions import WELL_KNOWN, checked_ae_title

#: Workitems of one search result: more than these are asked for page by page.
MAX_PAGE, _PAGE = 1_000, 200
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_TRANSACTION_UID = "00081195"
_RETRIEVE_URL = "00081190"
#: Who asks to cancel, where the path does not say it: Requesting AE (0074,1236) must have a value.
_UNNAMED = "UNKNOWN"


class Ups:
    """Handlers of workitems."""

    def __init__(self, services: Services, worklist: Callable[[web.Request], Worklist]) -> None:
        self._services = services
        self._worklist = worklist

    async def create(self, request: web.Request) -> web.StreamResponse:
        """`POST /workitems[?{uid}]`: the UID is in the query, or in the data set as SOP Instance UID."""
        item = await body.read(request, self._services)
        uid = _created_uid(request, item)
        stored_uid, warning = await self._worklist(request).create(uid, item)
        url = f"{self._services.public_base(request)}/workitems/{stored_uid}"
        headers = {"Location": url, "Content-Location": url}
        return self._answer(request, warning, HTTPStatus.CREATED, headers)

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """`GET /workitems/{uid}`."""
        item = await self._worklist(request).get(_uid(request))
        base = self._services.public_base(request)
        url = f"{base}/workitems/{text(item, '00080018')}"
        headers = {"Content-Location": url, "Cache-Control": "private, no-cache"}
        shown = _with_urls(item, base)
        return await answers.data_set(request, self._services, shown, headers=headers, array=True)

    async def update(self, request: web.Request) -> web.StreamResponse:
        """`POST /workitems/{uid}[?{transaction}]`: the Transaction UID is in the query or in the data set."""
        uid = _uid(request)
        changes = await body.read(request, self._services)
        try:
            warning = await self._worklist(request).update(uid, changes, _transaction_uid(request, changes))
        except Told:
            raise
        except BadRequest as exc:
            raise Unfit(exc.message, UPDATE_INCONSISTENT) from exc
        return self._answer(request, warning, HTTPStatus.OK)

    async def change_state(self, request: web.Request) -> web.StreamResponse:
        """`PUT /workitems/{uid}/state[/{requester}]`."""
        uid = _uid(request)
        information = await body.read(request, self._services)
        warning = await self._worklist(request).change_state(uid, information, text(information, _TRANSACTION_UID))
        return self._answer(request, warning, HTTPStatus.OK)

    async def request_cancel(self, request: web.Request) -> web.StreamResponse:
        """`POST /workitems/{uid}/cancelrequest[/{requester}]`."""
        uid = _uid(request)
        requester = checked_ae_title(request.match_info.get("requester", _UNNAMED))
        information = await body.read_optional(request, self._services)
        warning = await self._worklist(request).request_cancel(uid, information, requester)
        return self._answer(request, warning, HTTPStatus.ACCEPTED)

    async def search(self, request: web.Request) -> web.StreamResponse:
        """`GET /workitems?…`."""
        limits = replace(self._services.limits, max_results=MAX_PAGE, default_results=_PAGE)
        parsed = search.parsed(split(request.rel_url.raw_query_string), limits)
        limit = parsed.query.limit
        page = await self._worklist(request).search(replace(parsed.query, limit=max(1, limit)))
        remaining = page.remaining if limit else page.remaining + len(page.items)
        base = self._services.public_base(request)
        warnings = list(parsed.warnings)
        if remaining:
            warnings.append(f"There are {remaining} additional results that can be requested")
        if not page.items or not limit:  # sections 8.3.4.4.1 and 11.9.3.1: no results are no content
            response = web.Response(status=HTTPStatus.NO_CONTENT)
        else:
            shown = [_with_urls(item, base) for item in page.items]
            response = await answers.data_sets(request, self._services, shown)
        for warning in warnings:
            response.headers.add("Warning", f"299 {base}: {warning}")
        return response

    def telling(self, handler: Handler) -> Handler:
        """A handler whose refusals name the service in their Warning header."""

        async def told(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except Told as exc:
                exc.service = self._services.public_base(request)
                raise

        return told

    def _answer(
        self, request: web.Request, warning: str, status: HTTPStatus, headers: dict[str, str] | None = None
    ) -> web.Response:
        fields = dict(headers or {})
        if warning:
            fields["Warning"] = f"299 {self._services.public_base(request)}: {warning}"
        return web.Response(status=status, headers=fields)


def _uid(request: web.Request) -> str:
    uid = checked_uid(request.match_info["workitem"], "Workitem UID")
    if uid in WELL_KNOWN:
        raise BadRequest("This UID stands for all workitems; it has subscribers only.")
    return uid


def _named(request: web.Request, *names: str) -> str:
    """A UID in the query: as the only parameter, without a name (PS3.18 section 11.4.1), or under one of `names`."""
    given = [value for name in names for value in request.query.getall(name, ())]
    given += [name for name, value in request.query.items() if not value and is_uid(name)]
    if len(set(given)) > 1:
        raise BadRequest(f"The query names more than one {names[0]} UID.")
    return checked_uid(given[0], f"{names[0]} UID") if given else ""


def _created_uid(request: web.Request, item: JsonDataSet) -> str:
    named, held = _named(request, "workitem", "AffectedSOPInstanceUID"), text(item, "00080018")
    if named and held and named != held:
        raise BadRequest("The query and the SOPInstanceUID of the workitem name different workitems.")
    uid = checked_uid(named or held, "Workitem UID, in the query or as SOPInstanceUID,")
    if uid in WELL_KNOWN:
        raise BadRequest("This UID stands for all workitems.")
    return uid


def _transaction_uid(request: web.Request, changes: JsonDataSet) -> str:
    named, held = _named(request, "transaction-uid", "transaction"), text(changes, _TRANSACTION_UID)
    if named and held and named != held:
        raise BadRequest("The query and the data set have different Transaction UIDs.")
    return named or held


def _with_urls(item: JsonDataSet, base: str) -> JsonDataSet:
    """Retrieve URLs that the server wrote itself, which are relative to the service, as the caller can use them."""
    performed = [_completed(one, base) for one in items(item, "00741216")]
    return item | {"00741216": {"vr": "SQ", "Value": performed}} if performed else item


def _completed(performed: JsonDataSet, base: str) -> JsonDataSet:
    outputs = [
        output | {"0040E025": {"vr": "SQ", "Value": [_absolute(one, base) for one in items(output, "0040E025")]}}
        if items(output, "0040E025")
        else output
        for output in items(performed, "00404033")
    ]
    return performed | {"00404033": {"vr": "SQ", "Value": outputs}} if outputs else performed


def _absolute(retrieval: JsonDataSet, base: str) -> JsonDataSet:
    url = text(retrieval, _RETRIEVE_URL)
    if not url.startswith("studies/"):
        return retrieval
    return retrieval | {_RETRIEVE_URL: {"vr": "UR", "Value": [f"{base}/{url}"]}}
