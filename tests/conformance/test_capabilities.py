"""The capabilities description: PS3.18 section 8.9, Annexes G and H."""

import json
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.conformance.caller import JSON, Caller
from tests.conformance.objects import uid

WADL = "application/vnd.sun.wadl+xml"
SPACE = "{http://wadl.dev.java.net/2009/02}"
STUDY, SERIES, INSTANCE = uid("CONF-PIXELS"), uid("pixels frames"), uid("frames")
#: Table H-1 without the Non-Patient Instance service: template -> methods. {} stands for any name.
LEVELS = ["studies/{}", "studies/{}/series/{}", "studies/{}/series/{}/instances/{}"]
FRAMES = "studies/{}/series/{}/instances/{}/frames/{}"
VIEWS = ["metadata", "rendered", "renderedmpr", "rendered3d", "thumbnail", "bulkdata", "pixeldata"]
TABLE = {
    "studies": {"GET", "POST"},
    "studies/{}": {"GET", "POST"},
    "studies/{}/series": {"GET"},
    "studies/{}/instances": {"GET"},
    "studies/{}/series/{}": {"GET"},
    "studies/{}/series/{}/instances": {"GET"},
    "studies/{}/series/{}/instances/{}": {"GET"},
    "series": {"GET"},
    "instances": {"GET"},
    FRAMES: {"GET"},
    **{f"{level}/{view}": {"GET"} for level in LEVELS for view in VIEWS},
    **{f"{FRAMES}/{view}": {"GET"} for view in ("rendered", "renderedmpr", "rendered3d", "thumbnail")},
    "workitems": {"GET", "POST"},
    "workitems/{}": {"GET", "POST"},
    "workitems/{}/state": {"PUT"},
    "workitems/{}/cancelrequest": {"POST"},
    "workitems/{}/subscribers/{}": {"POST", "DELETE"},
    "commitment-requests/{}": {"GET", "POST"},
}


async def described(server: Caller) -> dict[str, dict[str, ET.Element]]:
    """Template, with {} for each name -> method -> element."""
    answer = await server.send("OPTIONS", "/", accept=WADL)
    assert (answer.status, answer.media_type) == (200, WADL)
    found: dict[str, dict[str, ET.Element]] = {}
    (resources,) = ET.fromstring(answer.body).findall(SPACE + "resources")
    _walk(resources, "", found)
    return found


def _walk(parent: ET.Element, path: str, found: dict[str, dict[str, ET.Element]]) -> None:
    for resource in parent.findall(SPACE + "resource"):
        below = f"{path}/{resource.attrib['path']}".strip("/")
        methods = found.setdefault(re.sub(r"\{\w+\}", "{}", below), {})
        methods |= {method.attrib["name"]: method for method in resource.findall(SPACE + "method")}
        _walk(resource, below, found)


async def test_cap_01_a_wadl_document(server):
    for path in ("/", ""):
        answer = await server.send("OPTIONS", path, accept="*/*")
        assert (answer.status, answer.media_type) == (200, WADL)
        root = ET.fromstring(answer.body)
        assert root.tag == SPACE + "application"
        (resources,) = root.findall(SPACE + "resources")
        assert resources.attrib["base"].rstrip("/") == server.base


async def test_cap_02_the_same_as_json(server):
    answer = await server.send("OPTIONS", "/", accept="application/json")
    assert (answer.status, answer.media_type) == (200, "application/json")
    application = answer.json()["application"]
    assert application["resources"]["@base"].rstrip("/") == server.base
    root = ET.fromstring((await server.send("OPTIONS", "/", accept=WADL)).body)
    xml_paths = sorted(one.attrib["path"] for one in root.iter(SPACE + "resource"))
    assert sorted(one["@path"] for one in _objects(application, "resource")) == xml_paths
    assert all(isinstance(one["method"], list) for one in _objects(application, "resource") if "method" in one)


def _objects(value: Any, name: str) -> list[dict[str, Any]]:
    """All members of arrays of a name, at any depth."""
    found: list[dict[str, Any]] = []
    if isinstance(value, dict):
        found += value.get(name, [])
        for inner in value.values():
            found += _objects(inner, name)
    if isinstance(value, list):
        for inner in value:
            found += _objects(inner, name)
    return found


async def test_cap_03_every_resource_of_table_h_1(server):
    found = await described(server)
    missing = {path: methods - set(found.get(path, {})) for path, methods in TABLE.items()}
    assert not {path: methods for path, methods in missing.items() if methods}


async def test_cap_04_what_is_described_is_there(server):
    for template, methods in (await described(server)).items():
        path = "/" + _filled(template)
        for method in set(methods) - {"DELETE"}:
            answer = await server.send(method, path)
            assert answer.status not in {405, 501}, (method, path)


def _filled(template: str) -> str:
    """A path that leads to the multi-frame image, or to nothing outside the Studies Service."""
    names = iter([STUDY, SERIES, INSTANCE, "1"] if template.startswith("studies") else [])
    pieces = template.split("{}")
    return "".join(piece + next(names, "1.2.3") for piece in pieces[:-1]) + pieces[-1]


async def test_cap_05_what_is_not_described_is_not_allowed(server):
    found = await described(server)
    for template in ("studies", "series", "instances", "studies/{}", "studies/{}/series"):
        path = "/" + template.replace("{}", "1.2.3")
        for method in {"PUT", "PATCH", "POST", "DELETE"} - set(found[template]):
            assert (await server.send(method, path)).status == 405, (method, path)


async def test_cap_06_search_parameters_are_described(server):
    found = await described(server)
    names = {one.attrib["name"] for one in found["studies"]["GET"].iter(SPACE + "param")}
    expected = {"limit", "offset", "includefield", "fuzzymatching", "emptyvaluematching", "multiplevaluematching"}
    assert expected | {"accept"} <= {name.lower() for name in names}
    assert names & {"PatientName", "00100010"}


async def test_cap_07_rendering_parameters_are_described(server):
    found = await described(server)
    rendered = {one.attrib["name"] for one in found[LEVELS[2] + "/rendered"]["GET"].iter(SPACE + "param")}
    assert {"accept", "annotation", "quality", "viewport", "window", "iccprofile"} <= rendered
    volume = {one.attrib["name"] for one in found[LEVELS[1] + "/rendered3d"]["GET"].iter(SPACE + "param")}
    assert {"renderingmethod", "viewpointposition", "viewpointlookat", "viewpointup"} <= volume
    assert "renderedvolumetricmetadata" in volume


async def test_cap_08_media_types_are_described_and_work(server):
    found = await described(server)
    path = f"/studies/{STUDY}/series/{SERIES}/metadata"
    metadata = found[LEVELS[1] + "/metadata"]["GET"]
    types = {one.attrib["mediaType"] for one in metadata.iter(SPACE + "representation")}
    assert {JSON, 'multipart/related; type="application/dicom+xml"'} <= types
    for media_type in types:
        assert (await server.get(path, media_type)).status == 200
    store = found["studies"]["POST"].find(SPACE + "request")
    assert store is not None
    taken = {one.attrib["mediaType"] for one in store.iter(SPACE + "representation")}
    for root in ("application/dicom", "application/dicom+json", "application/dicom+xml"):
        assert f'multipart/related; type="{root}"' in taken


async def test_cap_09_other_media_types_are_refused(server):
    assert (await server.send("OPTIONS", "/", accept="image/jpeg")).status == 406


async def test_cap_10_character_sets_are_described(server):
    for accept in (WADL, "application/json"):
        body = (await server.send("OPTIONS", "/", accept=accept)).body
        assert b"utf-8" in body.removeprefix(b"<?xml version='1.0' encoding='utf-8'?>").lower()


async def test_cap_11_the_openapi_says_the_same(server):
    answer = await server.get(f"{server.origin}/api/openapi.json", "application/json")
    paths = json.loads(answer.body)["paths"]
    ours = {
        re.sub(r"\{[^}]*\}", "{}", path.removeprefix("/dicomweb/")): {method.upper() for method in operations}
        for path, operations in paths.items()
        if path.startswith("/dicomweb/")
    }
    for template, methods in (await described(server)).items():
        assert set(methods) <= ours.get(template, set()), template


@pytest.mark.parametrize("accept", [WADL, "application/json"])
async def test_cap_12_conditional_requests(server, accept):
    first = await server.send("OPTIONS", "/", accept=accept)
    answer = await server.send(
        "OPTIONS", "/", accept=accept, headers={"If-None-Match": first.headers.get("ETag", '"x"')}
    )
    assert answer.status in {200, 304}
    assert answer.status == 200 or "ETag" in first.headers
