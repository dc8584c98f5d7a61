"""Any data set, as pydicom reads it and writes it again as Explicit VR Little Endian."""

from __future__ import annotations

import warnings
from io import BytesIO

from pydicom import config
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from dicomweb.errors import NotDicom
from gateway.intake.header import Header

#: What an instance is known by, besides its study and series.
NAMES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def quiet_pydicom() -> None:
    """Make pydicom accept values as they are, in silence: its warnings quote them. Call once when a process starts."""
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE
    config.logger.disabled = True
    warnings.filterwarnings("ignore", module="pydicom")


def parsed(header: Header) -> Dataset:
    """The header as pydicom reads it; class and instance UID of the file meta stand in for missing ones."""
    encoding = header.encoding
    ds = read_dataset(BytesIO(header.data), not encoding.explicit, encoding.little)
    for tag in [tag for tag in ds.keys() if tag.element == 0 or tag.group <= 0x0002]:  # noqa: SIM118
        del ds[tag]
    for name, stand_in in zip(NAMES[:2], header.media_storage, strict=True):
        if stand_in and not text_of(ds, name):
            setattr(ds, name, stand_in)
    return ds


def text_of(ds: Dataset, name: str) -> str:
    """A value as text without padding; empty if there is none."""
    value = ds.get(name)
    return str(value).strip(" \0") if value else ""


def rewritten(ds: Dataset, before: bytes, after: bytes) -> bytes:
    """Encode as Explicit VR Little Endian between what comes before and after; values that came so are not decoded."""
    _define_lengths(ds)
    try:
        return _encoded(ds, before, after)
    except Exception:  # noqa: BLE001 - an element that pydicom reads but cannot write again is kept as it came
        return _encoded(_writable(ds), before, after)


def _define_lengths(ds: Dataset) -> None:
    """Give sequences and items explicit lengths, however they came.

    Both forms mean the same (PS3.5 section 7.5.1), and senders rewrite one as the other: kept as they came, the same
    object sent in two ways would differ.
    """
    for tag in list(ds.keys()):
        item = ds.get_item(tag)
        if item.VR != "SQ" and not (item.is_raw and item.VR in (None, "UN")):
            continue
        try:
            element = ds[tag]
        except Exception:  # noqa: BLE001, S112 - stays as it came
            continue
        if element.VR == "SQ":
            element.is_undefined_length = False
            for member in element.value:
                member.is_undefined_length_sequence_item = False
                _define_lengths(member)


def _encoded(ds: Dataset, before: bytes = b"", after: bytes = b"") -> bytes:
    """Written into one buffer: a large header is not copied to be put together."""
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    out.write(before)
    write_dataset(out, ds)
    out.write(after)
    return out.getvalue()


def _writable(ds: Dataset) -> Dataset:
    """Replace each element that cannot be encoded by its received bytes under VR UN (PS3.5 section 6.2.2)."""
    implicit, little = ds.original_encoding
    safe = Dataset()
    safe.set_original_encoding(implicit, little, ds.original_character_set)
    for tag in list(ds.keys()):
        item = ds.get_item(tag)
        raw = item.value if isinstance(item, RawDataElement) else None
        one = Dataset()
        one.set_original_encoding(implicit, little, ds.original_character_set)
        one[tag] = item
        try:
            _encoded(one)
            safe[tag] = item
        except Exception:  # noqa: BLE001 - whatever pydicom raises
            if not isinstance(raw, bytes):
                # `from None`: the text of the cause may quote values.
                raise NotDicom("The DICOM data set holds an element that cannot be encoded.") from None
            safe[tag] = DataElement(tag, "UN", raw)
    return safe
