"""Search parameters: what OHIF and others send, what the standard asks for, and what must be refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.errors import BadRequest
from dicomweb.ports import Limits
from dicomweb.query import SEARCHABLE, AnyOf, Between, Wildcard
from dicomweb.query_parse import parse
from dicomweb.resource import Level


def study(*parameters):
    return parse(Level.STUDY, parameters)


def match_of(name, value, level=Level.INSTANCE):
    matches = parse(level, [(name, value)]).query.matches
    return matches[0][1] if matches else None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PatientName", "*Doe*", Wildcard("*Doe*")),
        ("PatientName", "Doe^J?ne", Wildcard("Doe^J?ne")),
        ("00100020", "P1", AnyOf(("P1",))),
        ("PatientID", "a,b", AnyOf(("a,b",))),
        ("PatientID", "*", None),
        ("PatientID", "", None),
        ("StudyDate", "20200101", AnyOf(("20200101",))),
        ("StudyDate", "20200101-20201231", Between("20200101", "20201231")),
        ("StudyDate", "-20201231", Between(None, "20201231")),
        ("StudyDate", "20200101-", Between("20200101", None)),
        ("StudyTime", "10-1130", Between("10", "1130")),
        ("StudyTime", "101500.123456", AnyOf(("101500.123456",))),
        ("ModalitiesInStudy", "CT,MR", AnyOf(("CT", "MR"))),
        ("ModalitiesInStudy", "CT\\MR", AnyOf(("CT", "MR"))),
        ("StudyInstanceUID", "1.2,1.3", AnyOf(("1.2", "1.3"))),
        ("StudyInstanceUID", "1.2\\1.3\\1.2", AnyOf(("1.2", "1.3"))),
        ("StudyInstanceUID", ",", None),
        ("SeriesNumber", "3", AnyOf(("3",))),
        ("RequestAttributesSequence.ScheduledProcedureStepID", "S1", AnyOf(("S1",))),
        ("00400275.00400009", "S1", AnyOf(("S1",))),
    ],
)
def test_matching(name, value, expected):
    assert match_of(name, value) == expected


def test_what_ohif_sends():
    parsed = study(
        ("limit", "101"),
        ("offset", "0"),
        ("fuzzymatching", "false"),
        ("includefield", "00081030,00080060,00080090,00100030"),
        ("00100020", "*x*"),
    )
    assert parsed.warnings == ()
    assert (parsed.query.limit, parsed.query.offset, parsed.query.fuzzy) == (101, 0, False)
    assert parsed.query.matches == ((("00100020",), Wildcard("*x*")),)
    assert parsed.query.include >= {("00081030",), ("00080060",), ("00100030",)}


def test_include_all():
    assert study(("includefield", "all")).query.include is None


@pytest.mark.parametrize("name", ["fuzzymatching", "emptyvaluematching", "multiplevaluematching"])
def test_an_unsupported_switch_is_answered_in_the_words_of_the_standard(name):
    (warning,) = study((name, "true")).warnings
    assert warning.startswith(f"The {name} parameter is not supported. ")
    assert study((name, "false")).warnings == ()


@pytest.mark.parametrize("name", ["Modality", "00091001", "PatientNmae", "SliceThickness", "PatientID.x"])
def test_what_cannot_be_matched_is_named(name):
    parsed = study((name, "x"))
    assert parsed.query.matches == ()
    assert name in parsed.warnings[0]


def test_a_hostile_name_does_not_reach_a_header():
    (warning,) = study(("x\r\nSet-Cookie: a", "1")).warnings
    assert "\r" not in warning
    assert "Cookie" not in warning


@pytest.mark.parametrize(
    "parameters",
    [
        [("PatientID", "a"), ("00100020", "b")],
        [("PatientID", "*"), ("PatientID", "b")],
        [("limit", "1"), ("limit", "2")],
        [("limit", "-1")],
        [("limit", "ten")],
        [("offset", "9" * 30)],
        [("fuzzymatching", "yes")],
        [("StudyDate", "2020-01-01")],
        [("StudyDate", "yesterday")],
        [("StudyDate", "-")],
        [("StudyDate", "{$gt: 1}")],
        [("StudyTime", "1")],
        [("StudyInstanceUID", "1.2.x")],
        [("StudyInstanceUID", "1.2*")],
        [("ModalitiesInStudy", "C*,MR")],
        [("includefield", "PatientID")] * 257,
    ],
)
def test_refused(parameters):
    with pytest.raises(BadRequest):
        study(*parameters)


def test_the_page_is_bounded():
    limits = Limits(max_results=50, default_results=20)
    assert parse(Level.STUDY, [("limit", "1000")], limits=limits).query.limit == 50
    assert parse(Level.STUDY, [], limits=limits).query.limit == 20


@given(st.sampled_from(Level), st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=5))
def test_any_parameters_are_read_or_refused(level, parameters):
    try:
        query = parse(level, parameters).query
    except BadRequest:
        return
    assert {path for path, _ in query.matches} <= SEARCHABLE[level]


@given(st.sampled_from(sorted(path[0] for path in SEARCHABLE[Level.STUDY])), st.text(max_size=30))
def test_any_value_is_read_or_refused(name, value):
    try:
        (match,) = [match for _, match in study((name, value)).query.matches] or [None]
    except BadRequest:
        return
    assert match is None or isinstance(match, AnyOf | Wildcard | Between)
