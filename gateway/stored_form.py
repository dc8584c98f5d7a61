"""From a received header to what is kept: the re-encoded header, its DICOM JSON and where its frames will lie.

The stored form is Explicit VR Little Endian or encapsulated, so that every later read can be a byte range. This is
the one place on the way in that parses DICOM; it is pure CPU and runs in a worker thread.
"""

from __future__ import annotations

import gzip
import struct
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol

from pydicom import config, dcmread
from pydicom._uid_dict import UID_dictionary
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomweb import dicom_json
from dicomweb.errors import IsthmusError, NotDicom
from dicomweb.pixels import frames
from dicomweb.pixels.frames import FrameTable
from dicomweb.resource import Resource, is_uid
from gateway.part10 import UNDEFINED, Header, PixelElement, PixelLayout

#: Ours, under the 2.25 root (PS3.5 Annex B).
IMPLEMENTATION_CLASS_UID = "2.25.264518739036543312958817532071646083329"
IMPLEMENTATION_VERSION = "ISTHMUS"
_REENCODED = {ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
TRANSFER_SYNTAXES = frozenset(uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax")
_PIXEL_VR = {0x7FE00008: "OF", 0x7FE00009: "OD"}
_NAMES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_SWAPPED_BYTES = {"OW": 2, "OF": 4, "OD": 8}


class Deidentify(Protocol):
    """What a profile does to a header; `gateway.deid.engine.Deidentifier` is one."""

    is_identity: bool

    def apply(self, ds: Dataset) -> None:
        """Change the header in place; raise Refused."""
        ...


@dataclass(frozen=True, slots=True)
class Geometry:
    """What is needed to find frames in pixel data: their number, the bits of one uncompressed frame, and the Extended
    Offset Table, if there is one.
    """

    count: int
    frame_bits: int
    extended_starts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """Everything about an instance that is known before its pixels have passed.

    `head` is the start of the stored file, up to and with the header of the pixel element, which starts at
    `pixel_offset` (0 if there is none). Pixel bytes are swapped in groups of `swap` (1: not at all).
    """

    sent_class_uid: str
    sent_instance_uid: str
    sent_study_uid: str
    resource: Resource
    sop_class_uid: str
    transfer_syntax_uid: str
    head: bytes
    pixel_offset: int
    swap: int
    geometry: Geometry
    attributes: dict[str, Any]
    json_gzip: bytes

    @property
    def data_set(self) -> memoryview:
        """The encoded data set in `head`, without the header of the pixel element."""
        start = 144 + int.from_bytes(self.head[140:144], "little")  # group 0002 begins with its own length
        return memoryview(self.head)[start : self.pixel_offset or None]

    def frame_table(self, pixels: PixelElement | None, layout: PixelLayout) -> FrameTable:
        """Where the frames lie, now that the pixel data has passed."""
        start = len(self.head)
        count = self.geometry.count
        if pixels is None or not count:
            return FrameTable(0)
        if pixels.length == UNDEFINED:
            tables = [_starts(layout), self.geometry.extended_starts]
            first = start + layout.first_fragment
            return frames.encapsulated(count, first, layout.fragments, tables, layout.codestreams)
        if self.transfer_syntax_uid != ExplicitVRLittleEndian or not self.geometry.frame_bits:
            return FrameTable(0)
        complete = min(count, layout.size * 8 // self.geometry.frame_bits)
        return frames.native(complete, start, self.geometry.frame_bits)


def quiet_pydicom() -> None:
    """Make pydicom accept values as they are, in silence: its warnings quote them. Call once when a process starts."""
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE
    config.logger.disabled = True
    warnings.filterwarnings("ignore", module="pydicom")


def prepare(header: Header, profile: Deidentify) -> StoredHeader:
    """Parse, de-identify and re-encode a header.

    Raises
    ------
    NotDicom : a UID that names the instance is missing or malformed, or the data set cannot be parsed.
    Refused : the profile refuses the object.
    """
    try:
        return _prepare(header, profile)
    except IsthmusError:
        raise
    except (RecursionError, Exception):  # noqa: BLE001
        # pydicom raises whatever it meets, and its texts quote values: neither text nor cause may go on
        raise NotDicom("The DICOM data set cannot be parsed.") from None


def _prepare(header: Header, profile: Deidentify) -> StoredHeader:
    ds = _parse(header)
    sent = [_uid(ds, name) for name in _NAMES]
    profile.apply(ds)
    class_uid, instance_uid, study_uid, series_uid = (_uid(ds, name) for name in _NAMES)
    syntax = _stored_syntax(header)
    vr = _pixel_vr(ds, header.pixels)
    head, pixel_offset = _encode(ds, class_uid, instance_uid, syntax, header.pixels, vr)
    if not header.encoding.little:  # the JSON is made of little endian values
        ds = dcmread(BytesIO(head), stop_before_pixels=True)
    attributes = dicom_json.encode(ds, pixel_vr=vr or None)
    return StoredHeader(
        sent_class_uid=sent[0],
        sent_instance_uid=sent[1],
        sent_study_uid=sent[2],
        resource=Resource(study_uid, series_uid, instance_uid),
        sop_class_uid=class_uid,
        transfer_syntax_uid=syntax,
        head=head,
        pixel_offset=pixel_offset,
        swap=1 if header.encoding.little else _SWAPPED_BYTES.get(vr, 1),
        geometry=_geometry(attributes, header.pixels, _extended_starts(ds)),
        attributes=attributes,
        json_gzip=gzip.compress(dicom_json.dumps(attributes), 6, mtime=0),
    )


def _stored_syntax(header: Header) -> str:
    """The transfer syntax of the stored form: the received one if its pixels are encapsulated, else Explicit VR LE."""
    syntax = header.transfer_syntax_uid
    encapsulated = header.pixels is not None and header.pixels.length == UNDEFINED
    known = syntax in TRANSFER_SYNTAXES and syntax not in _REENCODED
    return syntax if known or (encapsulated and is_uid(syntax)) else str(ExplicitVRLittleEndian)


def sent_names(header: Header) -> tuple[str, str]:
    """SOP Class and Instance UID as the sender sent them, as far as they can be read: for the failure response."""
    try:
        ds = _parse(header)
        return _text(ds, "SOPClassUID"), _text(ds, "SOPInstanceUID")
    except (RecursionError, Exception):  # noqa: BLE001
        return header.media_storage


def _parse(header: Header) -> Dataset:
    """The header as pydicom reads it; class and instance UID of the file meta stand in for missing ones."""
    encoding = header.encoding
    ds = read_dataset(BytesIO(header.data), not encoding.explicit, encoding.little)
    for tag in [tag for tag in ds.keys() if tag.element == 0 or tag.group <= 0x0002]:  # noqa: SIM118
        del ds[tag]
    for name, stand_in in zip(_NAMES[:2], header.media_storage, strict=True):
        if stand_in and not _text(ds, name):
            setattr(ds, name, stand_in)
    return ds


def _text(ds: Dataset, name: str) -> str:
    value = ds.get(name)
    return str(value).strip(" \0") if value else ""


def _uid(ds: Dataset, name: str) -> str:
    value = _text(ds, name)
    if not value:
        raise NotDicom(f"The DICOM object has no {name}.")
    if not is_uid(value):
        raise NotDicom(f"The {name} of the DICOM object is not a valid UID.")
    return value


def _pixel_vr(ds: Dataset, pixels: PixelElement | None) -> str:
    """The VR that the pixel element is stored with (PS3.5 section 8.2 and Annex A)."""
    if pixels is None:
        return ""
    if pixels.tag in _PIXEL_VR:
        return _PIXEL_VR[pixels.tag]
    if pixels.length == UNDEFINED:
        return "OB"
    if pixels.vr in ("OB", "OW"):
        return pixels.vr
    return "OW" if _int(ds.get("BitsAllocated")) > 8 else "OB"


def _int(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def _encode(
    ds: Dataset, class_uid: str, instance_uid: str, syntax: str, pixels: PixelElement | None, vr: str
) -> tuple[bytes, int]:
    """Preamble, file meta information, data set and, if there are pixels, their element's header."""
    before, after = b"\0" * 128 + b"DICM" + _meta(class_uid, instance_uid, syntax), b""
    if pixels is not None:
        length = pixels.length if pixels.length == UNDEFINED else pixels.length + pixels.length % 2
        after = struct.pack("<HH2sHL", pixels.tag >> 16, pixels.tag & 0xFFFF, vr.encode(), 0, length)
    head = _data_set(ds, before, after)
    return head, len(head) - len(after) if after else 0


def _meta(class_uid: str, instance_uid: str, syntax: str) -> bytes:
    """File meta information, always our own (PS3.10 section 7.1; PS3.15 E.1.1 wants the received one replaced)."""
    elements = _element(0x0001, b"OB", b"\0\1")
    for number, vr, value in (
        (0x0002, b"UI", class_uid),
        (0x0003, b"UI", instance_uid),
        (0x0010, b"UI", syntax),
        (0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        (0x0013, b"SH", IMPLEMENTATION_VERSION),
    ):
        raw = value.encode("ascii")
        elements += _element(number, vr, raw + (b"\0" if vr == b"UI" else b" ") * (len(raw) % 2))
    return _element(0x0000, b"UL", struct.pack("<L", len(elements))) + elements


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    if vr == b"OB":
        return struct.pack("<HH2sHL", 2, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def _data_set(ds: Dataset, before: bytes, after: bytes) -> bytes:
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
        except Exception as exc:
            if not isinstance(raw, bytes):
                raise NotDicom("The DICOM data set holds an element that cannot be encoded.") from exc
            safe[tag] = DataElement(tag, "UN", raw)
    return safe


def _geometry(attributes: dict[str, Any], pixels: PixelElement | None, extended_starts: tuple[int, ...]) -> Geometry:
    """Number of frames and bits of a native frame (PS3.3 C.7.6.3)."""
    if pixels is None:
        return Geometry(0, 0)

    def number(tag: str, default: int) -> int:
        values = attributes.get(tag, {}).get("Value") or [default]
        return _int(values[0])

    samples = number("00280002", 1)
    if (attributes.get("00280004", {}).get("Value") or [""])[0] == "YBR_FULL_422":
        samples = 2
    bits = {0x7FE00008: 32, 0x7FE00009: 64}.get(pixels.tag, number("00280100", 0))
    frame_bits = number("00280010", 0) * number("00280011", 0) * samples * bits
    return Geometry(max(1, number("00280008", 1)), frame_bits, extended_starts)


def _extended_starts(ds: Dataset) -> tuple[int, ...]:
    """The Extended Offset Table (PS3.3 section C.7.6.3.1.8): like the basic one, but of 64-bit numbers."""
    table = ds.get("ExtendedOffsetTable")
    return struct.unpack(f"<{len(table) // 8}Q", table[: len(table) // 8 * 8]) if isinstance(table, bytes) else ()


def _starts(layout: PixelLayout) -> tuple[int, ...]:
    table = bytes(layout.offset_table)
    return struct.unpack(f"<{len(table) // 4}L", table[: len(table) // 4 * 4])
