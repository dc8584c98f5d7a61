"""JSON Schemas of what the REST API takes and answers; a test holds live answers against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
UID: Schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)*$", "maxLength": 64}
MOMENT: Schema = {"type": "string", "format": "date-time", "description": "ISO 8601, UTC."}
COUNT: Schema = {"type": "integer", "minimum": 0}
JSON_OBJECT: Schema = {"type": "object"}


def ref(name: str) -> Schema:
    """A reference to a schema of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _closed(properties: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    """An object of exactly these properties."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_SHORT: Schema = {"type": "string", "minLength": 1, "maxLength": 64}
_SOME_UIDS: Schema = {**_array(UID), "minItems": 1, "maxItems": 100}
_TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
_PLUGIN: Mapping[str, Schema] = {
    "name": {"type": "string", "pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"},
    "title": TEXT,
    "version": TEXT,
    "description": TEXT,
    "category": TEXT,
    "accepts": {**JSON_OBJECT, "description": "Which series it takes."},
}

SCHEMAS: Mapping[str, Schema] = {
    "Error": _closed({"error": {**TEXT, "description": "One sentence."}}),
    "Plugin": _closed(_PLUGIN),
    "PluginDetail": _closed(
        {**_PLUGIN, "parameters": {**JSON_OBJECT, "description": "A JSON Schema, with x-unit and x-widget for forms."}}
    ),
    "PluginForStudy": _closed({**_PLUGIN, "series": {**_array(UID), "description": "The series that it accepts."}}),
    "NewRun": _closed(
        {
            "study": UID,
            "series": {**_array(UID), "minItems": 1, "maxItems": 1},
            "parameters": {**JSON_OBJECT, "description": "As the schema of the plugin says; defaults fill the rest."},
        },
        optional=["parameters"],
    ),
    "Output": _closed(
        {
            "kind": {**TEXT, "examples": ["seg", "sr", "images", "mesh"]},
            "title": TEXT,
            "study": UID,
            "series": UID,
            "instance": {**UID, "description": "Of a DICOM object; a series of images has none."},
            "url": {**TEXT, "description": "Of a mesh: an absolute path."},
            "triangles": {**COUNT, "description": "Of a mesh."},
        },
        optional=["instance", "url", "triangles"],
    ),
    "Measurement": _closed({"name": TEXT, "value": {"type": "number"}, "unit": {**TEXT, "description": "UCUM."}}),
    "Run": _closed(
        {
            "id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "plugin": TEXT,
            "version": TEXT,
            "title": TEXT,
            "study": UID,
            "series": _array(UID),
            "parameters": JSON_OBJECT,
            "state": {"enum": ["queued", "running", "succeeded", "failed", "cancelled", "timed_out"]},
            "progress": {"type": "number", "minimum": 0, "maximum": 1},
            "message": {**TEXT, "description": "What it did last."},
            "created": MOMENT,
            "started": _or_null(MOMENT),
            "finished": _or_null(MOMENT),
            "outputs": _array(ref("Output")),
            "measurements": _array(ref("Measurement")),
            "error": _or_null({**TEXT, "description": "One sentence."}),
        }
    ),
    "RunList": _closed({"runs": _array(ref("Run"))}),
    "Change": _closed(
        {
            "seq": COUNT,
            "action": {"enum": ["stored", "deleted"]},
            "study": UID,
            "series": UID,
            "instance": UID,
            "at": MOMENT,
        }
    ),
    "SearchKey": _closed(
        {
            "key": {**TEXT, "description": "Tags, steps into sequences after a dot."},
            "name": {**TEXT, "description": "The same as keywords; empty for a private attribute."},
            "level": {"enum": ["study", "series", "instance"]},
            "vr": {"type": "string", "pattern": "^[A-Z]{2}$"},
            "declared": {"type": "boolean", "description": "By search.extra_keys; others are of the standard."},
            "state": {"enum": ["built", "building"], "description": "Searches ignore what is not built, and say so."},
            "done": {**COUNT, "description": "Instances in which it is built."},
            "total": {**COUNT, "description": "Instances that are stored."},
        }
    ),
    "SearchKeyList": _closed({"keys": _array(ref("SearchKey"))}),
    "IdentitySearch": {
        **JSON_OBJECT,
        "description": "One of the three: a pseudonym, a study, or a patient as the hospital knows it.",
        "oneOf": [
            _closed({"pseudonym": _SHORT}),
            _closed({"study_uid": UID}),
            _closed({"patient_id": _SHORT, "issuer": {**_SHORT, "minLength": 0}}, optional=["issuer"]),
        ],
    },
    "Identity": _closed(
        {
            "pseudonym": TEXT,
            "studies": _array(
                _closed(
                    {
                        "study_uid": UID,
                        "patient": {**_TEXTS, "description": "What it said of the patient, by keyword."},
                        "original": {**_TEXTS, "description": "What it said of itself, by keyword."},
                    }
                )
            ),
        }
    ),
    "ResultsToReturn": _closed(
        {
            "study": UID,
            "to": {**TEXT, "description": "Name of a remote in the settings."},
            "series": {**_SOME_UIDS, "description": "All of these; without them and instances: all results."},
            "instances": {**_SOME_UIDS, "description": "These alone; not together with series."},
        },
        optional=["series", "instances"],
    ),
    "ReturnedResults": _closed(
        {
            "study": UID,
            "to": TEXT,
            "results": _array(
                _closed(
                    {
                        "series": UID,
                        "instance": UID,
                        "outcome": {"enum": ["sent", "refused", "failed"]},
                        "status": {**COUNT, "description": "What the remote answered (PS3.4 Table B.2-1)."},
                        "reason": {**TEXT, "description": "One sentence."},
                    },
                    optional=["status", "reason"],
                )
            ),
        }
    ),
    "ChangeList": _closed({"changes": _array(ref("Change")), "latest": COUNT}),
    "Info": {
        "type": "object",
        "properties": {
            "name": {"const": "Isthmus"},
            "version": TEXT,
            "ae_title": TEXT,
            "dicom": {**TEXT, "examples": ["ISTHMUS@127.0.0.1:11112"]},
            "profile": {**TEXT, "description": "De-identification of what comes in."},
            "auth": {"enum": ["token", "none", "oidc"]},
        },
        "required": ["name", "version", "ae_title", "dicom", "profile", "auth"],
    },
}
