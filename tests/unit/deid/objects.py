"""Objects for the tests, and the ways to look at them."""

import io
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian

KEY = bytes(range(32))
OTHER_KEY = bytes(range(100, 132))
CT = "1.2.840.10008.5.1.4.1.1.2"

#: A made-up patient, in spellings that a search for any one of them would miss in another.
PATIENT = {
    "PatientName": "QUIRINALE^ZEPHYRINA^MOA",
    "PatientID": "MRN-7788123",
    "PatientBirthDate": "19470312",
    "AccessionNumber": "ACC-99881",
    "InstitutionName": "Saint Elsewhere",
    "ReferringPhysicianName": "HOUSEMAN^GREGOR",
    "StationName": "ROOMSEVEN",
    "DeviceSerialNumber": "SN5566778",
}
#: What no output may hold, in lower case.
NEEDLES = (
    *("quirinale", "zephyrina", "7788123", "19470312", "99881", "elsewhere", "houseman", "gregor", "roomseven"),
    *("5566778", "12/03/1947", "12 march", "tiber", "555-0117", "example.org"),
)
DESCRIPTION = "CT ABD/PEL Quirinale, Z. 12/03/1947 W CONTRAST 5.0"
COMMENT = (
    "Mrs. Zephyrina QUIRINALE (MRN7788123, *12 March 1947), 7 Tiber Street, 555-0117-442, zq@example.org, Dr Houseman"
)


def header(**attributes: object) -> Dataset:
    """A minimal CT of the made-up patient."""
    ds = Dataset()
    values = {
        "SOPClassUID": CT,
        "SOPInstanceUID": "1.2.826.0.1.3680043.8.498.1.19470312",
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.2",
        "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.3",
        "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.4",
        "StudyDate": "20190304",
        "StudyTime": "101112.500",
        "Modality": "CT",
        **PATIENT,
        **attributes,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(ds, keyword, value)
    return ds


def encode(ds: Dataset) -> bytes:
    """Write a header as a Part 10 file, Explicit VR Little Endian, with new file meta information."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = str(ds.get("SOPClassUID") or "1.2")
    meta.MediaStorageSOPInstanceUID = str(ds.get("SOPInstanceUID") or "1.2")
    copy = Dataset(ds)
    copy.file_meta = meta
    copy.preamble = b"\0" * 128
    copy.set_original_encoding(*ds.original_encoding, ds.original_character_set)
    buffer = io.BytesIO()
    dcmwrite(buffer, copy, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


def decode(raw: bytes) -> Dataset:
    """Read a header back."""
    return dcmread(io.BytesIO(raw), stop_before_pixels=True)


def open_header(path: Path) -> Dataset | None:
    """Read the header of a file of any quality; None if pydicom cannot."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(path, stop_before_pixels=True) if _is_readable(path) else None


@cache
def _is_readable(path: Path) -> bool:
    """Whether pydicom reads the header, and writes it: of some broken files it does one, but not the other."""
    try:
        encode(dcmread(path, stop_before_pixels=True))
    except Exception:  # noqa: BLE001 - whatever is wrong with a broken file is not our subject
        return False
    return True


def bundled(name: str) -> Path:
    """A file that comes with pydicom."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path)


def elements(ds: Dataset) -> Iterator[DataElement]:
    """All elements at all depths, but sequences."""
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)
        else:
            yield element


def tags(ds: Dataset) -> list[BaseTag]:
    """The tags of a data set, ascending, without decoding anything."""
    return sorted(ds.keys())


def values(element: DataElement) -> list[str]:
    value = element.value
    if value is None or isinstance(value, bytes):
        return []
    return [str(item) for item in (value if isinstance(value, MultiValue | list) else [value]) if str(item)]


def all_values(ds: Dataset, vr: str) -> set[str]:
    return {value for element in elements(ds) if vr == element.VR for value in values(element)}


def plant(ds: Dataset) -> None:
    """Put the made-up patient into every place where people put patients."""
    for keyword, value in PATIENT.items():
        setattr(ds, keyword, value)
    for element in list(ds):
        if element.VR == "SQ" and not element.tag.is_private:
            for item in element.value:
                item.PatientComments = COMMENT
                item.TextValue = COMMENT
                item.add_new(0x00100010, "PN", PATIENT["PatientName"])
                item.add_new(0x00090010, "LO", "QUIRINALE")
                item.add_new(0x00091001, "LO", PATIENT["PatientName"])
    ds.StudyDescription = DESCRIPTION
    ds.SeriesDescription = "quirinale_zephyrina"
    ds.ImageComments = COMMENT
    ds.BodyPartExamined = "QUIRINALE"
    ds.ManufacturerModelName = "Scanner of ROOMSEVEN"
    ds.PatientAddress = "7 Tiber Street"
    ds.add_new(0x00090010, "LO", "QUIRINALE 1.0")
    ds.add_new(0x00091001, "UN", b"ZEPHYRINA ")
    ds.add_new(0x00091002, "SQ", Sequence([header()]))
    ds.add_new(0x60000022, "LO", "OVERLAY OF ZEPHYRINA")
    ds.add_new(0x0008FFF0, "LO", "ZEPHYRINA")  # unknown to PS3.6


def needles_in(raw: bytes) -> list[str]:
    """The needles that occur in encoded bytes, whatever their case."""
    low = raw.lower()
    return [needle for needle in NEEDLES if needle.encode() in low]
