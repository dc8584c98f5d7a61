"""A server of the REST API whose every answer is held against its OpenAPI description."""

import json
from dataclasses import dataclass

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from jsonschema import Draft202012Validator, FormatChecker

from gateway import middleware
from gateway.api import ApiServices, EventHub, add_routes
from gateway.api import describe as describe_server
from gateway.api.openapi import describe
from gateway.api.routes import OPERATIONS
from gateway.archive import Source
from gateway.jobs.meshes import MeshStore
from gateway.jobs.queue import RunQueue
from gateway.returns import Returns
from tests.integration.jobs_support import plugins, store_series

DESCRIPTION = describe(OPERATIONS)


@web.middleware
async def as_described(request, handler):
    """Fail if an answer is not one of those that the description promises."""
    response = await handler(request)
    resource = request.match_info.route.resource
    described = DESCRIPTION["paths"].get(resource.canonical if resource else "")
    if described is None or request.method.lower() not in described:
        return response
    answers = described[request.method.lower()]["responses"]
    if response.status == 304:
        return response
    assert str(response.status) in answers, f"{request.method} {resource.canonical} gave {response.status}"
    content = answers[str(response.status)]["content"]
    assert response.content_type in content
    schema = content[response.content_type].get("schema")
    if schema is not None:
        whole = {**schema, "components": DESCRIPTION["components"]}
        Draft202012Validator(whole, format_checker=FormatChecker()).validate(json.loads(response.body))
    return response


def validated(answer, name):
    """Hold an answer against a schema of the description."""
    whole = {"$ref": f"#/components/schemas/{name}", "components": DESCRIPTION["components"]}
    Draft202012Validator(whole, format_checker=FormatChecker()).validate(answer)


@dataclass(frozen=True)
class Api:
    """A client of the API, what is behind it, and a CT that is stored there."""

    client: TestClient
    services: ApiServices
    core: object
    study: str
    series: str

    def body(self, **parameters):
        return {"study": self.study, "series": [self.series], "parameters": parameters}

    async def start(self, plugin="act", **parameters):
        answer = await self.client.post(f"/api/v1/plugins/{plugin}/runs", json=self.body(**parameters))
        assert answer.status == 202, await answer.text()
        return await answer.json()


def services_of(core, **values) -> ApiServices:
    db = core.catalogue.db
    fields = {
        "archive": lambda request: core.archive.for_source(Source("api")),
        "search_keys": core.archive.key_states.progress,
        "series_summary": core.catalogue.series_summary,
        "db": db,
        "complete": core.catalogue.complete,
        "queue": RunQueue(db, max_queued=3),
        "meshes": MeshStore(db, core.objects),
        "registry": plugins(),
        "events": EventHub(db, core.catalogue.complete),
        "audit": core.audit,
        "identities": core.identities,
        "returns": Returns(core.settings, core.archive, core.identities, core.audit, core.workers),
        "info": describe_server(core.settings, "127.0.0.1:11112"),
    }
    return ApiServices(**fields | values)


def application(services: ApiServices) -> web.Application:
    app = web.Application(middlewares=[as_described, middleware.answer_errors])
    add_routes(app, services)
    return app


@pytest.fixture
async def api(core, data_folder):
    """The API over an archive that holds one CT."""
    study_uid, series_uid = await store_series(core, data_folder / "ct-abdomen-labelled")
    await core.catalogue.complete()
    services = services_of(core)
    async with TestClient(TestServer(application(services))) as client:
        yield Api(client, services, core, study_uid, series_uid)
