"""Clients that are a burden: slow readers, slow writers, clients that vanish, idle connections; all in one thread."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from benchmarks.servers import Server

#: What a slow client moves at a time, and how long it then waits.
_SLOW_BYTES, _SLOW_S = 4096, 0.1
_BUFFER_BYTES = 32 << 10  # of a slow reader's socket, so that it is the server that waits
_AWAY_S = 0.25  # before who vanished comes back
_OPENING_AT_ONCE = 100
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset

#: What one client does until it is cancelled; it counts what it has done.
Client = Callable[[Counter[str]], Awaitable[None]]


@contextmanager
def behaving(client: Client, count: int) -> Iterator[Counter[str]]:
    """So many clients that do the same until the block ends; gives what they count."""
    counted: Counter[str] = Counter()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="crowd", daemon=True)
    thread.start()
    task = asyncio.run_coroutine_threadsafe(_all(client, count, counted), loop)
    try:
        yield counted
    finally:
        task.cancel()
        asyncio.run_coroutine_threadsafe(_cancelled(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def slow_reader(server: Server, request: bytes) -> Client:
    """Asks for something large and takes 40 kB a second of it."""

    async def client(counted: Counter[str]) -> None:
        opened = await _connected(server, receive_bytes=_BUFFER_BYTES)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(opened, request)
            while piece := await loop.sock_recv(opened, _SLOW_BYTES):
                counted["bytes"] += len(piece)
                await asyncio.sleep(_SLOW_S)
            counted["ended"] += 1
        finally:
            opened.close()

    return client


def slow_writer(server: Server, request: bytes) -> Client:
    """Sends a request at 40 kB a second."""

    async def client(counted: Counter[str]) -> None:
        opened = await _connected(server)
        loop = asyncio.get_running_loop()
        try:
            for at in range(0, len(request), _SLOW_BYTES):
                await loop.sock_sendall(opened, request[at : at + _SLOW_BYTES])
                counted["bytes"] += _SLOW_BYTES
                await asyncio.sleep(_SLOW_S)
        finally:
            opened.close()

    return client


def vanishing(server: Server, asking: bytes, storing: bytes) -> Client:
    """Again and again: asks for something large, or sends half of a request, and is gone without a word."""

    async def client(counted: Counter[str]) -> None:
        loop = asyncio.get_running_loop()
        for number in itertools.count():
            opened = await _connected(server)
            try:
                if number % 2:
                    await loop.sock_sendall(opened, storing[: len(storing) // 2])
                else:
                    await loop.sock_sendall(opened, asking)
                    await loop.sock_recv(opened, 1)
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                counted["vanished"] += 1
            finally:
                opened.close()
            await asyncio.sleep(_AWAY_S)

    return client


def idle(server: Server) -> Client:
    """Connects and says nothing."""
    gate = asyncio.Semaphore(_OPENING_AT_ONCE)

    async def client(counted: Counter[str]) -> None:
        async with gate:
            opened = await _connected(server)
        counted["open"] += 1
        try:
            await asyncio.get_running_loop().sock_recv(opened, 1)
        finally:
            opened.close()
            counted["open"] -= 1

    return client


async def _all(client: Client, count: int, counted: Counter[str]) -> None:
    async def one() -> None:
        try:
            await client(counted)
        except OSError:
            counted["failed"] += 1

    await asyncio.gather(*(one() for _ in range(count)))


async def _cancelled() -> None:
    """Cancel all that runs here and wait for its end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*others, return_exceptions=True)


async def _connected(server: Server, receive_bytes: int | None = None) -> socket.socket:
    opened = socket.socket()
    opened.setblocking(False)
    if receive_bytes is not None:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    url = urlsplit(server.dicomweb)
    try:
        await asyncio.get_running_loop().sock_connect(opened, (url.hostname, url.port))
    except BaseException:
        opened.close()
        raise
    return opened
