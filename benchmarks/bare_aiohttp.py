"""The least that an aiohttp server can do: answer with bytes that it has in memory. Run as a process by `limits`."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from pathlib import Path

from aiohttp import web

_PR_SET_PDEATHSIG = 1


def main(folder: Path, port: int, processes: int) -> None:
    """Serve each file of `folder` under its name, by so many processes that share one socket."""
    bodies = {path.name: path.read_bytes() for path in folder.iterdir()}

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=bodies[request.match_info["name"]], content_type="application/dicom+json")

    app = web.Application()
    app.router.add_get("/{name}", answer)
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    for _ in range(processes - 1):
        if not os.fork():
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            break
    web.run_app(app, sock=listener, access_log=None, print=None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
