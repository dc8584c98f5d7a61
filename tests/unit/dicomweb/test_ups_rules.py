"""The rules of workitems: attributes, states, events, subscriptions. Random requests never break what must hold."""

import json
from datetime import UTC, datetime

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dicomweb import dicom_json
from dicomweb.errors import BadRequest
from dicomweb.worklist.attributes import check_changes, check_created, check_form, unmet
from dicomweb.worklist.events import EventType, changed, data_set
from dicomweb.worklist.search import tree_of
from dicomweb.worklist.states import TRANSITIONS, State, Told, answer
from dicomweb.worklist.subscriptions import STEPS, Action, Subscription, checked_ae_title
from dicomweb.worklist.table import RETURNED, RULES
from dicomweb.worklist.transitions import (
    cancel_requested,
    canceled,
    changed_state,
    created,
    lock_of,
    revised,
    updated,
)
from tests.ups_support import coded, element, performed, workitem

NOW = datetime(2024, 1, 2, tzinfo=UTC)


def test_the_table_is_complete() -> None:
    assert {rule.keyword for rule in RULES if rule.final == "R"} == {
        "ScheduledProcedureStepPriority",
        "ScheduledProcedureStepModificationDateTime",
        "ProcedureStepLabel",
        "WorklistLabel",
        "ScheduledProcedureStepStartDateTime",
        "InputReadinessState",
        "ProcedureStepState",
    }
    assert len(RETURNED) == 31


def test_a_workitem_is_created() -> None:
    change = created("1.2.3", workitem(), NOW)
    item = change.workitem.item
    assert "00081195" not in item
    assert item["00080018"]["Value"] == ["1.2.3"]
    assert item["00080016"]["Value"] == ["1.2.840.10008.5.1.4.34.6.1"]
    assert item["00404010"]["Value"] == ["20240102000000.000000+0000"]
    assert list(item) == sorted(item)
    assert [kind for kind, _ in change.reports] == [EventType.STATE_REPORT]
    assert not change.warning


def test_a_worklist_label_is_given_where_there_is_none() -> None:
    change = created("1.2.3", workitem(t00741202=element("LO")), NOW)
    assert change.workitem.item["00741202"]["Value"] == ["WORKLIST"]
    assert change.warning == "The Workitem was created with modifications."


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"t00741204": None}, "lacks ProcedureStepLabel"),
        ({"t00741204": element("LO")}, "leaves empty ProcedureStepLabel"),
        ({"t00404025": None}, "lacks ScheduledStationNameCodeSequence"),
        ({"t00081195": element("UI", "1.2")}, "must leave empty TransactionUID"),
        ({"t00741216": element("SQ", performed())}, "must leave empty UnifiedProcedureStepPerformedProcedureSequence"),
        ({"t00741000": element("CS", "IN PROGRESS")}, "ProcedureStepState SCHEDULED"),
        ({"t00741200": element("CS", "URGENT")}, "ScheduledProcedureStepPriority must be one of HIGH, LOW, MEDIUM"),
        ({"t00404018": element("SQ", {"00080100": element("SH", "1")})}, "lacks CodeMeaning, CodingSchemeDesignator"),
        ({"t00404018": element("SQ", {"00080104": element("LO", "x")})}, "lacks CodeValue"),
        ({"t00404034": element("SQ", {"00404037": element("PN", {"Alphabetic": "A"})})}, "HumanPerformerCodeSequence"),
        ({"t00404021": element("SQ", {"0020000D": element("UI", "1.2")})}, "lacks TypeOfInstances"),
        ({"t00080016": element("UI", "1.2")}, "SOPClassUID"),
    ],
)
def test_attributes_that_may_not_be_created(attributes, sentence) -> None:
    with pytest.raises(BadRequest, match=sentence):
        check_created(workitem(**attributes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"00100010": element("PN", {"Alphabetic": "Doe"})}, "may not have PatientName"),
        ({"00741000": element("CS", "COMPLETED")}, "may not have ProcedureStepState"),
        ({"00741204": element("LO")}, "leaves empty ProcedureStepLabel"),
        ({"00741216": element("SQ", {"00404050": element("DT", "2024")})}, "lacks OutputInformationSequence"),
    ],
)
def test_attributes_that_may_not_be_set(changes, sentence) -> None:
    with pytest.raises(BadRequest, match=sentence) as caught:
        check_changes(changes)
    assert "Doe" not in caught.value.message


@pytest.mark.parametrize(
    "item",
    [
        [],
        {"0010001": {"vr": "PN"}},
        {"00100010": {"vr": "LO", "Value": ["Doe"]}},
        {"00404005": {"vr": "LO", "Value": ["Doe"]}},
        {"00404005": {"vr": "DT", "Value": ["yesterday"]}},
        {"00100010": {"vr": "PN", "Value": ["Doe"]}},
        {"00001000": {"vr": "UI", "Value": ["1.2"]}},
        {"00420011": {"vr": "OB", "InlineBinary": "AAAA"}},
        {"00420011": {"vr": "OB", "BulkDataURI": "x"}},
        {"00741204": {"vr": "LO", "Value": "text"}},
        {"00741204": {"vr": "LO", "Value": [["text"]]}},
        {"00404018": {"vr": "SQ", "Value": ["text"]}},
        {"00404018": {"vr": "SQ", "Value": [0]}},
        {"00741204": {"vr": "LO", "Value": [5]}},
        {"00741204": {"vr": "LO", "Value": ["\ud800"]}},
        {"00741204": {"vr": "LO", "Value": ["a\0b"]}},
        {"00741204": {"vr": "LO", "$where": 1}},
        {"00100010": {"vr": "PN", "Value": [{"$where": "Doe"}]}},
        {"0040A30A": {"vr": "DS", "Value": [float("nan")]}},
        {"0040A30A": {"vr": "DS", "Value": [10**30]}},
        {"0040A30A": {"vr": "DS", "Value": [True]}},
    ],
)
def test_what_is_no_data_set_of_a_workitem(item) -> None:
    with pytest.raises(BadRequest) as caught:
        check_form(item)
    assert "Doe" not in caught.value.message


def test_depth_and_number_of_elements_are_bounded() -> None:
    deep: dict = {}
    for _ in range(20):
        deep = {"00404018": {"vr": "SQ", "Value": [deep]}}
    with pytest.raises(BadRequest, match="nested"):
        check_form(deep)
    with pytest.raises(BadRequest, match="at most"):
        check_form({"00404018": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH"}} for _ in range(21_000)]}})


def test_what_final_states_need() -> None:
    item = created("1.2.3", workitem(), NOW).workitem.item
    assert unmet(item, State.COMPLETED) == ["UnifiedProcedureStepPerformedProcedureSequence"]
    assert unmet(item, State.CANCELED) == ["ProcedureStepProgressInformationSequence"]
    assert not unmet(item | {"00741216": element("SQ", performed())}, State.COMPLETED)
    without = {tag: value for tag, value in performed().items() if tag != "00404051"}
    assert unmet(item | {"00741216": element("SQ", without)}, State.COMPLETED) == ["PerformedProcedureStepEndDateTime"]


@pytest.mark.parametrize("present", State)
@pytest.mark.parametrize("requested", State)
def test_every_cell_of_the_transition_table(present: State, requested: State) -> None:
    """PS3.4 Table CC.1.1-2: rows N-ACTION to change the state, with and without the correct Transaction UID."""
    right = {
        (State.SCHEDULED, State.IN_PROGRESS): 0x0000,
        (State.IN_PROGRESS, State.IN_PROGRESS): 0xC302,
        (State.COMPLETED, State.IN_PROGRESS): 0xC300,
        (State.CANCELED, State.IN_PROGRESS): 0xC300,
        (State.SCHEDULED, State.COMPLETED): 0xC310,
        (State.IN_PROGRESS, State.COMPLETED): 0x0000,
        (State.COMPLETED, State.COMPLETED): 0xB306,
        (State.CANCELED, State.COMPLETED): 0xC300,
        (State.SCHEDULED, State.CANCELED): 0xC310,
        (State.IN_PROGRESS, State.CANCELED): 0x0000,
        (State.COMPLETED, State.CANCELED): 0xC300,
        (State.CANCELED, State.CANCELED): 0xB304,
    }
    if requested is State.SCHEDULED:
        assert answer(present, requested, "lock", "lock").status == 0xC303
        return
    assert answer(present, requested, "lock", "lock").status == right[present, requested]
    assert answer(present, requested, "lock", "").status == 0xC301
    if present is not State.SCHEDULED:
        assert answer(present, requested, "lock", "other").status == 0xC301


def test_the_transition_table_has_no_holes() -> None:
    assert all(set(row) == set(State) for row in TRANSITIONS.values())


def test_subscription_steps() -> None:
    """PS3.4 Table CC.2.3-2."""
    none, locked, unlocked = Subscription
    assert STEPS[Action.SUBSCRIBE_GLOBAL_LOCKED][none].tells
    assert not STEPS[Action.SUBSCRIBE_GLOBAL][none].tells
    assert STEPS[Action.SUBSCRIBE_GLOBAL_LOCKED][unlocked].state is unlocked
    assert STEPS[Action.SUBSCRIBE][locked].state is unlocked
    assert all(STEPS[Action.SUSPEND_GLOBAL][one].state is one for one in Subscription)


@pytest.mark.parametrize("title", ["", " ", "A" * 17, "A\\B", "A\nB", "Ä"])
def test_titles_that_are_none(title: str) -> None:
    with pytest.raises(BadRequest):
        checked_ae_title(title)


def test_reports_of_changes() -> None:
    workitem_ = changed_state(created("1.2.3", workitem(), NOW).workitem, State.IN_PROGRESS, "lock", NOW).workitem
    progress = {"00741002": element("SQ", {"00741004": element("DS", "50")})}
    (report,) = revised(workitem_, progress, NOW).reports
    assert report[0] is EventType.PROGRESS_REPORT
    (report,) = revised(workitem_, {"00404025": element("SQ", coded("CT1", "99L", "x"))}, NOW).reports
    assert report[0] is EventType.ASSIGNED
    assert changed(workitem_.item, workitem_.item) == []
    sent = data_set("1.2.3", report, 7)
    assert sent["00001000"]["Value"] == ["1.2.3"]
    assert sent["00000110"]["Value"] == [7]
    assert sent["00001002"]["Value"] == [5]


_UIDS = st.sampled_from(["", "1.2.1", "1.2.2"])


class Requests(RuleBasedStateMachine):
    """One workitem under random requests."""

    @initialize()
    def create(self) -> None:
        self.workitem = created("1.2.3", workitem(), NOW).workitem
        self.history = [State.SCHEDULED]
        self.owner = ""

    def _apply(self, work) -> None:
        before = self.workitem
        try:
            change = work()
        except (Told, BadRequest):
            return
        self.workitem = change.workitem
        if before.state.is_final:
            assert change.workitem == before, "a final state changed"
        states = [report["00741000"]["Value"][0] for kind, report in change.reports if kind is EventType.STATE_REPORT]
        if self.workitem.state is not before.state:
            assert states[-1] == self.workitem.state
            self.history += [State(one) for one in states]

    @rule(state=st.sampled_from(State), uid=_UIDS)
    def change_state(self, state: State, uid: str) -> None:
        was = self.workitem.state
        self._apply(lambda: changed_state(self.workitem, state, lock_of(uid), NOW))
        if was is State.SCHEDULED and self.workitem.state is State.IN_PROGRESS:
            self.owner = uid
        elif self.workitem.state is not was:
            assert uid == self.owner, "somebody else changed the state"

    @rule(uid=_UIDS, complete=st.booleans())
    def set_performed(self, uid: str, complete: bool) -> None:
        item = performed() if complete else {"00404033": element("SQ")}
        before = self.workitem
        self._apply(lambda: updated(self.workitem, {"00741216": element("SQ", item)}, lock_of(uid), NOW))
        if self.workitem != before and before.state is State.IN_PROGRESS:
            assert uid == self.owner, "somebody else wrote"

    @rule()
    def request_cancel(self) -> None:
        was = self.workitem.state
        self._apply(lambda: cancel_requested(self.workitem, {}, "AE", NOW))
        assert self.workitem.state is (State.CANCELED if was is State.SCHEDULED else was)

    @rule()
    def cancel_by_server(self) -> None:
        if self.workitem.state is State.IN_PROGRESS:
            self._apply(lambda: canceled(self.workitem, {"00741238": element("LT", "x")}, NOW))
            assert self.workitem.state is State.CANCELED

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "workitem"):
            return
        order = [State.SCHEDULED, State.IN_PROGRESS]
        assert self.history[:2] == order[: len(self.history)]
        assert len(self.history) <= 3
        assert "00081195" not in self.workitem.item, "the lock can be read"
        if self.workitem.state.is_final:
            assert not unmet(self.workitem.item, self.workitem.state)
        if self.workitem.state is State.IN_PROGRESS:
            assert self.workitem.lock


TestRequests = Requests.TestCase


@given(st.recursive(st.none() | st.booleans() | st.text() | st.floats(allow_nan=False) | st.integers(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_any_json_is_a_data_set_or_refused(value) -> None:
    try:
        check_form(value)
    except BadRequest:
        return
    assert isinstance(value, dict)


_VALUES = st.none() | st.booleans() | st.text() | st.floats() | st.integers() | st.dictionaries(st.text(), st.text())
_ELEMENTS = st.fixed_dictionaries(
    {"vr": st.sampled_from(["LO", "PN", "DS", "IS", "CS", "UI", "SQ", "DT"])},
    optional={"Value": st.lists(_VALUES | st.just({"Alphabetic": "A^B"}), max_size=2), "x": _VALUES},
)


@given(st.dictionaries(st.sampled_from(["00741204", "00100010", "0040A30A", "00209165", "00404018"]), _ELEMENTS))
def test_what_is_taken_can_be_kept_and_told(item) -> None:
    try:
        check_form(item)
    except BadRequest:
        return
    assert json.loads(dicom_json.dumps(item)) == item
    assert bson.decode(bson.encode({"item": item, "keys": tree_of(item)}))["item"] == item


@given(st.dictionaries(st.sampled_from(sorted(workitem())), st.sampled_from([None, {"vr": "LO"}])))
def test_creation_never_fails_otherwise(changes) -> None:
    item = workitem(**{f"t{tag}": value for tag, value in changes.items()})
    try:
        made = created("1.2.3", item, NOW).workitem
    except BadRequest:
        return
    assert made.state is State.SCHEDULED
    assert made.item["00741202"]["Value"]
