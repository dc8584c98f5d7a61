"""Serves the built web application at `/` and OHIF at `/ohif/`: files, their cache rules, their security headers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"

#: Our pages load nothing from elsewhere and run no inline script. X_ITE uses WebAssembly and styles its canvas inline.
VIEWER_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
#: OHIF evaluates generated code and WebAssembly in blob workers. Isolation gives it SharedArrayBuffer; its address bar
#: names studies, hence no referrer; and connect-src keeps what it shows inside this origin.
OHIF_HEADERS = {
    "Content-Security-Policy": "default-src 'self' blob: data:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; connect-src 'self' blob: data:; "
    "object-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'self'",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
#: A content digest in a file's name, as put there by Vite (name-AbCd1234.js) and by OHIF's bundler (0123456789abcdef).
HASHED = re.compile(r"-[\w-]{8}\.\w+$|(^|\.)[0-9a-f]{16}\.\w+$")

NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Isthmus: not built</title>
<body style="font:16px/1.6 system-ui,sans-serif;max-width:40rem;margin:15vh auto;padding:0 1.5rem">
<h1>{what} is not built</h1><p>The server runs; its DICOMweb and REST services can be used. To build what belongs
on this page, run <code>make install</code> in the checkout, then start Isthmus again.</p></body></html>"""


class Site:
    """The files of one folder, listed once: what is not in the list does not exist, so no path can lead out of it."""

    def __init__(self, root: Path | None, base: str, headers: Mapping[str, str], what: str) -> None:
        self._root = root
        self._base = base
        self._headers = dict(headers)
        self._files: dict[str, Path] = {}
        self._page = b""
        self._not_built = NOT_BUILT.format(what=what)

    async def start(self, _app: web.Application) -> None:
        """List the files, in a thread; for `web.Application.on_startup`."""
        if self._root is not None:
            self._files = await asyncio.to_thread(_list_files, self._root)
        if page := self._files.get("index.html"):
            self._page = await asyncio.to_thread(_page_at, page, self._base)

    def file(self, name: str) -> web.StreamResponse:
        """Answer with one file, sent precompressed where a `.br` or `.gz` lies beside it."""
        path = self._files.get(name)
        if path is None:
            raise web.HTTPNotFound(text="There is no such file.", headers=self._headers)
        caching = IMMUTABLE if HASHED.search(name) else REVALIDATE
        return web.FileResponse(path, headers={"Cache-Control": caching, **self._headers})

    def page(self) -> web.StreamResponse:
        """Answer with index.html, which finds out from the address what to show."""
        if not self._page:
            return web.Response(text=self._not_built, content_type="text/html", status=503, headers=self._headers)
        headers = {"Cache-Control": REVALIDATE, "Content-Type": "text/html; charset=utf-8", **self._headers}
        return web.Response(body=self._page, headers=headers)

    def file_or_page(self, name: str) -> web.StreamResponse:
        """Answer with the file of that name, else with the page, where names may be routes of the page."""
        return self.file(name) if name in self._files and name != "index.html" else self.page()


def add_routes(app: web.Application, dist: Path | None, ohif: Path | None, prefix: str = "") -> None:
    """Serve the web application and OHIF.

    Parameters
    ----------
    app : the application to extend. None of these routes shows data of the archive; they need no session.
    dist : the folder that `npm run build` made, or None.
    ohif : the folder that `npm run fetch-ohif` made, or None.
    prefix : the path before ours as browsers see it, such as `/isthmus`, which a proxy takes away.
    """
    viewer_site = Site(dist, f"{prefix}/", VIEWER_HEADERS, "The web application")
    ohif_site = Site(ohif, f"{prefix}/ohif/", OHIF_HEADERS, "The OHIF viewer")
    config = Path(__file__).parent / "ohif.config.js"

    async def ohif_config(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(config, headers={"Cache-Control": REVALIDATE, **OHIF_HEADERS})

    async def to_ohif(_request: web.Request) -> web.StreamResponse:
        raise web.HTTPMovedPermanently(f"{prefix}/ohif/")

    app.on_startup.extend([viewer_site.start, ohif_site.start])
    app.add_routes(
        [
            web.get("/", _page(viewer_site)),
            web.get("/studies/{study_uid}", _page(viewer_site)),
            web.get("/assets/{name:.+}", _named(viewer_site.file, "assets/")),
            web.get("/{name:favicon\\.svg}", _named(viewer_site.file)),
            web.get("/ohif", to_ohif),
            web.get("/ohif/app-config.js", ohif_config),
            web.get("/ohif/{name:.*}", _named(ohif_site.file_or_page)),
        ]
    )


def _page(site: Site) -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return site.page()

    return handler


def _named(answer: Callable[[str], web.StreamResponse], prefix: str = "") -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return answer(prefix + request.match_info["name"])

    return handler


def _page_at(page: Path, base: str) -> bytes:
    """A page whose addresses relative to the folder of its site, `"./…"`, are made those below `base`."""
    return page.read_text(encoding="utf-8").replace('="./', f'="{base}').encode()


def _list_files(root: Path) -> dict[str, Path]:
    found = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(root).as_posix(): path for path in found if not path.name.startswith(".")}
