"""CT images of ellipses and noise, 512 x 512 x 16 bit (0.5 MB), with a header as scanners write it; always alike."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

SIDE = 512
_SLICES = 25  # different images; a series repeats them
_NAMESPACE = uuid.UUID("2f1c5b0e-5b64-4d0c-9c2e-6a1f5d0c7e11")


@dataclass(frozen=True)
class Instance:
    """One Part 10 file and its names."""

    study_uid: str
    series_uid: str
    instance_uid: str
    content: bytes

    @property
    def data_set(self) -> bytes:
        """What follows the file meta information, whose length its first element tells (PS3.10 section 7.1)."""
        return self.content[144 + int.from_bytes(self.content[140:144], "little") :]

    @property
    def path(self) -> str:
        """Of the instance, below the root of a DICOMweb service."""
        return f"studies/{self.study_uid}/series/{self.series_uid}/instances/{self.instance_uid}"


def series(name: str, count: int, *, side: int = SIDE) -> Iterator[Instance]:
    """A study of one series with `count` instances; another `name` gives other UIDs and another patient."""
    study_uid, series_uid = uid(name), uid(f"{name}/series")
    shared = header(name, study_uid, series_uid, side)
    for number in range(1, count + 1):
        yield _instance(shared, f"{name}/{number}", number)


def uid(name: str) -> str:
    """A UID that is the same in every run."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"


def _instance(header: Dataset, name: str, number: int) -> Instance:
    ds = Dataset(header)
    ds.SOPInstanceUID = uid(name)
    ds.InstanceNumber, ds.AcquisitionNumber = number, 1
    ds.ImagePositionPatient = [-250.0, -250.0, -400.0 + 2.5 * number]
    ds.SliceLocation = ds.ImagePositionPatient[2]
    ds.ContentTime = f"1012{number // 60 % 60:02d}.{number % 60:02d}0000"
    ds.PixelData = pixels(number % _SLICES, ds.Rows)
    return Instance(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, part10(ds))


def part10(ds: Dataset) -> bytes:
    """A data set as a DICOM file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


@cache
def pixels(number: int, side: int = SIDE) -> bytes:
    """A slice of a body in Hounsfield units + 1024: skin, muscle, lungs, spine, and 12 HU of noise."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    grow = 1 + 0.1 * np.sin(number)
    image = np.zeros((side, side))
    for centre_x, centre_y, radius_x, radius_y, value in (
        (0.0, 0.0, 0.80, 0.60, 920),
        (0.0, 0.0, 0.76, 0.56, 1070),
        (-0.35, -0.05, 0.25 * grow, 0.38, 180),
        (0.35, -0.05, 0.25 * grow, 0.38, 180),
        (0.0, 0.36, 0.10, 0.10 * grow, 1500),
        (0.08, -0.10, 0.16, 0.16 * grow, 1180),
    ):
        image[((x - centre_x) / radius_x) ** 2 + ((y - centre_y) / radius_y) ** 2 < 1] = value
    image += np.random.default_rng(number).normal(0, 12, image.shape)
    return image.clip(0, 4095).astype("<u2").tobytes()


def header(name: str, study_uid: str, series_uid: str, side: int) -> Dataset:
    """What a CT scanner writes, about a hundred elements with sequences and private ones, but for each image's own."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]
    ds.InstanceCreationDate = ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240312"
    ds.InstanceCreationTime = ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = "101112.130000"
    ds.SOPClassUID = CTImageStorage
    ds.AccessionNumber = f"A{abs(hash_of(name)) % 10**9:09d}"
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "CT", "Phantom Works", "Model 64"
    ds.InstitutionName, ds.InstitutionalDepartmentName = "Hospital of the Isthmus", "Radiology"
    ds.StationName, ds.DeviceSerialNumber, ds.SoftwareVersions = "CT01", "64001", ["VB20A", "1.2"]
    ds.ReferringPhysicianName, ds.PerformingPhysicianName = "Referring^Physician", "Performing^Physician"
    ds.OperatorsName = "Operator^One"
    ds.StudyDescription, ds.SeriesDescription = "CT Thorax/Abdomen", "Thorax 2.5 B30f"
    ds.ProcedureCodeSequence = [_code("CTTHABD", "99LOCAL", "CT of thorax and abdomen")]
    ds.ReferencedStudySequence = [_reference("1.2.840.10008.3.1.2.3.1", f"{name}/procedure")]
    ds.PatientName, ds.PatientID = f"Phantom^{name}", patient_id(name)
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19600405", "O", "063Y"
    ds.PatientSize, ds.PatientWeight = 1.75, 75
    ds.BodyPartExamined, ds.PatientPosition, ds.ProtocolName = "CHEST", "HFS", "ThoraxRoutine"
    ds.ScanOptions, ds.SliceThickness, ds.KVP, ds.DataCollectionDiameter = "SPIRAL", 2.5, 120, 500
    ds.ReconstructionDiameter, ds.DistanceSourceToDetector, ds.DistanceSourceToPatient = 500, 1040, 570
    ds.GantryDetectorTilt, ds.TableHeight, ds.RotationDirection = 0, 150, "CW"
    ds.ExposureTime, ds.XRayTubeCurrent, ds.Exposure, ds.FilterType = 500, 200, 100, "WEDGE_2"
    ds.GeneratorPower, ds.FocalSpots, ds.ConvolutionKernel = 45, 1.2, "B30f"
    ds.DateOfLastCalibration, ds.TimeOfLastCalibration = "20240312", "070000"
    ds.ContrastBolusAgent, ds.ContrastBolusVolume = "CE", 90
    ds.CTDIvol, ds.SpiralPitchFactor, ds.SingleCollimationWidth, ds.TotalCollimationWidth = 6.8, 1.2, 0.6, 38.4
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study_uid, series_uid, uid(f"{name}/frame")
    ds.StudyID, ds.SeriesNumber, ds.PositionReferenceIndicator = "1", 2, ""
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", side, side
    ds.PixelSpacing = [500 / side, 500 / side]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.SmallestImagePixelValue, ds.LargestImagePixelValue = 0, 4095
    ds.WindowCenter, ds.WindowWidth, ds.WindowCenterWidthExplanation = [40, -600], [400, 1200], ["BODY", "LUNG"]
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
    ds.RequestingPhysician, ds.RequestedProcedureDescription = "Requesting^Physician", "CT Thorax/Abdomen"
    ds.RequestAttributesSequence = [_request()]
    ds.PerformedProcedureStepStartDate, ds.PerformedProcedureStepStartTime = "20240312", "101000"
    ds.PerformedProcedureStepID, ds.PerformedProcedureStepDescription = "PPS1", "CT Thorax/Abdomen"
    for group, creator in ((0x0019, "PHANTOM CT VA0 COAD"), (0x0021, "PHANTOM MED"), (0x0029, "PHANTOM CSA HEADER")):
        block = ds.private_block(group, creator, create=True)
        block.add_new(0x10, "LO", "calibrated")
        block.add_new(0x11, "DS", "1.5")
        block.add_new(0x12, "OB", bytes(range(256)) * 4)
    return ds


def patient_id(name: str) -> str:
    """The PatientID of the patient of a study."""
    return f"PH{hash_of(name) % 10**8:08d}"


def hash_of(name: str) -> int:
    """A number that is the same in every run, unlike `hash`."""
    return uuid.uuid5(_NAMESPACE, name).int


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _reference(class_uid: str, name: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = class_uid, uid(name)
    return item


def _request() -> Dataset:
    item = Dataset()
    item.ScheduledProcedureStepDescription, item.ScheduledProcedureStepID = "CT Thorax/Abdomen", "SPS1"
    item.RequestedProcedureID = "RP1"
    item.ScheduledProtocolCodeSequence = [_code("CTTHABD", "99LOCAL", "CT of thorax and abdomen")]
    return item
