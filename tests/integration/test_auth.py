"""Who is let in: which routes need a caller, and what those who are none may send without breaking anything."""

import asyncio
import re
import time
from contextlib import closing
from datetime import timedelta

import pytest

from gateway.auth.tokens import Principal, Tokens, revocations
from gateway.auth.web import COOKIE
from gateway.wiring import open_core
from tests.conftest import KEYS

#: Paths that answer anybody; all others say 401.
_PUBLIC = ("/health/", "/login", "/logout", "/api/openapi.json")


@pytest.fixture
async def guarded(open_archive, serve):
    """A client without a token of a gateway that asks for one."""
    return await serve(await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_AUTH__MODE="token"))


async def status_of(client, request: str, header: bytes) -> int:
    """The status that bytes get which no well-behaved client would send."""
    url = client.make_url("/")
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n".encode())
    writer.write(header + b"\r\n\r\n")
    async with asyncio.timeout(20):
        line = await reader.readline()
    writer.close()
    return int(line.split()[1])


async def test_every_service_needs_a_caller(guarded):
    asked = 0
    for route in guarded.server.app.router.routes():
        if route.resource is None or route.method == "*":
            continue
        path = re.sub(r"\{\w+\}", "1", route.resource.canonical)
        if path.startswith(("/dicomweb", "/wado", "/api/", "/metrics")) and not path.startswith(_PUBLIC):
            async with guarded.request(route.method, path, allow_redirects=False) as answer:
                assert answer.status == 401, (route.method, path)
            asked += 1
    assert asked > 100


@pytest.mark.parametrize(
    "header",
    [
        b"Authorization: Bearer \xff\xfe",
        b"Authorization: Bearer x\xed\xa0\x80",
        b"Cookie: isthmus_session=\xff",
        b"Origin: http://[",
        b"Origin: null",
        b"Upgrade: websocket\r\nOrigin: http://evil",
        b'Forwarded: host="[";proto=http',
        b"X-Forwarded-Host: [x",
        b"X-Request-ID: \xff",
    ],
)
@pytest.mark.parametrize("request_line", ["GET /dicomweb/studies", "POST /dicomweb/studies", "POST /login"])
async def test_whatever_a_header_holds_nobody_is_let_in(guarded, request_line, header):
    assert await status_of(guarded, request_line, header) in (401, 403)


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"token=%ed%a0%80", "application/x-www-form-urlencoded"),
        (b"token=%ff", "application/x-www-form-urlencoded; charset=none-such"),
        (b"token=\xff", "application/x-www-form-urlencoded; charset=ascii"),
        (b"token", "multipart/form-data"),
    ],
)
async def test_forms_that_cannot_be_read(guarded, body, media_type):
    async with guarded.post("/login", data=body, headers={"Content-Type": media_type}) as answer:
        assert answer.status in (400, 401)


async def test_who_signed_out_is_nobody_to_any_worker(open_archive, serve, mongod_uri):
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_AUTH__MODE="token")
    async with open_core(core.settings, mongod_uri, KEYS) as sibling:
        one, other = await serve(core), await serve(sibling)
        tokens = Tokens(core.catalogue.db)
        session, bearer = await tokens.create("session", "reader"), await tokens.create("bearer", "script")
        with_cookie, with_token = {"Cookie": f"{COOKIE}={session}"}, {"Authorization": f"Bearer {bearer}"}
        for _ in range(2):
            for client in (one, other):
                assert (await client.get("/dicomweb/studies", headers=with_cookie)).status == 200
                assert (await client.get("/dicomweb/studies", headers=with_token)).status == 200
        response = await one.post("/logout", headers=with_cookie, allow_redirects=False)
        assert response.status == 303
        for client in (other, one):
            assert (await client.get("/dicomweb/studies", headers=with_cookie)).status == 401
            assert (await client.get("/dicomweb/studies", headers=with_token)).status == 200


async def test_a_session_is_not_believed_beyond_its_end(core):
    tokens = Tokens(core.catalogue.db, core.catalogue.generations)
    session = await tokens.create("session", "reader", timedelta(seconds=3))
    assert await tokens.check(session, "session") == Principal("reader", "session")
    end = time.monotonic() + 12  # it is trusted for 15 s where it has no end
    while await tokens.check(session, "session") is not None:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def test_a_user_whose_tokens_are_revoked_is_out_at_once(core, tmp_path):
    """Also of a session that was made of a token, and in processes that have looked it up."""
    told, elsewhere = [await asyncio.to_thread(revocations, tmp_path) for _ in range(2)]
    with closing(told), closing(elsewhere):
        tokens, sibling = Tokens(core.catalogue.db, told), Tokens(core.catalogue.db, elsewhere)
        code = await tokens.create("once", "doctor", rights=["reidentify"])
        bearer = await tokens.create("bearer", "doctor", rights=["reidentify"])
        session = await tokens.redeem(code, timedelta(hours=1))
        other = await tokens.create("bearer", "nurse")
        link = await tokens.create("once", "doctor")
        assert "reidentify" in (await sibling.check(bearer, "bearer")).rights
        assert "reidentify" in (await sibling.check(session, "session")).rights
        assert await tokens.revoke_all("doctor") == 3
        assert await sibling.check(bearer, "bearer") is None
        assert await sibling.check(session, "session") is None
        assert await sibling.redeem(link, timedelta(hours=1)) is None
        assert await sibling.check(other, "bearer") is not None
