"""Objects that refer to a CT series, made by other hands: SEG and SR by highdicom, RTSTRUCT and PDF by pydicom."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import (
    ComprehensiveSR,
    CoordinatesForMeasurement,
    FindingSite,
    GraphicTypeValues,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    SourceImageForRegion,
    TrackingIdentifier,
)
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from ray_plugins.testing import Phantom

#: What OHIF writes into the SR of a length measurement, and asks for before it makes one editable.
OHIF_LENGTH = "Cornerstone3DTools@^0.1.0:Length"
BONE_HU = 300
_MAKER = {"manufacturer": "Isthmus", "manufacturer_model_name": "tests", "device_serial_number": "1"}


def ct_series(folder: Path, phantom: Phantom, **changes: object) -> list[Dataset]:
    """The phantom as a CT series, in the order of its slices, with UIDs of its own."""
    own = {keyword: generate_uid(None) for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    folder.mkdir(parents=True, exist_ok=True)
    phantom.write(folder, own | changes)
    slices = sorted(map(dcmread, folder.iterdir()), key=lambda ds: ds.InstanceNumber)
    for ds in slices:
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(None)
    return slices


def segmentation(slices: Sequence[Dataset]) -> Dataset:
    """A binary SEG of what is as bright as bone, in blue."""
    bone = np.stack([ds.pixel_array * ds.RescaleSlope + ds.RescaleIntercept for ds in slices]) > BONE_HU
    segment = SegmentDescription(
        segment_number=1,
        segment_label="Bone",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.Bone,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name="threshold", family=codes.DCM.ArtificialIntelligence, version="1"
        ),
        display_color=CIELabColor.from_rgb(40, 90, 255),
    )
    return Segmentation(
        source_images=slices,
        pixel_array=bone.astype(np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=generate_uid(None),
        series_number=100,
        series_description="BONE",
        sop_instance_uid=generate_uid(None),
        instance_number=1,
        software_versions="1",
        **_MAKER,
    )


def measurements(slices: Sequence[Dataset]) -> Dataset:
    """An SR of TID 1500 with one length, drawn on the middle slice."""
    image = slices[len(slices) // 2]
    line = np.array([[image.Columns * 0.25, image.Rows * 0.3], [image.Columns * 0.75, image.Rows * 0.3]])
    length = Measurement(
        name=codes.SCT.Length,
        value=float(image.PixelSpacing[1]) * image.Columns / 2,
        unit=codes.UCUM.Millimeter,
        referenced_coordinates=[
            CoordinatesForMeasurement(
                graphic_type=GraphicTypeValues.POLYLINE,
                graphic_data=line,
                source_image=SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID),
            )
        ],
    )
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(generate_uid(None), OHIF_LENGTH),
        finding_sites=[FindingSite(codes.SCT.Abdomen)],
        measurements=[length],
    )
    observer = ObserverContext(codes.DCM.Person, PersonObserverIdentifyingAttributes("Reader^Ada"))
    report = MeasurementReport(
        observation_context=ObservationContext(observer_person_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    return ComprehensiveSR(
        evidence=list(slices),
        content=report[0],
        series_instance_uid=generate_uid(None),
        series_number=101,
        series_description="LENGTH",
        sop_instance_uid=generate_uid(None),
        instance_number=1,
        manufacturer="Isthmus",
    )


def structure_set(slices: Sequence[Dataset]) -> Dataset:
    """An RTSTRUCT with one region: a closed square on every slice, a quarter of the image from its edges."""
    ds = _beside(slices[0], RTStructureSetStorage, "RTSTRUCT", 102)
    ds.SeriesDescription = "SQUARE"
    ds.StructureSetLabel, ds.StructureSetDate, ds.StructureSetTime = "SQUARE", "20200102", "030405"
    images = [
        _item(ReferencedSOPClassUID=one.SOPClassUID, ReferencedSOPInstanceUID=one.SOPInstanceUID) for one in slices
    ]
    series = _item(SeriesInstanceUID=slices[0].SeriesInstanceUID, ContourImageSequence=images)
    study = _item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=ds.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    frame = ds.FrameOfReferenceUID
    ds.ReferencedFrameOfReferenceSequence = [_item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[study])]
    ds.StructureSetROISequence = [
        _item(ROINumber=1, ReferencedFrameOfReferenceUID=frame, ROIName="Square", ROIGenerationAlgorithm="MANUAL")
    ]
    contours = [
        _item(
            ContourImageSequence=[image],
            ContourGeometricType="CLOSED_PLANAR",
            NumberOfContourPoints=4,
            ContourData=_square_mm(one),
        )
        for one, image in zip(slices, images, strict=True)
    ]
    ds.ROIContourSequence = [_item(ReferencedROINumber=1, ROIDisplayColor=[255, 60, 60], ContourSequence=contours)]
    ds.OperatorsName = ds.PositionReferenceIndicator = ""
    ds.RTROIObservationsSequence = [
        _item(ObservationNumber=1, ReferencedROINumber=1, RTROIInterpretedType="", ROIInterpreter="")
    ]
    return ds


def document(beside: Dataset, text: str) -> Dataset:
    """An encapsulated PDF of one page that reads `text`."""
    ds = _beside(beside, EncapsulatedPDFStorage, "DOC", 103)
    ds.SeriesDescription = ds.DocumentTitle = "LETTER"
    ds.ConversionType, ds.BurnedInAnnotation = "WSD", "NO"
    ds.AcquisitionDateTime, ds.ConceptNameCodeSequence = "", []
    content = pdf(text)
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    ds.EncapsulatedDocumentLength = len(content)
    return ds


def pdf(text: str) -> bytes:
    """The smallest PDF that shows a line of ASCII."""
    page = f"BT /F1 48 Tf 40 400 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    made = bytearray(b"%PDF-1.4\n")
    starts = []
    for number, content in enumerate(objects, 1):
        starts.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % start for start in starts)
    end = len(made)
    made += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    made += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, end)
    return bytes(made)


def _beside(image: Dataset, sop_class: str, modality: str, series_number: int) -> Dataset:
    """A new object in a series of its own, in the study of an image."""
    ds = Dataset()
    for keyword in (
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
        "StudyID", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
    ):  # fmt: skip
        ds[keyword] = image[keyword]
    if "StudyDescription" in image:
        ds.StudyDescription = image.StudyDescription
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = sop_class, generate_uid(None), generate_uid(None)
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = modality, series_number, 1
    ds.ContentDate, ds.ContentTime, ds.Manufacturer = "20200102", "030405", "Isthmus"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = sop_class, ds.SOPInstanceUID
    return ds


def _square_mm(image: Dataset) -> list[float]:
    """The corners of a square in patient coordinates (PS3.3 C.7.6.2.1.1)."""
    row, column = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
    down_mm, across_mm = (float(value) for value in image.PixelSpacing)
    origin = np.array(image.ImagePositionPatient, float)
    corners = [(0.25, 0.25), (0.25, 0.75), (0.75, 0.75), (0.75, 0.25)]
    points = [origin + row * across_mm * x * image.Columns + column * down_mm * y * image.Rows for y, x in corners]
    return [round(float(value), 3) for point in points for value in point]


def _item(**elements: object) -> Dataset:
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds
