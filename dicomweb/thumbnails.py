"""WADO-RS: thumbnails at every level (PS3.18 section 10.4.1.1.4): one small picture that stands for a resource."""

from __future__ import annotations

from aiohttp import web
from pydicom import Dataset

from dicomweb import multipart
from dicomweb.bodies import negotiate, not_modified
from dicomweb.errors import BadRequest
from dicomweb.negotiate import Offer
from dicomweb.ports import Archive, Services
from dicomweb.rendering import renderer
from dicomweb.rendering.encoders import MEDIA_TYPES
from dicomweb.rendering.finished import Finished, Made, Rendering
from dicomweb.rendering.options import THUMBNAIL, Parameters, Viewport
from dicomweb.rendering.renditions import check_accept, representative
from dicomweb.resource import Level
from dicomweb.stored import Headers, Reader
from dicomweb.targets import resource_of
from dicomweb.wado_pixels import parse_frames

_DEFAULT = Viewport(256, 256)
_REMEMBERED_BYTES = 16 << 20
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
        self._finished = Finished(services, _REMEMBERED_BYTES)

    async def thumbnail(self, request: web.Request) -> web.StreamResponse:
        """`…/thumbnail`: the middle picture of the largest series, without any text that Isthmus would draw."""
        return await self._finished.answer(request, self._made)

    async def _made(self, request: web.Request, archive: Archive) -> Made:
        parameters = Parameters(request.query, THUMBNAIL)
        options = parameters.thumbnail(_DEFAULT)
        check_accept(request)
        reader, frame = await self._reader(request, archive)
        offer = negotiate(request, _OFFERS)
        etag = multipart.boundary_for(reader.instance.etag, str(frame), str(options), str(offer), "thumbnail")
        if response := not_modified(request, etag):
            return response
        # The Thumbnail shall not contain any Patient Identifying Information (section 10.4.3.3.4).
        picture = await renderer.still(self._services.run, reader, frame, options, offer.media_type, via=_via)
        return Rendering(picture, offer.content_type, etag, warnings=tuple(parameters.warnings))

    async def _reader(self, request: web.Request, archive: Archive) -> tuple[Reader, int]:
        """The instance and the frame that stand for what is asked for."""
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


def _via(header: Dataset) -> Viewport | None:
    """How small a picture must have been, that nobody reads in its thumbnail who is on it; None for any size."""
    burned_in = str(header.get("BurnedInAnnotation") or "").strip()
    if burned_in == "YES":
        return _ILLEGIBLE
    # Conversion Type (0008,0064) is of secondary captures, scans and videos (PS3.3 section C.8.6.1).
    is_suspect = str(header.get("Modality")) in _OFTEN_WRITTEN_ON or bool(header.get("ConversionType"))
    return _HARDLY_LEGIBLE if is_suspect and burned_in != "NO" else None
