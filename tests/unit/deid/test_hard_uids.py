"""UIDs: no original one leaves, those of the registry stay, and what referred to each other still does."""

import re
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomweb.errors import NotDicom
from dicomweb.resource import is_uid
from gateway.deid.engine import Deidentifier, Refusal
from gateway.deid.uids import is_registered
from tests.samples import BUNDLED
from tests.unit.deid.objects import KEY, OTHER_KEY, all_values, header, values
from tests.unit.deid.passage import code, element, file, found, item, profile_of, taken
from tests.unit.deid.test_corpus import real_files

DATED = "1.2.840.113619.2.55.3.20190317101112.5566778"
MR_MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.4.1"


def test_a_uid_that_tells_day_and_device_goes_everywhere(research: Deidentifier, basic: Deidentifier) -> None:
    ds = header(
        SOPInstanceUID=DATED,
        StudyInstanceUID=DATED + ".1",
        SeriesInstanceUID=DATED + ".2",
        InstanceCreatorUID="1.2.840.5566778.19470312",
        DeviceUID="1.2.840.5566778.1",
    )
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found(["20190317", "5566778", "19470312", "1.2.840.113619"]) == []


def test_every_value_of_a_multiple_uid_is_replaced(research: Deidentifier) -> None:
    parts = [f"1.2.840.99.7.{number}" for number in range(40)]
    ds = header(
        ContributingSourceApplicationIdentification=None,
        IrradiationEventUID=parts,
        ReferencedSOPInstanceUIDInFile=parts[0],
        RelatedGeneralSOPClassUID=["1.2.840.10008.5.1.4.1.1.2", parts[1]],
    )
    stored = taken(research, file(ds))
    assert stored.found(["1.2.840.99.7"]) == []
    assert list(stored.ds.IrradiationEventUID) == [research.uid(uid) for uid in parts]


@pytest.mark.parametrize(
    "keyword", ["TrackingID", "ImageComments", "TextValue", "UnformattedTextValue", "InterpretationText"]
)
def test_uids_in_text_become_those_of_their_elements(research: Deidentifier, keyword: str) -> None:
    uid = str(header().SOPInstanceUID)
    ds = header(ContentSequence=Sequence([item(ValueType="TEXT", **{keyword: f"image {uid}"})]))
    if keyword in {"TrackingID", "ImageComments", "TextValue"}:
        setattr(ds, keyword, uid)
    stored = taken(research, file(ds))
    assert stored.found([uid]) == []
    if keyword in {"TrackingID", "ImageComments", "TextValue"}:
        assert stored.ds[keyword].value == stored.ds.SOPInstanceUID


def reference(instance: str, kind: str = "1.2.840.10008.5.1.4.1.1.2") -> Sequence:
    return Sequence([item(ReferencedSOPClassUID=kind, ReferencedSOPInstanceUID=instance)])


def test_references_in_every_sequence_meet_what_they_name(research: Deidentifier, basic: Deidentifier) -> None:
    """Also of instances that were never seen: they may come tomorrow, and to another node."""
    instance, series, study = "1.2.840.99.1.1", "1.2.840.99.1.2", "1.2.840.99.1.3"
    frame = item(
        DerivationImageSequence=Sequence(
            [
                item(
                    SourceImageSequence=reference(instance),
                    DerivationCodeSequence=code("113076", "DCM", "Segmentation"),
                )
            ]
        ),
        ReferencedImageSequence=reference(instance),
    )
    evidence = item(
        StudyInstanceUID=study,
        ReferencedSeriesSequence=Sequence([item(SeriesInstanceUID=series, ReferencedSOPSequence=reference(instance))]),
    )
    ds = header(
        PerFrameFunctionalGroupsSequence=Sequence([frame] * 3),
        SharedFunctionalGroupsSequence=Sequence([frame]),
        CurrentRequestedProcedureEvidenceSequence=Sequence([evidence]),
        PertinentOtherEvidenceSequence=Sequence([evidence]),
        SourceImageSequence=reference(instance),
        ReferencedSeriesSequence=Sequence(
            [item(SeriesInstanceUID=series, ReferencedInstanceSequence=reference(instance))]
        ),
        ReferencedStudySequence=reference(study, "1.2.840.10008.3.1.2.3.1"),
        ReferencedPerformedProcedureStepSequence=reference("1.2.840.99.1.4", "1.2.840.10008.3.1.2.3.3"),
        ReferencedPatientSequence=reference("1.2.840.99.1.5", "1.2.840.10008.3.1.2.1.1"),
        ContentSequence=Sequence([item(ValueType="IMAGE", ReferencedSOPSequence=reference(instance))]),
        IdenticalDocumentsSequence=Sequence([evidence]),
        ReferencedRTPlanSequence=reference(instance),
        ReferencedStructureSetSequence=reference(instance),
        GraphicAnnotationSequence=Sequence([item(ReferencedImageSequence=reference(instance))]),
    )
    again = Deidentifier.load("research", KEY)  # another node, another day
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert found(stored.raw, ["1.2.840.99.1"]) == []
        assert found(stored.json, ["1.2.840.99.1"]) == []
        uids = all_values(stored.ds, "UI")
        assert {again.uid(instance), again.uid(series), again.uid(study)} <= uids
        result = stored.ds
        group = result.PerFrameFunctionalGroupsSequence[2]
        assert group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID == again.uid(instance)
        assert result.ReferencedStudySequence[0].ReferencedSOPInstanceUID == again.uid(study)
        assert result.ReferencedStudySequence[0].ReferencedSOPClassUID == "1.2.840.10008.3.1.2.3.1"


def test_a_frame_of_reference_is_shared_between_objects_and_studies(research: Deidentifier) -> None:
    frame = "1.2.840.99.2.19470312"
    ct = header(FrameOfReferenceUID=frame)
    structures = header(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3",
        StudyInstanceUID="1.2.840.99.3",
        ReferencedFrameOfReferenceSequence=Sequence([item(FrameOfReferenceUID=frame)]),
        StructureSetROISequence=Sequence([item(ROINumber=1, ReferencedFrameOfReferenceUID=frame)]),
    )
    registration = header(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.1",
        StudyInstanceUID="1.2.840.99.4",
        RegistrationSequence=Sequence([item(FrameOfReferenceUID=frame), item(FrameOfReferenceUID="1.2.840.99.5")]),
    )
    one, two, three = (taken(research, file(ds)).ds for ds in (ct, structures, registration))
    expected = one.FrameOfReferenceUID
    assert research.uid.is_issued(expected)
    assert two.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID == expected
    assert two.StructureSetROISequence[0].ReferencedFrameOfReferenceUID == expected
    assert three.RegistrationSequence[0].FrameOfReferenceUID == expected
    assert three.RegistrationSequence[1].FrameOfReferenceUID != expected


REGISTERED = [
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.2.16.4", "1.2.840.10008.6.1.308"),
    *("1.2.840.10008.1.4.1.18", "1.2.840.10008.1.5.1", "1.2.840.10008.15.0.3.1", "2.16.840.1.113883.6.96"),
    *("1.2.840.10008.7.1.2", "1.2.840.10008.8.1.1"),
]


@pytest.mark.parametrize("uid", REGISTERED)
def test_registered_uids_stay(research: Deidentifier, basic: Deidentifier, uid: str) -> None:
    entry = item(CodeValue="T-D0050", CodingSchemeDesignator="SRT", CodeMeaning="Tissue", ContextUID=uid)
    ds = header(
        FrameOfReferenceUID=uid,
        PaletteColorLookupTableUID=uid,
        ViewCodeSequence=Sequence([entry]),
        ReferencedImageSequence=reference("1.2.840.99.7", uid),
        CodingSchemeIdentificationSequence=Sequence([item(CodingSchemeDesignator="DCM", CodingSchemeUID=uid)]),
    )
    for deidentifier in (research, basic):
        result = taken(deidentifier, file(ds)).ds
        assert result.FrameOfReferenceUID == uid
        assert result.ReferencedImageSequence[0].ReferencedSOPClassUID == uid
        assert result.get("PaletteColorLookupTableUID", uid) == uid
        assert result.get("CodingSchemeIdentificationSequence", [item(CodingSchemeUID=uid)])[0].CodingSchemeUID == uid


def test_the_file_names_its_instance_as_the_data_set_does(research: Deidentifier, basic: Deidentifier) -> None:
    for deidentifier in (research, basic, profile_of("retain-uids")):
        stored = taken(deidentifier, file(meta={"MediaStorageSOPInstanceUID": DATED}))
        assert stored.ds.file_meta.MediaStorageSOPInstanceUID == stored.ds.SOPInstanceUID
        assert found(stored.raw, [DATED]) == []


def test_uids_that_stand_in_the_file_meta_alone_are_replaced(research: Deidentifier) -> None:
    ds = header()
    del ds.SOPInstanceUID
    stored = taken(research, file(ds, meta={"MediaStorageSOPInstanceUID": DATED}))
    assert stored.found([DATED, "20190317"]) == []
    assert stored.ds.SOPInstanceUID == research.uid(DATED)


@pytest.mark.parametrize(
    "value",
    [
        b"1.2.840.99.19470312." + b"7" * 60,
        b"1.2.840.99.019470312",
        b" 1.2.840.99.19470312 ",
        b"1.2.840.99.19470312\0\0",
        b"1.2.840.99.19470312 \0",
        b"QUIRINALE^ZEPHYRINA",
        b"19470312",
        b"1.2.840.99.19470312\\\\1.2.840.99.7788123",
        b"1.2.840.99.19470312\\",
        "1.2.840.99.QÜIRINALE".encode("latin-1"),
        b"1.2.840.10008.1.2.19470312",
        b"2.25.19470312",
        b"",
    ],
)
@pytest.mark.parametrize("tag", [0x00200052, 0x00081155, 0x0008010C])
def test_uids_that_are_none_are_replaced_or_refused(
    research: Deidentifier, basic: Deidentifier, value: bytes, tag: int
) -> None:
    ds = header(FrameOfReferenceUID=None)
    padded = value + b"\0" * (len(value) % 2)
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds, (tag, element(tag, "UI", padded))))
        assert stored.found([*("19470312", "7788123", "quirinale", "1.2.840.99")]) == []
        made = stored.ds.get(tag)
        for uid in values(made) if made is not None else []:
            assert is_registered(uid) or is_uid(uid)


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", ["", "1.2.840.99." + "7" * 70, "QUIRINALE", "1..2", "../../19470312"])
def test_an_object_whose_name_is_no_uid_is_not_taken(research: Deidentifier, keyword: str, value: str) -> None:
    ds = header(**{keyword: value})
    raw = file(ds, meta={"MediaStorageSOPInstanceUID": "x"})
    try:
        stored = taken(research, raw)
    except (NotDicom, Refusal) as refusal:
        assert not value or value not in str(refusal)  # noqa: PT017
        return
    assert not value or stored.found([value]) == []


def test_uids_of_acquisition_and_organization_stay_together(research: Deidentifier, basic: Deidentifier) -> None:
    names = ("ConcatenationUID", "SynchronizationFrameOfReferenceUID", "DoseReferenceUID", "FiducialUID")
    ds = header(
        SOPClassUID=MR_MULTI_FRAME, IrradiationEventUID="1.2.840.99.9.1", **dict.fromkeys(names, "1.2.840.99.9.2")
    )
    ds.SOPInstanceUIDOfConcatenationSource = str(ds.SOPInstanceUID)
    dimension = item(DimensionOrganizationUID="1.2.840.99.9.3")
    ds.DimensionOrganizationSequence = Sequence([dimension])
    ds.DimensionIndexSequence = Sequence([dimension, dimension])
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        result = stored.ds
        assert stored.found(["1.2.840.99.9"]) == []
        assert result.SOPInstanceUIDOfConcatenationSource == result.SOPInstanceUID
        organizations = {entry.DimensionOrganizationUID for entry in result.DimensionIndexSequence}
        assert organizations == {result.DimensionOrganizationSequence[0].DimensionOrganizationUID}
        assert {result[name].value for name in names} == {deidentifier.uid("1.2.840.99.9.2")}


def test_uids_are_retained_where_the_profile_says_so_and_nothing_else_is() -> None:
    stored = taken(profile_of("retain-uids"), file(header(ReferencedImageSequence=reference("1.2.840.99.1"))))
    assert stored.ds.SOPInstanceUID == header().SOPInstanceUID
    assert stored.ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.840.99.1"
    assert stored.found(["quirinale", "zephyrina", "7788123", "99881", "elsewhere", "houseman"]) == []
    methods = [entry.CodeValue for entry in stored.ds.DeidentificationMethodCodeSequence]
    assert methods == ["113100", "113110"]


def test_projects_share_no_uid(research: Deidentifier) -> None:
    other = Deidentifier.load("research", OTHER_KEY)
    ours, theirs = (all_values(taken(one, file()).ds, "UI") for one in (research, other))
    assert not {uid for uid in ours & theirs if not is_registered(uid)}


def originals(ds: Dataset) -> set[str]:
    return {uid for uid in all_values(ds, "UI") if uid and not is_registered(uid) and uid.count(".") > 3}


def test_no_uid_of_a_real_file_is_in_what_is_stored(research: Deidentifier, data_folder: Path) -> None:
    """By bytes: not in elements alone, but in text, in tables and behind the data set too."""
    checked = 0
    for path in [*BUNDLED, *real_files(data_folder)]:
        raw = path.read_bytes()
        if len(raw) > 2 << 20:
            continue
        try:
            stored = taken(research, raw)
            uids = originals(dcmread(path, stop_before_pixels=True))
        except Exception:  # noqa: BLE001 - broken files are the subject of other tests
            continue
        content = stored.raw + stored.json
        left = {uid for uid in uids if re.search(rb"(?<![\d.])" + re.escape(uid.encode()) + rb"(?![\d.])", content)}
        assert {uid for uid in left if not research.uid.is_issued(uid)} == set(), path
        checked += 1
    assert checked > 150
