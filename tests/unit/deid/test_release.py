"""The last look: a plan with a hole releases nothing. Each hole lets through what the plan would have caught."""

import struct
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from gateway.deid.engine import Deidentifier, Refusal
from gateway.deid.plan import Action, Plan
from gateway.deid.profile import Profile, load_profile
from gateway.deid.traces import days_of, holds_day, uids_in, uids_in_bytes
from tests.unit.deid.objects import KEY, NEEDLES, decode, encode, header

UID = "1.2.826.0.1.3680043.8.498.1.19470312"  # of the object: objects.header
PRIVATE = 0x00091001


class HoledPlan(Plan):
    """A plan that keeps some elements as they come."""

    def __init__(self, profile: Profile, *holes: int) -> None:
        super().__init__(profile)
        self.keeps_safe_private = True
        self._holes = holes

    def resolve(self, tag: int, declared: str | None) -> tuple[Action, str]:
        return (Action.KEEP, declared or "UN") if tag in self._holes else super().resolve(tag, declared)

    def rule(self, ds: Dataset, tag: int, declared: str | None) -> tuple[Action, str]:
        if tag in self._holes or tag & 0xFFFFFF00 == 0x00090000:
            return Action.KEEP, declared or "UN"
        return super().rule(ds, tag, declared)  # type: ignore[arg-type]


def holed(*holes: int, profile: str = "research") -> Deidentifier:
    deidentifier = Deidentifier.load(profile, KEY)
    deidentifier.plan = HoledPlan(load_profile(profile), *holes)
    return deidentifier


def with_element(tag: int, vr: str, value: object, **attributes: object) -> Dataset:
    ds = header(**attributes)
    if tag & 0x10000:
        ds.add_new(0x00090010, "LO", "ACME 1.0")
    ds.add_new(tag, vr, value)
    return decode(encode(ds))


def refused(deidentifier: Deidentifier, ds: Dataset, tag: int) -> None:
    """Assert that an object is refused for one of its elements, by a message that quotes nothing."""
    with pytest.raises(Refusal) as refusal:
        deidentifier.apply(ds)
    message = refusal.value.message
    assert message == f"After de-identification ({tag >> 16:04X},{tag & 0xFFFF:04X}) still held identity."
    assert not [needle for needle in NEEDLES if needle in message.lower()]


@pytest.mark.parametrize(
    "text",
    [
        "Quirinale",
        "seen by QUIRINALEZ today",
        "MRN 7788123",
        "MRN-77 88-123",
        "Saint Elsewhere",
        "20190304",
        "2019-03-04",
        "2019.03.04 10:11",
        "04.03.2019",
        "03/04/2019",
        "04032019",
        "4 March 2019",
        "04MAR2019",
        "Mar 4th, 2019",
        "scan_20190304101112",
        UID,
        f"<{UID}>",
        f"x{UID}/y",
    ],
)
@pytest.mark.parametrize(("tag", "vr"), [(0x00081030, "LO"), (PRIVATE, "LT"), (0x00204000, "LT")])
def test_text_that_a_plan_forgets(tag: int, vr: str, text: str) -> None:
    refused(holed(tag), with_element(tag, vr, text, PatientID="MRN7788123"), tag)


@pytest.mark.parametrize("size", [0, 2_000, 300_000])
@pytest.mark.parametrize(
    "spelt",
    [
        b"Quirinale",
        b"QUIRINALE",
        "Quirinale".encode("utf-16-le"),
        "quirinale".encode("utf-16-be"),
        b"77-88-123",
        b"20190304",
        b"2019-03-04",
        "20190304".encode("utf-16-le"),
        b"04.03.2019",
        UID.encode(),
        UID.encode("utf-16-le"),
        UID.encode("utf-16-be"),
    ],
)
def test_private_bytes_that_a_plan_forgets(spelt: bytes, size: int) -> None:
    value = b"\x01\x7f" * (size // 2) + b"\xff\x00" + spelt + b"\x00\xfe" + b"\x01\x7f" * (size // 2)
    ds = with_element(PRIVATE, "OB", value + b"\0" * (len(value) % 2), PatientID="7788123")
    refused(holed(PRIVATE), ds, PRIVATE)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("size", [0, 4_000])
def test_private_bytes_in_other_scripts(encoding: str, size: int) -> None:
    name = "Özgümüş" if encoding != "latin-1" else "Gößmann"
    value = b"\x01" * size + name.encode(encoding) + b"\x01" * size
    ds = with_element(PRIVATE, "UN", value + b"\0" * (len(value) % 2), PatientName=f"{name}^A")
    ds = decode(encode(ds))
    refused(holed(PRIVATE), ds, PRIVATE)


def test_a_short_name_in_many_private_bytes() -> None:
    refused(
        holed(PRIVATE),
        with_element(PRIVATE, "OB", b"\x02" * 5_000 + b"Lowe" + b"\x02" * 5_000, PatientName="LOWE^A"),
        PRIVATE,
    )


@pytest.mark.parametrize("spelt", [b"Quirinale", UID.encode(), b"20190304"])
def test_bytes_of_public_tables(spelt: bytes) -> None:
    """A look-up table that a plan keeps, as it should, does not carry what is hidden in it."""
    value = b"\x00\x10" * 4_000 + spelt + b"\0" * (len(spelt) % 2)
    refused(holed(), with_element(0x00281201, "OW", value), 0x00281201)


@pytest.mark.parametrize("patient_id", ["123456", "12345678", "112233", "abcdef", "987654"])
def test_a_ramp_is_no_identifier(research: Deidentifier, patient_id: str) -> None:
    """The palette that goes through all values holds the characters of such an ID in a row."""
    ramp = (
        b"".join(struct.pack("<H", value) * 2 for value in range(256)) + bytes(range(256)) + bytes(range(255, -1, -1))
    )
    ds = with_element(0x00281201, "OW", ramp, PatientID=patient_id)
    research.apply(ds)
    assert ds[0x00281201].value == ramp


def test_an_item_that_a_plan_forgets() -> None:
    item = Dataset()
    item.StudyDescription = "of 2019-03-04"
    ds = decode(encode(header(ReferencedSeriesSequence=Sequence([item]))))
    refused(holed(0x00081030), ds, 0x00081030)


@pytest.mark.parametrize(
    "keyword", ["ScheduledProcedureStepStartDate", "ContentDate", "RadiopharmaceuticalStartDateTime"]
)
def test_dates_and_uids_of_items_are_learnt(keyword: str) -> None:
    """Of items that stay and of items that go, wherever they are."""
    item = Dataset()
    setattr(item, keyword, "20111213")
    item.ReferencedSOPInstanceUID = "1.2.3.444.5555.66666"
    for sequence in ("ReferencedSeriesSequence", "RequestAttributesSequence", "OriginalAttributesSequence"):
        for text in ("13.12.2011", "1.2.3.444.5555.66666"):
            ds = header(StudyDescription=text, **{sequence: Sequence([item])})
            refused(holed(0x00081030), decode(encode(ds)), 0x00081030)


def test_a_date_of_a_private_element_is_learnt(research: Deidentifier) -> None:
    ds = header(StudyDescription="13.12.2011")
    ds.add_new(0x00190010, "LO", "ACME 1.0")
    ds.add_new(0x00191001, "DA", "20111213")
    deidentifier = Deidentifier.load("research", KEY)
    plan = deidentifier.plan
    plan.resolve = lambda tag, declared: (  # type: ignore[method-assign]
        (Action.KEEP, "LO") if tag == 0x00081030 else Plan.resolve(plan, tag, declared)
    )
    refused(deidentifier, decode(encode(ds)), 0x00081030)


def test_what_is_remembered_is_looked_at_for_each_object() -> None:
    """The UID in a text is nothing to the first object, and its own to the second."""
    deidentifier = holed(0x00081030)
    for number in range(3):
        ds = header(StudyDescription="1.2.826.0.1.777", SOPInstanceUID=f"1.2.826.0.1.555.{number}")
        deidentifier.apply(decode(encode(ds)))
    refused(
        deidentifier,
        decode(encode(header(StudyDescription="1.2.826.0.1.777", SOPInstanceUID="1.2.826.0.1.777"))),
        0x00081030,
    )


def test_a_day_of_another_object_is_looked_at_anew() -> None:
    deidentifier = holed(0x00081030)
    for _ in range(3):
        deidentifier.apply(decode(encode(header(StudyDescription="2018-05-06"))))
    refused(deidentifier, decode(encode(header(StudyDescription="2018-05-06", StudyDate="20180506"))), 0x00081030)


@pytest.mark.parametrize("profile", ["research", "basic"])
def test_dates_in_their_own_elements_may_equal_others(profile: str) -> None:
    """A shifted date may be another date of the object, and numbers may look like dates."""
    deidentifier = Deidentifier.load(profile, KEY)
    years = deidentifier.subject(header()).years
    ds = header(StudyDate="20190304", SeriesDate=f"{2019 - years}0304", AcquisitionNumber="20190304")
    ds = decode(encode(ds))
    deidentifier.apply(ds)
    assert ds.StudyDate == (f"{2019 - years}0304" if profile == "research" else "")


def test_dates_may_stay_where_the_profile_retains_them() -> None:
    deidentifier = Deidentifier(Profile("dates", "Dates", options=frozenset(["retain-full-dates"])), KEY)
    deidentifier.plan = HoledPlan(deidentifier.profile, 0x00081030)
    ds = decode(encode(header(StudyDescription="2019-03-04", PatientBirthDate="")))
    deidentifier.apply(ds)
    assert (ds.StudyDescription, ds.StudyDate) == ("2019-03-04", "20190304")


def test_what_was_released_is_released_again(research: Deidentifier) -> None:
    ds = decode(encode(header(StudyDescription="AX T2 of today")))
    research.apply(ds)
    again = decode(encode(ds))
    research.apply(again)
    assert encode(again) == encode(ds)


def test_a_retained_device_uid_may_leave() -> None:
    deidentifier = Deidentifier(Profile("device", "Device", options=frozenset(["retain-device-identity"])), KEY)
    ds = decode(encode(header(DeviceUID="1.2.3.4.5.6.7", DateOfLastCalibration="20190101")))
    deidentifier.apply(ds)
    assert ds.DeviceUID == "1.2.3.4.5.6.7"
    assert ds.DateOfLastCalibration == "20190101"


def test_a_foreign_uid_in_its_own_element_is_refused() -> None:
    refused(holed(0x00200052), decode(encode(header())), 0x00200052)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("20190304", ["20190304"]),
        ("2019.03.04", ["20190304"]),
        ("20190304101112.5+0100", ["20190304"]),
        ("20190304\\20200101", ["20190304", "20200101"]),
        ("20190304-20190306", ["20190304"]),
        ("2019", []),
        ("unknown", []),
        ("\xff\xfe", []),
    ],
)
def test_days_of_values(text: str, days: list[str]) -> None:
    assert list(days_of(text)) == days


@pytest.mark.parametrize("text", ["2019-03-05", "5.0 120 kV 2.5 mm", "20190304x"[1:], "", "3 2019", "119/03/04"])
def test_texts_without_the_day(text: str) -> None:
    assert not holds_day(text, {"20190304"})


#: Ways to spell a day; of those with names of months, in English.
SPELLINGS = (
    *("%Y%m%d", "%Y-%m-%d", "%Y.%m.%d", "%Y/%m/%d", "%Y %m %d", "%Y%m%d%H%M%S", "%d%m%Y", "%m%d%Y", "%d.%m.%Y"),
    *(
        "%m/%d/%Y",
        "%d-%m-%Y",
        "%d %B %Y",
        "%d%b%Y",
        "%d. %B %Y",
        "%d-%b-%Y",
        "%B %d, %Y",
        "%b %dth, %Y",
        "%A, %d %B %Y",
    ),
)


@given(
    day=st.dates(date(1000, 1, 1)),
    spelling=st.sampled_from(SPELLINGS),
    around=st.sampled_from(["", " ", "_", "x", "."]),
)
def test_a_day_is_found_however_it_is_spelt(day: date, spelling: str, around: str) -> None:
    assert holds_day(f"{around}{day.strftime(spelling)}{around}", {day.strftime("%Y%m%d")})


@given(text=st.text())
def test_any_text_can_be_searched(text: str) -> None:
    assert not holds_day(text, set())
    assert all(uid in text for uid in uids_in(text))
    assert uids_in_bytes(text.encode()) == uids_in(text)


def test_long_runs_of_digits_take_no_longer_than_they_are() -> None:
    run = "1" * 500_000
    assert uids_in(f"{run}.") == []
    assert uids_in_bytes(f"{run}.{run}.".encode()) == []
    assert not holds_day(run, {"20190304"})


def test_uids_are_told_from_numbers() -> None:
    assert uids_in("slice 1.25 of 2.5, 1.2.840.1 and 3.4.5.") == ["1.2.840.1", "3.4.5"]


def test_what_is_retained_says_nothing_of_people() -> None:
    """An institution stays that the profile retains, but for the name of the patient in it."""
    options = frozenset(["retain-institution-identity", "retain-device-identity"])
    deidentifier = Deidentifier(Profile("places", "Places", options=options), KEY)
    ds = header(
        InstitutionName="Clinic of Zephyrina, 2nd floor",
        DeviceUID="1.2.3.77881234.5",
        DeviceSerialNumber="of 1.2.3.77881234.5",
    )
    ds = decode(encode(ds))
    deidentifier.apply(ds)
    assert ds.InstitutionName == "Clinic of ***, 2nd floor"
    assert ds.DeviceSerialNumber == "of 1.2.3.77881234.5"
    assert ds.DeviceUID == "1.2.3.77881234.5"


def test_a_creator_on_the_list_is_no_name() -> None:
    deidentifier = Deidentifier(Profile("safe", "Safe", options=frozenset(["retain-safe-private"])), KEY)
    ds = header(PatientName="CTP^A", PatientID="ELSCINT1")
    ds.add_new(0x00130010, "LO", "CTP")
    ds.add_new(0x00131010, "LO", "Project")
    ds.add_new(0x00E10010, "LO", "ELSCINT1")
    ds = decode(encode(ds))
    deidentifier.apply(ds)
    assert ds[0x00130010].value == "CTP"
    assert 0x00E10010 not in ds
