"""Subscriptions to workitems, and the WebSockets for their events (PS3.18 sections 8.10, 11.10 to 11.12)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus

from aiohttp import WSCloseCode, WSMsgType, web

from dicomweb import dicom_json
from dicomweb.errors import BadRequest
from dicomweb.ports import EventQueue, Services, Worklist
from dicomweb.resource import checked_uid
from dicomweb.worklist import events, search
from dicomweb.worklist.subscriptions import FILTERED, WELL_KNOWN, checked_ae_title

LOCK_REFUSED = "Deletion Lock not granted."
_HEARTBEAT_S = 30.0
_WRITE_TIMEOUT_S = 30.0
#: What a subscriber may send: nothing is expected.
_MAX_MESSAGE_BYTES = 4096
_BOOLEANS = {"true": True, "false": False}


class Channel:
    """Handlers of subscriptions and of the connections to their subscribers."""

    def __init__(self, services: Services, worklist: Callable[[web.Request], Worklist]) -> None:
        self._services = services
        self._worklist = worklist

    async def subscribe(self, request: web.Request) -> web.StreamResponse:
        """`POST /workitems/{uid}/subscribers/{aetitle}[?deletionlock=…][&filter=…]`."""
        uid, title = _subscription(request)
        lock = request.query.get("deletionlock", "false")
        if lock not in _BOOLEANS:
            raise BadRequest("deletionlock must be true or false.")
        pairs = search.filter_pairs(request.query.get("filter", "")) if uid == FILTERED else []
        if uid != FILTERED and "filter" in request.query:
            raise BadRequest("Only the filtered worklist takes a filter.")
        is_locked = await self._worklist(request).subscribe(uid, title, locked=_BOOLEANS[lock], pairs=pairs)
        headers = {"Content-Location": self._channel_url(request, title)}
        if _BOOLEANS[lock] and not is_locked:
            headers["Warning"] = f"299 {self._services.public_base(request)}: {LOCK_REFUSED}"
        return web.Response(status=HTTPStatus.CREATED, headers=headers)

    async def unsubscribe(self, request: web.Request) -> web.StreamResponse:
        """`DELETE /workitems/{uid}/subscribers/{aetitle}`."""
        await self._worklist(request).unsubscribe(*_subscription(request))
        return web.Response()

    async def suspend(self, request: web.Request) -> web.StreamResponse:
        """`POST /workitems/{uid}/subscribers/{aetitle}/suspend`, of a worklist as a whole."""
        uid, title = _subscription(request)
        if uid not in WELL_KNOWN:
            raise BadRequest("Only a subscription to the worklist can be suspended; unsubscribe from a workitem.")
        await self._worklist(request).suspend(uid, title)
        return web.Response()

    async def open(self, request: web.Request) -> web.StreamResponse:
        """`GET /subscribers/{aetitle}` as a WebSocket: one subscriber's events; `GET /`: those of all of a user's."""
        title = request.match_info.get("aetitle")
        checked = checked_ae_title(title) if title is not None else None
        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, max_msg_size=_MAX_MESSAGE_BYTES, timeout=5.0)
        if not socket.can_prepare(request):
            raise BadRequest("This resource is opened as a WebSocket (PS3.18 section 8.10.4).")
        async with self._worklist(request).listen(checked) as queue:
            await socket.prepare(request)
            work = [asyncio.ensure_future(one) for one in (_send(socket, queue), _until_closed(socket))]
            try:
                await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in work:
                    one.cancel()
                await asyncio.gather(*work, return_exceptions=True)
        return socket

    def _channel_url(self, request: web.Request, title: str) -> str:
        base = self._services.public_base(request)
        return f"ws{base.removeprefix('http')}/subscribers/{title.replace(' ', '%20')}"


async def _send(socket: web.WebSocketResponse, queue: EventQueue) -> None:
    """Send events until the queue ends or the subscriber takes no more."""
    number = 0
    while (named := await queue.get()) is not None:
        number = number % 0xFFFF + 1
        frame = dicom_json.dumps(events.data_set(*named, number)).decode()
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await socket.send_str(frame)
        except (ConnectionError, TimeoutError):
            return
    await socket.close(code=WSCloseCode.SERVICE_RESTART, message=b"connect again")


async def _until_closed(socket: web.WebSocketResponse) -> None:
    with suppress(ConnectionError):
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                return


def _subscription(request: web.Request) -> tuple[str, str]:
    uid = checked_uid(request.match_info["workitem"], "Workitem UID")
    return uid, checked_ae_title(request.match_info["aetitle"])
