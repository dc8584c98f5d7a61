import copy
import io
import logging
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicomweb.errors import Refused
from gateway.deid.engine import Deidentifier, Refusal
from gateway.errors import ConfigurationError
from tests.unit.deid.objects import (
    COMMENT,
    DESCRIPTION,
    KEY,
    NEEDLES,
    OTHER_KEY,
    all_values,
    decode,
    encode,
    header,
    needles_in,
    plant,
    tags,
)


def applied(deidentifier: Deidentifier, ds: Dataset) -> Dataset:
    result = decode(encode(ds))  # as it comes over the wire: undecoded
    deidentifier.apply(result)
    return result


def item(**attributes: object) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def code(value: str, scheme: str, meaning: str) -> Sequence:
    return Sequence([item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)])


def test_the_patient_is_gone_from_everywhere_and_the_study_is_still_useful(research: Deidentifier) -> None:
    ds = header(
        StudyDescription=DESCRIPTION,
        PatientComments=COMMENT,
        PatientAge="093Y",
        PatientSex="F",
        PatientWeight="71.5",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        SoftwareVersions="syngo CT",
        SliceThickness="2.5",
        Rows=512,
    )
    result = applied(research, ds)
    assert needles_in(encode(result)) == []
    assert result.StudyDescription == "CT ABD/PEL *** CONTRAST 5.0"
    assert result.PatientName == result.PatientID
    assert research.pseudonyms.is_issued(result.PatientID)
    assert (result.PatientAge, result.PatientSex, result.PatientWeight) == ("090Y", "F", 71.5)
    assert not result.PatientBirthDate
    assert result.ImageType == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert (result.SliceThickness, result.Rows, result.SoftwareVersions) == (2.5, 512, "syngo CT")


def test_dates_of_a_patient_move_together(research: Deidentifier) -> None:
    injection = item(RadiopharmaceuticalStartDateTime="20190304093000.00+0100", RadiopharmaceuticalStartTime="093000")
    ds = header(RadiopharmaceuticalInformationSequence=Sequence([injection]), AcquisitionDateTime="20190304101112.5")
    result = applied(research, ds)
    years = research.subject(ds).years
    assert 1 <= years <= 10
    assert result.StudyDate == f"{2019 - years}0304"
    assert result.StudyTime == "101112.500"
    assert result.AcquisitionDateTime == f"{2019 - years}0304101112.5"
    inner = result.RadiopharmaceuticalInformationSequence[0]
    assert inner.RadiopharmaceuticalStartDateTime == f"{2019 - years}0304093000.00+0100"
    assert inner.RadiopharmaceuticalStartTime == "093000"
    assert result.LongitudinalTemporalInformationModified == "MODIFIED"


def test_it_says_what_was_done(research: Deidentifier, basic: Deidentifier) -> None:
    result = applied(research, header())
    assert result.PatientIdentityRemoved == "YES"
    assert result.DeidentificationMethod == "Isthmus profile research"
    codes = [entry.CodeValue for entry in result.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113104", "113105", "113107", "113108"]
    assert result.SpecificCharacterSet == "ISO_IR 192"
    strict = applied(basic, header(PatientAge="061Y", StudyDescription="CT"))
    assert [entry.CodeValue for entry in strict.DeidentificationMethodCodeSequence] == ["113100"]
    assert strict.LongitudinalTemporalInformationModified == "REMOVED"
    assert "PatientAge" not in strict
    assert "StudyDescription" not in strict
    assert not strict.StudyDate
    assert research.pseudonyms.is_issued(strict.PatientID)


def test_clean_pixels_of_others_stay_recorded(research: Deidentifier) -> None:
    result = applied(
        research, header(DeidentificationMethodCodeSequence=code("113101", "DCM", "Clean Pixel Data Option"))
    )
    assert "113101" in [entry.CodeValue for entry in result.DeidentificationMethodCodeSequence]


def test_the_profile_none_changes_nothing() -> None:
    mirror = Deidentifier.load("none", KEY)
    ds = header()
    before = encode(ds)
    mirror.apply(ds)
    assert mirror.is_identity
    assert encode(ds) == before


def test_what_comes_back_stays(research: Deidentifier) -> None:
    once = applied(research, header(StudyDescription=DESCRIPTION))
    back = header(
        **dict.fromkeys(("AccessionNumber", "InstitutionName", "ReferringPhysicianName", "StationName")),
        DeviceSerialNumber=None,
        PatientBirthDate=None,
        PatientName=once.PatientName,
        PatientID=once.PatientID,
        StudyInstanceUID=once.StudyInstanceUID,
        SeriesInstanceUID="1.2.3.4.5.6.7",
        StudyDate=once.StudyDate,
        SOPInstanceUID="1.2.3.4.5.6.8",
        ReferencedImageSequence=Sequence([item(ReferencedSOPInstanceUID=once.SOPInstanceUID)]),
    )
    result = applied(research, back)
    assert (result.PatientID, result.StudyInstanceUID, result.StudyDate) == (
        once.PatientID,
        once.StudyInstanceUID,
        once.StudyDate,
    )
    assert result.ReferencedImageSequence[0].ReferencedSOPInstanceUID == once.SOPInstanceUID
    assert result.SeriesInstanceUID != "1.2.3.4.5.6.7"


def test_without_a_patient_id_the_study_names_the_patient(research: Deidentifier) -> None:
    first = applied(research, header(PatientID=None))
    again = applied(research, header(PatientID="", SOPInstanceUID="1.2.3"))
    other = applied(research, header(PatientID=None, StudyInstanceUID="1.2.4"))
    assert first.PatientID == again.PatientID != other.PatientID
    assert first.PatientName == first.PatientID
    stripped = copy.deepcopy(first)
    del stripped.PatientID
    back = applied(research, stripped)
    assert (back.PatientID, back.StudyDate) == (first.PatientID, first.StudyDate)


def test_issuers_tell_patients_apart_and_projects_cannot_be_linked(research: Deidentifier) -> None:
    one, two = (applied(research, header(IssuerOfPatientID=issuer)) for issuer in ("A", "B"))
    assert one.PatientID != two.PatientID
    other = applied(Deidentifier.load("research", OTHER_KEY), header())
    ours = applied(research, header())
    assert not (all_values(ours, "UI") - {ours.SOPClassUID}) & all_values(other, "UI")
    assert ours.PatientID != other.PatientID


def test_nested_items_are_treated_like_the_top(research: Deidentifier) -> None:
    ds = inner = header()
    for _ in range(40):
        child = header(TextValue=COMMENT, PersonName="QUIRINALE^Z", SeriesDescription=DESCRIPTION)
        inner.ReferencedSeriesSequence = Sequence([child])
        inner = child
    result = applied(research, ds)
    assert needles_in(encode(result)) == []
    assert result.ReferencedSeriesSequence[0].PatientID == result.PatientID


def test_private_elements_go_but_for_the_safe_list() -> None:
    ds = header()
    for group, creator in (
        (0x2001, "Philips Imaging DD 001"),
        (0x2005, "Philips Imaging DD 001"),
        (0x0019, "GEMS_ACQU_01"),
    ):
        block = ds.private_block(group, creator, create=True)
        block.add_new(0x03, "FL", 1000.0)
        block.add_new(0x23, "DS", "1.5")
    ds.private_block(0x0009, "QUIRINALE", create=True).add_new(0x01, "LO", "ZEPHYRINA")
    removed = applied(Deidentifier.load("research", KEY), ds)
    assert not [tag for tag in tags(removed) if tag.is_private]


def test_safe_private_elements_are_known_by_their_creator(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "safe.toml").write_text('options = ["retain-safe-private", "clean-descriptors", "modified-dates"]\n')
    keeper = Deidentifier.load("safe", KEY, folder)
    ds = header()
    philips = ds.private_block(0x2001, "Philips Imaging DD 001", create=True)
    philips.add_new(0x03, "FL", 1000.0)
    philips.add_new(0xF0, "LO", "QUIRINALE")
    ds.private_block(0x2001, "QUIRINALE", create=True).add_new(0x03, "FL", 1000.0)
    nested = Dataset()
    nested.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "FL", 700.0)
    ds.ReferencedSeriesSequence = Sequence([nested])
    result = applied(keeper, ds)
    assert [tag for tag in tags(result) if tag.is_private] == [0x20010010, 0x20011003]
    assert result[0x20011003].value == 1000.0
    assert result.ReferencedSeriesSequence[0][0x20011003].value == 700.0
    assert needles_in(encode(result)) == []
    assert "113111" in [entry.CodeValue for entry in result.DeidentificationMethodCodeSequence]


def test_retained_uids_and_dates(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "mirror.toml").write_text('options = ["retain-uids", "retain-full-dates"]\n')
    result = applied(Deidentifier.load("mirror", KEY, folder), header())
    assert result.StudyInstanceUID == header().StudyInstanceUID
    assert result.StudyDate == "20190304"
    assert result.LongitudinalTemporalInformationModified == "UNMODIFIED"


def test_a_structured_report_keeps_its_measurements(research: Deidentifier) -> None:
    content = Sequence(
        [
            item(ValueType="TEXT", ConceptNameCodeSequence=code("121071", "DCM", "Finding"), TextValue=COMMENT),
            item(ValueType="PNAME", PersonName="HOUSEMAN^GREGOR"),
            item(ValueType="UIDREF", UID="1.2.3.4.20190304"),
            item(
                ValueType="DATE", ConceptNameCodeSequence=code("121031", "DCM", "Subject Birth Date"), Date="19470312"
            ),
            item(ValueType="DATE", ConceptNameCodeSequence=code("111060", "DCM", "Study Date"), Date="20190304"),
            item(
                ValueType="NUM",
                ConceptNameCodeSequence=code("G-D705", "SRT", "Volume"),
                MeasuredValueSequence=Sequence(
                    [item(NumericValue="12.5", MeasurementUnitsCodeSequence=code("mm3", "UCUM", "cubic millimeter"))]
                ),
            ),
            item(
                ValueType="NUM",
                ConceptNameCodeSequence=code("121033", "DCM", "Subject Age"),
                MeasuredValueSequence=Sequence(
                    [item(NumericValue="97", MeasurementUnitsCodeSequence=code("a", "UCUM", "year"))]
                ),
            ),
            item(ValueType="CODE", ConceptCodeSequence=code("DRHOUSEMAN", "99ELSEWHERE", "Signed by Houseman")),
        ]
    )
    result = applied(research, header(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", ContentSequence=content))
    assert needles_in(encode(result)) == []
    finding, person, uid, date, volume, age, local = result.ContentSequence
    assert finding.ConceptNameCodeSequence[0].CodeMeaning == "Finding"
    assert person.PersonName == "ANONYMIZED"
    assert research.uid.is_issued(uid.UID)
    assert date.Date == result.StudyDate
    assert volume.MeasuredValueSequence[0].NumericValue == 12.5
    units = volume.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    assert (units.CodeValue, units.CodingSchemeDesignator) == ("mm3", "UCUM")
    assert age.MeasuredValueSequence[0].NumericValue == 90
    assert local.ConceptCodeSequence[0].CodingSchemeDesignator == "99LOCAL"


def test_a_report_without_the_option_is_emptied_of_text(basic: Deidentifier) -> None:
    content = Sequence([item(ValueType="TEXT", TextValue="normal chest"), item(ValueType="PNAME", PersonName="A^B")])
    result = applied(basic, header(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", ContentSequence=content))
    assert [entry.get("TextValue") or entry.PersonName for entry in result.ContentSequence] == ["ANONYMIZED"] * 2


@pytest.mark.parametrize(
    "attributes",
    [
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.3"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66"},
        {"SOPClassUID": "1.2.840.113619.4.2"},
        {"SOPClassUID": "1.2.840.10008.1.1"},
        {"SOPClassUID": None},
        {"BurnedInAnnotation": "YES"},
        {"SpecimenLabelInImage": "YES"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]},
        {"DirectoryRecordSequence": Sequence([])},
        {"OverlayBitPosition": 12},
    ],
)
def test_refusals_say_why_and_not_who(research: Deidentifier, attributes: dict[str, object]) -> None:
    if "OverlayBitPosition" in attributes:
        ds = header()
        ds.add_new(0x60000102, "US", 12)
    else:
        ds = header(**attributes)
    with pytest.raises(Refusal) as refusal:
        research.apply(ds)
    assert isinstance(refusal.value, Refused)
    assert not [needle for needle in NEEDLES if needle in refusal.value.message.lower()]
    assert refusal.value.message.endswith(".")


def test_too_deep_is_refused(research: Deidentifier) -> None:
    ds = inner = header()
    for _ in range(70):
        child = item(PatientComments="x")
        inner.ReferencedSeriesSequence = Sequence([child])
        inner = child
    with pytest.raises(Refusal, match="nested"):
        research.apply(ds)


def test_whatever_goes_wrong_nothing_passes_and_nothing_is_quoted(research: Deidentifier) -> None:
    ds = header()
    broken = b"\xfe\xff"  # half a tag where an item should be
    ds._dict[BaseTag(0x00081115)] = RawDataElement(BaseTag(0x00081115), "SQ", len(broken), broken, 0, False, True)
    with pytest.raises(Refusal) as refusal:
        research.apply(ds)
    assert refusal.value.message == "The object could not be de-identified (OSError)."
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize(
    ("charset", "name", "text"),
    [
        ("ISO_IR 100", "Müller^Jörg", "Schädel nativ Müller"),
        ("ISO_IR 144", "Люкceмбypг", "CT Люкceмбypг"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东", "CT 王小东"),
        ("GB18030", "Wang^XiaoDong=王^小东", "CT 王小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "CT 山田"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", "CT 길동"),
    ],
)
def test_character_sets(research: Deidentifier, charset: object, name: str, text: str) -> None:
    result = applied(research, header(SpecificCharacterSet=charset, PatientName=name, StudyDescription=text))
    raw = encode(result)
    written = decode(raw)
    assert written.SpecificCharacterSet == "ISO_IR 192"
    assert written.StudyDescription in {"Schädel nativ ***", "CT ***"}
    for part in {*name.replace("=", "^").split("^")}:
        assert part.encode() not in raw


def test_text_that_lies_about_its_character_set_is_still_readable_utf8(research: Deidentifier) -> None:
    ds = header(SpecificCharacterSet="ISO_IR 192", StudyDescription="PLACEHOLDER.....")
    raw = encode(ds).replace(b"PLACEHOLDER.....", "Schädel nativ.".encode("latin-1") + b"  ")
    result = dcmread(io.BytesIO(raw))
    research.apply(result)
    assert decode(encode(result)).StudyDescription == "Schädel nativ."


def test_values_that_are_not_what_their_vr_says(research: Deidentifier) -> None:
    ds = decode(encode(header()))
    for tag, vr, value in (
        (0x00080020, "DA", b"QUIRINALE "),
        (0x00080030, "TM", b"ZEPHYRINA "),
        (0x00101010, "AS", b"HOUSEMAN"),
        (0x00180050, "DS", b"GREGOR"),
        (0x00200011, "IS", b"7788123A"),
        (0x00080022, "LO", b"ZEPHYRINA "),
        (0x00280010, "LO", b"QUIRINALE "),
        (0x00281050, "UN", b"ZEPHYRINA "),
        (0x00081030, "OB", b"QUIRINALE "),
        (0x00080060, "CS", b"QUIRINALE "),
    ):
        ds[tag] = RawDataElement(BaseTag(tag), vr, len(value), value, 0, False, True)
    research.apply(ds)
    assert needles_in(encode(ds)) == []


def test_a_name_hidden_in_a_number_is_refused_at_the_last_look(research: Deidentifier) -> None:
    ds = decode(encode(header()))
    value = b"QUIRINALE^"
    ds[0x00280010] = RawDataElement(BaseTag(0x00280010), "UN", len(value), value, 0, False, True)
    with pytest.raises(Refusal, match=r"\(0028,0010\)"):
        research.apply(ds)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_implicit_and_big_endian_headers(research: Deidentifier, syntax: UID) -> None:
    ds = header(StudyDescription=DESCRIPTION, Rows=512, ReferencedSeriesSequence=Sequence([header(TextValue=COMMENT)]))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    result = decode(buffer.getvalue())
    research.apply(result)
    raw = encode(result)
    assert needles_in(raw) == []
    written = decode(raw)
    assert (written.StudyDescription, written.Rows) == ("CT ABD/PEL *** CONTRAST 5.0", 512)


def test_nothing_is_logged_or_warned_of(research: Deidentifier, caplog: pytest.LogCaptureFixture) -> None:
    ds = header(StudyDescription=DESCRIPTION)
    plant(ds)
    raw = encode(ds)
    with caplog.at_level(logging.DEBUG, "gateway"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = decode(raw)
        research.apply(result)
        encode(result)
    said = (caplog.text + "".join(str(warning.message) for warning in caught)).lower()
    assert not [needle for needle in NEEDLES if needle in said]


def test_a_weak_key_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        Deidentifier.load("research", b"\0" * 32)


TAGS = sorted(tag for tag in DicomDictionary if tag >> 16 >= 8 and tag != 0x00080005)
VRS = ["LO", "SH", "ST", "UT", "CS", "PN", "DA", "TM", "DT", "UI", "IS", "DS", "AS", "US", "FD", "OB", "UN", "AE", "UR"]
PLANTED = st.sampled_from(
    ["QUIRINALE^ZEPHYRINA", "Zephyrina", "MRN-7788123", "19470312", "12.03.1947", "CT CHEST", "1.5"]
)
RAW = st.one_of(PLANTED.map(str.encode), st.binary(max_size=24))


@st.composite
def nested(draw: st.DrawFn, depth: int = 3) -> Dataset:
    ds = Dataset()
    for _ in range(draw(st.integers(0, 6))):
        tag = BaseTag(draw(st.one_of(st.sampled_from(TAGS), st.integers(0x00080000, 0xFFFEFFFF))))
        if tag in (0x00080005, 0xFFFEE000) or tag.group == 0xFFFE or ds.get_item(tag) is not None:
            continue
        value = draw(RAW)
        ds._dict[tag] = RawDataElement(tag, draw(st.sampled_from(VRS)), len(value), value, 0, False, True)
    if depth and draw(st.booleans()):
        ds.ReferencedSeriesSequence = Sequence(draw(st.lists(nested(depth=depth - 1), max_size=2)))
    return ds


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(nested())
def test_any_nest_of_elements_comes_out_clean_or_not_at_all(research: Deidentifier, ds: Dataset) -> None:
    for element in header():
        ds[element.tag] = element
    try:
        research.apply(ds)
    except Refusal as refusal:
        assert "quirinale" not in refusal.message.lower()  # noqa: PT017
        return
    before = copy.deepcopy(ds)
    text = repr(sorted((str(tag), raw_value(ds, tag)) for tag in tags(ds))).lower()
    assert not [needle for needle in ("quirinale", "zephyrina", "7788123") if needle in text]
    research.apply(ds)
    assert ds == before


def raw_value(ds: Dataset, tag: BaseTag) -> str:
    element = ds.get_item(tag)
    assert element is not None
    if element.VR == "SQ":
        return repr([[raw_value(entry, inner) for inner in tags(entry)] for entry in ds[tag].value])
    return repr(element.value)
