"""Orders and runs as attributes of their workitem: what was asked for, how far it is, what came of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dicomweb.ports import JsonDataSet
from dicomweb.resource import Resource
from dicomweb.worklist.attributes import items
from dicomweb.worklist.transitions import date_time
from gateway.jobs.model import Run
from gateway.jobs.orders import CODES, PARAMETERS, SCHEME, Order
from ray_plugins.sdk import Plugin

#: Of each output that is stored: instance UID -> SOP class, of all that it consists of.
Classes = Mapping[Resource, Mapping[str, str]]

_MAX_SHORT = 16
_MAX_COMMENT = 1024
#: Units that plugins show otherwise than UCUM writes them.
_UCUM: Mapping[str, str] = {"HU": "[hnsf'U]"}


def scheduled(order: Order, plugin: Plugin) -> JsonDataSet:
    """The attributes that ask for an order, in the one form in which they are kept."""
    described = plugin.schema["properties"]
    content = [_content(name, value, described[name]) for name, value in sorted(order.parameters.items())]
    return {CODES: _sequence([_coded(plugin.name, SCHEME, plugin.title)]), PARAMETERS: _sequence(content)}


def progress(run: Run) -> JsonDataSet:
    """How far a run is, for the Progress Information Sequence."""
    said = {"00741004": _value("DS", f"{100 * run.progress:.0f}")}
    return said | ({"00741006": _value("ST", run.message)} if run.message else {})


def performed(item: JsonDataSet, run: Run, classes: Classes, prefix: str) -> JsonDataSet:
    """What a run did, for the Performed Procedure Sequence.

    `prefix` : as of `Output.to_json`.
    """
    outputs = [_output(*found) for found in _grouped(run, classes).items()]
    meshes = [f"Mesh {one.title}: {one.to_json(prefix)['url']}" for one in run.outputs if one.mesh_id is not None]
    said = {
        "00400254": _value("LO", f"{run.title} {run.version}"[:64]),
        "00404019": _sequence([_coded(run.plugin, SCHEME, run.title)]),
        "00404028": _sequence([_coded("ISTHMUS", SCHEME, "Isthmus")]),
        "00404029": _sequence([]),
        "00404030": _sequence([]),
        "00404033": _sequence(outputs),
        "00404050": _value("DT", date_time(run.started or datetime.now(UTC))),
        "00404051": _value("DT", date_time(run.finished or datetime.now(UTC))),
    }
    if items(item, PARAMETERS):
        said["00741212"] = item[PARAMETERS]
    if meshes:  # an Output Information item refers to instances, and a mesh is none
        said["00400280"] = _value("ST", "\r\n".join(meshes)[:_MAX_COMMENT])
    return dict(sorted(said.items()))


def discontinued(run: Run, *, asked: Mapping[str, Any]) -> JsonDataSet:
    """Why a run gave nothing: what whoever canceled it said, or how it failed."""
    if asked:
        return dict(asked)
    return {"00741238": _value("LT", run.error or "The run was cancelled.")}


def _grouped(run: Run, classes: Classes) -> dict[tuple[str, str], list[JsonDataSet]]:
    found: dict[tuple[str, str], list[JsonDataSet]] = {}
    for one in run.outputs:
        stored = {} if one.mesh_id is not None else classes.get(one.resource, {})
        for instance_uid, sop_class_uid in stored.items():
            reference = {"00081150": _value("UI", sop_class_uid), "00081155": _value("UI", instance_uid)}
            found.setdefault((one.study_uid, one.series_uid), []).append(reference)
    return found


def _output(series: tuple[str, str], references: list[JsonDataSet]) -> JsonDataSet:
    """References to instances of one series; the Retrieve URL is relative to the service, which completes it."""
    retrieve = {"00081190": _value("UR", Resource(*series).path)}
    return {
        "00081199": _sequence(references),
        "0020000D": _value("UI", series[0]),
        "0020000E": _value("UI", series[1]),
        "0040E020": _value("CS", "DICOM"),
        "0040E025": _sequence([retrieve]),
    }


def _content(name: str, value: Any, described: Mapping[str, Any]) -> JsonDataSet:
    """A parameter as a content item; `described` is its JSON Schema."""
    concept = {"0040A043": _sequence([_coded(name, SCHEME, described.get("title", name))])}
    if isinstance(value, bool | str):
        plain = str(value).lower() if isinstance(value, bool) else value
        return {"0040A040": _value("CS", "TEXT"), **concept, "0040A160": _value("UT", plain)}
    symbol = _UCUM.get(described.get("x-unit", "1"), described.get("x-unit", "1"))
    unit = {"004008EA": _sequence([_coded(symbol, "UCUM", symbol if symbol != "1" else "no units")])}
    return {"0040A040": _value("CS", "NUMERIC"), **concept, "0040A30A": _value("DS", f"{value:.10g}"), **unit}


def _coded(value: str, scheme: str, meaning: str) -> JsonDataSet:
    tag, vr = ("00080100", "SH") if len(value) <= _MAX_SHORT else ("00080119", "UC")
    said = {tag: _value(vr, value), "00080102": _value("SH", scheme), "00080104": _value("LO", meaning[:64])}
    return dict(sorted(said.items()))


def _value(vr: str, value: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value != "" else {"vr": vr}


def _sequence(found: list[JsonDataSet]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": found} if found else {"vr": "SQ"}
