"""Takes the connections of an HTTP worker, no more than it can serve."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl

from gateway.protocol import Server
from gateway.shares import Shares, accepted

#: Files that a worker may open: an idle connection takes about 15 kB of memory besides.
_FILES = 16_384
#: A peer that takes or acknowledges nothing for so long is gone: the kernel closes its connection.
_STALLED_MS = 120_000
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Acceptor:
    """Hands the connections that a listening socket gets to a server."""

    def __init__(self, listener: socket.socket, server: Server, shares: Shares, tls: ssl.SSLContext | None) -> None:
        self._listener = listener
        self._server = server
        self._shares = shares
        self._tls = tls
        self._most = _most_connections()
        self._beginning: set[asyncio.Task[None]] = set()
        server.on_lost = self._lost

    async def run(self) -> None:
        """Accept until cancelled."""
        async for connection, _ in accepted(self._listener, self._shares, courtesies=1):
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        if self._shares.count >= self._most:
            with connection, contextlib.suppress(OSError):  # it is gone
                if self._tls is None:
                    connection.send(_FULL)
            return
        self._shares.update(self._shares.count + 1)
        task = asyncio.create_task(self._hand_over(connection))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _hand_over(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_MS)
            await loop.connect_accepted_socket(self._server, connection, ssl=self._tls)
        except OSError:  # it is gone, or did not get through the handshake of TLS
            self._lost()

    def _lost(self) -> None:
        self._shares.update(self._shares.count - 1)


def _most_connections() -> int:
    """Three of four files that the process may open; it asks the system for more than the usual 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return files * 3 // 4
