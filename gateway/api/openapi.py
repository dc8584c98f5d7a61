"""The OpenAPI 3.1 description, made of the same table that the routes are registered from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway import __version__
from gateway.api.schemas import SCHEMAS, UID, Schema, ref

_PATH_PARAMETERS: Mapping[str, Schema] = {
    "study": {**UID, "description": "Study Instance UID."},
    "name": {"type": "string", "description": "Name of a plugin."},
    "id": {"type": "string", "description": "As an earlier answer gave it."},
}
#: Errors that any operation may answer with, beside those that it names.
_ALWAYS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Operation:
    """One route with all that its description needs; the first line of the handler's docstring is its summary.

    Attributes
    ----------
    answer : schema of the JSON answer; None if `media_types` name other content.
    status : of the answer.
    query, headers : parameters, each with its schema.
    body : name of the schema of the request's body, if it has one.
    errors : statuses, each of which comes with `{"error": sentence}`.
    """

    method: str
    path: str
    handler: Handler
    answer: Schema | None = None
    status: HTTPStatus = HTTPStatus.OK
    media_types: tuple[str, ...] = ("application/json",)
    query: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, Schema] = field(default_factory=dict)
    body: str | None = None
    errors: tuple[HTTPStatus, ...] = ()


def describe(
    operations: Iterable[Operation], others: Mapping[str, Any] | None = None, prefix: str = ""
) -> dict[str, Any]:
    """The OpenAPI document of these operations, and of path items described elsewhere, all below `prefix`."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": "isthmus_session"},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Isthmus",
            "version": __version__,
            "description": "The DICOMweb services (DICOM PS3.18), and a REST API for all that they do not cover.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": f"{prefix}/"}],
        "security": [{"bearer": []}, {"session": []}],
        "paths": paths | dict(others or {}),
        "components": {"schemas": dict(SCHEMAS), "securitySchemes": schemes},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS[name]}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    for place, named in (("query", operation.query), ("header", operation.headers)):
        parameters += [{"name": name, "in": place, "schema": schema} for name, schema in named.items()]
    described: dict[str, Any] = {
        "operationId": operation.handler.__name__,
        "summary": (operation.handler.__doc__ or "").strip().splitlines()[0],
        "parameters": parameters,
        "responses": _responses(operation),
    }
    if operation.body:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": ref(operation.body)}}}
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    schema = {} if operation.answer is None else {"schema": operation.answer}
    content = dict.fromkeys(operation.media_types, schema)
    answers: dict[str, Any] = {
        str(int(operation.status)): {"description": operation.status.phrase, "content": content},
    }
    if operation.status is HTTPStatus.ACCEPTED and operation.body:
        answers["202"]["headers"] = {"Location": {"description": "Where the run is.", "schema": {"type": "string"}}}
    for status in sorted({*operation.errors, *_ALWAYS}):
        content = {"application/json": {"schema": ref("Error")}}
        answers[str(int(status))] = {"description": status.phrase, "content": content}
    return answers


def handler(operations: Iterable[Operation], others: Mapping[str, Any] | None = None, prefix: str = "") -> Handler:
    """A handler that answers with the description."""
    document = describe(operations, others, prefix)

    async def get_openapi(_: web.Request) -> web.Response:
        """Describe this API."""
        return web.json_response(document)

    return get_openapi
