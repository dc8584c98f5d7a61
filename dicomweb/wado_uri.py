"""WADO-URI: one instance by a query, as a DICOM file or rendered (PS3.18 chapter 9)."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from pydicom import Dataset

from dicomweb import dicom_json, dicom_xml, multipart, uri_query
from dicomweb.anonymous import AnonymousReader, anonymous
from dicomweb.bodies import not_acceptable, not_modified, send, send_stream
from dicomweb.errors import BadRequest, Gone, NotAcceptable, NotFound, Refused
from dicomweb.negotiate import DICOM, EXPLICIT_LITTLE_ENDIAN, Offer, Range, accepted, choose
from dicomweb.offers import ENCODED
from dicomweb.offers import kind_of as kind_of_pixels
from dicomweb.pixels import transcode
from dicomweb.ports import Archive, Services, StoredInstance
from dicomweb.rendering import encoders, presentation, render, renderer
from dicomweb.rendering.options import Options, Viewport
from dicomweb.rendering.renditions import ALL_MEDIA_TYPES, XML, Kind, kind_of, media_types
from dicomweb.resource import Resource
from dicomweb.stored import Headers, Reader
from dicomweb.uri_query import RENDERED_ONLY, WINDOW, UriRequest, View


class WadoUri:
    """The handler of the URI service."""

    def __init__(self, services: Services, headers: Headers) -> None:
        self._services = services
        self._headers = headers

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """`GET /wado?requestType=WADO&…`."""
        asked = uri_query.parse(request.query)
        accept = _accepted(request, asked)
        archive = self._services.archive(request)
        (instance,) = await archive.instances(asked.resource)
        offer = choose([*_rendered_offers(instance), Offer(DICOM)], accept)
        if offer is None:
            raise not_acceptable([*_rendered_offers(instance), Offer(DICOM)])
        reader = Reader(archive, instance, self._headers, self._services.run)
        etag = multipart.boundary_for(instance.etag, str(offer), str(asked.view), str(asked.transfer_syntax))
        etag = multipart.boundary_for(etag, "anonymous") if asked.anonymize else etag
        if response := not_modified(request, etag):
            return response
        if asked.anonymize:
            reader = await self._anonymous(reader)
        if offer.media_type == DICOM:
            return await self._dicom(request, asked, reader, etag)
        return await self._rendered(request, archive, asked, reader, offer, etag)

    async def _anonymous(self, reader: Reader) -> AnonymousReader:
        if self._services.anonymizer is None:
            raise Refused("This service does not anonymize.")
        return await anonymous(reader, self._services.anonymizer, self._services.run)

    async def _dicom(self, request: web.Request, asked: UriRequest, reader: Reader, etag: str) -> web.StreamResponse:
        """The instance as a file (section 9.4)."""
        if asked.given & set(WINDOW):
            raise BadRequest("A window can be asked for with rendered media types only.")
        warnings = self._warnings(request, asked, [name for name in RENDERED_ONLY if name in asked.given])
        fields = self._location(request, reader)
        syntax = _syntax(reader.instance, asked.transfer_syntax)
        if syntax in ENCODED and syntax != reader.instance.transfer_syntax_uid:
            await reader.check_encodable(syntax)
        # Section 9.1.3 forbids the transfer syntax as a parameter of the media type.
        if not isinstance(reader, AnonymousReader) and syntax == reader.instance.transfer_syntax_uid:
            return await send(request, [reader.whole], DICOM, etag, warnings=warnings, fields=fields)
        return await send_stream(request, reader.file_in(syntax), DICOM, etag, warnings=warnings, fields=fields)

    async def _rendered(
        self, request: web.Request, archive: Archive, asked: UriRequest, reader: Reader, offer: Offer, etag: str
    ) -> web.StreamResponse:
        """The instance as something to look at (section 9.5)."""
        kind, run, ignored = kind_of(reader.instance), self._services.run, list[str]()
        _check_frame(reader.instance, asked.view)
        if kind is not Kind.IMAGE:
            ignored = [name for name in RENDERED_ONLY if name in asked.given]
        warnings = self._warnings(request, asked, [*ignored, *{"transferSyntax"} & asked.given])
        fields = self._location(request, reader)
        if kind is Kind.VIDEO:
            return await send(request, reader.pixel_pieces(), offer.media_type, etag, warnings=warnings, fields=fields)
        if kind is Kind.DOCUMENT:
            body = await renderer.document(reader)
        elif kind is Kind.REPORT and isinstance(reader, AnonymousReader) and offer.media_type == XML:
            body = await run(_native_model, await reader.header())  # there is no metadata of a copy
        elif kind is Kind.REPORT:
            body = await renderer.text(run, archive, reader, offer.media_type)
        else:
            body = await self._picture(archive, asked, reader, offer.media_type)
        content_type = renderer.document_type(offer.media_type)
        fields |= renderer.document_fields(offer.media_type)
        return await send(request, [body], content_type, etag, warnings=warnings, fields=fields)

    async def _picture(self, archive: Archive, asked: UriRequest, reader: Reader, media_type: str) -> bytes:
        run, view, frame = self._services.run, asked.view, asked.view.frame or 1
        header = await reader.header()
        if view.state is not None:
            state = await (await self._state(archive, asked.resource, *view.state)).header()
            stored, syntax = await reader.stored_frame(frame), reader.instance.transfer_syntax_uid
            limit = self._services.limits.max_pixels
            return await run(_presented, state, header, syntax, stored, view, media_type, limit)
        rows, columns = renderer.guarded(lambda: (int(header.Rows), int(header.Columns)))
        fit = viewport(view, rows, columns, self._services.limits.max_pixels)
        options = Options(fit, view.window, view.quality, view.annotation)
        return await renderer.still(run, reader, frame, options, media_type)

    async def _state(self, archive: Archive, image: Resource, series_uid: str, instance_uid: str) -> Reader:
        """The presentation state, of the same study as the image; BadRequest if there is none (section 8.3.5.1.6)."""
        try:
            (instance,) = await archive.instances(Resource(image.study_uid, series_uid, instance_uid))
        except (NotFound, Gone):
            raise BadRequest("There is no such presentation state in the study.") from None
        return Reader(archive, instance, self._headers, self._services.run)

    def _location(self, request: web.Request, reader: Reader) -> dict[str, str]:
        """Which resource the answer shows; an anonymized one does not tell."""
        if isinstance(reader, AnonymousReader):
            return {}
        return {"Content-Location": f"{self._services.public_base(request)}/{reader.instance.resource.path}"}

    def _warnings(self, request: web.Request, asked: UriRequest, ignored: Sequence[str]) -> list[str]:
        base = self._services.public_base(request)
        texts = list(asked.warnings)
        if ignored:
            texts.append(f"The following parameters do not apply here and have been ignored: {', '.join(ignored)}")
        return [f"299 {base}: {text}" for text in texts]


def _native_model(header: Dataset) -> bytes:
    return dicom_xml.to_xml(dicom_json.encode(header))


def _presented(
    state: Dataset, header: Dataset, syntax: str, stored: bytes, view: View, media_type: str, max_pixels: int
) -> bytes:
    """The first frame as a presentation state shows it; of that picture the region is cut (section 9.5.2.4)."""
    references = renderer.guarded(presentation.references, state)
    if header.SOPInstanceUID not in {one.instance_uid for one in references}:
        raise BadRequest("The presentation state does not refer to the image.")
    pixels, photometric = transcode.decode(header, syntax, stored, rgb=True)
    image = renderer.guarded(presentation.picture, state, header, pixels, photometric, 1, None)
    fit = viewport(view, image.height, image.width, max_pixels)
    image = image if fit is None else render.fit(image, fit)
    options = Options(None, None, view.quality, view.annotation)
    image, profile = renderer.guarded(render.finish, image, options, header, 1)
    return encoders.encode(image, media_type, view.quality, profile)


def viewport(view: View, rows: int, columns: int, max_pixels: int) -> Viewport | None:
    """The part of an image that is shown, and the most pixels that it may have then (section 9.5.2.5).

    `rows` and `columns` are the image's. A side that is not given follows from the other.
    """
    left, top, right, bottom = view.region
    across, down = (right - left) * columns, (bottom - top) * rows
    if across < 1 or down < 1:
        raise BadRequest("The parameter region names less than a pixel.")
    if view.rows is None and view.columns is None:
        if view.region == (0.0, 0.0, 1.0, 1.0):
            return None
        size = (round(across), round(down))
    else:
        width = view.columns or max(1, round((view.rows or 0) * across / down) + 1)
        size = (width, view.rows or max(1, round(width * down / across) + 1))
    if size[0] * size[1] > max_pixels:
        raise BadRequest("The parameters rows and columns ask for too many pixels.")
    return Viewport(*size, left * columns, top * rows, across, down)


def _accepted(request: web.Request, asked: UriRequest) -> Sequence[Sequence[Range]]:
    """What the caller accepts: contentType, then the Accept header; raise BadRequest if that mixes kinds (8.7.5)."""
    found = accepted(request.headers.get("Accept"), asked.content_type)
    for ranges in found:
        names = {one.media_type for one in ranges}
        if DICOM in names and names & {*ALL_MEDIA_TYPES}:
            raise BadRequest("The acceptable media types must be either DICOM or rendered media types, not both.")
    return found


def _rendered_offers(instance: StoredInstance) -> list[Offer]:
    return [Offer(name) for name in media_types(instance)]


def _syntax(instance: StoredInstance, asked: str | None) -> str:
    """The transfer syntax to send: the one asked for, else Explicit VR Little Endian if it can be (section 8.7.3)."""
    stored, decodable = kind_of_pixels(instance)
    native = decodable or not instance.pixel_offset or stored == EXPLICIT_LITTLE_ENDIAN
    if asked is None:
        return EXPLICIT_LITTLE_ENDIAN if native else stored
    others = [EXPLICIT_LITTLE_ENDIAN] if native else []
    supported = dict.fromkeys([stored, *others, *(ENCODED if decodable else ())])
    if asked not in supported:
        raise NotAcceptable(f"The instance cannot be sent in this transfer syntax. Available: {', '.join(supported)}.")
    return asked


def _check_frame(instance: StoredInstance, view: View) -> None:
    """Raise BadRequest for a frame that there is not, and of what is no multi-frame image (section 9.5.2.1)."""
    if view.frame is not None and (instance.frames.count < 2 or view.frame > instance.frames.count):
        raise BadRequest("The parameter frameNumber must be the number of a frame of a multi-frame image.")
