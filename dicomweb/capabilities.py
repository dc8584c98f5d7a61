"""What the services can do, made from the route table itself (PS3.18 section 8.9 and Annex H)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
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
#: Elements that a parent may hold more than one of.
_REPEATABLE = frozenset({"doc", "method", "param", "representation", "resource", "response"})
#: What section 8.8 wants told here.
_CHARACTER_SETS = "Every answer is in UTF-8; requests may hold any character set that DICOM defines."


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one kind of handler does: its name in Table H-1, media types of answers and requests, query parameters.

    `statuses` are those of success; `needs_body` says whether what it consumes has to be there.
    """

    name: str
    produces: Sequence[str] = ()
    consumes: Sequence[str] = ()
    query: Sequence[str] = ()
    statuses: Sequence[int] = (200,)
    needs_body: bool = True


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
        application = _application(base, self._routes)
        body = _xml(application) if offer.media_type == _WADL else dicom_json.dumps({"application": _json(application)})
        headers = {"Content-Type": offer.media_type, "Allow": "OPTIONS", "Vary": "Accept"}
        return web.Response(body=body, headers=headers)


def _application(base: str, routes: Sequence[Route]) -> ET.Element:
    """The WADL application: one `resource` a path, with its methods."""
    application = ET.Element(f"{{{_NAMESPACE}}}application")
    _add(application, "doc", title="Character sets").text = _CHARACTER_SETS
    resources = _add(application, "resources", base=base + "/")
    by_path: dict[str, ET.Element] = {}
    for route in routes:
        path = template(route.path)
        if path not in by_path:
            by_path[path] = _add(resources, "resource", path=path)
            for name in re.findall(r"\{(\w+)\}", path):
                _add(by_path[path], "param", name=name, style="template", required="true")
        _add_method(by_path[path], route)
    return application


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


def _xml(application: ET.Element) -> bytes:
    ET.register_namespace("", _NAMESPACE)
    document: bytes = ET.tostring(application, encoding="utf-8", xml_declaration=True)
    return document


def _json(element: ET.Element) -> dict[str, Any]:
    """A WADL element as JSON (Annex G): `@` before attributes, arrays of what may be repeated."""
    found: dict[str, Any] = {f"@{name}": value for name, value in element.attrib.items()}
    if element.text:
        found["value"] = element.text
    for child in element:
        name = child.tag.removeprefix(f"{{{_NAMESPACE}}}")
        if name in _REPEATABLE:
            found.setdefault(name, []).append(_json(child))
        else:
            found[name] = _json(child)
    return found


def template(path: str) -> str:
    """A path template without aiohttp's patterns: `bulkdata/{path:.+}` is `bulkdata/{path}`."""
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", path).lstrip("/")
