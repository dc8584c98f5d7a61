"""Minimal objects that refer to images: SEG, RT, SR, key objects, presentation states, documents, waveforms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset

from benchmarks.deid.images import Study, base

_CONTOUR = "CLOSED_PLANAR"


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """A coded entry."""
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def reference(image: Dataset) -> Dataset:
    """What names an instance."""
    return _item(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID)


def _evidence(images: Sequence[Dataset]) -> list[Dataset]:
    series = _item(SeriesInstanceUID=images[0].SeriesInstanceUID, ReferencedSOPSequence=list(map(reference, images)))
    return [_item(StudyInstanceUID=images[0].StudyInstanceUID, ReferencedSeriesSequence=[series])]


def segmentation(study: Study, images: Sequence[Dataset]) -> Dataset:
    """A binary segmentation of one segment, a frame for each image."""
    ds = base(study, uid.SegmentationStorage, "SEG", "seg")
    ds.FrameOfReferenceUID, ds.ImageType, ds.ContentLabel = images[0].FrameOfReferenceUID, ["DERIVED", "PRIMARY"], "SEG"
    ds.SegmentationType, ds.DimensionOrganizationSequence = "BINARY", [_item(DimensionOrganizationUID=study.uid("dim"))]
    ds.SegmentSequence = [
        _item(
            SegmentNumber=1,
            SegmentLabel="Bone",
            SegmentAlgorithmType="MANUAL",
            SegmentedPropertyCategoryCodeSequence=[code("123037004", "SCT", "Anatomical Structure")],
            SegmentedPropertyTypeCodeSequence=[code("272673000", "SCT", "Bone")],
            TrackingID="Bone",
            TrackingUID=study.uid("tracking"),
        )
    ]
    series = _item(
        SeriesInstanceUID=images[0].SeriesInstanceUID, ReferencedInstanceSequence=list(map(reference, images))
    )
    ds.ReferencedSeriesSequence = [series]
    ds.PerFrameFunctionalGroupsSequence = [
        _item(
            DerivationImageSequence=[_item(SourceImageSequence=[reference(image)])],
            PlanePositionSequence=[_item(ImagePositionPatient=image.ImagePositionPatient)],
            SegmentIdentificationSequence=[_item(ReferencedSegmentNumber=1)],
        )
        for image in images
    ]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.LossyImageCompression = 1, "MONOCHROME2", "00"
    ds.Rows = ds.Columns = 16
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = ds.PixelRepresentation = 0
    ds.NumberOfFrames = len(images)
    ds.PixelData = np.packbits(study.rng.integers(0, 2, 256 * len(images), np.uint8), bitorder="little").tobytes()
    return ds


def structure_set(study: Study, images: Sequence[Dataset]) -> Dataset:
    """A structure set of one region, drawn on each image."""
    ds = base(study, uid.RTStructureSetStorage, "RTSTRUCT", "rtstruct")
    ds.StructureSetLabel, ds.StructureSetDate, ds.StructureSetTime = "PLANNING", ds.StudyDate, "110000"
    series = _item(SeriesInstanceUID=images[0].SeriesInstanceUID, ContourImageSequence=list(map(reference, images)))
    frame = images[0].FrameOfReferenceUID
    of_study = _item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=images[0].StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    ds.ReferencedFrameOfReferenceSequence = [_item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[of_study])]
    ds.StructureSetROISequence = [_item(ROINumber=1, ReferencedFrameOfReferenceUID=frame, ROIName="Bone")]
    contours = [
        _item(
            ContourImageSequence=[reference(image)],
            ContourGeometricType=_CONTOUR,
            NumberOfContourPoints=3,
            ContourData=[0, 0, 5, 10, 0, 5, 10, 10, 5],
        )
        for image in images
    ]
    ds.ROIContourSequence = [_item(ReferencedROINumber=1, ContourSequence=contours)]
    ds.RTROIObservationsSequence = [
        _item(ObservationNumber=1, ReferencedROINumber=1, RTROIInterpretedType="ORGAN", ROIInterpreter="")
    ]
    return ds


def plan(study: Study, images: Sequence[Dataset]) -> Dataset:
    """A plan that refers to a structure set."""
    ds = base(study, uid.RTPlanStorage, "RTPLAN", "rtplan")
    ds.RTPlanLabel, ds.RTPlanDate, ds.RTPlanTime, ds.RTPlanGeometry = "PLANNING", ds.StudyDate, "111500", "PATIENT"
    ds.ReferencedStructureSetSequence = [reference(images[0])]
    ds.BeamSequence = [_item(BeamNumber=1, BeamName="Beam 1", BeamType="STATIC", RadiationType="PHOTON")]
    return ds


def _content(kind: str, concept: Dataset, relation: str = "CONTAINS", **attributes: object) -> Dataset:
    return _item(RelationshipType=relation, ValueType=kind, ConceptNameCodeSequence=[concept], **attributes)


def _report(study: Study, sop_class: str, title: Dataset, content: list[Dataset], images: Sequence[Dataset]) -> Dataset:
    ds = base(study, sop_class, "SR", f"sr-{title.CodeValue}")
    ds.ValueType, ds.ContinuityOfContent, ds.CompletionFlag = "CONTAINER", "SEPARATE", "COMPLETE"
    ds.VerificationFlag, ds.ConceptNameCodeSequence, ds.ContentSequence = "UNVERIFIED", [title], content
    ds.CurrentRequestedProcedureEvidenceSequence = _evidence(images)
    ds.PerformedProcedureCodeSequence = []
    return ds


def measurements(study: Study, images: Sequence[Dataset]) -> Dataset:
    """A report like those of TID 1500: who observed, one measurement of one image, and text."""
    group = _content("CONTAINER", code("125007", "DCM", "Measurement Group"), ContinuityOfContent="SEPARATE")
    length = _item(NumericValue="12.5", MeasurementUnitsCodeSequence=[code("mm", "UCUM", "mm")])
    group.ContentSequence = [
        _content(
            "UIDREF", code("112040", "DCM", "Tracking Unique Identifier"), "HAS OBS CONTEXT", UID=study.uid("track")
        ),
        _content("TEXT", code("112039", "DCM", "Tracking Identifier"), "HAS OBS CONTEXT", TextValue="Lesion 1"),
        _content("NUM", code("410668003", "SCT", "Length"), MeasuredValueSequence=[length]),
        _content("IMAGE", code("121233", "DCM", "Source image"), ReferencedSOPSequence=[reference(images[0])]),
    ]
    observer = _content("PNAME", code("121008", "DCM", "Person Observer Name"), "HAS OBS CONTEXT", PersonName="")
    when = _content("DATETIME", code("121125", "DCM", "DateTime of Image"), DateTime=f"{study.day:%Y%m%d}101600")
    comment = _content("TEXT", code("121106", "DCM", "Comment"), TextValue="No fracture of the bone.")
    title = code("126000", "DCM", "Imaging Measurement Report")
    return _report(study, uid.EnhancedSRStorage, title, [observer, when, comment, group], images)


def dose_report(study: Study, images: Sequence[Dataset]) -> Dataset:
    """A radiation dose report."""
    start = _content(
        "DATETIME", code("113809", "DCM", "Start of X-Ray Irradiation"), DateTime=f"{study.day:%Y%m%d}101500"
    )
    product = _item(NumericValue="345.6", MeasurementUnitsCodeSequence=[code("mGy.cm", "UCUM", "mGy.cm")])
    dose = _content("NUM", code("113813", "DCM", "CT Dose Length Product Total"), MeasuredValueSequence=[product])
    event = _content("UIDREF", code("113769", "DCM", "Irradiation Event UID"), UID=study.uid("event"))
    serial = _content("TEXT", code("113880", "DCM", "Device Serial Number"), TextValue="")
    title = code("113701", "DCM", "X-Ray Radiation Dose Report")
    return _report(study, uid.XRayRadiationDoseSRStorage, title, [start, dose, event, serial], images)


def text_report(study: Study, images: Sequence[Dataset]) -> Dataset:
    """A report in words."""
    finding = _content("TEXT", code("121071", "DCM", "Finding"), TextValue="Normal chest without contrast.")
    title = code("18748-4", "LN", "Diagnostic imaging study")
    return _report(study, uid.BasicTextSRStorage, title, [finding], images)


def key_objects(study: Study, images: Sequence[Dataset]) -> Dataset:
    """A selection of key images."""
    items = [
        _content("TEXT", code("113012", "DCM", "Key Object Description"), TextValue="For teaching."),
        *[
            _item(RelationshipType="CONTAINS", ValueType="IMAGE", ReferencedSOPSequence=[reference(one)])
            for one in images
        ],
    ]
    ds = _report(study, uid.KeyObjectSelectionDocumentStorage, code("113000", "DCM", "Of Interest"), items, images)
    ds.Modality = "KO"
    return ds


def presentation(study: Study, images: Sequence[Dataset]) -> Dataset:
    """A presentation state with a text on the first image."""
    ds = base(study, uid.GrayscaleSoftcopyPresentationStateStorage, "PR", "gsps")
    ds.ContentLabel, ds.ContentDescription = "MARKED", "Marked"
    ds.PresentationCreationDate, ds.PresentationCreationTime = ds.StudyDate, "120000"
    series = _item(SeriesInstanceUID=images[0].SeriesInstanceUID, ReferencedImageSequence=list(map(reference, images)))
    ds.ReferencedSeriesSequence = [series]
    label = _item(
        UnformattedTextValue="Nodule",
        BoundingBoxAnnotationUnits="PIXEL",
        BoundingBoxTopLeftHandCorner=[1, 1],
        BoundingBoxBottomRightHandCorner=[9, 9],
    )
    ds.GraphicAnnotationSequence = [
        _item(ReferencedImageSequence=[reference(images[0])], GraphicLayer="LAYER1", TextObjectSequence=[label])
    ]
    ds.GraphicLayerSequence = [_item(GraphicLayer="LAYER1", GraphicLayerOrder=1, GraphicLayerDescription="Findings")]
    return ds


def document(study: Study, kind: str) -> Dataset:
    """An encapsulated document."""
    sop_class, mime = {
        "PDF": (uid.EncapsulatedPDFStorage, "application/pdf"),
        "CDA": (uid.EncapsulatedCDAStorage, "text/XML"),
        "STL": (uid.EncapsulatedSTLStorage, "model/stl"),
    }[kind]
    ds = base(study, sop_class, "M3D" if kind == "STL" else "DOC", f"document-{kind}")
    ds.BurnedInAnnotation, ds.DocumentTitle, ds.MIMETypeOfEncapsulatedDocument = "YES", "Report", mime
    ds.EncapsulatedDocument = b""
    return ds


def ecg(study: Study, _images: Sequence[Dataset]) -> Dataset:
    """An ECG of one channel, with an annotation."""
    ds = base(study, uid.TwelveLeadECGWaveformStorage, "ECG", "ecg")
    ds.AcquisitionDateTime = f"{study.day:%Y%m%d}101600"
    channel = _item(
        ChannelSourceSequence=[code("2:1", "MDC", "Lead I")],
        ChannelSensitivity=1,
        ChannelBaseline=0,
        WaveformBitsStored=16,
    )
    ds.WaveformSequence = [
        _item(
            WaveformOriginality="ORIGINAL",
            NumberOfWaveformChannels=1,
            NumberOfWaveformSamples=64,
            SamplingFrequency=500,
            ChannelDefinitionSequence=[channel],
            WaveformBitsAllocated=16,
            WaveformSampleInterpretation="SS",
            WaveformData=study.rng.integers(-500, 500, 64, np.int16).tobytes(),
        )
    ]
    ds.WaveformAnnotationSequence = [_item(UnformattedTextValue="Sinus rhythm", AnnotationGroupNumber=0)]
    return ds


#: Kinds that refer to the images of a study.
DERIVED: Mapping[str, Callable[[Study, Sequence[Dataset]], Dataset]] = {
    "SEG": segmentation,
    "RTSTRUCT": structure_set,
    "RTPLAN": plan,
    "SR measurements": measurements,
    "SR dose": dose_report,
    "SR text": text_report,
    "KO": key_objects,
    "GSPS": presentation,
    "ECG": ecg,
    **{kind: lambda study, _images, kind=kind: document(study, kind) for kind in ("PDF", "CDA", "STL")},
}
