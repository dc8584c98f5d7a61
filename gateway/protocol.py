"""The HTTP server below the application: what cannot be parsed, or takes too long to say what it wants.

aiohttp itself would answer with a page of text that quotes the request and names its version, and log a traceback; and
it would wait for an hour for a request that never begins, and at shutdown twice as long as it is told to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.middleware import error_response

logger = logging.getLogger(__name__)
#: From the connection, or the first byte of a further request on it, to the end of the request's head.
HEAD_TIMEOUT_S = 30.0
_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Runner(web.AppRunner):
    """Runs an application behind connections that answer errors as it does."""

    #: Takes connections, once it is set up.
    connections: Server

    async def _make_server(self) -> Server:
        made = await super()._make_server()
        self.connections = Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )
        return self.connections


class Server(web.Server):
    """Serves connections, and tells when one ends."""

    on_lost: Callable[[], None] | None = None

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """A connection is gone."""
        super().connection_lost(handler, exc)
        if self.on_lost is not None:
            self.on_lost()

    def __call__(self) -> RequestHandler:
        """The protocol of one connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    __slots__ = ("_head_timer",)
    _head_timer: asyncio.TimerHandle | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first head."""
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Take what has come; a head that is complete is waited for no longer, one that begins is from now on."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._stop_waiting()
        elif self._head_timer is None and self._current_request is None and not self._messages and not self._upgraded:
            self._head_timer = self._loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wait for nothing any longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Cancel the handler as soon as its time is over: whoever reads nothing would hold it for as long again."""
        handler = self._task_handler
        end = self._loop.call_later(timeout, handler.cancel) if timeout is not None and handler is not None else None
        try:
            await super().shutdown(timeout)
        finally:
            if end is not None:
                end.cancel()

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        """Close a connection whose head did not come in time, in the middle of it or before."""
        self._head_timer = None
        if self._current_request is None and not self._messages:
            if self.transport is not None:
                self.transport.write(_TIMED_OUT)
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what never reached the application, or what fell out of it; `message` quotes the request."""
        if isinstance(exc, ConnectionError) and (request.writer.output_size > 0 or request.transport is None):
            raise exc  # the client is gone, as viewers are that scroll on: nothing failed
        sentence = "The request is not valid HTTP."
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.error("a request failed outside of its handler", exc_info=exc)
            sentence = "The gateway failed to answer."
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun")
        response = error_response(status, sentence)
        response.headers.update({"Server": "Isthmus", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"})
        response.force_close()
        return response
