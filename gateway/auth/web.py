"""Signing in over HTTP: which requests need it, the login page's target, and protection against other sites."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from dicomweb.errors import BadRequest, Forbidden, Unauthenticated
from gateway.auth.tokens import Principal, Tokens
from gateway.config import Settings
from gateway.forwarding import Forwarding

COOKIE = "isthmus_session"
#: The caller of a request that needed one.
PRINCIPAL = web.RequestKey("principal", Principal)
_PROTECTED = ("/dicomweb", "/api/", "/sources/", "/wado", "/metrics")
_PUBLIC_API = frozenset({"/api/openapi.json"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_ANYONE = Principal("local", "none")


def middleware(settings: Settings, tokens: Tokens, forwarding: Forwarding) -> Middleware:
    """Let through what is public or signed in; raise Unauthenticated or Forbidden otherwise."""
    allowed_hosts = _hosts(settings)

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if settings.auth.mode == "none":
            if not _is_ours(request.host, allowed_hosts):
                raise Forbidden("Without authentication the gateway answers only to names of this machine.")
            _check_origin(request, forwarding)
            request[PRINCIPAL] = _ANYONE
        elif _needs_principal(request):
            request[PRINCIPAL] = await _principal(request, tokens, forwarding)
        return await handler(request)

    return authenticate


def add_routes(app: web.Application, settings: Settings, tokens: Tokens, forwarding: Forwarding) -> None:
    """`GET /login?once=CODE` from the printed link, `POST /login` with a token, `POST /logout`."""
    lifetime = timedelta(hours=settings.auth.session_hours)
    home = f"{forwarding.prefix}/"

    async def follow_link(request: web.Request) -> web.StreamResponse:
        secret = await tokens.redeem(request.query.get("once", ""), lifetime)
        response = web.HTTPSeeOther(home if secret else f"{home}?signin=expired")
        if secret:
            _set_cookie(response, secret, lifetime, home, secure=forwarding.origin(request).scheme == "https")
        return response

    async def with_token(request: web.Request) -> web.StreamResponse:
        _check_origin(request, forwarding)
        try:
            given = await request.post()
        except (ValueError, LookupError) as exc:  # no boundary, no such character set, or not of it
            raise BadRequest("The form cannot be read.") from exc
        principal = await tokens.check(str(given.get("token", "")), "bearer")
        if principal is None:
            raise Unauthenticated("This token is not valid.")
        response = web.HTTPSeeOther(home)
        session = await tokens.create("session", principal.user, lifetime, principal.rights)
        _set_cookie(response, session, lifetime, home, secure=forwarding.origin(request).scheme == "https")
        return response

    async def log_out(request: web.Request) -> web.StreamResponse:
        _check_origin(request, forwarding)
        await tokens.revoke(request.cookies.get(COOKIE, ""))
        response = web.HTTPSeeOther(home)
        response.del_cookie(COOKIE, path=home)
        return response

    app.router.add_get("/login", follow_link, allow_head=False)  # a link checker must not use it up
    app.router.add_post("/login", with_token)
    app.router.add_post("/logout", log_out)


def _needs_principal(request: web.Request) -> bool:
    return request.path.startswith(_PROTECTED) and request.path not in _PUBLIC_API


async def _principal(request: web.Request, tokens: Tokens, forwarding: Forwarding) -> Principal:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        principal = await tokens.check(secret.strip(), "bearer")
    else:
        _check_origin(request, forwarding)
        principal = await tokens.check(request.cookies.get(COOKIE, ""), "session")
    if principal is None:
        raise Unauthenticated
    return principal


def _check_origin(request: web.Request, forwarding: Forwarding) -> None:
    """A cookie travels with requests that other sites cause: those may not change anything, nor open a WebSocket."""
    if request.method in _SAFE and request.headers.get("Upgrade", "").lower() != "websocket":
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    own = (request.host, forwarding.origin(request).host)
    foreign_origin = origin is not None and origin.partition("://")[2] not in own
    if site in ("cross-site", "same-site") or (site is None and foreign_origin):
        raise Forbidden("Requests from other sites are not accepted.")


def _set_cookie(response: web.StreamResponse, secret: str, lifetime: timedelta, path: str, *, secure: bool) -> None:
    response.set_cookie(
        COOKIE,
        secret,
        max_age=int(lifetime.total_seconds()),
        httponly=True,
        samesite="Lax",
        secure=secure,
        path=path,
    )


def _hosts(settings: Settings) -> frozenset[str]:
    public = urlsplit(settings.http.public_url).hostname
    return frozenset({"localhost", public} if public else {"localhost"})


@lru_cache(maxsize=1024)
def _is_ours(host: str, allowed: frozenset[str]) -> bool:
    """Whether a Host header names this machine: a page elsewhere whose name resolves to it has another."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name in allowed or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
