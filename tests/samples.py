"""DICOM objects made for tests, and files as the streams that the archive takes."""

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom.data
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
#: Every object that comes with pydicom; its own `get_testdata_files` asks the Internet for more of them each time.
BUNDLED = tuple(sorted((Path(pydicom.data.__file__).parent / "test_files").rglob("*.dcm")))


def ct(**changes: object) -> Dataset:
    """A small CT image: 16 x 16 pixels, signed 16 bit, a gradient."""
    ds = Dataset()
    ds.SOPClassUID = CT_IMAGE_STORAGE
    ds.SOPInstanceUID = generate_uid(None)
    ds.StudyInstanceUID = generate_uid(None)
    ds.SeriesInstanceUID = generate_uid(None)
    ds.FrameOfReferenceUID = generate_uid(None)
    ds.StudyDate, ds.StudyTime = "20210304", "101112"
    ds.AccessionNumber, ds.StudyID = "ACC77", "S1"
    ds.PatientName, ds.PatientID = "Quixote^Alonso", "MRN-4711"
    ds.PatientBirthDate, ds.PatientSex = "19500102", "M"
    ds.ReferringPhysicianName = "Cervantes^Miguel"
    ds.Modality, ds.Manufacturer = "CT", "Isthmus"
    ds.StudyDescription, ds.SeriesDescription = "CT ABDOMEN", "AXIAL 5.0"
    ds.SeriesNumber, ds.InstanceNumber = 2, 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [1, 1], 5
    ds.Rows = ds.Columns = 16
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleIntercept, ds.RescaleSlope = -1024, 1
    ds.PixelData = np.arange(256, dtype="<i2").tobytes()
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def part10(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A data set as a DICOM file."""
    ds = Dataset(ds)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = syntax
    out = BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


async def stream(content: bytes | Path, size: int = 65536) -> AsyncIterator[bytes]:
    """Content in pieces, as it would arrive."""
    data = content if isinstance(content, bytes) else content.read_bytes()
    for start in range(0, len(data), size):
        yield data[start : start + size]


def content_of(path: Path, size: int = 65536) -> AsyncIterator[bytes]:
    """A file in pieces, read before the test's loop could notice."""
    return stream(path.read_bytes(), size)
