"""Finished renderings, found again by what was asked for before anything is read of the archive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from dicomweb.bodies import not_modified, send
from dicomweb.ports import Archive, Services
from dicomweb.remembered import Remembered

#: What an entry takes besides its body.
_ENTRY_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Rendering:
    """One finished picture or text and what its answer says of it.

    `path` is that of what is shown, below the root of the service, empty where the answer does not tell; `warnings` are
    sentences.
    """

    body: bytes
    content_type: str
    etag: str
    path: str = ""
    warnings: tuple[str, ...] = ()
    fields: dict[str, str] = field(default_factory=dict)

    async def send(self, request: web.Request, services: Services) -> web.StreamResponse:
        """Answer a request with it."""
        base = services.public_base(request) if self.path or self.warnings else ""
        fields = self.fields | ({"Content-Location": f"{base}/{self.path}"} if self.path else {})
        warnings = [f"299 {base}: {text}" for text in self.warnings]
        return await send(request, [self.body], self.content_type, self.etag, warnings=warnings, fields=fields)


Made = Rendering | web.StreamResponse


class Finished:
    """Renderings that were sent last, as long as nothing of their study has changed.

    They are kept by path, query and Accept header as they came, which say all that a rendering depends on: nothing has
    to be parsed or negotiated again.
    """

    def __init__(self, services: Services, max_bytes: int) -> None:
        self._services = services
        self._remembered: Remembered[Rendering] = Remembered(max_bytes)

    async def answer(
        self, request: web.Request, make: Callable[[web.Request, Archive], Awaitable[Made]]
    ) -> web.StreamResponse:
        """Answer with the rendering that is remembered, else with the one that `make` gives or sends itself."""
        archive = self._services.archive(request)
        generation = archive.version(request.match_info["study"])
        key = request.raw_path, request.headers.get("Accept", "")
        rendering = self._remembered.get(key, generation)
        if rendering is None:
            made = await make(request, archive)
            if not isinstance(made, Rendering):
                return made
            rendering = made
            weight = len(made.body) + _ENTRY_BYTES + 2 * sum(map(len, key))
            self._remembered.put(key, generation, made, weight)
        elif response := not_modified(request, rendering.etag):
            return response
        return await rendering.send(request, self._services)
