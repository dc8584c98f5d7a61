"""What is no HTTP, sent over a raw connection: it is answered as every other error, and nothing of it is logged."""

import asyncio
import json
import logging

import pytest
from aiohttp import web

from gateway.protocol import Runner

CANARY = "ZQXCANARY"


@pytest.fixture
async def port():
    """The port of an application whose one page fails."""

    async def fail(_):
        raise ValueError(CANARY)

    app = web.Application()
    app.router.add_get("/", fail)
    runner = Runner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def ask(port, request):
    """Status line, header fields and body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).decode().partition("\r\n\r\n")
    writer.close()
    return head, body


@pytest.mark.parametrize(
    "request_bytes",
    [
        f"{CANARY} \x01 nonsense\r\n\r\n".encode(),
        f"GET /{CANARY} HTTP/9.z\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: x\r\n{CANARY} {CANARY}\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: {CANARY}\r\n\r\n".encode(),
        f"GET /{CANARY * 2000} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    ],
    ids=["no request", "version", "header", "length", "long line"],
)
async def test_what_cannot_be_parsed(port, caplog, request_bytes):
    caplog.set_level(logging.INFO)
    head, body = await ask(port, request_bytes)
    assert head.startswith(("HTTP/1.1 400 ", "HTTP/1.0 400 "))
    assert "Content-Type: application/json" in head
    assert json.loads(body) == {"error": "The request is not valid HTTP."}
    for said in (head + body, caplog.text):
        assert CANARY not in said
        assert "aiohttp" not in said.lower()
        assert "python" not in said.lower()


async def test_what_no_middleware_caught_is_logged(port, caplog):
    head, body = await ask(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith("HTTP/1.1 500 ")
    assert json.loads(body) == {"error": "The gateway failed to answer."}
    assert [record.levelname for record in caplog.records if record.name != "asyncio"] == ["ERROR"]
