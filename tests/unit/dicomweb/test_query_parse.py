"""Search parameters: what OHIF and others send, what the standard asks for, and what must be refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.errors import BadRequest
from dicomweb.ports import Limits
from dicomweb.query import (
    SEARCHABLE,
    STANDARD_KEYS,
    AllOf,
    AnyOf,
    Between,
    Empty,
    Key,
    SearchKeys,
    Span,
    Wildcard,
)
from dicomweb.query_parse import parse, split
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
def test_no_switch_is_refused_or_ignored(name):
    assert study((name, "true")).warnings == ()
    with pytest.raises(BadRequest):
        study((name, "TRUE"))


@pytest.mark.parametrize("first", [True, False])
def test_switches_may_come_before_or_after_what_they_change(first):
    parameters = [("emptyvaluematching", "true"), ("multiplevaluematching", "true")]
    values = [("PatientID", '""'), ("ModalitiesInStudy", "CT\\PT")]
    parsed = study(*(parameters + values if first else values + parameters))
    assert dict(parsed.query.matches) == {("00100020",): Empty(), ("00080061",): AllOf(("CT", "PT"))}
    assert match_of("PatientID", '""') == AnyOf(('""',))


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20200101-20200103", "1000-1800", {("00080020",): Span("202001011000", "202001031800")}),
        ("20200101-", "1000-", {("00080020",): Span("202001011000", None)}),
        ("-20200101", "-1000", {("00080020",): Span(None, "202001011000")}),
        (
            "20200101-20200103",
            "1000-",
            {("00080020",): Between("20200101", "20200103"), ("00080030",): Between("1000", None)},
        ),
        ("20200101", "1000-1800", {("00080020",): AnyOf(("20200101",)), ("00080030",): Between("1000", "1800")}),
    ],
)  # fmt: skip
def test_ranges_of_one_form_on_date_and_time_are_one_span(date, time, expected):
    assert dict(study(("StudyTime", time), ("StudyDate", date)).query.matches) == expected


def test_private_creators_say_whose_elements_are_included():
    parsed = study(("00230010", "ACME"), ("includefield", "00231002"))
    assert (dict(parsed.query.creators), parsed.warnings) == ({"00230010": "ACME"}, ())
    (warning,) = study(("00230010", "ACME"), ("includefield", "00251002")).warnings
    assert warning.endswith("ignored: 00230010")


def test_keys_that_are_not_built_are_named_and_not_matched():
    keys = SearchKeys(dict(STANDARD_KEYS) | {("00191001",): Key(Level.STUDY, "DS")}, frozenset([("00191001",)]))
    parsed = parse(Level.STUDY, [("00191001", "5")], keys=keys)
    assert parsed.query.matches == ()
    assert parsed.warnings == ("The following keys are still being built and have been ignored: 00191001",)
    built = parse(Level.STUDY, [("00191001", "5")], keys=SearchKeys(keys.keys))
    assert built.query.matches == ((("00191001",), AnyOf(("5",))),)


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
        [("ModalitiesInStudy", "C*\\MR"), ("multiplevaluematching", "true")],
        [("PatientID", "a\0b")],
        [("PatientID", "\udc80")],
        [("PatientID", "x" * 513)],
        [("StudyInstanceUID", ",".join(["1.2"] * 1001))],
        [("ModalitiesInStudy", ",".join(map(str, range(1001))))],
        [("StudyDate", "20200101-20200102-20200103")],
        [("limit", "9999999999")],
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


def test_long_runs_of_asterisks_are_one():
    assert match_of("PatientName", "*" * 1000) is None
    assert match_of("PatientName", "a" + "*" * 1000 + "b") == Wildcard("a*b")


def test_warnings_stay_short():
    (warning,) = study(*((f"Unknown{number}", "x") for number in range(250))).warnings
    assert warning.endswith("Unknown19 and 230 more")


@pytest.mark.parametrize("text", ["a=%", "a=%4", "a=%zz", "a=%FF", "%C3%28=1", "&".join(["a=b"] * 257), "a" * 70_000])
def test_broken_query_strings_are_refused(text):
    with pytest.raises(BadRequest):
        split(text)


def test_query_strings_are_percent_encoded_utf_8():
    assert split("PatientName=%E7%8E%8B%5E*&x=&StudyInstanceUID=1.2,1.3&StudyInstanceUID=1%5C2") == [
        ("PatientName", "\u738b^*"), ("x", ""), ("StudyInstanceUID", "1.2,1.3"), ("StudyInstanceUID", "1\\2"),
    ]  # fmt: skip


def refusal(parameters):
    """What is said of parameters that are refused; nothing if they are read."""
    try:
        parse(Level.INSTANCE, parameters)
    except BadRequest as exc:
        return exc.message
    return ""


@given(st.text(max_size=60))
def test_any_query_string_is_split_or_refused(text):
    try:
        parameters = split(text)
    except BadRequest:
        return
    assert refusal(parameters).isprintable()


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


@given(
    st.sampled_from(sorted(SEARCHABLE[Level.INSTANCE])),
    st.text(alphabet='0123456789*?^=\\,-"+. aé王', max_size=40),
    st.booleans(),
    st.booleans(),
)
def test_likely_values_are_read_or_refused_with_every_switch(path, value, empty, multiple):
    switches = [("emptyvaluematching", str(empty).lower()), ("multiplevaluematching", str(multiple).lower())]
    said = refusal([(".".join(path), value), *switches])
    assert len(value) < 4 or value not in said  # errors hold no value
