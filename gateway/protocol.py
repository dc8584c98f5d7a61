"""The HTTP server below the application: what cannot be parsed is answered in the form of every other error.

aiohttp itself would answer with a page of text that quotes the request and names its version, and log a traceback.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.middleware import error_response

logger = logging.getLogger(__name__)


class Runner(web.AppRunner):
    """Runs an application behind connections that answer errors as it does."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what never reached the application, or what fell out of it; `message` quotes the request."""
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
