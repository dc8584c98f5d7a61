"""A workitem and every change of it, as pure functions: the SCP behaviour of PS3.4 sections CC.2.1, 2.2, 2.5 and 2.6.

Each gives the workitem as it is afterwards, the events to report and the text of a Warning; a store only has to
replace the one by the other, if nobody was faster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dicomweb.ports import JsonDataSet
from dicomweb.worklist import events
from dicomweb.worklist.attributes import check_changes, check_created, items, text, unmet, values
from dicomweb.worklist.events import Report
from dicomweb.worklist.states import (
    ALREADY_CANCELED,
    CREATED_MODIFIED,
    STATE_INCONSISTENT,
    Inconsistent,
    State,
    Unfit,
    answer,
    check_update,
)
from dicomweb.worklist.table import UPS_PUSH

#: Worklist Label must have a value (Table CC.2.5-3, 2/1): that of workitems whose creator gave none.
DEFAULT_LABEL = "WORKLIST"
_TRANSACTION_UID = "00081195"
_STATE, _LABEL, _MODIFIED, _PROGRESS = "00741000", "00741202", "00404010", "00741002"
_CANCELED_AT, _WHY = "00404052", "0074100E"
#: PS3.16 CID 9300: why a procedure was discontinued, where nobody says it.
UNSPECIFIED = {
    "00080100": {"vr": "SH", "Value": ["110513"]},
    "00080102": {"vr": "SH", "Value": ["DCM"]},
    "00080104": {"vr": "LO", "Value": ["Discontinued for unspecified reason"]},
}


@dataclass(frozen=True, slots=True)
class Workitem:
    """A workitem. `lock` digests the Transaction UID under which it was claimed; the UID itself is not kept."""

    uid: str
    item: JsonDataSet
    lock: str = ""

    @property
    def state(self) -> State:
        """Procedure Step State."""
        return State(text(self.item, _STATE))


@dataclass(frozen=True, slots=True)
class Change:
    """What a request comes to."""

    workitem: Workitem
    reports: tuple[Report, ...] = ()
    warning: str = ""


def lock_of(transaction_uid: str | None) -> str:
    """The digest of a Transaction UID; empty for none."""
    return hashlib.sha256(transaction_uid.encode()).hexdigest() if transaction_uid else ""


def date_time(moment: datetime) -> str:
    """A moment as a DT value in UTC."""
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S.%f+0000")


def created(uid: str, item: JsonDataSet, now: datetime) -> Change:
    """A new workitem; raise BadRequest if its attributes do not allow it."""
    check_created(item)
    return admitted(uid, item, now)


def admitted(uid: str, item: JsonDataSet, now: datetime) -> Change:
    """A new workitem of what was checked before, with what the server adds."""
    kept = {tag: element for tag, element in item.items() if tag != _TRANSACTION_UID}
    warning = "" if values(item, _LABEL) else CREATED_MODIFIED
    if warning:
        kept[_LABEL] = {"vr": "LO", "Value": [DEFAULT_LABEL]}
    kept |= {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080016": {"vr": "UI", "Value": [UPS_PUSH]},
        "00080018": {"vr": "UI", "Value": [uid]},
    }
    workitem = _touched(Workitem(uid, kept), now)
    return Change(workitem, tuple(events.created(workitem.item)), warning)


def updated(
    workitem: Workitem, changes: JsonDataSet, lock: str, now: datetime, kept: JsonDataSet | None = None
) -> Change:
    """A workitem with attributes set by whoever may; raise Told or BadRequest.

    `kept` : what is kept of the changes, if not all as they were sent.
    """
    check_update(workitem.state, workitem.lock, lock)
    check_changes(changes)
    given = changes if kept is None else kept
    return revised(workitem, {tag: given[tag] for tag in given if tag not in (_TRANSACTION_UID, _MODIFIED)}, now)


def revised(workitem: Workitem, given: Mapping[str, Any], now: datetime) -> Change:
    """A workitem with attributes set by the server itself."""
    after = _touched(replace(workitem, item=workitem.item | dict(given)), now)
    return Change(after, tuple(events.changed(workitem.item, after.item)))


def changed_state(workitem: Workitem, state: State, lock: str, now: datetime) -> Change:
    """A workitem in another state; raise Told if its present one, its lock or its attributes do not allow it."""
    said = answer(workitem.state, state, workitem.lock, lock)
    said.raise_failure()
    if not said.changes:
        return Change(workitem, warning=said.warning)
    item = workitem.item
    if state is State.CANCELED:
        item = _with_reason(item, {}, now)
    missing = unmet(item, state) if state.is_final else []
    if missing:
        raise Inconsistent(f"Before it is {state} the workitem needs {', '.join(missing)}.", STATE_INCONSISTENT)
    after = _touched(Workitem(workitem.uid, item | {_STATE: {"vr": "CS", "Value": [str(state)]}}, lock), now)
    return Change(after, tuple(events.changed(workitem.item, after.item)))


def cancel_requested(workitem: Workitem, information: JsonDataSet, requester: str, now: datetime) -> Change:
    """What a cancel request does: nobody's workitem is canceled at once, of others the performer is told."""
    if workitem.state is State.COMPLETED:
        raise Inconsistent("The workitem is already COMPLETED.", STATE_INCONSISTENT)
    if workitem.state is State.CANCELED:
        return Change(workitem, warning=ALREADY_CANCELED)
    if workitem.state is State.IN_PROGRESS:
        return Change(workitem, (events.cancel_requested(information, requester),))
    claimed = changed_state(workitem, State.IN_PROGRESS, lock_of(f"cancel {workitem.uid}"), now)
    return _joined(claimed, canceled(claimed.workitem, information, now))


def canceled(workitem: Workitem, information: JsonDataSet, now: datetime) -> Change:
    """A workitem in progress that the server itself cancels, for the reasons given."""
    item = _with_reason(workitem.item, information, now)
    return changed_state(replace(workitem, item=item), State.CANCELED, workitem.lock, now)


def performed(workitem: Workitem, given: Mapping[str, Any], now: datetime) -> Change:
    """A workitem in progress that the server itself completes, with what it performed."""
    done = revised(workitem, given, now)
    return _joined(done, changed_state(done.workitem, State.COMPLETED, workitem.lock, now))


def checked_state(information: JsonDataSet) -> State:
    """The state that a request asks for; raise Unfit if it names none (PS3.18 section 11.7.1.4)."""
    try:
        return State(text(information, _STATE))
    except ValueError:
        raise Unfit("ProcedureStepState must be IN PROGRESS, COMPLETED or CANCELED.", STATE_INCONSISTENT) from None


def _joined(*changes: Change) -> Change:
    reports = tuple(report for change in changes for report in change.reports)
    return replace(changes[-1], reports=reports)


def _touched(workitem: Workitem, now: datetime) -> Workitem:
    item = workitem.item | {_MODIFIED: {"vr": "DT", "Value": [date_time(now)]}}
    return replace(workitem, item=dict(sorted(item.items())))


def _with_reason(item: JsonDataSet, information: JsonDataSet, now: datetime) -> JsonDataSet:
    """When and why it was canceled: what is not said, the server fills in (Table CC.2.5-3, (0040,4052))."""
    progress: JsonDataSet = dict(next(iter(items(item, _PROGRESS)), {}))
    progress |= {tag: information[tag] for tag in ("00741238", _WHY) if values(information, tag)}
    if not values(progress, _CANCELED_AT):
        progress[_CANCELED_AT] = {"vr": "DT", "Value": [date_time(now)]}
    if not values(progress, _WHY):
        progress[_WHY] = {"vr": "SQ", "Value": [UNSPECIFIED]}
    return item | {_PROGRESS: {"vr": "SQ", "Value": [dict(sorted(progress.items()))]}}
