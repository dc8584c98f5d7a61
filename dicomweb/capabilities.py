"""What the services can do, made from the route table itself (PS3.18 section 8.9 and Annex H)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from xml.etree import ElementTree as ET

from aiohttp import web

from dicomweb import dicom_json
from dicomweb.bodies import negotiate
from dicomweb.negotiate import JSON, Offer
from dicomweb.ports import Services

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_WADL = "application/vnd.sun.wadl+xml"
_NAMESPACE = "http://wadl.dev.java.net/2009/02"
_OFFERS = [Offer(_WADL), Offer(JSON)]


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one kind of handler does: its name in Table H-1, media types of answers and requests, query parameters.

    `statuses` are those of success.
    """

    name: str
    produces: Sequence[str] = ()
    consumes: Sequence[str] = ()
    query: Sequence[str] = ()
    statuses: Sequence[int] = (200,)


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the route table; `path` is a template below the service's root."""

    method: str
    path: str
    handler: Handler
    transaction: Transaction


class Capabilities:
    """The handler of `OPTIONS /`."""

    def __init__(self, services: Services, routes: Sequence[Route]) -> None:
        self._services = services
        self._routes = [route for route in routes if route.method != "HEAD"]

    async def describe(self, request: web.Request) -> web.StreamResponse:
        """The Capabilities Description as WADL, or the same as JSON."""
        offer = negotiate(request, _OFFERS)
        base = self._services.public_base(request)
        body = wadl(base, self._routes) if offer.media_type == _WADL else _json(base, self._routes)
        headers = {"Content-Type": offer.media_type, "Allow": "OPTIONS", "Vary": "Accept"}
        return web.Response(body=body, headers=headers)


def wadl(base: str, routes: Sequence[Route]) -> bytes:
    """A WADL document: one `resource` a path, with its methods."""
    ET.register_namespace("", _NAMESPACE)
    application = ET.Element(f"{{{_NAMESPACE}}}application")
    resources = _add(application, "resources", base=base + "/")
    by_path: dict[str, ET.Element] = {}
    for route in routes:
        path = template(route.path)
        if path not in by_path:
            by_path[path] = _add(resources, "resource", path=path)
            for name in re.findall(r"\{(\w+)\}", path):
                _add(by_path[path], "param", name=name, style="template", required="true")
        _add_method(by_path[path], route)
    document: bytes = ET.tostring(application, encoding="utf-8", xml_declaration=True)
    return document


def _add_method(resource: ET.Element, route: Route) -> None:
    what = route.transaction
    method = _add(resource, "method", name=route.method)
    _add(method, "doc", title=what.name)
    request = _add(method, "request")
    for name in what.query:
        _add(request, "param", name=name, style="query")
    for media_type in what.consumes:
        _add(request, "representation", mediaType=media_type)
    response = _add(method, "response")
    for media_type in what.produces:
        _add(response, "representation", mediaType=media_type)


def _add(parent: ET.Element, element: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, f"{{{_NAMESPACE}}}{element}", attributes)


def _json(base: str, routes: Sequence[Route]) -> bytes:
    resources = [{"method": one.method, "path": template(one.path)} | asdict(one.transaction) for one in routes]
    return dicom_json.dumps({"base": base, "resources": resources})


def template(path: str) -> str:
    """A path template without aiohttp's patterns: `bulkdata/{path:.+}` is `bulkdata/{path}`."""
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", path).lstrip("/")
