"""The DICOMweb services as OpenAPI 3.1 path items, made from the route table itself, as the capabilities are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from dicomweb.capabilities import Route, Transaction, template

Schema = Mapping[str, Any]

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_FLAG: Schema = {"type": "string", "enum": ["true", "false"]}
_AE_TITLE: Schema = {**_TEXT, "pattern": r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$", "maxLength": 16}
_UID: Schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)*$", "maxLength": 64}
#: What the templates of the route table stand for; others are plain text.
_PATH_PARAMETERS: Mapping[str, Schema] = {
    "study": {**_UID, "description": "Study Instance UID."},
    "series": {**_UID, "description": "Series Instance UID."},
    "instance": {**_UID, "description": "SOP Instance UID."},
    "workitem": {**_UID, "description": "UID of a workitem, or of the worklist."},
    "aetitle": {**_AE_TITLE, "description": "Application entity title of a subscriber."},
    "requester": {**_AE_TITLE, "description": "Application entity title of whoever asks."},
    "frames": {"type": "string", "pattern": r"^[1-9][0-9]{0,8}(,[1-9][0-9]{0,8})*$", "description": "Frame numbers."},
    "path": {**_TEXT, "minLength": 1, "description": "Where the value is: tags and item numbers with slashes between."},
}
_QUERY_PARAMETERS: Mapping[str, Schema] = {
    "accept": {**_TEXT, "description": "A media type, where the Accept header cannot be set."},
    "limit": _COUNT,
    "offset": _COUNT,
    "fuzzymatching": _FLAG,
    "emptyvaluematching": _FLAG,
    "multiplevaluematching": _FLAG,
    "deletionlock": _FLAG,
    "workitem": {**_UID, "description": "UID of the workitem; it may also stand alone, without a name."},
    "transaction-uid": {**_UID, "description": "Of whoever claimed it; it may also stand alone, without a name."},
    "quality": {"type": "integer", "minimum": 1, "maximum": 100},
}


def paths(routes: Iterable[Route], prefix: str) -> dict[str, dict[str, Any]]:
    """Path items by path, for the `paths` of an OpenAPI document.

    Errors are described as `default`: one object with `error`, a sentence; every operation may answer with one.
    """
    found: dict[str, dict[str, Any]] = {}
    seen: Counter[str] = Counter()
    for route in routes:
        if route.method != "HEAD":
            found.setdefault(f"{prefix}/{template(route.path)}", {})[route.method.lower()] = _operation(route, seen)
    return found


def _operation(route: Route, seen: Counter[str]) -> dict[str, Any]:
    what = route.transaction
    name = re.sub(r"\W+", "_", what.name).strip("_").lower()
    seen[name] += 1
    described: dict[str, Any] = {
        "operationId": f"{name}_{seen[name]}" if seen[name] > 1 else name,
        "summary": what.name,
        "tags": ["DICOMweb"],
        "parameters": [*_path_parameters(route), *_query_parameters(what)],
        "responses": _responses(what),
    }
    if what.consumes:
        described["requestBody"] = {"required": what.needs_body, "content": _content(what.consumes)}
    return described


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"\{(\w+)\}", template(route.path))
    return [
        {"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS.get(name, _TEXT)} for name in names
    ]


def _query_parameters(what: Transaction) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": _QUERY_PARAMETERS.get(name, _TEXT)} for name in what.query]


def _responses(what: Transaction) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status in what.statuses:
        answers[str(int(status))] = {"description": HTTPStatus(status).phrase}
        if what.produces and status != HTTPStatus.NO_CONTENT:
            answers[str(int(status))]["content"] = _content(what.produces)
    error = {"type": "object", "properties": {"error": _TEXT}, "required": ["error"]}
    # What became of each instance of a request that failed is told in the same form as success (PS3.18 Annex I).
    details = _content(what.produces) if what.consumes else {}
    answers["default"] = {
        "description": "An error, as one sentence.",
        "content": details | {"application/json": {"schema": error}},
    }
    return answers


def _content(media_types: Iterable[str]) -> dict[str, Any]:
    """The media types as keys; parameters, such as the type of a multipart's parts, are kept."""
    return {name: {} for name in media_types}
