"""Event reports: which change of a workitem is reported, and what the report says (PS3.4 section CC.2.4)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from dicomweb.ports import JsonDataSet
from dicomweb.worklist.attributes import items
from dicomweb.worklist.table import UPS_PUSH


class EventType(IntEnum):
    """Event Type ID (0000,1002), Table CC.2.4-1."""

    STATE_REPORT = 1
    CANCEL_REQUESTED = 2
    PROGRESS_REPORT = 3
    SCP_STATUS_CHANGE = 4
    ASSIGNED = 5


_STATE, _READINESS, _PROGRESS = "00741000", "00404041", "00741002"
_STATIONS, _PERFORMERS = "00404025", "00404034"
_REASONS = ("00741238", "0074100E")
#: What a progress report is sent for: progress, its description, and where the performer can be reached.
_REPORTED_PROGRESS = ("00741004", "00741006", "00741008")
#: The action information of a cancel request that its report repeats.
CANCEL_INFORMATION = ("0074100A", "0074100C", "0074100E", "00741238")
#: The SOP Instance UID of reports about the server itself: the well-known instance of global subscriptions.
WORKLIST = "1.2.840.10008.5.1.4.34.5"

#: An event, without what depends on the connection: its type and attributes.
Report = tuple[EventType, JsonDataSet]


def state_report(item: JsonDataSet) -> Report:
    """State and readiness as they are, and of a canceled workitem why."""
    said = {tag: item[tag] for tag in (_STATE, _READINESS) if tag in item}
    for progress in items(item, _PROGRESS)[:1]:
        said |= {tag: progress[tag] for tag in _REASONS if tag in progress}
    return EventType.STATE_REPORT, dict(sorted(said.items()))


def cancel_requested(information: JsonDataSet, requester: str) -> Report:
    """Somebody asks to cancel; who performs the workitem decides."""
    said = {tag: information[tag] for tag in CANCEL_INFORMATION if tag in information}
    return EventType.CANCEL_REQUESTED, said | {"00741236": {"vr": "AE", "Value": [requester]}}


def status_change(status: str) -> Report:
    """The server was RESTARTED or is GOING DOWN; subscriptions and workitems are kept (WARM START)."""
    said: dict[str, Any] = {"00741242": {"vr": "CS", "Value": [status]}}
    said |= {tag: {"vr": "CS", "Value": ["WARM START"]} for tag in ("00741244", "00741246")}
    return EventType.SCP_STATUS_CHANGE, said


def created(item: JsonDataSet) -> list[Report]:
    """The events of a new workitem."""
    is_assigned = items(item, _STATIONS) or items(item, _PERFORMERS)
    return [state_report(item), *([_assigned(item)] if is_assigned else [])]


def changed(before: JsonDataSet, after: JsonDataSet) -> list[Report]:
    """The events of a change, in the order of their types."""
    reports: list[Report] = []
    if _differ(before, after, _STATE, _READINESS):
        reports.append(state_report(after))
    old, new = (items(one, _PROGRESS)[:1] or [{}] for one in (before, after))
    if _differ(old[0], new[0], *_REPORTED_PROGRESS):
        reports.append((EventType.PROGRESS_REPORT, {_PROGRESS: after.get(_PROGRESS, {"vr": "SQ"})}))
    if _differ(before, after, _STATIONS, _PERFORMERS):
        reports.append(_assigned(after))
    return reports


def data_set(uid: str, report: tuple[int, JsonDataSet], message_id: int) -> JsonDataSet:
    """A report as it is sent (PS3.18 section 11.13); `uid` names the workitem."""
    kind, attributes = report
    # CC.2.4.3: all workitems are of the UPS Push SOP Class, whatever class a subscription would be negotiated for.
    head: dict[str, Any] = {
        "00000002": {"vr": "UI", "Value": [UPS_PUSH]},
        "00000110": {"vr": "US", "Value": [message_id]},
        "00001000": {"vr": "UI", "Value": [uid]},
        "00001002": {"vr": "US", "Value": [int(kind)]},
    }
    return head | attributes


def _assigned(item: JsonDataSet) -> Report:
    """To which station or person the workitem is assigned now."""
    said = {_STATIONS: item[_STATIONS]} if items(item, _STATIONS) else {}
    for performer in items(item, _PERFORMERS)[:1]:
        said |= {tag: performer[tag] for tag in ("00404009", "00404036") if tag in performer}
    return EventType.ASSIGNED, dict(sorted(said.items()))


def _differ(before: Mapping[str, Any], after: Mapping[str, Any], *tags: str) -> bool:
    return any((before.get(tag) or {}).get("Value") != (after.get(tag) or {}).get("Value") for tag in tags)
