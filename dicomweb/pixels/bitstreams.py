"""What a compressed frame says of itself: its transfer syntax and its Image Pixel Description (PS3.18 Table 10.5.2-1).

Only headers are read (ISO/IEC 10918-1 Annex B, 14495-1 Annex C, 15444-1 Annex A); nothing is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from dicomweb.errors import BadRequest

#: How many bytes of a frame `describe` wants to see: application segments of JPEG come before what it looks for.
PEEK_BYTES = 256 << 10

_JPEG_SYNTAX = {
    0xC0: "1.2.840.10008.1.2.4.50",
    0xC1: "1.2.840.10008.1.2.4.51",
    0xC2: "1.2.840.10008.1.2.4.55",
    0xC3: "1.2.840.10008.1.2.4.57",
}
_JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
_JPEG_LS, _JPEG_LS_LOSSY = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
_J2K_LOSSLESS, _J2K = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
_HTJ2K_LOSSLESS, _HTJ2K = "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.203"
#: Where the frame itself does not tell, or is not looked into: what the media type means (section 8.7.3.3.2).
BY_MEDIA_TYPE = {
    "image/dicom-rle": "1.2.840.10008.1.2.5",
    "image/jxl": "1.2.840.10008.1.2.4.112",
    "video/mpeg": "1.2.840.10008.1.2.4.100",
    "video/mp4": "1.2.840.10008.1.2.4.102",
    "video/h265": "1.2.840.10008.1.2.4.107",
}
_NOT_READABLE = "A compressed frame does not begin as its media type says."
_SOI, _SOS, _SOF_LS = 0xD8, 0xDA, 0xF7
_BOX_SIGNATURE = b"\0\0\0\x0cjP  "


@dataclass(frozen=True, slots=True)
class Description:
    """A frame's transfer syntax and geometry; `skip` is how many bytes of a file format come before the bit stream."""

    transfer_syntax_uid: str
    rows: int
    columns: int
    samples: int
    bits: int
    signed: bool
    photometric: str
    skip: int = 0
    length: int | None = None


def describe(media_type: str, head: bytes) -> Description | None:
    """Read the beginning of a frame; None of a type that is not looked into.

    Raises
    ------
    BadRequest : it is not what the media type says.
    """
    read = _READERS.get(media_type)
    try:
        return read(head) if read else None
    except (IndexError, struct.error):
        raise BadRequest(_NOT_READABLE) from None


def _jpeg(head: bytes) -> Description:
    """JPEG and JPEG-LS: walk the marker segments to the frame header, then to the scan for what makes it lossless."""
    if head[:2] != b"\xff\xd8":
        raise BadRequest(_NOT_READABLE)
    at, frame, adobe = 2, None, -1
    while at < len(head):
        if head[at] != 0xFF:
            raise BadRequest(_NOT_READABLE)
        marker = head[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        (length,) = struct.unpack_from(">H", head, at + 2)
        body = head[at + 4 : at + 2 + length]
        if marker in _JPEG_SYNTAX or marker == _SOF_LS:
            frame = (marker, *struct.unpack_from(">BHHB", body))
        elif marker == 0xEE and body[:5] == b"Adobe":
            adobe = body[11]
        elif marker == _SOS and frame is not None:
            return _jpeg_description(frame, body, adobe)
        at += 2 + length
    raise BadRequest(_NOT_READABLE)


def _jpeg_description(frame: tuple[int, ...], scan: bytes, adobe: int) -> Description:
    marker, precision, rows, columns, samples = frame
    tail = scan[1 + 2 * scan[0] :]  # Ss (predictor, or NEAR of JPEG-LS), Se, AhAl
    if marker == _SOF_LS:
        syntax = _JPEG_LS if tail[0] == 0 else _JPEG_LS_LOSSY
    else:
        syntax = _JPEG_LOSSLESS_SV1 if marker == 0xC3 and tail[0] == 1 else _JPEG_SYNTAX[marker]
    lossless = marker in (0xC3, _SOF_LS)
    colour = "RGB" if lossless or adobe == 0 else "YBR_FULL_422"
    return Description(syntax, rows, columns, samples, precision, False, "MONOCHROME2" if samples == 1 else colour)


def _jpeg2000(head: bytes) -> Description:
    """JPEG 2000 and HTJ2K, bare or in a JP2 file, whose boxes DICOM does not take (PS3.5 section A.4.4)."""
    skip, length = _code_stream(head) if head.startswith(_BOX_SIGNATURE) else (0, None)
    stream = head[skip:]
    if stream[:4] != b"\xff\x4f\xff\x51":
        raise BadRequest(_NOT_READABLE)
    size, _, width, height, left, top = struct.unpack_from(">HHLLLL", stream, 4)
    (samples,) = struct.unpack_from(">H", stream, 40)
    depth = stream[42]
    high_throughput, reversible, transformed = _coding_style(stream, 4 + size)
    lossless, other = (_HTJ2K_LOSSLESS, _HTJ2K) if high_throughput else (_J2K_LOSSLESS, _J2K)
    colour = ("YBR_RCT" if reversible else "YBR_ICT") if transformed else "RGB"
    return Description(
        lossless if reversible else other,
        height - top,
        width - left,
        samples,
        (depth & 0x7F) + 1,
        bool(depth & 0x80),
        "MONOCHROME2" if samples == 1 else colour,
        skip,
        length,
    )


def _coding_style(stream: bytes, at: int) -> tuple[bool, bool, bool]:
    """Whether there is a capabilities segment (HTJ2K), the reversible wavelet, a colour transform."""
    high_throughput = False
    while True:
        marker, length = struct.unpack_from(">HH", stream, at)
        if marker == 0xFF50:
            high_throughput = True
        elif marker == 0xFF52:
            return high_throughput, stream[at + 13] == 1, stream[at + 8] == 1
        elif marker >> 8 != 0xFF or marker == 0xFF90:
            raise BadRequest(_NOT_READABLE)
        at += 2 + length


def _code_stream(head: bytes) -> tuple[int, int | None]:
    """Where the contiguous code stream of a JP2 file begins, and its length; None if it runs to the end."""
    at = 0
    while True:
        length, kind = struct.unpack_from(">L4s", head, at)
        begin = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", head, begin)
            begin += 8
        if kind == b"jp2c":
            return begin, length - (begin - at) if length else None
        if length < 8:
            raise BadRequest(_NOT_READABLE)
        at += length


_READERS: dict[str, Callable[[bytes], Description]] = {
    "image/jpeg": _jpeg,
    "image/jls": _jpeg,
    "image/jp2": _jpeg2000,
    "image/jpx": _jpeg2000,
    "image/jph": _jpeg2000,
    "image/jphc": _jpeg2000,
}
