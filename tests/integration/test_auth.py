"""Who is let in: which routes need a caller, and what those who are none may send without breaking anything."""

import asyncio
import re

import pytest

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
