"""Parameters from type hints, and what is refused of them."""

from __future__ import annotations

import pickle
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ray_plugins.sdk import (
    Accepts,
    Cancelled,
    Context,
    Log,
    Param,
    ParameterError,
    Progress,
    Result,
    Volume,
    plugin,
)


@plugin(name="all-kinds", title="All kinds", version="1.0.0", accepts=Accepts("CT", instances=5))
def all_kinds(
    volume: Volume,
    context: Context,
    level: Annotated[int, Param(180, ge=-200, le=3000, unit="HU", widget="slider", help="Where it begins.")],
    weight: Annotated[float, Param(0.5, ge=0)],
    name: str,
    mode: Literal["fast", "good"] = "good",
    fill: bool = True,
) -> Result:
    """Has every kind of parameter.

    This is for readers of the source.
    """
    return Result()


def test_the_schema_says_what_the_hints_say() -> None:
    Draft202012Validator.check_schema(all_kinds.schema)
    assert all_kinds.schema["properties"] == {
        "level": {
            "type": "integer",
            "title": "Level",
            "description": "Where it begins.",
            "minimum": -200,
            "maximum": 3000,
            "x-unit": "HU",
            "x-widget": "slider",
            "default": 180,
        },
        "weight": {"type": "number", "title": "Weight", "minimum": 0, "default": 0.5},
        "name": {"type": "string", "maxLength": 1024, "title": "Name"},
        "mode": {"type": "string", "enum": ["fast", "good"], "title": "Mode", "default": "good"},
        "fill": {"type": "boolean", "title": "Fill", "default": True},
    }
    assert all_kinds.schema["required"] == ["name"]
    assert all_kinds.schema["additionalProperties"] is False
    assert all_kinds.description == "Has every kind of parameter."


def test_defaults_complete_and_json_numbers_take_the_type_of_the_hint() -> None:
    complete = all_kinds.validate({"name": "x", "level": 200.0, "weight": 2})
    assert complete == {"name": "x", "level": 200, "weight": 2.0, "mode": "good", "fill": True}
    assert type(complete["level"]) is int
    assert type(complete["weight"]) is float


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"level": 5000}, "level must be a whole number from -200 to 3000 HU; it is 5000."),
        ({"level": 1.5}, "level must be a whole number from -200 to 3000 HU; it is 1.5."),
        ({"level": True}, "level must be a whole number from -200 to 3000 HU; it is True."),
        ({"level": None}, "level must be a whole number from -200 to 3000 HU; it is None."),
        ({"weight": -1}, "weight must be a number of at least 0; it is -1."),
        ({"weight": float("nan")}, "weight must be a number of at least 0; it is nan."),
        ({"weight": float("inf")}, "weight must be a number of at least 0; it is inf."),
        ({"weight": 1 << 1024}, f"weight must be a number of at least 0; it is {str(1 << 1024)[:80]}."),
        ({"mode": "best"}, "mode must be one of fast, good."),
        ({"fill": "yes"}, "fill must be true or false."),
        ({"name": 3}, "name must be text of at most 1024 characters; it is 3."),
        ({"colour": 1}, "There is no parameter colour; there are: level, weight, name, mode, fill."),
    ],
)
def test_a_fault_is_one_sentence(parameters: dict[str, object], sentence: str) -> None:
    with pytest.raises(ParameterError) as failure:
        all_kinds.validate({"name": "x"} | parameters)
    assert failure.value.faults == (sentence,)
    assert pickle.loads(pickle.dumps(failure.value)).faults == (sentence,)


def test_every_fault_is_told() -> None:
    with pytest.raises(ParameterError) as failure:
        all_kinds.validate({"level": 5000, "mode": "best"})
    assert len(failure.value.faults) == 3


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)


@given(st.dictionaries(st.sampled_from(["level", "weight", "name", "mode", "fill", "x"]), scalars))
def test_whatever_is_given_is_completed_or_refused(parameters: dict[str, object]) -> None:
    try:
        complete = all_kinds.validate(parameters)
    except ParameterError:
        return
    assert Draft202012Validator(all_kinds.schema).is_valid(complete)
    assert all_kinds.validate(complete) == complete


def test_a_declaration_that_cannot_work_fails_at_import() -> None:
    with pytest.raises(ValueError, match="joined by hyphens"):
        plugin(name="Bad Name", title="", version="", accepts=Accepts("CT"))

    def untyped(volume, context, level=3): ...
    def alone(volume): ...

    for function in (untyped, alone):
        with pytest.raises(TypeError):
            plugin(name="bad", title="", version="", accepts=Accepts("CT"))(function)


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        ({"Modality": "CT", "instances": 5}, None),
        ({"Modality": "MR", "instances": 5}, "It needs a CT series; this one is MR."),
        ({"Modality": "CT", "instances": 4}, "It needs at least 5 instances; this series has 4."),
        ({"Modality": "CT", "instances": 9, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "It does not take"),
        ({}, "It needs a CT series; this one is of unknown modality."),
    ],
)
def test_which_series_it_takes(series: dict[str, object], reason: str | None) -> None:
    refusal = all_kinds.accepts_series(series)
    assert refusal is None if reason is None else refusal is not None and refusal.startswith(reason)


def test_the_context_reports_scales_and_stops() -> None:
    events: list[object] = []
    stopped = False
    context = Context(events.append, lambda: stopped)
    context.part(0.5, 1).part(0, 0.5).progress(0.5, "half of a quarter")
    context.log("%d voxels", 3)
    context.log("100 %")
    assert events == [Progress(0.625, "half of a quarter"), Log("3 voxels"), Log("100 %")]
    stopped = True
    with pytest.raises(Cancelled):
        context.progress(0.9)
