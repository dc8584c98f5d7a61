"""Dates and ages: every calendar date of a patient moves alike or goes, and intervals stay as they were."""

import itertools

import pytest
from pydicom.sequence import Sequence

from gateway.deid.engine import Deidentifier
from tests.unit.deid.objects import elements, header, values
from tests.unit.deid.passage import code, element, file, found, item, profile_of, taken


def moved(deidentifier: Deidentifier, date: str) -> str:
    years = deidentifier.subject(header()).years
    return f"{int(date[:4]) - years:04d}{date[4:]}"


def test_dates_move_in_every_sequence_and_go_without_the_option(research: Deidentifier, basic: Deidentifier) -> None:
    inner = item(ScheduledProcedureStepStartDate="20190305", ContentDate="20190306", DateTime="20190307101112.5+0100")
    middle = item(RequestAttributesSequence=Sequence([inner]), AcquisitionDateTime="20190308")
    ds = header(
        SourceImageSequence=Sequence([middle]), ContentDate="20190309", DateOfLastCalibration=["20190310", "20190311"]
    )
    originals = [f"201903{day:02d}" for day in (4, *range(5, 12))]
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found(originals) == []
        dates = [value for one in elements(stored.ds) if one.VR in {"DA", "DT"} for value in values(one)]
        years = research.subject(header()).years
        assert {value[:4] for value in dates} <= ({str(2019 - years)} if deidentifier is research else {"1900"})


@pytest.mark.parametrize("offset", ["", "+0100", "-0500", "+1400"])
@pytest.mark.parametrize("time", ["", "10", "1011", "101112", "101112.123456", "000000", "235959.999999"])
def test_a_datetime_keeps_its_time_and_zone(research: Deidentifier, time: str, offset: str) -> None:
    text = f"20190304{time}{offset}"
    result = taken(research, file(header(AcquisitionDateTime=text, TimezoneOffsetFromUTC="-0500"))).ds
    assert result.AcquisitionDateTime == moved(research, "20190304") + time + offset
    assert result.TimezoneOffsetFromUTC == "-0500"


@pytest.mark.parametrize(
    ("tag", "vr", "value", "expected"),
    [
        (0x00080022, "DA", b"1947.03.12", "moved"),
        (0x00080022, "DA", b"20190229", ""),
        (0x00080022, "DA", b"470312", ""),
        (0x00080022, "DA", b"20191332", ""),
        (0x00080022, "DA", b"00010101", ""),
        (0x00080022, "DA", b"20190304-20190306", ""),
        (0x00080022, "DA", b"-20190304", ""),
        (0x00080022, "DA", b"12.03.1947", ""),
        (0x00080022, "DA", b"1947-03-12", ""),
        (0x00080022, "DA", b"March 12, 1947", ""),
        (0x00080022, "DA", b"20190304QUIRINALE", ""),
        (0x0008002A, "DT", b"20190304101112-20190305101112", ""),
        (0x0008002A, "DT", b"19470312 ZEPHYRINA", ""),
        (0x0008002A, "DT", b"1947-03-12T10:11:12", ""),
        (0x0008002A, "DT", b"20190304991112", ""),
        (0x00080032, "TM", b"19470312", ""),
        (0x00080032, "TM", b"QUIRINALE ", ""),
        (0x00080032, "TM", b"101112-111112", ""),
        (0x00080201, "SH", b"19470312", ""),
        (0x00080201, "SH", b"+0100QUIRINALE", ""),
    ],
)
def test_what_is_no_date_or_time_is_emptied(
    research: Deidentifier, basic: Deidentifier, tag: int, vr: str, value: bytes, expected: str
) -> None:
    raw = file(None, (tag, element(tag, vr, value + b" " * (len(value) % 2))))
    assert found(taken(basic, raw).raw, [value.decode(), "19470312", "1947.03.12", "quirinale"]) == []
    stored = taken(research, raw)
    assert stored.found([value.decode(), "19470312", "1947.03.12", "quirinale", "zephyrina"]) == []
    assert str(stored.ds[tag].value or "") == (moved(research, "19470312") if expected else "")


SPELT = [
    *("20190304", "2019-03-04", "04.03.2019", "3/4/2019", "4 March 2019", "04MAR2019", "Mar 4, 2019", "2019/03/04"),
    *("04-Mar-19", "4.3.19", "2019 03 04", "20190304101112", "04032019", "2019.03.04"),
]


@pytest.mark.parametrize("text", SPELT)
@pytest.mark.parametrize(
    "keyword", ["SeriesDescription", "RequestedContrastAgent", "ImageComments", "DerivationDescription"]
)
def test_dates_in_text_go(research: Deidentifier, basic: Deidentifier, text: str, keyword: str) -> None:
    ds = header(StudyDescription=f"CT {text}", **{keyword: f"CT {text} AXIAL"})
    for deidentifier in (research, basic, profile_of("clean-descriptors")):
        assert taken(deidentifier, file(ds)).found([text, "20190304"]) == []


def test_a_date_in_a_number_goes(research: Deidentifier, basic: Deidentifier) -> None:
    ds = header(SeriesNumber="19470312", AcquisitionNumber="20190304", InstanceNumber="7", AccessionNumber="4477889")
    ds.ExposureTime, ds.SliceLocation = "7788123", "4477889.0"
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found(["19470312", "20190304", "7788123", "4477889"]) == []
        assert stored.ds.InstanceNumber == 7


def test_no_birth_date_and_no_age_over_ninety_leaves(research: Deidentifier, basic: Deidentifier) -> None:
    for age, expected in (("093Y", "090Y"), ("089Y", "089Y"), ("090Y", "090Y"), ("999M", "999M"), ("999W", "999W")):
        ds = header(PatientAge=age, PatientBirthTime="101112", PatientBirthDateInAlternativeCalendar="S22.3.12")
        stored = taken(research, file(ds))
        assert stored.ds.PatientAge == expected
        assert stored.found(["19470312", "s22.3.12"]) == []
        assert not taken(basic, file(ds)).ds.get("PatientAge")


@pytest.mark.parametrize("options", [("retain-full-dates",), ("modified-dates",), ("retain-patient-characteristics",)])
def test_no_option_retains_the_birth_date(options: tuple[str, ...]) -> None:
    ds = header(StudyDate="20190304", ReferencedPatientSequence=Sequence([item(PatientBirthDate="19470312")]))
    stored = taken(profile_of(*options), file(ds))
    assert stored.found(["19470312"]) == []
    assert (stored.ds.StudyDate == "20190304") == (options == ("retain-full-dates",))


def test_intervals_of_a_patient_stay(research: Deidentifier) -> None:
    """Across midnight, the change of clocks, and the frames of a perfusion; for uptake it is minutes that count."""
    times = ["20190330235959", "20190331015959", "20190331030001", "20190401000001.250", "20191027023000+0100"]
    frames = [item(FrameContentSequence=Sequence([item(FrameReferenceDateTime=time)])) for time in times]
    dose = item(RadiopharmaceuticalStartDateTime="20190330234500", RadiopharmaceuticalStartTime="234500")
    ds = header(
        PerFrameFunctionalGroupsSequence=Sequence(frames),
        RadiopharmaceuticalInformationSequence=Sequence([dose]),
        SeriesDate="20190331",
        SeriesTime="000500",
    )
    result = taken(research, file(ds)).ds
    after = [frame.FrameContentSequence[0].FrameReferenceDateTime for frame in result.PerFrameFunctionalGroupsSequence]
    assert after == [moved(research, time) for time in times]
    injected = result.RadiopharmaceuticalInformationSequence[0]
    assert injected.RadiopharmaceuticalStartDateTime == moved(research, "20190330234500")
    assert (injected.RadiopharmaceuticalStartTime, result.SeriesTime) == ("234500", "000500")


def test_dates_of_all_studies_of_a_patient_move_alike(research: Deidentifier) -> None:
    dates = ["19990101", "20000229", "20190304", "20240229"]
    shifted = [taken(research, file(header(StudyDate=date))).ds.StudyDate for date in dates]
    years = {int(before[:4]) - int(after[:4]) for before, after in itertools.zip_longest(dates, shifted)}
    assert years == {research.subject(header()).years}
    assert next(after[4:] for after in shifted) == "0101"


def test_times_of_content_items_are_dates_too(research: Deidentifier, basic: Deidentifier) -> None:
    content = Sequence(
        [
            item(
                ValueType="DATETIME",
                ConceptNameCodeSequence=code("111526", "DCM", "DateTime Started"),
                DateTime="20190304101112",
            ),
            item(
                ValueType="DATE", ConceptNameCodeSequence=code("121031", "DCM", "Subject Birth Date"), Date="19470312"
            ),
            item(ValueType="TIME", ConceptNameCodeSequence=code("111061", "DCM", "Study Time"), Time="101112"),
            item(ValueType="TCOORD", ReferencedDateTime=["20190304101112", "20190304101113"]),
            item(ValueType="TEXT", TextValue="seen on 4 March 2019", ObservationDateTime="20190304101112"),
        ]
    )
    ds = header(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", ContentSequence=content, DocumentTitle="Report of 4 March 2019"
    )
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found(["20190304", "19470312", "4 march 2019"]) == []
    result = taken(research, file(ds)).ds.ContentSequence
    assert result[0].DateTime == moved(research, "20190304101112")
    assert [entry.ValueType for entry in result] == ["DATETIME", "TIME", "TCOORD", "TEXT"]  # the birth date went whole
    assert list(result[2].ReferencedDateTime) == [moved(research, "20190304101112"), moved(research, "20190304101113")]


def test_pseudonyms_and_uids_tell_no_order_and_no_time(research: Deidentifier) -> None:
    """Nothing that is issued sorts as the originals did, nor counts, nor holds a clock as version 1 UUIDs do."""
    ids = [f"PAT{number:05d}" for number in range(64)]
    names = [research.pseudonyms.of_patient(patient_id) for patient_id in ids]
    assert names != sorted(names)
    assert names[::-1] != sorted(names)
    uids = [research.uid(f"1.2.840.99.{number}") for number in range(64)]
    numbers = [int(uid.removeprefix("2.25.")) for uid in uids]
    rises = sum(after > before for before, after in itertools.pairwise(numbers))
    assert 16 < rises < 48
    heads = {number >> 96 for number in numbers}
    assert len(heads) == 64  # no common clock or node
