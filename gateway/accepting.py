"""Takes connections, so that no worker has many while others have few, and none has more than it can serve.

The workers wait on one socket. Who wakes up first would take all that is there: of eight connections of a load test one
of two workers had six on average, at times all. With SO_REUSEPORT the kernel hashes, which is no better for so few.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import mmap
import os
import resource
import socket
import ssl
import struct
from pathlib import Path

from gateway.protocol import Server

logger = logging.getLogger(__name__)
#: Whoever has more connections than another leaves it so much time to take one.
_COURTESY_S = 0.002
_PAUSE_S = 0.2
#: Who has so many connections takes one more at a time. With one for each turn of a loop that sends to hundreds, 1,000
#: of 1,200 that came together waited for seconds.
_BATCH = 16
#: Files that a worker may open: an idle connection takes about 15 kB of memory besides.
_FILES = 16_384
#: A peer that takes or acknowledges nothing for so long is gone: the kernel closes its connection.
_STALLED_MS = 120_000
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Shares:
    """How many connections each worker has, in a file that they map. A worker has its place for as long as it lives."""

    def __init__(self, path: Path, workers: int) -> None:
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
        os.ftruncate(self._file.fileno(), 4 * workers)
        self._memory = mmap.mmap(self._file.fileno(), 4 * workers)
        self._counts = memoryview(self._memory).cast("I")
        self._place = next((place for place in range(workers) if self._take(place)), None)
        self.update(0)

    def update(self, count: int) -> None:
        """Tell the others how many this worker has."""
        if self._place is not None:
            self._counts[self._place] = count

    def is_fair(self) -> bool:
        """Whether no other worker has fewer."""
        return self._place is None or self._counts[self._place] <= min(self._counts)

    def close(self) -> None:
        """Leave the place to another."""
        self.update(0)
        self._counts.release()
        self._memory.close()
        self._file.close()

    def _take(self, place: int) -> bool:
        """Lock a byte of the file; the lock goes with the process, however that ends."""
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0))
        except BlockingIOError:
            return False
        return True


class Acceptor:
    """Hands the connections that a listening socket gets to a server."""

    def __init__(self, listener: socket.socket, server: Server, shares: Shares, tls: ssl.SSLContext | None) -> None:
        self._listener = listener
        self._server = server
        self._shares = shares
        self._tls = tls
        self._most = _most_connections()
        self._count = 0
        self._beginning: set[asyncio.Task[None]] = set()
        server.on_lost = self._lost

    async def run(self) -> None:
        """Accept until cancelled."""
        while True:
            await self._readable()
            try:
                while True:
                    await asyncio.sleep(0 if self._shares.is_fair() else _COURTESY_S)
                    for _ in range(1 + self._count // _BATCH):
                        connection, _ = self._listener.accept()
                        self._begin(connection)
            except (BlockingIOError, ConnectionError):
                continue  # another was quicker, or it is gone
            except OSError as exc:
                logger.warning("a connection could not be accepted: %s", exc.strerror)
                await asyncio.sleep(_PAUSE_S)

    async def _readable(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._listener, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._listener)

    def _begin(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_MS)
        if self._count >= self._most:
            with connection:
                if self._tls is None:
                    connection.send(_FULL)
            return
        self._count += 1
        self._shares.update(self._count)
        task = asyncio.create_task(self._hand_over(connection))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _hand_over(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(self._server, connection, ssl=self._tls)
        except OSError:  # it did not get through the handshake of TLS
            self._lost()

    def _lost(self) -> None:
        self._count -= 1
        self._shares.update(self._count)


def _most_connections() -> int:
    """Three of four files that the process may open; it asks the system for more than the usual 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return files * 3 // 4
