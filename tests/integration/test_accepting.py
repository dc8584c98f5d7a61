"""Connections: whoever has fewest takes the next, nobody has too many, and each that ends makes room."""

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
import time

import pytest
from aiohttp import web

from gateway import accepting
from gateway.accepting import Acceptor
from gateway.protocol import Runner
from gateway.shares import Shares

MOST = 5
_KILLED = """
import os, pathlib, signal, sys
from gateway.shares import Shares
Shares(pathlib.Path(sys.argv[1]), 2).update(7)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def shares(tmp_path):
    with contextlib.closing(Shares(tmp_path / "connections", 2)) as made:
        yield made


@pytest.fixture
async def port(shares, monkeypatch):
    """The port of a server that has room for few."""

    async def answer(_):
        return web.Response(text="here")

    monkeypatch.setattr(accepting, "_most_connections", lambda: MOST)
    app = web.Application()
    app.router.add_get("/", answer)
    runner = Runner(app, access_log=None)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        task = asyncio.create_task(Acceptor(listener, runner.connections, shares, None).run())
        yield listener.getsockname()[1]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await runner.cleanup()


async def ask(port):
    """A connection that stays, and the status line of its first answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    return writer, head.decode().split("\r\n")


def counts(tmp_path) -> tuple[int, int]:
    return struct.unpack("II", (tmp_path / "connections").read_bytes())


async def until(check):
    end = time.monotonic() + 20
    while not check():
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.01)


async def test_too_many_are_told_to_come_again(port, tmp_path):
    there = [await ask(port) for _ in range(MOST)]
    assert {lines[0] for _, lines in there} == {"HTTP/1.1 200 OK"}
    assert counts(tmp_path) == (MOST, 0)
    for _ in range(2):
        writer, lines = await ask(port)
        assert lines[0] == "HTTP/1.1 503 Service Unavailable"
        assert "Retry-After: 2" in lines
        writer.close()
    there.pop()[0].close()
    await until(lambda: counts(tmp_path) == (MOST - 1, 0))
    there.append(await ask(port))
    assert there[-1][1][0] == "HTTP/1.1 200 OK"
    for writer, _ in there:
        writer.close()
    await until(lambda: counts(tmp_path) == (0, 0))


def test_it_is_fair_to_take_one_while_nobody_has_fewer(tmp_path, shares):
    with contextlib.closing(Shares(tmp_path / "connections", 2)) as other:
        for ours, theirs in ((3, 3), (3, 2), (3, 4), (0, 0)):
            shares.update(ours)
            other.update(theirs)
            assert counts(tmp_path) == (ours, theirs)
            assert shares.is_fair() == (ours <= theirs)
            assert other.is_fair() == (theirs <= ours)
            assert shares.total() == other.total() == ours + theirs
        with contextlib.closing(Shares(tmp_path / "connections", 2)) as third:  # there is no place for it
            third.update(9)
            assert third.is_fair()
            assert counts(tmp_path) == (0, 0)
    with contextlib.closing(Shares(tmp_path / "connections", 2)) as again:
        again.update(2)
        assert counts(tmp_path) == (0, 2)


def test_the_place_of_a_worker_that_was_killed_is_free(tmp_path, shares):
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "connections")]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9
    assert counts(tmp_path) == (0, 7)
    assert shares.total() == 0
    with contextlib.closing(Shares(tmp_path / "connections", 2)):
        assert counts(tmp_path) == (0, 0)
