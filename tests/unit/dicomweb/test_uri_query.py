"""The parameters of WADO-URI."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from dicomweb.errors import BadRequest
from dicomweb.rendering.options import Viewport, Window
from dicomweb.uri_query import KNOWN, View, parse
from dicomweb.wado_uri import viewport

NAMED = {"requestType": "WADO", "studyUID": "1.2", "seriesUID": "1.3", "objectUID": "1.4"}


def asked(**parameters: str):
    return parse(MultiDict(NAMED | parameters))


def test_reads_every_parameter() -> None:
    found = asked(
        contentType="image/png,image/jpeg;q=0.5",
        charset="UTF-8",
        anonymize="yes",
        transferSyntax="1.2.840.10008.1.2.4.90",
        frameNumber="3",
        rows="100",
        columns="200",
        region="0.25,0,1,0.5",
        windowCenter="-600.5",
        windowWidth="1e3",
        imageQuality="70",
        annotation="technique,patient",
    )
    assert found.resource.path == "studies/1.2/series/1.3/instances/1.4"
    assert found.anonymize
    assert found.transfer_syntax == "1.2.840.10008.1.2.4.90"
    window = Window(-600.5, 1000.0)
    assert found.view == View(3, 100, 200, (0.25, 0.0, 1.0, 0.5), window, 70, ("patient", "technique"))
    assert not found.warnings


def test_names_what_it_does_not_know_without_its_value() -> None:
    (warning,) = asked(PatientName="Quixote").warnings
    assert "PatientName" in warning
    assert "Quixote" not in warning


@pytest.mark.parametrize("name", NAMED)
def test_refuses_a_request_without_a_mandatory_parameter(name: str) -> None:
    with pytest.raises(BadRequest, match=name):
        parse(MultiDict({key: value for key, value in NAMED.items() if key != name}))


@pytest.mark.parametrize(
    "parameters",
    [
        {"requestType": "wado"},
        {"studyUID": "x"},
        {"contentType": "application/dicom;transfer-syntax=1.2.840.10008.1.2.1"},
        {"contentType": "text/plain;charset=utf-8"},
        {"contentType": "application/dicom,image/jpeg"},
        {"anonymize": "no"},
        {"anonymize": ""},
        {"transferSyntax": "explicit"},
        {"frameNumber": "0"},
        {"frameNumber": "1,2"},
        {"frameNumber": "+1"},
        {"rows": "0"},
        {"columns": "-5"},
        {"region": "0,0,1"},
        {"region": "0,0,1,1,1"},
        {"region": "0.5,0,0.5,1"},
        {"region": "0,0,1.01,1"},
        {"region": "0,0,nan,1"},
        {"windowCenter": "40"},
        {"windowWidth": "400"},
        {"windowCenter": "40", "windowWidth": "0.5"},
        {"windowCenter": "forty", "windowWidth": "400"},
        {"imageQuality": "0"},
        {"imageQuality": "101"},
        {"annotation": ""},
        {"presentationUID": "1.5"},
        {"presentationSeriesUID": "1.5"},
        {"presentationUID": "1.5", "presentationSeriesUID": "1.6", "windowCenter": "4", "windowWidth": "4"},
        {"presentationUID": "1.5", "presentationSeriesUID": "1.6", "frameNumber": "1"},
        {"presentationUID": "1.5", "presentationSeriesUID": "1.6", "anonymize": "yes"},
    ],
)
def test_refuses_what_is_malformed_or_contradicts_itself(parameters: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        asked(**parameters)


@pytest.mark.parametrize("name", ["anonymize", "transferSyntax", "frameNumber", "studyUID", "contentType"])
def test_refuses_a_parameter_given_twice(name: str) -> None:
    query = MultiDict(NAMED | {"anonymize": "yes", "transferSyntax": "1.2", "frameNumber": "1", "contentType": "a/b"})
    query.add(name, query[name])
    with pytest.raises(BadRequest):
        parse(query)


@given(st.lists(st.tuples(st.sampled_from(KNOWN), st.text(max_size=30)), max_size=12))
def test_any_query_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    query = MultiDict([*NAMED.items(), *((key, value) for key, value in pairs if key not in NAMED)])
    error = ""
    try:
        found = parse(query)
    except BadRequest as exc:
        error = exc.message
    assert error or found.view.frame is None or found.view.frame > 0
    assert not any(value in error for _, value in pairs if len(value) > 12)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (View(), None),
        (View(columns=50), Viewport(50, 26, 0, 0, 200, 100)),
        (View(rows=50, columns=500), Viewport(500, 50, 0, 0, 200, 100)),
        (View(region=(0.5, 0.0, 1.0, 1.0)), Viewport(100, 100, 100, 0, 100, 100)),
    ],
)
def test_a_side_that_is_not_given_follows_from_the_other(view: View, expected: Viewport | None) -> None:
    assert viewport(view, 100, 200, 1 << 20) == expected


def test_refuses_pictures_that_are_too_large_or_have_no_pixel() -> None:
    with pytest.raises(BadRequest):
        viewport(View(rows=60_000), 100, 200, 1 << 20)
    with pytest.raises(BadRequest):
        viewport(View(region=(0.0, 0.0, 0.001, 1.0)), 100, 200, 1 << 20)
