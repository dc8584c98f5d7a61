"""Workitems that ask for a run of a plugin: which plugin, with which parameters, on which series, when. Pure.

The plugin is named by the Scheduled Workitem Code (its name, scheme 99ISTHMUS), its parameters by content items of the
Scheduled Processing Parameters (concept name: the parameter's name, scheme 99ISTHMUS), its series by Input Information.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Self

from dicomweb.errors import BadRequest, Unavailable
from dicomweb.ports import JsonDataSet
from dicomweb.resource import Resource
from dicomweb.worklist.attributes import code, items, text, values
from gateway.jobs.model import Run
from ray_plugins.registry import BrokenPlugin, Registry, UnknownPlugin
from ray_plugins.sdk import ParameterError, Plugin

SCHEME = "99ISTHMUS"
CODES, PARAMETERS, INPUT = "00404018", "00741210", "00404021"
#: Which attribute of a content item holds its value, by Value Type (PS3.3 Table 10-2).
_VALUE_TAGS: Mapping[str, str] = {"NUMERIC": "0040A30A", "TEXT": "0040A160", "CODE": "0040A168"}
_TRUE_FALSE = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Order:
    """A run that is asked for; `parameters` are complete and validated."""

    plugin: str
    parameters: Mapping[str, Any]
    series: Resource

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of `to_document`."""
        return cls(document["plugin"], document["parameters"], Resource(document["study"], document["series"]))

    def to_document(self) -> dict[str, Any]:
        """Plain data."""
        series = self.series
        parameters = dict(self.parameters)
        return {"plugin": self.plugin, "parameters": parameters, "study": series.study_uid, "series": series.series_uid}

    def run(self, run_id: str, plugin: Plugin) -> Run:
        """The run that carries it out."""
        series = (self.series.series_uid or "",)
        return Run(run_id, plugin.name, plugin.version, plugin.title, self.series.study_uid, series, self.parameters)


def plugin_of(item: JsonDataSet, registry: Registry) -> Plugin | None:
    """The plugin that a workitem names; None if it is for somebody else to perform.

    Raises
    ------
    BadRequest : there is no such plugin, or not one alone is named.
    Unavailable : it is installed but broken.
    """
    named = [value for value, scheme in map(code, items(item, CODES)) if scheme == SCHEME]
    if not named:
        return None
    if len(items(item, CODES)) > 1:
        raise BadRequest(f"A workitem that names a plugin ({SCHEME}) has no other workitem code.")
    try:
        return registry.get(named[0])
    except UnknownPlugin as exc:
        raise BadRequest(f"The scheduled workitem code names no plugin; there are: {_listed(registry)}.") from exc
    except BrokenPlugin as exc:
        raise Unavailable("The plugin is installed but cannot be loaded; the log of the server says why.") from exc


def _listed(registry: Registry) -> str:
    return ", ".join(registry.names()) or "none"


def order_of(item: JsonDataSet, plugin: Plugin, clean: Callable[[str], str] | None) -> Order:
    """What a workitem asks of a plugin; `clean` takes identity out of free text. Raise BadRequest."""
    given = dict(map(_parameter, items(item, PARAMETERS)))
    if len(given) != len(items(item, PARAMETERS)):
        raise BadRequest("A processing parameter is given more than once.")
    try:
        parameters = plugin.validate({name: _typed(plugin, name, value) for name, value in given.items()})
    except ParameterError as exc:
        raise BadRequest(" ".join(_without_value(fault) for fault in exc.faults)) from exc
    if clean is not None:
        parameters = {name: clean(value) if _is_free(plugin, name) else value for name, value in parameters.items()}
    return Order(plugin.name, parameters, _series(item))


def _series(item: JsonDataSet) -> Resource:
    named = {(text(one, "0020000D"), text(one, "0020000E")) for one in items(item, INPUT)}
    if len(named) != 1 or not all(next(iter(named))):
        raise BadRequest(
            "InputInformationSequence must name one series, with its StudyInstanceUID: a plugin takes one."
        )
    return Resource.parse(*next(iter(named)))


def _parameter(item: JsonDataSet) -> tuple[str, Any]:
    """Name and value of one content item."""
    name, scheme = next(map(code, items(item, "0040A043")), ("", ""))
    kind = text(item, "0040A040")
    if scheme != SCHEME or kind not in _VALUE_TAGS:
        kinds = ", ".join(_VALUE_TAGS)
        raise BadRequest(f"A processing parameter is a content item of type {kinds} whose concept name is in {SCHEME}.")
    if kind == "CODE":
        return name, next(map(code, items(item, _VALUE_TAGS[kind])), ("", ""))[0]
    found = values(item, _VALUE_TAGS[kind])
    return name, (float(found[0]) if kind == "NUMERIC" and _is_number(found) else str(found[0]) if found else "")


def _is_number(found: Sequence[Any]) -> bool:
    try:
        return len(found) == 1 and math.isfinite(float(found[0]))
    except (TypeError, ValueError):
        return False


def _typed(plugin: Plugin, name: str, value: Any) -> Any:
    """A value in the type that the plugin's schema has, where what was sent can be read so."""
    kind = plugin.schema["properties"].get(name, {}).get("type")
    if kind == "boolean" and isinstance(value, str):
        return _TRUE_FALSE.get(value.lower(), value)
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _is_free(plugin: Plugin, name: str) -> bool:
    described = plugin.schema["properties"][name]
    return described["type"] == "string" and "enum" not in described


def _without_value(fault: str) -> str:
    """A fault without the value that is at fault."""
    return fault.split("; it is ")[0].rstrip(".") + "."


def due(item: JsonDataSet) -> datetime:
    """When a workitem is to start. Without an offset its time is that of (0008,0201), else of this server's zone."""
    said = text(item, "00404005")
    moment, offset = said.partition(".")[0], said[-5:] if said[-5:-4] in ("+", "-") else text(item, "00080201")
    moment = moment.removesuffix(offset) if offset and moment.endswith(offset) else moment
    padded = moment + "0000"[len(moment) :] + "01010000000000"[len(moment) - 4 :] if len(moment) < 14 else moment
    try:
        start = datetime.strptime(padded[:14], "%Y%m%d%H%M%S")  # noqa: DTZ007 - its zone follows
        if offset[:1] in ("+", "-"):
            away = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))
            return start.replace(tzinfo=timezone(away if offset[0] == "+" else -away)).astimezone(UTC)
        return start.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest("ScheduledProcedureStepStartDateTime is not a valid date and time.") from None
