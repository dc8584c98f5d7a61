"""Frames and instances in another transfer syntax than they are stored in (PS3.18 section 8.7.3.4).

Explicit VR Little Endian is the form that everyone may ask for; `dicomweb.pixels.compress` encodes the others.
"""

from __future__ import annotations

import io
import struct
from copy import deepcopy
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID

from dicomweb.errors import NotAcceptable, NotDicom, TooLarge
from dicomweb.negotiate import EXPLICIT_LITTLE_ENDIAN
from dicomweb.pixels import codecs, compress
from dicomweb.pixels.compress import Encoded

_MAX_NATIVE_BYTES = (1 << 32) - 2  # the length of an element has 32 bits
MAX_FRAME_PIXELS = 1 << 29  # a slide scanner's or detector's frame is far below; the codec allocates it at once
_OFFSET_TABLES = (0x7FE00001, 0x7FE00002)
_DCT = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55))  # JPEG that always loses something
EMPTY_OFFSET_TABLE = b"\xfe\xff\x00\xe0\0\0\0\0"
SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


class Undecodable(NotAcceptable):
    """The pixel data cannot be decoded; ask for it as it is stored, with transfer-syntax=*."""


def read_header(data: bytes) -> Dataset:
    """Read the beginning of a stored file, up to its pixel data or whole if it has none."""
    try:
        return dcmread(io.BytesIO(data), stop_before_pixels=True)
    except (InvalidDicomError, EOFError, ValueError, OSError, RecursionError) as exc:
        raise NotDicom("The stored instance cannot be read.") from exc


def decode(
    header: Dataset, transfer_syntax_uid: str, frame: bytes | memoryview, *, rgb: bool = False
) -> tuple[np.ndarray, str]:
    """Decode one stored frame.

    Parameters
    ----------
    header : of the instance, or what a picture depends on of it.
    frame : the codestream if encapsulated; else the native frame, whose first bit is that of the first byte.
    rgb : convert YBR_FULL and YBR_FULL_422 to RGB. What the codec itself transforms is always RGB.

    Returns
    -------
    array of (rows, columns) or (rows, columns, samples) in the type that Bits Allocated and Pixel Representation tell;
    its photometric interpretation.

    Raises
    ------
    Undecodable : if there is no decoder or it fails.
    """
    decoder = codecs.find(transfer_syntax_uid)
    if decoder is None:
        raise Undecodable
    options = _pixel_options(header)
    if decoder.is_encapsulated:
        frame = encapsulate([bytes(frame)], has_bot=False)
        options["decoding_plugin"] = codecs.PLUGIN
    else:
        options["pixel_keyword"] = _pixel_keyword(header)
    try:
        array, properties = decoder.as_array(frame, index=0, raw=not rgb, **options)
    except Exception as exc:  # whatever a codec raises on bad data
        raise Undecodable from exc
    return array, str(properties["photometric_interpretation"])


def frame_bytes(header: Dataset, transfer_syntax_uid: str, frame: bytes) -> tuple[bytes, str]:
    """A stored frame as native little endian bytes, color by pixel, and its photometric interpretation."""
    array, photometric = decode(header, transfer_syntax_uid, frame)
    return array_bytes(array, int(header.BitsAllocated)), photometric


def array_bytes(array: np.ndarray, bits_allocated: int) -> bytes:
    """A decoded frame as native little endian bytes."""
    if bits_allocated == 1:
        return np.packbits(array.astype(np.uint8), axis=None, bitorder="little").tobytes()
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def encoded_frame(header: Dataset, transfer_syntax_uid: str, frame: bytes, target: str) -> Encoded:
    """A stored frame in the transfer syntax `target`; raise Undecodable or Unencodable."""
    compress.check(header, target)
    array, photometric = decode(header, transfer_syntax_uid, frame)
    return compress.encode(header, array, photometric, target)


def native_bytes(header: Dataset, frames: int) -> int:
    """Length of the pixel data of so many frames once they are decoded, without padding.

    Raises
    ------
    NotAcceptable : if it does not fit a DICOM element, or frames of single bits do not end at bytes.
    """
    bits = header.Rows * header.Columns * header.SamplesPerPixel * header.BitsAllocated
    if bits % 8 and frames > 1:
        raise Undecodable
    length = -(-bits // 8) * frames
    if length > _MAX_NATIVE_BYTES:
        raise NotAcceptable("The pixel data is too large to be sent uncompressed; ask with transfer-syntax=*.")
    return int(length)


def native_part10_head(header: Dataset, photometric: str, length: int) -> bytes:
    """All of a Part 10 file before the decoded pixel bytes, of which there are `length` (even)."""
    ds = _header_for(header, EXPLICIT_LITTLE_ENDIAN, photometric, planar=0)
    vr = b"OB" if ds.BitsAllocated <= 8 else b"OW"
    return _written(ds) + b"\xe0\x7f\x10\x00" + vr + b"\0\0" + length.to_bytes(4, "little")


def encoded_part10_head(header: Dataset, frame: Encoded, target: str) -> bytes:
    """All of a Part 10 file before the first item of its pixel data, which is in transfer syntax `target`.

    The Basic Offset Table is empty: where the frames will lie is not known when the file begins.
    """
    form = compress.FORMATS[target]
    ds = _header_for(header, target, frame.photometric, planar=form.planar)
    if form.method:  # PS3.3 section C.7.6.1.1.5: each lossy step adds its values
        ds.add_new("LossyImageCompression", "CS", "01")
        ratios, methods = header.get("LossyImageCompressionRatio"), header.get("LossyImageCompressionMethod")
        ds.add_new("LossyImageCompressionRatio", "DS", [*_values(ratios), f"{frame.ratio:.2f}"])
        ds.add_new("LossyImageCompressionMethod", "CS", [*_values(methods), form.method])
    return _written(ds) + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + EMPTY_OFFSET_TABLE


def item(frame: bytes) -> bytes:
    """A frame as one fragment (PS3.5 section A.4)."""
    padding = len(frame) % 2
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(frame) + padding) + frame + b"\0" * padding


def _header_for(header: Dataset, transfer_syntax_uid: str, photometric: str, planar: int) -> Dataset:
    """The header of the same instance in another transfer syntax; shares its elements, which must not be changed."""
    tags = [tag for tag in header.keys() if tag < 0x7FE00000 and tag not in _OFFSET_TABLES]  # noqa: SIM118
    ds = Dataset({tag: header.get_item(tag) for tag in tags})
    ds.set_original_encoding(False, True, header.original_character_set)
    ds.add_new("PhotometricInterpretation", "CS", photometric)
    if ds.get("SamplesPerPixel", 1) > 1:
        ds.add_new("PlanarConfiguration", "US", planar)
    if header.file_meta.TransferSyntaxUID in _DCT and not ds.get("LossyImageCompression"):
        ds.add_new("LossyImageCompression", "CS", "01")  # what is decoded does not show any more what it was
    ds.file_meta = deepcopy(header.file_meta)
    ds.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    return ds


def _written(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue) else [value]


def shift_bits(data: bytes, skip: int, bits: int) -> bytes:
    """Frames of 1-bit pixels begin anywhere in a byte: cut `bits` bits from bit `skip` on (PS3.18 8.7.3.3.1)."""
    unpacked = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    return np.packbits(unpacked[skip : skip + bits], bitorder="little").tobytes()


def _pixel_options(header: Dataset) -> dict[str, Any]:
    try:
        options: dict[str, Any] = as_pixel_options(header, number_of_frames=1)
        if options.get("rows", 0) * options.get("columns", 0) > MAX_FRAME_PIXELS:
            raise TooLarge("The frame has too many pixels to be decoded; ask for it as it is stored.")
    except (ValueError, TypeError) as exc:  # pydicom converts a value when it is first looked at
        raise Undecodable from exc
    options.pop("extended_offsets", None)
    return options


def _pixel_keyword(header: Dataset) -> str:
    """Float images have no Bits Stored (PS3.3 section C.7.6.24)."""
    if "BitsStored" in header:
        return "PixelData"
    return "FloatPixelData" if header.get("BitsAllocated") == 32 else "DoubleFloatPixelData"


def is_encapsulated(transfer_syntax_uid: str) -> bool:
    """Whether pixel data of this transfer syntax is a sequence of fragments; true for what pydicom does not know."""
    uid = UID(transfer_syntax_uid)
    return not uid.is_transfer_syntax or uid.is_encapsulated
