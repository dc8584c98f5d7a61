"""What happens around every request: an id, one summary line, errors as JSON, security headers, CORS."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from http import HTTPStatus

from aiohttp import web
from aiohttp.hdrs import METH_ALL
from aiohttp.typedefs import Handler
from prometheus_client import Counter, Histogram

from dicomweb.errors import IsthmusError
from gateway.logs import request_id

logger = logging.getLogger(__name__)
REQUESTS = Counter("isthmus_http_requests_total", "Requests answered", ["method", "route", "status"])
SECONDS = Histogram("isthmus_http_request_seconds", "Time to answer", ["route"])
_RETRY_AFTER_S = "2"
_EXPOSED = "Warning, ETag, Accept-Ranges, Content-Location, Content-Range, Location, Retry-After, X-Request-ID"
#: An id that a caller may give: a UUID or the id of a W3C trace. It is logged, and any other may hold a name.
_REQUEST_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id and write its summary line: the route's pattern, never a path or a query."""
    given = request.headers.get("X-Request-ID", "")
    request_id.set(given if _REQUEST_ID.fullmatch(given) else os.urandom(6).hex())
    started = time.perf_counter()
    status = 499
    try:
        response = await handler(request)
        status = response.status
        return response
    except web.HTTPException as exc:
        status = exc.status
        raise
    except asyncio.CancelledError:
        raise
    finally:
        seconds = time.perf_counter() - started
        route = route_name(request)
        method = request.method if request.method in METH_ALL else "other"
        requests, durations = _metrics(method, route, status)
        requests.inc()
        durations.observe(seconds)
        level = logging.DEBUG if status < HTTPStatus.BAD_REQUEST else logging.INFO
        if logger.isEnabledFor(level):
            logger.log(level, "%s %s %d %.1f ms", method, route, status, 1000 * seconds)


@lru_cache(maxsize=1024)
def _metrics(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """What counts such requests: to find it by its labels takes as long as to count."""
    return REQUESTS.labels(method, route, status), SECONDS.labels(route)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors into `{"error": sentence}` with their status; what is unexpected says nothing of itself."""
    try:
        return await handler(request)
    except IsthmusError as exc:
        if exc.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.warning("%s: %s", route_name(request), exc.message, exc_info=exc.__cause__)
        _check_not_begun(request)
        response = error_response(exc.status, exc.message, retryable=exc.retryable)
        response.headers.update(exc.headers)
        return response
    except web.HTTPException as exc:
        if exc.status < HTTPStatus.BAD_REQUEST or exc.content_type == "application/json":
            raise
        response = error_response(exc.status, _SENTENCES.get(exc.status, exc.reason + "."))
        if "Allow" in exc.headers:
            response.headers["Allow"] = exc.headers["Allow"]
        return response
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        logger.exception("%s failed", route_name(request))
        _check_not_begun(request)
        return error_response(500, "The gateway failed to answer; its log has the details under this request's id.")


def _check_not_begun(request: web.Request) -> None:
    """Close the connection if a body is on its way: an error would become a part of it."""
    if request.writer.output_size > 0:
        if request.transport is not None:
            request.transport.close()
        raise ConnectionError("the response has begun")


def error_response(status: int, sentence: str, *, retryable: bool = False) -> web.Response:
    """The one form of an error body."""
    headers = {"Retry-After": _RETRY_AFTER_S} if retryable else {}
    return web.json_response({"error": sentence}, status=status, headers=headers)


def headers(origins: tuple[str, ...]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """An on_response_prepare hook: what every response says to browsers, streamed ones too.

    Pages of the origins named may read answers, as a viewer served elsewhere does; without an origin no CORS header.
    A picture in such a page is asked for without an Origin, so that its resource policy cannot depend on one.
    """
    allowed = frozenset(origins)
    policy = "cross-origin" if allowed else "same-origin"

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("X-Request-ID", request_id.get())
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        response.headers.setdefault("Cache-Control", "private, no-cache")
        response.headers.setdefault("Cross-Origin-Resource-Policy", policy)
        response.headers["Server"] = "Isthmus"
        origin = request.headers.get("Origin", "")
        if origin in allowed:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        if allowed:
            response.headers.add("Vary", "Origin")

    return add


@web.middleware
async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer the question that browsers ask before a cross-origin request; `headers` adds whether it is allowed."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return await handler(request)
    return web.Response(
        status=HTTPStatus.NO_CONTENT,
        headers={
            "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE, OPTIONS",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, Accept, Range, If-Range, If-None-Match",
            "Access-Control-Max-Age": "600",
        },
    )


def route_name(request: web.Request) -> str:
    """The pattern of the matched route, which holds no value of the request."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"


_SENTENCES = {
    404: "There is no such resource.",
    405: "This method is not allowed here.",
    413: "The request body is too large.",
}
