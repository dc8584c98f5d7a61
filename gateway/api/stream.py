"""The server-sent events of `GET /api/v1/events`."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web

from gateway.api.events import END, Event, Subscription
from gateway.api.services import SERVICES

HEARTBEAT_S = 15.0
#: A client that takes nothing for this long is cut off.
WRITE_TIMEOUT_S = 30.0
_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def stream_events(request: web.Request) -> web.StreamResponse:
    """Stream what happens: `run` (a run as JSON), `stored`, `deleted`; a comment every 15 s keeps the line open."""
    hub = request.app[SERVICES].events
    async with hub.subscribe() as subscription:
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        with suppress(ConnectionError, TimeoutError):  # the client went, or is too slow
            await _write(request, response, b"retry: 2000\n\n")
            last = request.headers.get("Last-Event-ID", "")
            if last.isascii() and last.isdigit() and len(last) < 19:
                async for event in hub.since(int(last)):
                    await _write(request, response, event.encode())
            await _follow(request, response, subscription)
            await response.write_eof()
    return response


async def _follow(request: web.Request, response: web.StreamResponse, subscription: Subscription) -> None:
    event: Event | None = None
    while event is not END:
        event = None
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_S):
                event = await subscription.get()
        await _write(request, response, event.encode() if event else b": \n\n")


async def _write(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await response.write(data)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise
