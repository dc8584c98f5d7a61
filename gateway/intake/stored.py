"""From a received header to what is kept: the re-encoded header, its DICOM JSON and where its frames will lie.

The stored form is Explicit VR Little Endian or encapsulated, so that every later read can be a byte range. This is
the one place on the way in that parses DICOM; it is pure CPU and runs in a worker thread.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import Any, Protocol

from pydicom import dcmread
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset
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
from gateway.deid.original import Before
from gateway.intake import quick
from gateway.intake.elements import Element, Elements, Unusual
from gateway.intake.file_meta import file_start
from gateway.intake.header import Encoding, Header
from gateway.intake.pixels import UNDEFINED, PixelElement, PixelLayout
from gateway.intake.rewrite import NAMES, parsed, rewritten, text_of

_REENCODED = {ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
TRANSFER_SYNTAXES = frozenset(uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax")
_PIXEL_VR = {0x7FE00008: "OF", 0x7FE00009: "OD"}
_NAME_TAGS = (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)
_CHARACTER_SET, _EXTENDED_OFFSETS = 0x00080005, 0x7FE00001
#: What the JSON says of the character set: it is in UTF-8.
_UTF8 = Element(
    b"", b'"00080005":{"vr":"CS","Value":["ISO_IR 192"]}', "00080005", {"vr": "CS", "Value": ["ISO_IR 192"]}
)
_PLAIN = Encoding(explicit=True, little=True)
_SWAPPED_BYTES = {"OW": 2, "OF": 4, "OD": 8}
#: The level of compression of the JSON of one instance: 6 takes 2.4 times the time for 10 % less.
_LEVEL = 1


class Deidentify(Protocol):
    """What a profile does to a header; `gateway.deid.engine.Deidentifier` is one."""

    is_identity: bool

    @property
    def uid(self) -> Callable[[str], str]:
        """What a UID is replaced by, if the profile replaces UIDs."""
        ...

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
    `pixel_offset` (0 if there is none). Pixel bytes are swapped in groups of `swap` (1: not at all). `json` is what
    `attributes` are in text. `original` is what the object said of patient and study before it was de-identified.
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
    json: bytes
    original: bytes = field(default=b"", repr=False)

    @property
    def json_gzip(self) -> bytes:
        """The compressed JSON."""
        return gzip.compress(self.json, _LEVEL, mtime=0)

    @property
    def photometric(self) -> str:
        """The photometric interpretation."""
        return str((self.attributes.get("00280004", {}).get("Value") or [""])[0])

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
            tables = [_offsets(layout.offset_table, "L"), self.geometry.extended_starts]
            first = start + layout.first_fragment
            return frames.encapsulated(count, first, layout.fragments, tables, layout.codestreams)
        if self.transfer_syntax_uid != ExplicitVRLittleEndian or not self.geometry.frame_bits:
            return FrameTable(0)
        complete = min(count, layout.size * 8 // self.geometry.frame_bits)
        return frames.native(complete, start, self.geometry.frame_bits)


def prepare(header: Header, profile: Deidentify, elements: Elements) -> StoredHeader:
    """Parse, de-identify and re-encode a header.

    Raises
    ------
    NotDicom : a UID that names the instance is missing or malformed, or the data set cannot be parsed.
    Refused : the profile refuses the object.
    """
    try:
        try:
            return _quickly(header, profile, elements)
        except Unusual:
            return _rewritten(header, profile)
    except IsthmusError:
        raise
    except (RecursionError, Exception):  # noqa: BLE001
        # pydicom raises whatever it meets, and its texts quote values: neither text nor cause may go on
        raise NotDicom("The DICOM data set cannot be parsed.") from None


def _quickly(header: Header, profile: Deidentify, elements: Elements) -> StoredHeader:
    """Prepare a header whose elements, as they came or as the profile left them, need no rewriting; raise Unusual."""
    if header.places is None:
        raise Unusual
    if profile.is_identity:
        made = elements.data_set(header.data, header.places)
        return _kept(header, made, [_kept_uid(made, tag) for tag in _NAME_TAGS[:3]])
    ds = quick.read(header.data, header.places, elements)
    sent = [quick.uid(ds, tag) for tag in _NAME_TAGS]
    before = Before(ds, header.data, sent[1:], is_plain=True)
    profile.apply(ds)
    return _kept(header, elements.data_set(*quick.write(ds)), sent, before.unlike(ds, profile.uid))


def _kept(header: Header, elements: dict[int, Element], sent: list[str], original: bytes = b"") -> StoredHeader:
    """A header of these elements; raise Unusual."""
    class_uid, instance_uid, study_uid, series_uid = (_kept_uid(elements, tag) for tag in _NAME_TAGS)
    pixels = header.pixels
    vr = _pixel_vr(pixels, bits_allocated=None)
    if pixels is not None and next(reversed(elements)) > pixels.tag:
        raise Unusual
    table = elements.get(_EXTENDED_OFFSETS)
    if table is not None and table.stored[4:6] != b"OV":
        raise Unusual
    syntax = _stored_syntax(header)
    before, after = _start(class_uid, instance_uid, syntax), _pixel_head(pixels, vr)
    head = b"".join([before, *[element.stored for element in elements.values()], after])
    shown = elements | {_CHARACTER_SET: _UTF8}
    if _CHARACTER_SET not in elements:
        shown = dict(sorted(shown.items()))
    attributes = {element.name: element.value for element in shown.values()}
    members = [element.json for element in shown.values()]
    if vr:
        attributes |= dicom_json.pixel_data(vr)
        members.append(_pixel_member(vr))
    return StoredHeader(
        sent_class_uid=sent[0],
        sent_instance_uid=sent[1],
        sent_study_uid=sent[2],
        resource=Resource(study_uid, series_uid, instance_uid),
        sop_class_uid=class_uid,
        transfer_syntax_uid=syntax,
        head=head,
        pixel_offset=len(head) - len(after) if after else 0,
        swap=1,
        geometry=_geometry(attributes, pixels, _offsets(table.stored[12:], "Q") if table else ()),
        attributes=attributes,
        json=b"{" + b",".join(members) + b"}",
        original=original,
    )


@lru_cache
def _pixel_member(vr: str) -> bytes:
    return dicom_json.dumps(dicom_json.pixel_data(vr))[1:-1]


def _kept_uid(elements: dict[int, Element], tag: int) -> str:
    """A UID that is valid and padded as it should be."""
    element = elements.get(tag)
    if element is None or element.stored[4:6] != b"UI" or len(element.stored) % 2:
        raise Unusual
    text = element.stored[8:].removesuffix(b"\0").decode("ascii", "replace")
    if not is_uid(text):
        raise Unusual
    return text


def _rewritten(header: Header, profile: Deidentify) -> StoredHeader:
    """A header that pydicom reads and writes."""
    ds = parsed(header)
    sent = [_uid(ds, name) for name in NAMES]
    said = None if profile.is_identity else Before(ds, header.data, sent[1:], is_plain=header.encoding == _PLAIN)
    profile.apply(ds)
    original = said.unlike(ds, profile.uid) if said is not None else b""
    class_uid, instance_uid, study_uid, series_uid = (_uid(ds, name) for name in NAMES)
    syntax = _stored_syntax(header)
    vr = _pixel_vr(header.pixels, bits_allocated=_int(ds.get("BitsAllocated")))
    before, after = _start(class_uid, instance_uid, syntax), _pixel_head(header.pixels, vr)
    head = rewritten(ds, before, after)
    if not header.encoding.little:  # the JSON is made of little endian values
        ds = dcmread(BytesIO(head), stop_before_pixels=True)
    attributes = dicom_json.encode(ds, pixel_vr=vr or None)
    table = ds.get("ExtendedOffsetTable")
    return StoredHeader(
        sent_class_uid=sent[0],
        sent_instance_uid=sent[1],
        sent_study_uid=sent[2],
        resource=Resource(study_uid, series_uid, instance_uid),
        sop_class_uid=class_uid,
        transfer_syntax_uid=syntax,
        head=head,
        pixel_offset=len(head) - len(after) if after else 0,
        swap=1 if header.encoding.little else _SWAPPED_BYTES.get(vr, 1),
        geometry=_geometry(attributes, header.pixels, _offsets(table, "Q") if isinstance(table, bytes) else ()),
        attributes=attributes,
        json=dicom_json.dumps(attributes),
        original=original,
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
        ds = parsed(header)
        return text_of(ds, "SOPClassUID"), text_of(ds, "SOPInstanceUID")
    except (RecursionError, Exception):  # noqa: BLE001
        return header.media_storage


def _uid(ds: Dataset, name: str) -> str:
    value = text_of(ds, name)
    if not value:
        raise NotDicom(f"The DICOM object has no {name}.")
    if not is_uid(value):
        raise NotDicom(f"The {name} of the DICOM object is not a valid UID.")
    return value


def _pixel_vr(pixels: PixelElement | None, *, bits_allocated: int | None) -> str:
    """The VR that the pixel element is stored with (PS3.5 section 8.2 and Annex A)."""
    if pixels is None:
        return ""
    if pixels.tag in _PIXEL_VR:
        return _PIXEL_VR[pixels.tag]
    if pixels.length == UNDEFINED:
        return "OB"
    if pixels.vr in ("OB", "OW"):
        return pixels.vr
    if bits_allocated is None:
        raise Unusual
    return "OW" if bits_allocated > 8 else "OB"


def _int(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def _pixel_head(pixels: PixelElement | None, vr: str) -> bytes:
    """The header of the pixel element as it is stored."""
    if pixels is None:
        return b""
    length = pixels.length if pixels.length == UNDEFINED else pixels.length + pixels.length % 2
    return struct.pack("<HH2sHL", pixels.tag >> 16, pixels.tag & 0xFFFF, vr.encode(), 0, length)


def _start(class_uid: str, instance_uid: str, syntax: str) -> bytes:
    return file_start(class_uid.encode("ascii"), instance_uid.encode("ascii"), syntax.encode("ascii"))


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


def _offsets(table: bytes, kind: str) -> tuple[int, ...]:
    """An offset table of numbers of 32 (L) or 64 bits (Q: the Extended Offset Table, PS3.3 section C.7.6.3.1.8)."""
    size = struct.calcsize("<" + kind)
    return struct.unpack(f"<{len(table) // size}{kind}", table[: len(table) // size * size])
