"""The objects that the conformance tests store: small, made here, each there for a requirement."""

import copy
import io
from functools import cache

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG4HP41,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from tests.samples import ct

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MULTIFRAME_WORD = "1.2.840.10008.5.1.4.1.1.7.3"
MULTIFRAME_BYTE = "1.2.840.10008.5.1.4.1.1.7.2"
MULTIFRAME_BIT = "1.2.840.10008.5.1.4.1.1.7.1"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
VIDEO = "1.2.840.10008.5.1.4.1.1.77.1.4.1"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
GREYSCALE_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
ECG = "1.2.840.10008.5.1.4.1.1.9.1.2"
#: Size of the grey images.
ROWS, COLUMNS = 32, 40
#: Frames of 3 x 5 bits: every frame but the first starts inside a byte.
BIT_ROWS, BIT_COLUMNS, BIT_FRAMES = 3, 5, 4
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
#: Not a film: the archive must hand the bytes of a video on, never look into them.
FILM = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(range(256)) * 4
#: Of the waveform: too many to stand in metadata.
SAMPLES = 100_000
PRIVATE_CREATOR = "ISTHMUS CONFORMANCE"


def uid(name: str) -> UID:
    """A UID that belongs to a name."""
    return generate_uid(entropy_srcs=["isthmus conformance", name])


def image(name: str, study: str, series: str, **changes: object) -> Dataset:
    """A CT image with its own UIDs, in a study and a series that have names."""
    ds = ct(SOPInstanceUID=uid(name), StudyInstanceUID=uid(study), SeriesInstanceUID=uid(series))
    ds.FrameOfReferenceUID = uid(series + " frame of reference")
    ds.PatientID = study
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def without_pixels(ds: Dataset, sop_class: str) -> Dataset:
    """The same without the Image Pixel module, as another kind of object."""
    for element in [one for one in ds if one.tag.group in {0x0028, 0x7FE0}]:
        del ds[element.tag]
    for keyword in ("ImageType", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness"):
        del ds[keyword]
    ds.SOPClassUID = sop_class
    return ds


def file_of(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A data set as a DICOM file, in a transfer syntax that keeps its pixels as they are in `ds`."""
    ds = copy.deepcopy(ds)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def compressed(ds: Dataset, syntax: UID) -> bytes:
    """A data set as a DICOM file with pixels compressed without loss by pydicom's encoders."""
    ds = copy.deepcopy(ds)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(syntax, generate_instance_uid=False)
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


@cache
def catalogue() -> dict[str, Dataset]:
    """What searches look for, by name of the instance."""
    first = image("axial 1", "CONF-A", "A axial", InstanceNumber=1, AccessionNumber="ACC77", StudyID="S-A")
    first.PerformedProcedureStepStartDate, first.PerformedProcedureStepStartTime = "20210304", "102030"
    request = Dataset()
    request.ScheduledProcedureStepID, request.RequestedProcedureID = "SPS-1", "RP-1"
    first.RequestAttributesSequence = Sequence([request])
    first.TimezoneOffsetFromUTC = "+0100"
    other = Dataset()
    other.PatientID, other.TypeOfPatientID = "OTHER-1", "TEXT"
    first.OtherPatientIDsSequence = Sequence([other])
    block = first.private_block(0x0019, PRIVATE_CREATOR, create=True)
    block.add_new(0x01, "LO", "private value")
    second = copy.deepcopy(first)
    second.SOPInstanceUID, second.InstanceNumber = uid("axial 2"), 2
    third = copy.deepcopy(first)
    third.SOPInstanceUID, third.InstanceNumber = uid("axial 3"), 3
    magnetic = image("magnetic", "CONF-A", "A magnetic", Modality="MR", SeriesNumber=7, SeriesDescription="T1")
    magnetic.AccessionNumber, magnetic.StudyID, magnetic.TimezoneOffsetFromUTC = "ACC77", "S-A", "+0100"
    magnetic.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    panza = image("panza", "CONF-B", "B one", PatientName="Panza^Sancho", StudyDate="20220105", StudyTime="230000")
    panza.AccessionNumber, panza.ReferringPhysicianName, panza.StudyID = "", "Saavedra^Ana", "S-B"
    panza.StudyDescription = "HEAD AND NECK"
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    yamada = image("yamada", "CONF-C", "C one", StudyDate="20220106", StudyTime="010000", PatientName=name)
    yamada.SpecificCharacterSet, yamada.StudyID, yamada.AccessionNumber = "ISO_IR 192", "S&C=3", "ACC,78#"
    yamada.StudyDescription, yamada.ReferringPhysicianName = "Übersicht 頭部", "Müller^Jürgen"
    return {
        "axial 1": first,
        "axial 2": second,
        "axial 3": third,
        "magnetic": magnetic,
        "panza": panza,
        "yamada": yamada,
    }


def grey(name: str, frames: int = 1, **changes: object) -> Dataset:
    """An image of unsigned 12-bit pixels; no two of a frame and no two frames are alike."""
    ds = image(name, "CONF-PIXELS", f"pixels {name}", Rows=ROWS, Columns=COLUMNS, PixelRepresentation=0)
    ds.PixelData = (np.arange(frames * ROWS * COLUMNS, dtype="<u4") * 37 % 4096).astype("<u2").tobytes()
    ds.BitsStored, ds.HighBit = 12, 11
    ds.RescaleIntercept = 0
    if frames > 1:
        ds.SOPClassUID, ds.NumberOfFrames = MULTIFRAME_WORD, frames
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def eight_bits(name: str, pixels: np.ndarray, photometric: str) -> Dataset:
    """An 8-bit secondary capture: rows x columns, or rows x columns x 3."""
    ds = image(name, "CONF-PIXELS", f"pixels {name}", SOPClassUID=SECONDARY_CAPTURE, Modality="OT")
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.SamplesPerPixel, ds.PhotometricInterpretation = (3 if pixels.ndim == 3 else 1), photometric
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    for keyword in ("RescaleIntercept", "RescaleSlope", "ImagePositionPatient", "ImageOrientationPatient"):
        del ds[keyword]
    ds.PixelData = pixels.astype("u1").tobytes()
    return ds


def colours() -> np.ndarray:
    """Rows x columns x RGB: red, green, blue, white quarters of 16 x 24."""
    pixels = np.zeros((16, 24, 3), "u1")
    pixels[:8, :12] = 255, 0, 0
    pixels[:8, 12:] = 0, 255, 0
    pixels[8:, :12] = 0, 0, 255
    pixels[8:, 12:] = 255, 255, 255
    return pixels


def bits() -> np.ndarray:
    """The 1-bit frames: frames x rows x columns."""
    return np.random.default_rng(5).integers(0, 2, (BIT_FRAMES, BIT_ROWS, BIT_COLUMNS), dtype="u1")


def jpeg_of(pixels: np.ndarray) -> bytes:
    """Pixels as a JPEG baseline stream."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


@cache
def pixels() -> dict[str, bytes]:
    """Files of the study CONF-PIXELS by name: each transfer syntax, each photometric interpretation."""
    lossy = eight_bits("lossy", colours(), "YBR_FULL_422")
    lossy.PixelData = encapsulate([jpeg_of(colours())])
    lossy["PixelData"].VR, lossy["PixelData"].is_undefined_length = "OB", True
    lossy.LossyImageCompression, lossy.LossyImageCompressionRatio = "01", 10
    lossy.LossyImageCompressionMethod = "ISO_10918_1"
    inverse = eight_bits("inverse", colours()[..., 0], "MONOCHROME1")
    palette = eight_bits("palette", np.arange(16, dtype="u1").reshape(4, 4), "PALETTE COLOR")
    for number, colour in enumerate(("Red", "Green", "Blue")):
        setattr(palette, f"{colour}PaletteColorLookupTableDescriptor", [16, 0, 16])
        table = (np.arange(16, dtype="<u2") * 4096 + 4095) * (number == 0)
        setattr(palette, f"{colour}PaletteColorLookupTableData", table.astype("<u2").tobytes())
    floats = grey("floats", SOPClassUID=PARAMETRIC_MAP, Modality="OT")
    del floats.PixelData, floats.BitsStored, floats.HighBit, floats.PixelRepresentation
    floats.BitsAllocated, floats.FloatPixelData = 32, np.linspace(-1, 1, ROWS * COLUMNS, dtype="<f4").tobytes()
    return {
        "grey": file_of(grey("grey")),
        "frames": file_of(grey("frames", 5)),
        "implicit": file_of(grey("implicit"), ImplicitVRLittleEndian),
        "big": file_of(big_endian(grey("big")), ExplicitVRBigEndian),
        "deflated": file_of(grey("deflated"), DeflatedExplicitVRLittleEndian),
        "rle": compressed(grey("rle", 3), RLELossless),
        "jls": compressed(grey("jls"), JPEGLSLossless),
        "j2k": compressed(grey("j2k", 3), JPEG2000Lossless),
        "lossy": file_of(lossy, JPEGBaseline8Bit),
        "bits": file_of(one_bit()),
        "rgb": file_of(eight_bits("rgb", colours(), "RGB")),
        "inverse": file_of(inverse),
        "palette": file_of(palette),
        "floats": file_of(floats),
    }


def big_endian(ds: Dataset) -> Dataset:
    """The same with pixel words in the other order, as Explicit VR Big Endian stores them."""
    ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    return ds


def one_bit() -> Dataset:
    """A multi-frame image of single bits without padding between frames (PS3.5 section 8.1.1)."""
    ds = grey("bits", BIT_FRAMES, SOPClassUID=MULTIFRAME_BIT, Modality="OT", Rows=BIT_ROWS, Columns=BIT_COLUMNS)
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = 0
    packed = np.packbits(bits().ravel(), bitorder="little").tobytes()
    ds.PixelData = packed + b"\0" * (len(packed) % 2)
    ds["PixelData"].VR = "OB"
    return ds


@cache
def documents() -> dict[str, bytes]:
    """Files of the study CONF-DOCS by name: what is no image."""
    return {
        "pdf": file_of(pdf()),
        "report": file_of(report()),
        "film": file_of(film(), MPEG4HP41),
        "ecg": file_of(ecg()),
        "state": file_of(state()),
    }


def document(name: str, sop_class: str, modality: str) -> Dataset:
    """The frame of a document."""
    return without_pixels(image(name, "CONF-DOCS", f"docs {name}", Modality=modality), sop_class)


def pdf() -> Dataset:
    """An encapsulated PDF."""
    ds = document("pdf", ENCAPSULATED_PDF, "DOC")
    ds.MIMETypeOfEncapsulatedDocument, ds.DocumentTitle = "application/pdf", "Letter"
    ds.EncapsulatedDocument = PDF + b"\0" * (len(PDF) % 2)
    ds.EncapsulatedDocumentLength = len(PDF)
    return ds


def code(value: str, meaning: str) -> Sequence:
    """A code sequence of one item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return Sequence([item])


def report() -> Dataset:
    """A Basic Text SR with one finding."""
    ds = document("report", BASIC_TEXT_SR, "SR")
    finding = Dataset()
    finding.RelationshipType, finding.ValueType = "CONTAINS", "TEXT"
    finding.ConceptNameCodeSequence, finding.TextValue = code("121071", "Finding"), "Windmills, not giants"
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = code("126000", "Imaging Measurement Report")
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ContentDate, ds.ContentTime, ds.ContentSequence = "20210304", "101112", Sequence([finding])
    return ds


def film() -> Dataset:
    """A video object: one fragment of H.264 (PS3.5 section 8.2.7)."""
    ds = eight_bits("film", colours(), "YBR_PARTIAL_420")
    ds.StudyInstanceUID, ds.PatientID, ds.SOPClassUID = uid("CONF-DOCS"), "CONF-DOCS", VIDEO
    ds.NumberOfFrames, ds.FrameTime = 10, 40
    ds.PixelData = encapsulate([FILM], has_bot=False)
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return ds


def ecg() -> Dataset:
    """A waveform: bulk data inside a sequence."""
    ds = document("ecg", ECG, "ECG")
    group = Dataset()
    group.WaveformOriginality, group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = "ORIGINAL", 1, SAMPLES
    group.SamplingFrequency, group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 500, 16, "SS"
    group.WaveformData = (np.arange(SAMPLES) % 30_000).astype("<i2").tobytes()
    group["WaveformData"].VR = "OW"
    ds.WaveformSequence = Sequence([group])
    return ds


def state() -> Dataset:
    """A presentation state that shows the first axial image through a window of one grey value."""
    ds = document("state", GREYSCALE_STATE, "PR")
    first = catalogue()["axial 1"]
    ds.StudyInstanceUID, ds.PatientID = first.StudyInstanceUID, first.PatientID
    ds.AccessionNumber, ds.StudyID, ds.TimezoneOffsetFromUTC = first.AccessionNumber, first.StudyID, "+0100"
    shown = Dataset()
    shown.ReferencedSOPClassUID, shown.ReferencedSOPInstanceUID = first.SOPClassUID, first.SOPInstanceUID
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedImageSequence = first.SeriesInstanceUID, Sequence([shown])
    ds.ReferencedSeriesSequence = Sequence([series])
    ds.ContentLabel, ds.ContentDescription, ds.ContentCreatorName = "STATE", "", ""
    ds.PresentationCreationDate, ds.PresentationCreationTime = "20210304", "101112"
    ds.PresentationLUTShape = "IDENTITY"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
    voi = Dataset()
    voi.WindowCenter, voi.WindowWidth = -1024 + 128, 2
    ds.SoftcopyVOILUTSequence = Sequence([voi])
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = [1, 1], [16, 16]
    area.PresentationSizeMode, area.PresentationPixelAspectRatio = "SCALE TO FIT", [1, 1]
    ds.DisplayedAreaSelectionSequence = Sequence([area])
    return ds


#: Slices x rows x columns of the volume.
VOLUME = (10, 20, 24)


@cache
def volume() -> list[Dataset]:
    """A CT series of 2 mm slices: air, and in it a bright box nearer to the head, the left and the back."""
    voxels = np.full(VOLUME, 24, "<i2")
    voxels[6:9, 12:18, 14:22] = 1424
    slices = []
    for number, plane in enumerate(voxels):
        ds = image(f"slice {number}", "CONF-VOLUME", "volume", InstanceNumber=number + 1, Rows=20, Columns=24)
        ds.PixelData, ds.ImagePositionPatient = plane.tobytes(), [-12, -10, 2 * number]
        ds.SliceThickness, ds.WindowCenter, ds.WindowWidth = 2, 0, 1000
        slices.append(ds)
    return slices


def everything() -> list[bytes]:
    """All files."""
    known = [file_of(ds) for ds in [*catalogue().values(), *volume()]]
    return [*known, *pixels().values(), *documents().values()]


def enhanced(name: str) -> Dataset:
    """The volume as one Enhanced CT image."""
    ds = image(name, name, name, SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1", NumberOfFrames=VOLUME[0])
    ds.Rows, ds.Columns = VOLUME[1:]
    ds.PixelData = b"".join(one.PixelData for one in volume())
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del ds[keyword]
    ds.SharedFunctionalGroupsSequence = Sequence([_shared()])
    ds.PerFrameFunctionalGroupsSequence = Sequence([_plane(one.ImagePositionPatient) for one in volume()])
    return ds


def _shared() -> Dataset:
    """The functional groups that all frames share."""
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness, measures.SpacingBetweenSlices = [1, 1], 2, 2
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([orientation])
    return shared


def _plane(position: list[float]) -> Dataset:
    """The functional groups of one frame."""
    frame, plane = Dataset(), Dataset()
    plane.ImagePositionPatient = position
    frame.PlanePositionSequence = Sequence([plane])
    return frame
