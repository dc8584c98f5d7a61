"""WADO-RS: thumbnails at every level (PS3.18 section 10.4.1.1.4): one small picture that stands for a resource."""

from __future__ import annotations

from collections import OrderedDict

from aiohttp import web
from pydicom import Dataset

from dicomweb import multipart
from dicomweb.bodies import negotiate, not_modified, send
from dicomweb.errors import BadRequest
from dicomweb.negotiate import Offer
from dicomweb.ports import Services
from dicomweb.rendering import renderer
from dicomweb.rendering.encoders import MEDIA_TYPES
from dicomweb.rendering.options import THUMBNAIL, Options, Parameters, Viewport
from dicomweb.rendering.renditions import check_accept, representative
from dicomweb.resource import Level
from dicomweb.stored import Headers, Reader
from dicomweb.targets import resource_of
from dicomweb.wado_pixels import parse_frames

_DEFAULT = Viewport(256, 256)
_CACHED_BYTES = 16 << 20
#: Of a picture with burned-in identity only so much is kept that nobody can read it; of one that does not say whether
#: it has any, but is of a kind that often does, that nobody can read lines of the usual height, a thirtieth of it.
_ILLEGIBLE, _HARDLY_LEGIBLE = Viewport(40, 40), Viewport(80, 80)
_OFTEN_WRITTEN_ON = frozenset(["US", "IVUS", "ES", "XC", "GM", "OT", "SC", "DOC", "ECG"])
_OFFERS = [Offer(name) for name in MEDIA_TYPES]


class Thumbnails:
    """The handler of the thumbnail resources; keeps thumbnails for the next who asks."""

    def __init__(self, services: Services, headers: Headers) -> None:
        self._services = services
        self._headers = headers
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0

    async def thumbnail(self, request: web.Request) -> web.StreamResponse:
        """`…/thumbnail`: the middle picture of the largest series, without any text that Isthmus would draw."""
        parameters = Parameters(request.query, THUMBNAIL)
        options = parameters.thumbnail(_DEFAULT)
        check_accept(request)
        reader, frame = await self._reader(request)
        offer = negotiate(request, _OFFERS)
        etag = multipart.boundary_for(reader.instance.etag, str(frame), str(options), str(offer), "thumbnail")
        if response := not_modified(request, etag):
            return response
        picture = self._cache.get(etag)
        if picture is None:
            picture = await self._render(reader, frame, options, offer.media_type)
            self._keep(etag, picture)
        else:
            self._cache.move_to_end(etag)
        warnings = [f"299 {self._services.public_base(request)}: {text}" for text in parameters.warnings]
        return await send(request, [picture], offer.content_type, etag, warnings=warnings)

    async def _reader(self, request: web.Request) -> tuple[Reader, int]:
        """The instance and the frame that stand for what is asked for."""
        archive = self._services.archive(request)
        resource = resource_of(request)
        instances = await archive.instances(resource)
        instance = instances[0] if resource.level is Level.INSTANCE else representative(instances)
        frame = max(1, (instance.frames.count + 1) // 2)
        if "frames" in request.match_info:
            numbers = parse_frames(request.match_info["frames"])
            if len(numbers) != 1:
                raise BadRequest("A thumbnail is of one frame.")
            frame = numbers[0]
        return Reader(archive, instance, self._headers, self._services.run), frame

    async def _render(self, reader: Reader, frame: int, options: Options, media_type: str) -> bytes:
        """The Thumbnail shall not contain any Patient Identifying Information (section 10.4.3.3.4)."""
        via = _via(await reader.header())
        return await renderer.still(self._services.run, reader, frame, options, media_type, via=via)

    def _keep(self, etag: str, picture: bytes) -> None:
        if etag in self._cache:  # another request made it meanwhile
            return
        self._cache[etag] = picture
        self._cached_bytes += len(picture)
        while self._cached_bytes > _CACHED_BYTES:
            self._cached_bytes -= len(self._cache.popitem(last=False)[1])


def _via(header: Dataset) -> Viewport | None:
    """How small a picture must have been, that nobody reads in its thumbnail who is on it; None for any size."""
    burned_in = str(header.get("BurnedInAnnotation") or "").strip()
    if burned_in == "YES":
        return _ILLEGIBLE
    # Conversion Type (0008,0064) is of secondary captures, scans and videos (PS3.3 section C.8.6.1).
    is_suspect = str(header.get("Modality")) in _OFTEN_WRITTEN_ON or bool(header.get("ConversionType"))
    return _HARDLY_LEGIBLE if is_suspect and burned_in != "NO" else None
