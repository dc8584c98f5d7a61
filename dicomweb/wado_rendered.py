"""WADO-RS: rendered resources at every level (PS3.18 section 10.4.1.1.3).

One instance or frame is sent bare or as a part; studies, series and lists of frames as parts, one for each picture.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from dicomweb import multipart
from dicomweb.bodies import multipart_type, negotiate, not_modified, send, send_stream
from dicomweb.errors import BadRequest, IsthmusError, NotAcceptable, TooLarge
from dicomweb.negotiate import Offer, accepted, choose
from dicomweb.ports import Archive, Services
from dicomweb.rendering import renderer
from dicomweb.rendering.finished import Finished, Made, Rendering
from dicomweb.rendering.options import RENDERED, Options, Parameters
from dicomweb.rendering.renditions import Kind, check_accept, kind_of, not_rendered, offers
from dicomweb.resource import Level
from dicomweb.stored import Headers, Reader
from dicomweb.targets import resource_of
from dicomweb.wado_pixels import parse_frames
from dicomweb.wado_presentation import RenderedStates

#: A CT slice as JPEG has some 30 kB: the last thousand are found again.
_REMEMBERED_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class _Target:
    """One instance and those of its frames that are asked for, empty for what has none."""

    reader: Reader
    frames: Sequence[int]
    offer: Offer


class WadoRendered:
    """The handler of the rendered resources."""

    def __init__(self, services: Services, headers: Headers) -> None:
        self._services = services
        self._headers = headers
        self._states = RenderedStates(services, headers)
        self._finished = Finished(services, _REMEMBERED_BYTES)

    async def rendered(self, request: web.Request) -> web.StreamResponse:
        """`…/rendered`: pictures; reports as text, documents and videos as what they are."""
        return await self._finished.answer(request, self._made)

    async def _made(self, request: web.Request, archive: Archive) -> Made:
        parameters = Parameters(request.query, RENDERED)
        options = parameters.options(self._services.limits.max_pixels)
        check_accept(request)
        resource = resource_of(request)
        instances = await archive.instances(resource)
        readers = [Reader(archive, one, self._headers, self._services.run) for one in instances]
        if resource.level is Level.INSTANCE and kind_of(instances[0]) is Kind.STATE:
            return await self._states.send(request, archive, readers[0], options, self._warnings(request, parameters))
        if resource.level is Level.INSTANCE:
            targets = [self._one(request, readers[0])]
        else:
            targets = _acceptable(request, readers)
        if not targets:
            raise not_rendered(instances)
        validators = [f"{one.reader.instance.etag} {[*one.frames]} {one.offer}" for one in targets]
        etag = multipart.boundary_for(*validators, str(options))
        if response := not_modified(request, etag):
            return response
        if not targets[0].offer.multipart:
            return await self._bare(request, archive, targets[0], options, etag, parameters)
        complete = len(targets) == sum(kind_of(one) not in (Kind.NOTHING, Kind.STATE) for one in instances)
        status = HTTPStatus.OK if complete else HTTPStatus.PARTIAL_CONTENT
        chunks = self._multipart(request, archive, targets, options, etag)
        content_type = multipart_type(targets[0].offer, etag)
        return await send_stream(request, chunks, content_type, etag, status, self._warnings(request, parameters))

    def _warnings(self, request: web.Request, parameters: Parameters) -> list[str]:
        return [f"299 {self._services.public_base(request)}: {text}" for text in parameters.warnings]

    def _one(self, request: web.Request, reader: Reader) -> _Target:
        """What is asked for of one instance; raises what keeps it from being rendered."""
        count = reader.instance.frames.count
        frames: Sequence[int] = range(1, count + 1)
        single = True
        if "frames" in request.match_info:
            frames = parse_frames(request.match_info["frames"])
            for number in frames:
                reader.instance.frames.ranges(number)  # 404 before anything is decoded
            single = len(frames) == 1
        found = offers(reader.instance, single=single, frames=len(frames))
        if single and found:
            return _Target(reader, frames, negotiate(request, found))
        chosen = choose(found, accepted(request.headers.get("Accept"), request.query.get("accept")))
        if chosen is None:
            raise not_rendered([reader.instance])
        return _Target(reader, frames, chosen)

    async def _bare(
        self,
        request: web.Request,
        archive: Archive,
        target: _Target,
        options: Options,
        etag: str,
        parameters: Parameters,
    ) -> Made:
        """What is sent without multipart; a video is sent as it lies in the archive."""
        reader, media_type, path = target.reader, target.offer.media_type, _path_of(request, target.reader)
        if kind_of(reader.instance) is Kind.VIDEO:
            fields = {"Content-Location": f"{self._services.public_base(request)}/{path}"}
            warnings = self._warnings(request, parameters)
            return await send(request, reader.pixel_pieces(), media_type, etag, warnings=warnings, fields=fields)
        frames, warnings = target.frames, [*parameters.warnings]
        if len(frames) > 1 and not renderer.is_animated(reader.instance, frames, media_type):
            frames = frames[:1]
            warnings.append("One of several frames is shown; image/gif and multipart/related hold all.")
        body = await self._render(archive, reader, frames or [1], options, media_type)
        content_type, fields = renderer.document_type(media_type), renderer.document_fields(media_type)
        return Rendering(body, content_type, etag, path, tuple(warnings), fields)

    async def _render(
        self, archive: Archive, reader: Reader, frames: Sequence[int], options: Options, media_type: str
    ) -> bytes:
        run, kind = self._services.run, kind_of(reader.instance)
        if kind is Kind.DOCUMENT:
            return await renderer.document(reader)
        if kind is Kind.REPORT:
            return await renderer.text(run, archive, reader, media_type)
        if renderer.is_animated(reader.instance, frames, media_type):
            return await renderer.animation(run, reader, frames, options)
        return await renderer.still(run, reader, frames[0], options, media_type)

    async def _multipart(
        self, request: web.Request, archive: Archive, targets: Sequence[_Target], options: Options, boundary: str
    ) -> AsyncIterator[bytes]:
        """Part after part, each rendered when the one before is sent; what cannot be rendered is left out.

        Raises what kept the last from being rendered before the first part if there is none at all.
        """
        base, is_first = self._services.public_base(request), True
        failure: IsthmusError = NotAcceptable("None of the pictures can be rendered; ask for them as they are stored.")
        for target in targets:
            media_type = target.offer.media_type
            content_type = renderer.document_type(media_type)
            url = f"{base}/{target.reader.instance.resource.path}"
            for location, frames in _parts_of(target, url, whole="frames" not in request.match_info):
                try:
                    if kind_of(target.reader.instance) is Kind.VIDEO:
                        body = await _joined(target.reader)
                    else:
                        body = await self._render(archive, target.reader, frames, options, media_type)
                except (BadRequest, NotAcceptable, TooLarge) as exc:  # such as a region that lies outside of this one
                    failure = exc
                    continue
                yield multipart.part_head(boundary, content_type, len(body), location, first=is_first)
                yield body
                is_first = False
        if is_first:
            raise failure
        yield multipart.closing(boundary)


def _acceptable(request: web.Request, readers: Sequence[Reader]) -> list[_Target]:
    """What of a study or series the caller accepts."""
    accept = accepted(request.headers.get("Accept"), request.query.get("accept"))
    found = []
    for reader in readers:
        offer = choose(offers(reader.instance, single=False), accept)
        if offer is not None:
            found.append(_Target(reader, range(1, reader.instance.frames.count + 1), offer))
    return found


def _parts_of(target: _Target, url: str, *, whole: bool) -> list[tuple[str, Sequence[int]]]:
    """The parts that an instance is sent as: the URL of each, and its frames."""
    instance, frames = target.reader.instance, target.frames
    if kind_of(instance) is not Kind.IMAGE or (whole and instance.frames.count <= 1):
        return [(f"{url}/rendered", frames or [1])]
    if renderer.is_animated(instance, frames, target.offer.media_type):
        return [(f"{url}/rendered" if whole else f"{url}/frames/{','.join(map(str, frames))}/rendered", frames)]
    return [(f"{url}/frames/{number}/rendered", [number]) for number in frames]


def _path_of(request: web.Request, reader: Reader) -> str:
    """The path of what is rendered, below the root of the service."""
    frames = request.match_info.get("frames")
    return reader.instance.resource.path + (f"/frames/{frames}/rendered" if frames else "/rendered")


async def _joined(reader: Reader) -> bytes:
    """A video as one part; players ask for it bare, which is not read into memory."""
    return b"".join(
        [
            piece if isinstance(piece, bytes) else await piece.source.read(piece.offset, piece.length)
            for piece in reader.pixel_pieces()
        ]
    )
