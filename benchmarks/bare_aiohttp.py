"""The least that an aiohttp server can do: answer with bytes that it has in memory. Run as a process by `limits`."""

from __future__ import annotations

import sys
from pathlib import Path

from aiohttp import web


def main(folder: Path, port: int) -> None:
    """Serve each file of `folder` under its name."""
    bodies = {path.name: path.read_bytes() for path in folder.iterdir()}

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=bodies[request.match_info["name"]], content_type="application/dicom+json")

    app = web.Application()
    app.router.add_get("/{name}", answer)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
