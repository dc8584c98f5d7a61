"""Reports, presentation states, plans, segmentations: text and people go, meaning and references stay."""

import io
from pathlib import Path

import highdicom as hd
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from gateway.deid.engine import Deidentifier
from tests.unit.deid.objects import COMMENT, all_values, header, tags
from tests.unit.deid.passage import code, element, file, found, item, profile_of, refused, taken

COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.33"
IMAGE, SERIES = "1.2.840.99.1.1", "1.2.840.99.1.2"


def reference(instance: str = IMAGE) -> Sequence:
    return Sequence([item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=instance)])


def content(kind: str, **attributes: object) -> Dataset:
    concept = code("121071", "DCM", "Finding")
    return item(RelationshipType="CONTAINS", ValueType=kind, **{"ConceptNameCodeSequence": concept, **attributes})


@pytest.mark.parametrize("depth", [1, 6, 40])
def test_a_report_loses_people_at_any_depth(research: Deidentifier, basic: Deidentifier, depth: int) -> None:
    entries = [
        content("TEXT", TextValue=COMMENT),
        content("PNAME", PersonName="HOUSEMAN^GREGOR"),
        content("DATE", Date="19470312"),
        content("DATETIME", DateTime="19470312101112"),
        content("UIDREF", UID="1.2.840.99.19470312"),
        content("COMPOSITE", ReferencedSOPSequence=reference()),
        content("IMAGE", ReferencedSOPSequence=reference()),
        content("CODE", ConceptCodeSequence=code("QUIRINALE", "99ELSEWHERE", "read by Houseman")),
        content("NUM", MeasuredValueSequence=Sequence([item(NumericValue="7788123")])),
        content("SCOORD", GraphicData=[1.0, 2.0], GraphicType="POINT", FiducialUID="1.2.840.99.1.9"),
    ]
    tree = Sequence(entries)
    for _ in range(depth - 1):
        tree = Sequence([content("CONTAINER", ContentSequence=tree, ContinuityOfContent="SEPARATE")])
    ds = header(SOPClassUID=COMPREHENSIVE, ContentSequence=tree, CompletionFlag="COMPLETE", VerificationFlag="VERIFIED")
    for deidentifier in (research, basic, profile_of("clean-structured-content")):
        stored = taken(deidentifier, file(ds))
        assert stored.found() == []
        assert stored.found(["1.2.840.99"]) == []
        assert deidentifier.uid(IMAGE) in all_values(stored.ds, "UI")


def test_those_who_signed_and_took_part_go(research: Deidentifier, basic: Deidentifier) -> None:
    identification = code("HOUSEMAN1", "99ELSEWHERE", "Gregor Houseman")
    verifier = item(
        VerifyingObserverName="HOUSEMAN^GREGOR",
        VerifyingObserverIdentificationCodeSequence=identification,
        VerifyingOrganization="Saint Elsewhere",
        VerificationDateTime="19470312101112",
    )
    participant = item(
        PersonName="HOUSEMAN^GREGOR",
        ParticipationType="SOURCE",
        ParticipationDateTime="19470312",
        ObserverType="PSN",
        PersonIdentificationCodeSequence=identification,
        StationName="ROOMSEVEN",
        InstitutionName="Saint Elsewhere",
        InstitutionCodeSequence=code("ELSEWHERE", "99ELSEWHERE", "Saint Elsewhere"),
    )
    ds = header(
        SOPClassUID=COMPREHENSIVE,
        VerifyingObserverSequence=Sequence([verifier]),
        AuthorObserverSequence=Sequence([participant]),
        ParticipantSequence=Sequence([participant]),
        CustodialOrganizationSequence=Sequence([item(InstitutionName="Saint Elsewhere")]),
        PersonIdentificationCodeSequence=identification,
        ReferencedRequestSequence=Sequence(
            [
                item(
                    AccessionNumber="ACC-99881",
                    RequestingPhysician="HOUSEMAN^G",
                    RequestedProcedureDescription=COMMENT[:60],
                )
            ]
        ),
        ContentSequence=Sequence([content("TEXT", TextValue="normal")]),
    )
    for deidentifier in (research, basic, profile_of("retain-full-dates", "clean-structured-content")):
        stored = taken(deidentifier, file(ds))
        assert stored.found([*("quirinale", "houseman", "gregor", "99881", "roomseven", "elsewhere")]) == []


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.11.2"])
def test_a_presentation_state_keeps_its_window_and_loses_its_notes(
    research: Deidentifier, basic: Deidentifier, sop_class: str
) -> None:
    text = item(UnformattedTextValue=COMMENT, AnchorPoint=[1.0, 2.0], BoundingBoxTopLeftHandCorner=[0.0, 0.0])
    graphic = item(GraphicType="CIRCLE", GraphicData=[1.0, 1.0, 2.0, 2.0], GraphicAnnotationUnits="PIXEL")
    compound = item(CompoundGraphicType="RULER", GraphicData=[0.0, 1.0], CompoundGraphicUnits="PIXEL")
    annotation = item(
        GraphicLayer="QUIRINALE",
        ReferencedImageSequence=reference(),
        TextObjectSequence=Sequence([text]),
        GraphicObjectSequence=Sequence([graphic]),
        CompoundGraphicSequence=Sequence([compound]),
    )
    layer = item(GraphicLayer="QUIRINALE", GraphicLayerOrder=1, GraphicLayerDescription="of Zephyrina")
    ds = header(
        SOPClassUID=sop_class,
        ContentLabel="QUIRINALE",
        ContentDescription="for Dr Houseman",
        ContentCreatorName="HOUSEMAN^GREGOR",
        ContentCreatorIdentificationCodeSequence=code("HOUSEMAN", "99Q", "Houseman"),
        PresentationCreationDate="19470312",
        GraphicAnnotationSequence=Sequence([annotation]),
        GraphicLayerSequence=Sequence([layer]),
        ReferencedSeriesSequence=Sequence([item(SeriesInstanceUID=SERIES, ReferencedImageSequence=reference())]),
        SoftcopyVOILUTSequence=Sequence(
            [item(WindowCenter="40", WindowWidth="400", WindowCenterWidthExplanation=COMMENT[:60])]
        ),
        ShutterShape="RECTANGULAR",
    )
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found() == []
        assert stored.ds.SoftcopyVOILUTSequence[0].WindowWidth == 400
        series = stored.ds.ReferencedSeriesSequence[0]
        assert series.SeriesInstanceUID == deidentifier.uid(SERIES)
        assert series.ReferencedImageSequence[0].ReferencedSOPInstanceUID == deidentifier.uid(IMAGE)


def test_a_structure_set_keeps_contours_and_their_kind(research: Deidentifier, basic: Deidentifier) -> None:
    frame = "1.2.840.99.1.7"
    roi = item(ROINumber=1, ROIName="GTV Quirinale", ROIDescription=COMMENT[:60], ReferencedFrameOfReferenceUID=frame)
    observation = item(
        ObservationNumber=1,
        ReferencedROINumber=1,
        ROIObservationLabel="ZQ",
        RTROIInterpretedType="GTV",
        ROIInterpreter="HOUSEMAN^G",
    )
    contour = item(
        ContourGeometricType="POINT",
        NumberOfContourPoints=1,
        ContourData=[1.5, 2.5, 3.5],
        ContourImageSequence=reference(),
    )
    ds = header(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3",
        StructureSetLabel="QUIRINALE",
        StructureSetName="Zephyrina Q",
        StructureSetDescription=COMMENT,
        StructureSetDate="20190304",
        ApprovalStatus="APPROVED",
        ReviewDate="19470312",
        ReviewerName="HOUSEMAN^GREGOR",
        StructureSetROISequence=Sequence([roi]),
        RTROIObservationsSequence=Sequence([observation]),
        ROIContourSequence=Sequence([item(ReferencedROINumber=1, ContourSequence=Sequence([contour]))]),
        ReferencedFrameOfReferenceSequence=Sequence([item(FrameOfReferenceUID=frame)]),
    )
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found([*("quirinale", "zephyrina", "houseman", "19470312", "1.2.840.99")]) == []
        result = stored.ds
        assert result.ROIContourSequence[0].ContourSequence[0].ContourData == [1.5, 2.5, 3.5]
        assert result.StructureSetROISequence[0].ReferencedFrameOfReferenceUID == deidentifier.uid(frame)
    assert taken(research, file(ds)).ds.StructureSetROISequence[0].ROIName == "GTV ***"


def test_a_plan_keeps_its_beams_and_doses(research: Deidentifier, basic: Deidentifier) -> None:
    beam = item(
        BeamNumber=1,
        BeamName="Quirinale LAO",
        BeamDescription=COMMENT[:60],
        TreatmentMachineName="ROOMSEVEN",
        BeamType="STATIC",
    )
    dose = item(
        DoseReferenceNumber=1,
        DoseReferenceUID="1.2.840.99.2",
        DoseReferenceDescription="for Zephyrina",
        TargetPrescriptionDose="60",
    )
    setup = item(PatientSetupNumber=1, SetupTechniqueDescription=COMMENT, PatientPosition="HFS")
    ds = header(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5",
        RTPlanLabel="QUIRINALE1",
        RTPlanName="Zephyrina",
        RTPlanDescription=COMMENT,
        TreatmentSites="lung of Quirinale",
        BeamSequence=Sequence([beam]),
        DoseReferenceSequence=Sequence([dose]),
        PatientSetupSequence=Sequence([setup]),
        ReferencedStructureSetSequence=reference(),
        ReviewerName="HOUSEMAN^G",
        OperatorsName="HOUSEMAN^G",
    )
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found() == []
        assert stored.ds.DoseReferenceSequence[0].TargetPrescriptionDose == 60
        assert stored.ds.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == deidentifier.uid(IMAGE)
    assert taken(research, file(ds)).ds.BeamSequence[0].BeamType == "STATIC"


def test_a_segmentation_keeps_its_segments(research: Deidentifier, basic: Deidentifier) -> None:
    segment = item(
        SegmentNumber=1,
        SegmentLabel="Liver of Quirinale",
        SegmentDescription="by Dr Houseman",
        SegmentAlgorithmType="MANUAL",
        SegmentAlgorithmName="Houseman 1.0",
        TrackingID="MRN-7788123 lesion",
        TrackingUID="1.2.840.99.3",
        SegmentedPropertyTypeCodeSequence=code("10200004", "SCT", "Liver"),
    )
    ds = header(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4",
        ContentCreatorName="HOUSEMAN^GREGOR",
        ContentLabel="ZEPHYRINA",
        SegmentSequence=Sequence([segment]),
        ReferencedSeriesSequence=Sequence([item(SeriesInstanceUID=SERIES, ReferencedInstanceSequence=reference())]),
    )
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found() == []
        result = stored.ds.SegmentSequence[0]
        assert (result.SegmentNumber, result.SegmentAlgorithmType) == (1, "MANUAL")
        assert result.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Liver"
        assert result.TrackingUID == deidentifier.uid("1.2.840.99.3")
    assert taken(research, file(ds)).ds.SegmentSequence[0].SegmentLabel == "Liver of ***"


def test_a_selection_keeps_what_it_selects(research: Deidentifier, basic: Deidentifier) -> None:
    title = content("CONTAINER")
    del title.RelationshipType
    description = item(
        RelationshipType="CONTAINS",
        ValueType="TEXT",
        ConceptNameCodeSequence=code("113012", "DCM", "Key Object Description"),
        TextValue="Zephyrina Quirinale for Dr Houseman",
    )
    evidence = item(
        StudyInstanceUID="1.2.840.99.1.3",
        ReferencedSeriesSequence=Sequence([item(SeriesInstanceUID=SERIES, ReferencedSOPSequence=reference())]),
    )
    ds = header(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.59",
        ConceptNameCodeSequence=code("113000", "DCM", "Of Interest to Quirinale"),
        ContentSequence=Sequence([description, content("IMAGE", ReferencedSOPSequence=reference())]),
        CurrentRequestedProcedureEvidenceSequence=Sequence([evidence]),
    )
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found() == []
        assert stored.ds.ContentSequence[-1].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == deidentifier.uid(
            IMAGE
        )
        series = stored.ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == deidentifier.uid(IMAGE)
        assert series.SeriesInstanceUID == deidentifier.uid(SERIES)


def test_a_directory_is_refused_however_it_comes(
    research: Deidentifier, basic: Deidentifier, data_folder: Path
) -> None:
    record = item(DirectoryRecordType="PATIENT", PatientName="QUIRINALE^Z", PatientID="MRN-7788123")
    record.ReferencedFileID = ["QUIRINAL", "MRN77881"]
    for sop_class in ("1.2.840.10008.1.3.10", "1.2.840.10008.5.1.4.1.1.2"):
        ds = header(SOPClassUID=sop_class, FileSetID="QUIRINALE", DirectoryRecordSequence=Sequence([record]))
        for deidentifier in (research, basic):
            try:
                stored = taken(deidentifier, file(ds))
            except Exception as refusal:  # noqa: BLE001
                assert "DICOMDIR" in str(refusal)  # noqa: PT017
            else:
                assert stored.found() == []
    inner = header(
        SourceImageSequence=Sequence([item(DirectoryRecordSequence=Sequence([record]), FileSetID="QUIRINALE")])
    )
    assert taken(research, file(inner)).found() == []
    assert list((data_folder / "dicomdir").rglob("DICOMDIR"))


def test_the_values_of_a_selector_go(research: Deidentifier, basic: Deidentifier) -> None:
    """A hanging protocol or a filter names attributes, and may compare them with a patient's."""
    selector = item(
        SelectorAttribute=0x00100010,
        SelectorAttributeVR="PN",
        SelectorPNValue="QUIRINALE^ZEPHYRINA",
        SelectorLOValue="MRN-7788123",
        SelectorSHValue="ACC-99881",
        SelectorLTValue=COMMENT,
        SelectorSTValue=COMMENT,
        SelectorUTValue=COMMENT,
        SelectorUCValue=COMMENT,
        SelectorCSValue="QUIRINALE",
        SelectorDAValue="19470312",
        SelectorDTValue="19470312101112",
        SelectorAEValue="ROOMSEVEN",
        SelectorUIValue="1.2.840.99.19470312",
        SelectorISValue="7788123",
        SelectorDSValue="7788123",
        SelectorURValue="http://elsewhere.example.org",
        SelectorOBValue=b"QUIRINALE^",
        SelectorCodeSequenceValue=code("QUIRINALE", "99Q", "Zephyrina"),
    )
    ds = header(
        SOPClassUID="1.2.840.10008.5.1.4.38.1",
        HangingProtocolName="QUIRINALE",
        HangingProtocolDescription=COMMENT[:60],
        HangingProtocolCreator="Houseman",
        HangingProtocolUserGroupName="Saint Elsewhere",
        HangingProtocolCreationDateTime="19470312",
        HangingProtocolUserIdentificationCodeSequence=code("HOUSEMAN", "99Q", "Houseman"),
        ImageSetsSequence=Sequence([item(ImageSetSelectorSequence=Sequence([selector]), ImageSetLabel="of Zephyrina")]),
        DisplaySetsSequence=Sequence([item(FilterOperationsSequence=Sequence([selector]))]),
    )
    for deidentifier in (research, basic):
        try:
            stored = taken(deidentifier, file(ds))
        except Exception as refusal:  # noqa: BLE001
            assert "SOP class" in str(refusal)  # noqa: PT017
        else:
            assert stored.found() == []


def test_steps_that_were_scheduled_and_performed_lose_their_people(research: Deidentifier, basic: Deidentifier) -> None:
    step = item(
        ScheduledProcedureStepDescription=COMMENT[:60],
        ScheduledProcedureStepID="MRN-7788123",
        ScheduledPerformingPhysicianName="HOUSEMAN^G",
        ScheduledStationName="ROOMSEVEN",
        ScheduledProcedureStepLocation="Saint Elsewhere",
        PreMedication="for Quirinale",
        RequestedProcedureID="ACC-99881",
        RequestedProcedureComments=COMMENT,
        ReasonForTheRequestedProcedure=COMMENT[:60],
        ScheduledProcedureStepStartDate="19470312",
        CommentsOnTheScheduledProcedureStep=COMMENT,
    )
    ds = header(
        RequestAttributesSequence=Sequence([step]),
        ScheduledProcedureStepSequence=Sequence([step]),
        PerformedProcedureStepID="MRN-7788123",
        PerformedProcedureStepDescription="CT of Quirinale",
        PerformedStationName="ROOMSEVEN",
        PerformedLocation="Saint Elsewhere",
        CommentsOnThePerformedProcedureStep=COMMENT,
        PlacerOrderNumberImagingServiceRequest="ACC-99881",
        FillerOrderNumberImagingServiceRequest="ACC-99881",
        ProcedureStepLabel="Quirinale",
        WorklistLabel="Houseman",
        ScheduledWorkitemCodeSequence=code("110005", "DCM", "Interpretation for Quirinale"),
        ActualHumanPerformersSequence=Sequence(
            [item(HumanPerformerName="HOUSEMAN^G", HumanPerformerOrganization="Saint Elsewhere")]
        ),
        AdmittingDiagnosesDescription="pain of Quirinale",
        RequestingService="Saint Elsewhere",
        CurrentPatientLocation="ROOMSEVEN",
        ServiceEpisodeDescription="Quirinale",
    )
    for deidentifier in (research, basic, profile_of("clean-descriptors")):
        assert taken(deidentifier, file(ds)).found() == []


def derived(folder: Path, *names: str) -> list[Path]:
    return [path for name in names for path in sorted((folder / "derived").rglob(name)) if path.is_file()]


def test_segmentations_and_reports_are_still_read_by_highdicom(research: Deidentifier, data_folder: Path) -> None:
    """Real ones: what highdicom reads before it reads after, with as many segments and measurements."""
    read = 0
    for path in derived(data_folder, "*.dcm"):
        try:
            kind = dcmread(path, stop_before_pixels=True).get("SOPClassUID", "")
            if kind == "1.2.840.10008.5.1.4.1.1.66.4":
                expected = hd.seg.segread(path).segment_numbers
            elif kind in {"1.2.840.10008.5.1.4.1.1.88.34", COMPREHENSIVE, "1.2.840.10008.5.1.4.1.1.88.22"}:
                expected = len(hd.sr.srread(path).ContentSequence)
            else:
                continue
        except Exception:  # noqa: BLE001 - what cannot be read before cannot be compared
            continue
        result = io.BytesIO(taken(research, path.read_bytes()).raw)
        if kind.endswith("66.4"):
            assert hd.seg.segread(result).segment_numbers == expected, path
        else:
            assert len(hd.sr.srread(result).ContentSequence) <= expected, path
        read += 1
    assert read > 3


def test_reasons_and_refusals_of_unknown_classes_name_nobody(research: Deidentifier) -> None:
    for sop_class in ("1.2.840.99.19470312", "1.2.840.10008.5.1.4.1.1.66", "1.2.840.10008.5.1.4.31"):
        assert "1947" not in refused(research, file(header(SOPClassUID=sop_class)))


def test_elements_of_a_report_may_lie_about_their_kind(research: Deidentifier, basic: Deidentifier) -> None:
    """A text in the place of a number, a name in the place of a date."""
    entry = content(
        "NUM", TextValue=COMMENT, PersonName="QUIRINALE^Z", Date="19470312", MeasuredValueSequence=Sequence([])
    )
    ds = header(SOPClassUID=COMPREHENSIVE, ContentSequence=Sequence([entry]))
    raw = file(ds, (0x0040A160, element(0x0040A160, "UT", COMMENT.encode().ljust(120))))
    for deidentifier in (research, basic):
        stored = taken(deidentifier, raw)
        assert stored.found() == []
        assert found(stored.raw, ["tiber"]) == []
        assert not [tag for tag in tags(stored.ds) if tag.is_private]
