"""What is no HTTP, sent over a raw connection: it is answered as every other error, and nothing of it is logged."""

import asyncio
import contextlib
import json
import logging
import re

import pytest
from aiohttp import web

from gateway.protocol import Runner

CANARY = "ZQXCANARY"


@pytest.fixture
async def port():
    """The port of an application whose one page fails."""

    async def fail(_):
        raise ValueError(CANARY)

    async def send(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(1 << 20))

    app = web.Application()
    app.router.add_get("/", fail)
    app.router.add_get("/endless", send)
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


async def test_who_vanishes_is_no_error(port, caplog):
    before = asyncio.all_tasks()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await reader.read(100)
    writer.transport.abort()
    async with asyncio.timeout(10):
        while asyncio.all_tasks() - before:  # noqa: ASYNC110 - nobody tells of its end
            await asyncio.sleep(0.01)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def everything(reader):
    """What comes until the connection ends; what we send after the server closed resets it."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := await reader.read(65536):
            received += chunk
    return received


async def closing_time(port, *pieces, pause_s=0.0):
    """What comes back until the server closes the connection, having been sent pieces with pauses between."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = asyncio.ensure_future(everything(reader))
    for piece in pieces:
        writer.write(piece)
        await asyncio.wait([received], timeout=pause_s)
        if received.done():
            break
    answer = await asyncio.wait_for(received, 10)
    writer.close()
    return answer


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX: "], ids=["nothing", "half a head"])
async def test_a_head_that_does_not_come(port, monkeypatch, beginning):
    monkeypatch.setattr("gateway.protocol.HEAD_TIMEOUT_S", 0.3)
    assert (await closing_time(port, beginning)).startswith(b"HTTP/1.1 408 ")


async def test_a_head_byte_by_byte(port, monkeypatch):
    """Each byte comes soon after the last, and the whole too late."""
    monkeypatch.setattr("gateway.protocol.HEAD_TIMEOUT_S", 0.3)
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"x" * 100
    pieces = (head[at : at + 1] for at in range(len(head)))
    assert (await closing_time(port, *pieces, pause_s=0.05)).startswith(b"HTTP/1.1 408 ")


async def test_the_second_head_on_a_connection(port, monkeypatch):
    monkeypatch.setattr("gateway.protocol.HEAD_TIMEOUT_S", 0.3)
    whole = b"GET /missing HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await closing_time(port, whole, b"GET / HT", pause_s=0.1)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.count(b"HTTP/1.1 408 ") == 1


async def test_a_connection_between_requests_is_kept(port, monkeypatch):
    """Only a head that has begun must end soon."""
    monkeypatch.setattr("gateway.protocol.HEAD_TIMEOUT_S", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(b"GET /missing HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        length = int(re.search(rb"Content-Length: (\d+)", head)[1])
        await reader.readexactly(length)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
    writer.close()


async def test_what_still_runs_when_the_time_is_over_is_ended():
    """A page that never ends takes the shutdown timeout, not twice that."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def stall(_):
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    app = web.Application()
    app.router.add_get("/", stall)
    runner = Runner(app, access_log=None, shutdown_timeout=2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await began.wait()
    async with asyncio.timeout(3.5):
        await runner.cleanup()
    assert ended.is_set()
    writer.close()
