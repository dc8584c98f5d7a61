"""What is not for everybody who is signed in: a right that a token was given, and a record of who lacked it."""

from __future__ import annotations

from aiohttp import web

from dicomweb.errors import Forbidden
from gateway.api.services import SERVICES
from gateway.audit import Caller
from gateway.auth.web import PRINCIPAL
from gateway.forwarding import FORWARDING


async def require_right(request: web.Request, right: str) -> Caller:
    """The caller of a request, if its token has the right.

    Raises
    ------
    Forbidden : it has not; that it was asked for is recorded before.
    """
    principal = request.get(PRINCIPAL)
    caller = Caller(principal.user if principal is not None else "", _address(request))
    if principal is None or right not in principal.rights:
        await request.app[SERVICES].audit.record(right, "denied", caller)
        raise Forbidden(f"This takes a token with the right {right}.")
    return caller


def _address(request: web.Request) -> str:
    forwarding = request.app.get(FORWARDING)
    return forwarding.client(request) if forwarding is not None else request.remote or ""
