"""Minimal images of many kinds, without identity: what is planted in them is told elsewhere."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from benchmarks.deid.people import Person

#: Of our own; each UID tells the study's date, as those of many scanners do.
_ROOT = "1.2.826.0.1.3680043.9.7133"
_SIDE = 48
#: From injection to scan, of PET images.
UPTAKE_MINUTES = 61


@dataclass
class Study:
    """One examination of a patient."""

    person: Person
    number: int
    day: date
    rng: np.random.Generator
    _made: int = field(default=0)

    def uid(self, name: str) -> str:
        """A UID that is the same for the same name."""
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:5], "big")
        return f"{_ROOT}.{self.person.number + 1}.{self.number}.{self.day:%Y%m%d}.{number}"

    def next_instance(self) -> int:
        """A number for one more instance."""
        self._made += 1
        return self._made


def base(study: Study, sop_class: str, modality: str, series: str) -> Dataset:
    """What every object has, with nothing of the patient."""
    ds = Dataset()
    number = study.next_instance()
    ds.SpecificCharacterSet = study.person.charset.split("\\") if "\\" in study.person.charset else study.person.charset
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, study.uid(f"{series}/{number}")
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study.uid("study"), study.uid(series)
    day = f"{study.day:%Y%m%d}"
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = day
    ds.StudyTime, ds.SeriesTime, ds.ContentTime = "101112", "101530", "101745"
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = modality, len(series), number
    ds.Manufacturer, ds.ManufacturerModelName = "SIEMENS", "Sensation 16"
    ds.StudyID = str(study.number)
    ds.file_meta = None
    return ds


def image(
    study: Study, sop_class: str, modality: str, series: str, *, shape: tuple[int, ...] = (_SIDE, _SIDE)
) -> Dataset:
    """An image of 16 bits, grey."""
    ds = base(study, sop_class, modality, series)
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = study.uid("frame"), ""
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.AcquisitionDate, ds.AcquisitionTime = ds.StudyDate, "101600"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 5 * ds.InstanceNumber], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [0.75, 0.75], 5
    _grey(ds, study.rng.integers(0, 3000, shape, dtype=np.uint16) // 8 * 8)
    return ds


def _grey(ds: Dataset, pixels: np.ndarray) -> None:
    bits = 8 * pixels.dtype.itemsize
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits, bits - 1, 0
    if pixels.ndim > 2:
        ds.NumberOfFrames = pixels.shape[0]
    ds.PixelData = pixels.tobytes()


def _color(ds: Dataset, pixels: np.ndarray) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns = pixels.shape[-3:-1]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    if pixels.ndim > 3:
        ds.NumberOfFrames = pixels.shape[0]
    ds.PixelData = pixels.tobytes()


def ct(study: Study) -> Dataset:
    """A slice of a CT series."""
    ds = image(study, uid.CTImageStorage, "CT", "ct")
    ds.KVP, ds.ExposureTime, ds.XRayTubeCurrent, ds.RescaleIntercept, ds.RescaleSlope = 120, 500, 210, -1024, 1
    ds.ConvolutionKernel, ds.BodyPartExamined, ds.RescaleType, ds.AcquisitionNumber = "B30f", "CHEST", "HU", 1
    ds.BitsStored, ds.HighBit, ds.PatientPosition = 12, 11, "HFS"
    return ds


def mr(study: Study) -> Dataset:
    """An MR image."""
    ds = image(study, uid.MRImageStorage, "MR", "mr")
    ds.EchoTime, ds.RepetitionTime, ds.MagneticFieldStrength, ds.FlipAngle, ds.EchoTrainLength = 98.5, 4500, 1.5, 150, 9
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "SE", "SK", "FS", "2D"
    ds.DiffusionBValue, ds.BodyPartExamined, ds.PatientPosition = 1000.0, "BRAIN", "HFS"
    return ds


def pet(study: Study) -> Dataset:
    """A PET slice: what the dose was, and when it was injected, 61 minutes before the scan."""
    ds = image(study, uid.PositronEmissionTomographyImageStorage, "PT", "pet")
    dose = Dataset()
    dose.Radiopharmaceutical, dose.RadionuclideTotalDose, dose.RadionuclideHalfLife = "FDG", 370000000, 6588
    dose.RadiopharmaceuticalStartTime, dose.RadiopharmaceuticalStartDateTime = "091500", f"{study.day:%Y%m%d}091500"
    ds.RadiopharmaceuticalInformationSequence = [dose]
    ds.Units, ds.DecayCorrection, ds.CorrectedImage, ds.CountsSource = "BQML", "START", ["DECY", "ATTN"], "EMISSION"
    ds.SeriesType, ds.RescaleIntercept, ds.RescaleSlope, ds.FrameReferenceTime = ["STATIC", "IMAGE"], 0, 1, 0
    ds.NumberOfSlices, ds.ImageIndex, ds.DecayFactor, ds.ActualFrameDuration = 1, 1, 1, 180000
    return ds


def enhanced(study: Study, sop_class: str, modality: str) -> Dataset:
    """A multi-frame image with functional groups per frame."""
    ds = image(study, sop_class, modality, f"enhanced-{modality}", shape=(3, 32, 32))
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del ds[keyword]
    ds.AcquisitionDateTime = f"{study.day:%Y%m%d}101600"
    ds.PerFrameFunctionalGroupsSequence = [_frame(study, number) for number in range(3)]
    ds.SharedFunctionalGroupsSequence = [Dataset()]
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = [1, 1], 2
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = [measures]
    return ds


def _frame(study: Study, number: int) -> Dataset:
    item, content, position = Dataset(), Dataset(), Dataset()
    content.FrameAcquisitionDateTime = f"{study.day:%Y%m%d}10160{number}"
    content.FrameReferenceDateTime = content.FrameAcquisitionDateTime
    content.DimensionIndexValues = [1, number + 1]
    position.ImagePositionPatient = [0, 0, 2 * number]
    item.FrameContentSequence, item.PlanePositionSequence = [content], [position]
    return item


def projection(study: Study, sop_class: str, modality: str) -> Dataset:
    """A radiograph, in 8 bits so that text can be burned in as people see it."""
    ds = base(study, sop_class, modality, f"projection-{modality}")
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.BodyPartExamined = "BREAST" if modality == "MG" else "CHEST"
    ds.PresentationIntentType, ds.ImageLaterality, ds.ViewPosition = "FOR PRESENTATION", "L", "PA"
    rows = np.linspace(40, 90, 160)[:, None] * np.ones((160, 260))
    _grey(ds, rows.astype(np.uint8))
    return ds


def ultrasound(study: Study, kind: str) -> Dataset:
    """Ultrasound: `grey` has frames, `color` is RGB, `jpeg` is compressed."""
    multi = uid.UltrasoundMultiFrameImageStorage if kind == "grey" else uid.UltrasoundImageStorage
    ds = base(study, multi, "US", f"us-{kind}")
    ds.ImageType = ["ORIGINAL", "PRIMARY", "", "0001"]
    ground = np.zeros((200, 280), np.uint8)
    ground[60:180, 40:240] = study.rng.integers(30, 90, (12, 20), np.uint8).repeat(10, 0).repeat(10, 1)
    if kind == "grey":
        _grey(ds, np.stack([ground, ground]))
        ds.FrameTime = 40
    else:
        _color(ds, np.stack([ground] * 3, axis=-1))
    return ds


def capture(study: Study) -> Dataset:
    """A screen that somebody captured."""
    ds = base(study, uid.SecondaryCaptureImageStorage, "OT", "capture")
    ds.ConversionType, ds.ImageType = "WSD", ["DERIVED", "SECONDARY"]
    _color(ds, np.full((160, 260, 3), 24, np.uint8))
    return ds


def slide(study: Study, flavor: str) -> Dataset:
    """A tile of a slide; of flavor LABEL it is the picture of the slide's label."""
    ds = base(study, uid.VLWholeSlideMicroscopyImageStorage, "SM", f"slide-{flavor}")
    ds.ImageType = ["ORIGINAL", "PRIMARY", flavor, "NONE"]
    ds.SpecimenLabelInImage, ds.BurnedInAnnotation = ("YES", "YES") if flavor == "LABEL" else ("NO", "NO")
    ds.ContainerIdentifier, ds.FrameOfReferenceUID = "", study.uid("slide")
    specimen = Dataset()
    specimen.SpecimenUID, specimen.SpecimenIdentifier = study.uid("specimen"), ""
    ds.SpecimenDescriptionSequence = [specimen]
    ds.TotalPixelMatrixColumns = ds.TotalPixelMatrixRows = 32
    _color(ds, study.rng.integers(150, 250, (32, 32, 3), np.uint8))
    return ds


def video(study: Study) -> Dataset:
    """The head of an endoscopic video: MPEG-4, of which there is no more than a few bytes."""
    ds = base(study, uid.VideoEndoscopicImageStorage, "ES", "video")
    _color(ds, np.zeros((1, 64, 64, 3), np.uint8))
    ds.PhotometricInterpretation, ds.NumberOfFrames, ds.FrameTime = "YBR_PARTIAL_420", 10, 40
    ds.PixelData = encapsulate([b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(200)])
    return ds


def compress(ds: Dataset, comment: bytes = b"") -> str:
    """Make an RGB image a JPEG with a comment in place; return its transfer syntax."""
    buffer = io.BytesIO()
    pixels = np.frombuffer(ds.PixelData, np.uint8).reshape(ds.Rows, ds.Columns, 3)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0, comment=comment)
    ds.PixelData = encapsulate([buffer.getvalue()])
    ds["PixelData"].VR = "OB"
    ds.PhotometricInterpretation, ds.LossyImageCompression = "YBR_FULL", "01"
    return str(uid.JPEGBaseline8Bit)


#: Kinds whose pixels are looked at: text is burned into half of them.
BURNED: Mapping[str, Callable[[Study], Dataset]] = {
    "US multi-frame": lambda study: ultrasound(study, "grey"),
    "US color": lambda study: ultrasound(study, "color"),
    "US JPEG": lambda study: ultrasound(study, "jpeg"),
    "SC": capture,
    "CR": lambda study: projection(study, uid.ComputedRadiographyImageStorage, "CR"),
    "DX": lambda study: projection(study, uid.DigitalXRayImageStorageForPresentation, "DX"),
}
PLAIN: Mapping[str, Callable[[Study], Dataset]] = {
    "CT": ct,
    "MR": mr,
    "PET": pet,
    "Enhanced MR": lambda study: enhanced(study, uid.EnhancedMRImageStorage, "MR"),
    "Enhanced CT": lambda study: enhanced(study, uid.EnhancedCTImageStorage, "CT"),
    "MG": lambda study: projection(study, uid.DigitalMammographyXRayImageStorageForPresentation, "MG"),
    "WSI": lambda study: slide(study, "VOLUME"),
    "WSI label": lambda study: slide(study, "LABEL"),
    "Video": video,
}
