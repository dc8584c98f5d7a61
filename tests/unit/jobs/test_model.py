"""A run as data: its states, its sameness, its forms in the database and in the REST API."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dicomweb.resource import Resource
from gateway.jobs.model import TRANSITIONS, Output, Run, State, new_id, predecessors, sentence

RUN = Run(
    id=new_id(),
    plugin="ct-bone",
    version="1.0.0",
    title="Bone",
    study_uid="1.2.3",
    series_uids=("1.2.3.4",),
    parameters={"low": 180, "quality": "full"},
)


def test_every_state_can_be_left_unless_it_is_final():
    assert {state for state in State if state.is_final} == {
        State.SUCCEEDED,
        State.FAILED,
        State.CANCELLED,
        State.TIMED_OUT,
    }
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize(
    ("state", "before"),
    [
        (State.QUEUED, {State.RUNNING}),
        (State.RUNNING, {State.QUEUED}),
        (State.SUCCEEDED, {State.RUNNING}),
        (State.FAILED, {State.QUEUED, State.RUNNING}),
        (State.CANCELLED, {State.QUEUED, State.RUNNING}),
        (State.TIMED_OUT, {State.RUNNING}),
    ],
)
def test_only_the_states_of_the_table_lead_to_a_state(state, before):
    assert set(predecessors(state)) == before


def test_a_run_survives_its_document():
    outputs = (
        Output("seg", "Bone", "1.2.3", "1.2.3.5", "1.2.3.5.1"),
        Output("images", "Defaced", "1.2.3", "1.2.3.6"),
        Output("mesh", "Bone", "1.2.3", "1.2.3.4", mesh_id="ab", triangles=12),
    )
    run = replace(
        RUN,
        state=State.SUCCEEDED,
        created=datetime(2026, 1, 2, tzinfo=UTC),
        outputs=outputs,
        measurements=({"name": "Volume", "value": 1.5, "unit": "mL"},),
    )
    assert Run.from_document(run.to_document()) == run


def test_moments_are_shown_in_utc():
    run = replace(RUN, created=datetime(2026, 1, 2, 3, 4, 5, 678000, UTC))
    assert (run.to_json()["created"], run.to_json()["started"]) == ("2026-01-02T03:04:05.678Z", None)


def test_a_document_of_an_older_version_is_read():
    document = RUN.to_document()
    del document["cancel_requested"]
    assert Run.from_document(document | {"more": 1}) == RUN


def test_the_key_is_the_same_for_the_same_work_only():
    same = replace(RUN, id=new_id(), state=State.RUNNING, parameters={"quality": "full", "low": 180})
    assert same.key == RUN.key
    for other in ({"parameters": {"low": 181}}, {"version": "1.0.1"}, {"series_uids": ("1.2.3.6",)}, {"plugin": "x"}):
        assert replace(RUN, **other).key != RUN.key


def test_a_mesh_is_shown_with_its_url_and_an_object_with_its_uids():
    mesh = Output("mesh", "Bone", "1.2", "1.2.3", mesh_id="ab", triangles=12)
    assert mesh.to_json() == {
        "kind": "mesh", "title": "Bone", "study": "1.2", "series": "1.2.3", "url": "/api/v1/meshes/ab", "triangles": 12,
    }  # fmt: skip
    assert mesh.to_json("/isthmus")["url"] == "/isthmus/api/v1/meshes/ab"
    assert Output("seg", "Bone", "1.2", "1.2.3", "1.2.3.4").to_json() == {
        "kind": "seg", "title": "Bone", "study": "1.2", "series": "1.2.3", "instance": "1.2.3.4",
    }  # fmt: skip
    images = Output("images", "Defaced", "1.2", "1.2.3")
    assert images.to_json() == {"kind": "images", "title": "Defaced", "study": "1.2", "series": "1.2.3"}
    assert images.resource == Resource("1.2", "1.2.3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It failed", "It failed."),
        ("It failed.\nTraceback…", "It failed."),
        ("  two   spaces?  ", "two spaces?"),
        ("", ""),
        ("x" * 600, "x" * 499 + "…"),
    ],
)
def test_an_error_is_one_bounded_sentence(text, expected):
    assert sentence(text) == expected
