"""OHIF as a hospital would host it: on a web server of another origin, with a configuration that names our server."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.browsers import VIEWER

OHIF = VIEWER / "ohif"


class Handler(SimpleHTTPRequestHandler):
    """Files of OHIF below /ohif/, its page for every other address, and the configuration that was set."""

    protocol_version = "HTTP/1.1"
    configuration = ""

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].removeprefix("/ohif/")
        if name == "app-config.js":
            self._answer("text/javascript", self.configuration)
        elif (OHIF / name).is_file():
            super().do_GET()
        else:
            page = (OHIF / "index.html").read_text(encoding="utf-8")
            self._answer("text/html", page.replace('="./', '="/ohif/'))

    def translate_path(self, path: str) -> str:
        return str(OHIF / path.partition("?")[0].removeprefix("/ohif/"))

    def _answer(self, media_type: str, text: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", f"{media_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        """Isolate the page, as OHIF needs for SharedArrayBuffer."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Elsewhere:
    """A running web server; `origin` is what the gateway has to allow."""

    def __init__(self, port: int, handler: type[Handler]) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self._handler = handler

    def point_at(self, dicomweb: str) -> None:
        """Configure OHIF for a DICOMweb server: our own configuration with other roots."""
        roots = json.dumps({"qidoRoot": dicomweb, "wadoRoot": dicomweb, "stowRoot": dicomweb})
        ours = (VIEWER / "ohif.config.js").read_text(encoding="utf-8")
        self._handler.configuration = f"{ours}\nObject.assign(config.dataSources[0].configuration, {roots});"


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    """Serve OHIF from a port of its own until the block ends."""
    handler = type("Handler", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Elsewhere(server.server_port, handler)
        finally:
            server.shutdown()
            thread.join()
