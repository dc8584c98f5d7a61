"""The route table of the DICOMweb services: a new resource is one handler and one line here."""

from __future__ import annotations

from aiohttp import web

from dicomweb import ups_routes, uri_query
from dicomweb.capabilities import Capabilities, Route, Transaction
from dicomweb.commitment import CommitmentRequests
from dicomweb.negotiate import COMPRESSED, DICOM, DICOM_JSON, DICOM_XML, JSON, OCTET_STREAM, ZIP
from dicomweb.pixels import codecs
from dicomweb.ports import Services
from dicomweb.qido import Qido
from dicomweb.query import SearchKeys
from dicomweb.rendering import encoders
from dicomweb.rendering.options import RENDERED, THUMBNAIL
from dicomweb.rendering.renditions import ALL_MEDIA_TYPES
from dicomweb.resource import Level
from dicomweb.stored import Headers
from dicomweb.stow import Stow
from dicomweb.thumbnails import Thumbnails
from dicomweb.turns import TURNS, Turns
from dicomweb.volumetric.options import Reformatting
from dicomweb.wado import Wado
from dicomweb.wado_bulk import WadoBulk
from dicomweb.wado_metadata import WadoMetadata
from dicomweb.wado_pixels import WadoPixels
from dicomweb.wado_rendered import WadoRendered
from dicomweb.wado_uri import WadoUri
from dicomweb.wado_volumetric import WadoVolumetric

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"
_LEVELS = (_STUDY, _SERIES, _INSTANCE)

_FILES = (f'multipart/related; type="{DICOM}"', DICOM)
_BULK = (f'multipart/related; type="{OCTET_STREAM}"', OCTET_STREAM)
_PIXELS = (*_BULK, *dict.fromkeys(f'multipart/related; type="{one}"' for one in COMPRESSED.values()))
_RENDERINGS = (*ALL_MEDIA_TYPES, *(f'multipart/related; type="{one}"' for one in ALL_MEDIA_TYPES))

_DATA_SETS = (DICOM_JSON, JSON, f'multipart/related; type="{DICOM_XML}"')
_SEARCH = "accept limit offset includefield fuzzymatching emptyvaluematching multiplevaluematching".split()

_RETRIEVE = Transaction("Retrieve Instances", (*_FILES, _BULK[0], ZIP), query=["accept"], statuses=[200, 206])
_METADATA = Transaction("Retrieve Metadata", _DATA_SETS, query=["accept", "charset"])
_RETRIEVE_FRAMES = Transaction("Retrieve Frames", _PIXELS, query=["accept"])
_PIXEL_DATA = Transaction("Retrieve Pixel Data", _PIXELS, query=["accept"])
_BULK_DATA = Transaction("Retrieve Bulkdata", _BULK, query=["accept"])
_ALL_BULK_DATA = Transaction("Retrieve Bulkdata", (_BULK[0], *_PIXELS[2:]), query=["accept"], statuses=[200, 206])
_ALL_PIXEL_DATA = Transaction("Retrieve Pixel Data", _ALL_BULK_DATA.produces, query=["accept"], statuses=[200, 206])
_RENDERED = Transaction("Retrieve Rendered", _RENDERINGS, query=RENDERED)
_THUMBNAIL = Transaction("Retrieve Thumbnail", encoders.MEDIA_TYPES, query=THUMBNAIL)
_VOLUMES = (*encoders.MEDIA_TYPES, *(f'multipart/related; type="{one}"' for one in encoders.MEDIA_TYPES), DICOM_JSON)
_RENDERED_MPR = Transaction("Retrieve Rendered MPR Volume", _VOLUMES, query=Reformatting.MPR.parameters)
_RENDERED_3D = Transaction("Retrieve Rendered 3D Volume", _VOLUMES, query=Reformatting.RENDERING_3D.parameters)
_STORE = Transaction(
    "Store Instances",
    [DICOM_JSON, DICOM_XML],
    [*_FILES, *(f'multipart/related; type="{one}"' for one in (DICOM_JSON, DICOM_XML)), DICOM_JSON, DICOM_XML],
    statuses=[200, 202],
)
_COMMITMENT = Transaction(
    "Request Storage Commitment",
    [DICOM_JSON, JSON, DICOM_XML, f'multipart/related; type="{DICOM_XML}"'],
    [DICOM_JSON, DICOM_XML, *(f'multipart/related; type="{one}"' for one in (DICOM_JSON, DICOM_XML))],
    statuses=[200, 202],
)
_COMMITTED = Transaction("Check Storage Commitment Result", _COMMITMENT.produces, query=["accept"], statuses=[200, 202])
_URI = Transaction("Retrieve by URI", (*ALL_MEDIA_TYPES, DICOM), query=uri_query.KNOWN)
_DELETE = Transaction("Delete", statuses=[204])


def add_routes(app: web.Application, services: Services, prefix: str = "/dicomweb") -> list[Route]:
    """Serve all services and their capabilities below `prefix`; return the route table."""
    codecs.register()
    app.setdefault(TURNS, Turns())
    table = routes(services)
    for route in table:
        app.router.add_route(route.method, prefix + route.path, route.handler)
    capabilities = Capabilities(services, table)
    for path in (prefix, prefix + "/"):
        app.router.add_route("OPTIONS", path, capabilities.describe)
    return table


def add_uri_service(app: web.Application, services: Services, path: str = "/wado") -> list[Route]:
    """Serve WADO-URI at `path`; return its routes.

    No capabilities name it: they describe the RESTful services below their base URI, which this is none of (PS3.18
    sections 7.1 and 8.9, Table H-1).
    """
    handler = WadoUri(services, Headers(services.run))
    app.setdefault(TURNS, Turns())
    table = [Route(method, path, handler.retrieve, _URI) for method in ("GET", "HEAD")]
    for route in table:
        app.router.add_route(route.method, route.path, route.handler)
    return table


def routes(services: Services) -> list[Route]:
    """The table. HEAD is answered wherever GET is."""
    headers = Headers(services.run)
    qido, stow = Qido(services), Stow(services)
    bulk, metadata = WadoBulk(services, headers), WadoMetadata(services)
    wado, pixels, rendered = (
        Wado(services, headers, bulk),
        WadoPixels(services, headers),
        WadoRendered(services, headers),
    )
    thumbnails = Thumbnails(services, headers)
    searches = [
        (Level.STUDY, "/studies"),
        (Level.SERIES, "/series"),
        (Level.INSTANCE, "/instances"),
        (Level.SERIES, _STUDY + "/series"),
        (Level.INSTANCE, _STUDY + "/instances"),
        (Level.INSTANCE, _SERIES + "/instances"),
    ]
    volumetric = WadoVolumetric(services, headers)
    mpr, rendered_3d = volumetric.rendered(Reformatting.MPR), volumetric.rendered(Reformatting.RENDERING_3D)
    reads = [
        # The standard writes this path where a series UID would stand.
        (_STUDY + "/series/rendered3d", rendered_3d, _RENDERED_3D),
        # The router tries one after the other, 0.6 µs each: first what is asked for most.
        (_FRAMES, pixels.frames, _RETRIEVE_FRAMES),
        *((path + "/metadata", metadata.metadata, _METADATA) for path in _LEVELS),
        *((path, wado.retrieve, _RETRIEVE) for path in _LEVELS),
        *((path + "/rendered", rendered.rendered, _RENDERED) for path in (*_LEVELS, _FRAMES)),
        *((path + "/thumbnail", thumbnails.thumbnail, _THUMBNAIL) for path in (*_LEVELS, _FRAMES)),
        *((path, qido.search(level), _search(level, services)) for level, path in searches),
        *((path + "/bulkdata", bulk.bulk_data, _ALL_BULK_DATA) for path in _LEVELS),
        *((path + "/pixeldata", bulk.pixel_data, _ALL_PIXEL_DATA) for path in _LEVELS[:2]),
        (_INSTANCE + "/pixeldata", pixels.pixel_data, _PIXEL_DATA),
        (_INSTANCE + "/bulkdata/{path:.+}", pixels.bulk_data, _BULK_DATA),
        *((path, mpr, _RENDERED_MPR) for path in _volumetric("renderedmpr", "renderedMPR")),
        *((path, rendered_3d, _RENDERED_3D) for path in _volumetric("rendered3d", "rendered3D")),
    ]
    return [
        *(Route(method, *read) for read in reads for method in ("GET", "HEAD")),
        *(Route("POST", path, stow.store, _STORE) for path in ("/studies", _STUDY)),
        *(Route("DELETE", path, stow.delete, _DELETE) for path in _LEVELS),
        *ups_routes.routes(services),
        *_commitment(services),
    ]


def _commitment(services: Services) -> list[Route]:
    if services.commitments is None:
        return []
    requests, path = CommitmentRequests(services, services.commitments), "/commitment-requests/{transaction}"
    return [
        Route("POST", path, requests.request, _COMMITMENT),
        *(Route(method, path, requests.result, _COMMITTED) for method in ("GET", "HEAD")),
    ]


def _volumetric(*names: str) -> list[str]:
    """Where rendered volumes are (Tables 10.4.1.7-1 and 10.4.1.8-1), by each spelling that the standard uses."""
    return [f"{path}/{name}" for path in (*_LEVELS, _FRAMES) for name in names]


def _search(level: Level, services: Services) -> Transaction:
    keys = sorted(".".join(path) for path in SearchKeys(services.search_keys).at(level))
    name = {
        Level.STUDY: "Search for Studies",
        Level.SERIES: "Search for Series",
        Level.INSTANCE: "Search for Instances",
    }
    return Transaction(name[level], _DATA_SETS, query=[*_SEARCH, *keys])
