"""Content items by their concepts: PS3.15 Table E.3.4-1, row by row and within reports."""

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from gateway.deid.plan import Action
from gateway.deid.structured import ContentItems, table
from gateway.deid.tables import facts
from tests.unit.deid.objects import KEY, header
from tests.unit.deid.passage import code, file, found, item, profile_of, taken

REPORT = "1.2.840.10008.5.1.4.1.1.88.33"
ROWS = [tuple(row) for row in facts("e3_4_1.json")["rows"]]
STRUCTURED = ("clean-structured-content", "modified-dates")


def test_the_table_is_whole() -> None:
    schemes = {row[0] for row in ROWS}
    assert schemes == {"DCM", "LN", "NCDR", "NCIt", "SCT", "SRT", "SNM3", "99SDM", "UMLS"}
    assert len([row for row in ROWS if row[0] not in {"SRT", "SNM3", "99SDM"}]) == 211
    assert len(table()) == len(ROWS) == 244
    assert {row[4] for row in ROWS} == {"X", "D", "X/D"}
    assert facts("e3_4_1.json")["sources"]


@pytest.mark.parametrize("row", [row for row in ROWS if row[2] == "TEXT"], ids=lambda row: f"{row[0]}-{row[1]}")
def test_every_text_of_the_table_is_cleaned_kept_replaced_or_gone(
    row: tuple[str, str, str, str, str, dict[str, str]],
) -> None:
    scheme, value, kind, _, basic, options = row
    entry = item(ValueType=kind, ConceptNameCodeSequence=code(value, scheme, "Chest"), TextValue="1234 Chest")
    plain = ContentItems({"clean-structured-content"}).action(entry)
    assert plain is (Action.REMOVE if basic == "X" else Action.DUMMY)
    for option, action in options.items():
        assert ContentItems({option}).action(entry) is (None if action == "C" else Action.TRANSCODE)
    if scheme == "DCM":
        ds = header(SOPClassUID=REPORT, ContentSequence=Sequence([entry, item(ValueType="TEXT", TextValue="x")]))
        assert found(taken(profile_of(*STRUCTURED), file(ds)).raw, ["1234 chest"]) == []


def test_a_short_id_that_looks_like_a_number_goes_where_its_concept_says_what_it_is() -> None:
    """Four digits are a slice or a dose elsewhere in text."""
    names = {"121022": "Accession Number", "121030": "Subject ID", "113871": "Person ID", "125010": "Identifier"}
    items = [
        item(ValueType="TEXT", ConceptNameCodeSequence=code(key, "DCM", name), TextValue="4711")
        for key, name in names.items()
    ]
    finding = item(
        ValueType="TEXT", ConceptNameCodeSequence=code("121071", "DCM", "Finding"), TextValue="chest 4711 normal"
    )
    ds = header(SOPClassUID=REPORT, ContentSequence=Sequence([*items, finding]))
    for options in (STRUCTURED, (*STRUCTURED, "clean-descriptors")):
        stored = taken(profile_of(*options), file(ds))
        assert found(stored.raw, ["4711"]) == []
        texts = [(entry.ConceptNameCodeSequence[0].CodeValue, entry.TextValue) for entry in stored.ds.ContentSequence]
        cleaned = "chest *** normal" if "clean-descriptors" in options else "ANONYMIZED"
        assert texts == [("121030", "ANONYMIZED"), ("121071", cleaned)]


def test_ages_sexes_and_births_follow_the_option_for_characteristics() -> None:
    age = item(
        ValueType="NUM",
        ConceptNameCodeSequence=code("121033", "DCM", "Subject Age"),
        MeasuredValueSequence=Sequence(
            [item(NumericValue="71", MeasurementUnitsCodeSequence=code("a", "UCUM", "year"))]
        ),
    )
    sex = item(
        ValueType="CODE",
        ConceptNameCodeSequence=code("121032", "DCM", "Subject Sex"),
        ConceptCodeSequence=code("F", "DCM", "Female"),
    )
    birth = item(ValueType="DATE", ConceptNameCodeSequence=code("121031", "DCM", "Subject Birth Date"), Date="19470312")
    ds = header(SOPClassUID=REPORT, ContentSequence=Sequence([item(ValueType="TEXT", TextValue="x"), age, sex, birth]))
    kept = taken(profile_of(*STRUCTURED, "retain-patient-characteristics"), file(ds)).ds.ContentSequence
    assert [entry.ValueType for entry in kept] == ["TEXT", "NUM", "CODE"]
    assert kept[1].MeasuredValueSequence[0].NumericValue == 71
    gone = taken(profile_of(*STRUCTURED), file(ds)).ds.ContentSequence
    assert [entry.ValueType for entry in gone] == ["TEXT"]


def test_places_and_devices_stay_where_the_profile_retains_them() -> None:
    organization = code("121009", "DCM", "Person Observer's Organization Name")
    serial = code("121016", "DCM", "Device Observer Serial Number")
    content = Sequence(
        [
            item(ValueType="TEXT", ConceptNameCodeSequence=organization, TextValue="Saint Elsewhere of Quirinale"),
            item(ValueType="TEXT", ConceptNameCodeSequence=serial, TextValue="SN5566778"),
            item(ValueType="TEXT", TextValue="normal"),
        ]
    )
    ds = header(SOPClassUID=REPORT, ContentSequence=content)
    kept = taken(profile_of(*STRUCTURED, "retain-institution-identity", "retain-device-identity"), file(ds)).ds
    assert [entry.TextValue for entry in kept.ContentSequence] == ["Saint Elsewhere of ***", "SN5566778", "normal"]
    gone = taken(profile_of(*STRUCTURED), file(ds))
    assert gone.found() == []
    assert [entry.TextValue for entry in gone.ds.ContentSequence] == ["normal"]


def person(depth: int) -> Dataset:
    entry = item(
        ValueType="TEXT",
        ConceptNameCodeSequence=code("128774", "DCM", "Person Observer's Login Name"),
        RelationshipType="HAS OBS CONTEXT",
        TextValue="zquirin1",
    )
    for _ in range(depth):
        entry = item(ValueType="CONTAINER", ContentSequence=Sequence([entry]))
    return entry


@pytest.mark.parametrize("depth", [0, 1, 30])
def test_items_go_at_any_depth_and_leave_no_empty_sequence(depth: int) -> None:
    ds = header(SOPClassUID=REPORT, ContentSequence=Sequence([item(ValueType="TEXT", TextValue="x"), person(depth)]))
    stored = taken(profile_of(*STRUCTURED), file(ds))
    assert found(stored.raw, ["zquirin1"]) == []

    def check(parent: Dataset) -> None:
        for entry in parent.get("ContentSequence", []):
            check(entry)
        assert "ContentSequence" not in parent or len(parent.ContentSequence)

    check(stored.ds)


def test_places_in_the_tree_do_not_move_where_items_are_named_by_them() -> None:
    """By-reference relationships count items: what goes from before them would make them name others."""
    finding = item(ValueType="TEXT", ConceptNameCodeSequence=code("121071", "DCM", "Finding"), TextValue="x")
    relation = item(RelationshipType="INFERRED FROM", ReferencedContentItemIdentifier=[1, 3])
    last = item(ValueType="CODE", ContentSequence=Sequence([relation]))
    ds = header(SOPClassUID=REPORT, ContentSequence=Sequence([person(0), person(0), finding, last]))
    result = taken(profile_of(*STRUCTURED, "clean-descriptors"), file(ds))
    assert found(result.raw, ["zquirin1"]) == []
    assert [entry.get("TextValue") for entry in result.ds.ContentSequence] == ["ANONYMIZED", "ANONYMIZED", "x", None]
    assert result.ds.ContentSequence[3].ContentSequence[0].ReferencedContentItemIdentifier == [1, 3]


def test_an_identifier_of_a_report_is_found_in_its_other_texts() -> None:
    subject = item(
        ValueType="TEXT", ConceptNameCodeSequence=code("121030", "DCM", "Subject ID"), TextValue="AXIAL-4711"
    )
    comment = item(
        ValueType="TEXT", ConceptNameCodeSequence=code("121106", "DCM", "Comment"), TextValue="axial 4711, axial ct"
    )
    ds = header(SOPClassUID=REPORT, ContentSequence=Sequence([comment, subject]), SeriesDescription="AXIAL 4711")
    stored = taken(profile_of(*STRUCTURED, "clean-descriptors"), file(ds))
    assert found(stored.raw, ["4711"]) == []
    assert stored.ds.ContentSequence[0].TextValue == "***, axial ct"


def test_twice_is_once_for_reports_too() -> None:
    ds = header(
        SOPClassUID=REPORT, ContentSequence=Sequence([person(2), item(ValueType="TEXT", TextValue="AXIAL 5.0")])
    )
    for options in (STRUCTURED, (), (*STRUCTURED, "clean-descriptors")):
        deidentifier = profile_of(*options, key=KEY)
        once = taken(deidentifier, file(ds))
        assert taken(deidentifier, once.raw).raw == once.raw
