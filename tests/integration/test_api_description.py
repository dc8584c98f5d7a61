"""The description of the REST API: valid OpenAPI 3.1, and complete. Every other test holds answers against it."""

import pytest
from aiohttp.test_utils import TestClient, TestServer
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.api.openapi import describe
from gateway.api.routes import OPERATIONS
from gateway.api.schemas import SCHEMAS
from gateway.config import load
from tests.integration.api_support import application, services_of


async def test_it_is_served_and_valid(core):
    async with TestClient(TestServer(application(services_of(core)))) as client:
        document = await (await client.get("/api/openapi.json")).json()
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert document == describe(OPERATIONS)


async def test_every_route_of_the_whole_server_is_described(core, client):
    document = await (await client.get("/api/openapi.json")).json()
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    registered = {
        (route.resource.canonical, route.method)
        for route in client.server.app.router.routes()
        if route.resource.canonical.startswith(("/api/v1", "/dicomweb", "/wado"))
        and route.method not in ("HEAD", "OPTIONS")
    }
    described = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    assert registered == described


def test_every_operation_says_what_it_does_and_every_schema_is_used():
    text = repr(describe(OPERATIONS)["paths"]) + repr(SCHEMAS)
    for operation in OPERATIONS:
        assert (operation.handler.__doc__ or "").strip().endswith("."), operation.path
    for name in SCHEMAS:
        assert f"#/components/schemas/{name}'" in text, name


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one(name):
    Draft202012Validator.check_schema(SCHEMAS[name])


async def test_info_says_how_the_server_is_reached(core):
    async with TestClient(TestServer(application(services_of(core)))) as client:
        info = await (await client.get("/api/v1/info")).json()
    assert info["name"] == "Isthmus"
    assert info["dicom"] == "ISTHMUS@127.0.0.1:11112"
    assert (info["profile"], info["auth"]) == ("none", "none")
    assert load(None, {}).ingest.profile == "research"
