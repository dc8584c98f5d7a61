"""Encoders of frames: what a caller may ask for in another transfer syntax than it is stored in (PS3.5 section 8.2).

All are imagecodecs, which releases the GIL. Lossless is bit-exact, which includes the unused bits of signed pixels:
JPEG and JPEG-LS know no sign and carry the two's complement of all bits; JPEG 2000 knows the sign.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

import imagecodecs
import numpy as np
from pydicom import Dataset

from dicomweb.errors import NotAcceptable

JPEG_QUALITY = 90
NEAR = 2  # largest error of a near-lossless pixel value
PSNR_DB = 50  # of lossy JPEG 2000, by the range that the pixels have, not by the one that their bits allow
HTJ2K_STEPS = (256, 1024, 4096)  # into which lossy HTJ2K divides that range
Octets = bytes | bytearray
_MAX_SEGMENTS = 15  # PS3.5 section G.5
_SMALLEST_RESOLUTION = 64  # what RPCL streams begin with


class Unencodable(NotAcceptable):
    """The pixel data cannot be encoded in the transfer syntax that was asked for."""


@dataclass(frozen=True, slots=True)
class Format:
    """An encoder, the bits that it takes, its lossy method (PS3.3 C.7.6.1.1.5.2), and how colors are named after it.

    `color` is the photometric interpretation that RGB becomes, empty where it stays; `others` tells whether pixels of
    three samples that are not RGB can be sent as they are.
    """

    encode: Callable[[np.ndarray, int], Octets]
    bits: tuple[int, ...]
    method: str = ""
    color: str = ""
    others: bool = False
    planar: int = 0


@dataclass(frozen=True, slots=True)
class Encoded:
    """One frame in a transfer syntax, and the attributes that depend on how it is encoded."""

    data: bytes
    photometric: str
    ratio: float


def check(header: Dataset, transfer_syntax_uid: str) -> None:
    """Raise Unencodable if frames of such an image cannot be encoded, as far as the header tells."""
    target = FORMATS[transfer_syntax_uid]
    samples, photometric = header.get("SamplesPerPixel", 1), str(header.get("PhotometricInterpretation", ""))
    fits = header.get("BitsAllocated") in target.bits and samples in (1, 3)
    signed_color = samples == 3 and header.get("PixelRepresentation") == 1
    unknown_color = samples == 3 and not target.others and not photometric.startswith(("RGB", "YBR_ICT", "YBR_RCT"))
    if not fits or signed_color or unknown_color or (target.method and photometric == "PALETTE COLOR"):
        raise Unencodable


def encode(header: Dataset, array: np.ndarray, photometric: str, transfer_syntax_uid: str) -> Encoded:
    """Encode one decoded frame.

    Parameters
    ----------
    header : of the instance.
    array : (rows, columns) or (rows, columns, 3), as `transcode.decode` returns it.
    photometric : interpretation of `array`.

    Raises
    ------
    Unencodable : if the transfer syntax does not allow such pixels.
    """
    target = FORMATS[transfer_syntax_uid]
    color = array.ndim == 3
    if 8 * array.dtype.itemsize not in target.bits or (color and not target.others and photometric != "RGB"):
        raise Unencodable
    try:
        data = target.encode(np.ascontiguousarray(array), _precision(header, array, photometric))
    except (RuntimeError, ValueError) as exc:  # what the codecs raise
        raise Unencodable from exc
    named = target.color if photometric == "RGB" and target.color else photometric
    return Encoded(bytes(data), named, array.nbytes / max(1, len(data)))


def _precision(header: Dataset, array: np.ndarray, photometric: str) -> int:
    """Bits Stored, or Bits Allocated where values go beyond it, as those with overlays in the upper bits do."""
    allocated = 8 * array.dtype.itemsize
    stored = int(header.get("BitsStored") or allocated)
    if array.ndim == 3 or photometric == "PALETTE COLOR" or not 2 <= stored < allocated:
        return allocated
    return stored if _within(array, stored) else allocated


def _within(array: np.ndarray, bits: int, margin: int = 0) -> bool:
    """Whether all values, and those that are off by `margin`, are numbers of so many bits."""
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if array.dtype.kind == "i" else (0, (1 << bits) - 1)
    below = margin if low else 0  # all codecs stop at zero
    return low + below <= int(array.min()) and int(array.max()) <= high - margin


def _unsigned(array: np.ndarray) -> np.ndarray:
    return array.view(f"u{array.dtype.itemsize}")


def _jpeg_baseline(array: np.ndarray, precision: int) -> Octets:
    if array.dtype != np.uint8 or precision != 8:  # what is decoded may have all bits
        raise Unencodable
    if array.ndim == 2:
        return imagecodecs.jpeg8_encode(array, JPEG_QUALITY)
    return imagecodecs.jpeg8_encode(array, JPEG_QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling="422")


def _jpeg_lossless(array: np.ndarray, precision: int) -> Octets:
    bits = 8 * array.dtype.itemsize if array.dtype.kind == "i" else precision
    colors = "RGB" if array.ndim == 3 else "GRAYSCALE"
    return imagecodecs.jpeg8_encode(
        _unsigned(array), colorspace=colors, outcolorspace=colors, lossless=True, predictor=1, bitspersample=bits
    )


def _jpeg_ls(array: np.ndarray, precision: int) -> Octets:
    return imagecodecs.jpegls_encode(_unsigned(array), 0)


def _jpeg_ls_near(array: np.ndarray, precision: int) -> Octets:
    # Readers cut numbers to Bits Stored: an error must not lead from the largest one to the smallest.
    full = array.dtype.kind == "u" and precision == 8 * array.dtype.itemsize  # the codec itself stops at the ends
    if not full and not _within(array, precision, NEAR):
        raise Unencodable
    return imagecodecs.jpegls_encode(_unsigned(array), NEAR)


def _jpeg_2000(array: np.ndarray, precision: int) -> Octets:
    return imagecodecs.jpeg2k_encode(array, 0, codecformat="J2K", reversible=True, bitspersample=precision)


def _jpeg_2000_lossy(array: np.ndarray, precision: int) -> Octets:
    level = math.ceil(PSNR_DB - 20 * math.log10(_used(array, precision)))
    return imagecodecs.jpeg2k_encode(array, level, codecformat="J2K", reversible=False, bitspersample=precision)


def _htj2k(array: np.ndarray, precision: int) -> Octets:
    return imagecodecs.htj2k_encode(array, reversible=True)


def _htj2k_rpcl(array: np.ndarray, precision: int) -> Octets:
    """With tile-part lengths, and with resolutions down to 64 pixels, so that a viewer may begin with a range."""
    resolutions = max(0, math.ceil(math.log2(max(array.shape[:2]) / _SMALLEST_RESOLUTION)))
    return imagecodecs.htj2k_encode(
        array, reversible=True, tlm=True, resolutions=resolutions, tilepart=imagecodecs.HTJ2K.TILEPART.RESOLUTIONS
    )


def _htj2k_lossy(array: np.ndarray, precision: int) -> Octets:
    """As coarse as may be: OpenJPH lets what overshoots the range wrap around, and others that read it may, too."""
    bits = 8 * array.dtype.itemsize
    used = _used(array, bits)
    for steps in HTJ2K_STEPS:
        data = imagecodecs.htj2k_encode(array, used / steps, reversible=False)
        decoded = imagecodecs.htj2k_decode(data)
        error = np.abs(decoded.astype(np.int32) - array).max()
        if _within(decoded, precision) and error <= max(2, used * (1 << bits) / 8):
            return data
    raise Unencodable


def _used(array: np.ndarray, precision: int) -> float:
    """The part of the range of so many bits that the pixels use."""
    return max(1, int(array.max()) - int(array.min())) / (1 << precision)


def _rle(array: np.ndarray, precision: int) -> Octets:
    """PS3.5 Annex G: a segment for each byte of each sample, the most significant first; each row by itself."""
    planes = [array] if array.ndim == 2 else list(np.moveaxis(array, -1, 0))
    segments: list[Octets] = []
    for plane in planes:
        size = plane.dtype.itemsize
        octets = np.ascontiguousarray(plane.astype(plane.dtype.newbyteorder(">"))).view(np.uint8)
        for number in range(size):
            packed = imagecodecs.packbits_encode(octets[:, number::size].copy(), axis=-1)
            segments.append(packed + b"\0" * (len(packed) % 2))
    if len(segments) > _MAX_SEGMENTS:
        raise Unencodable
    offsets, position = [0] * _MAX_SEGMENTS, 64
    for number, segment in enumerate(segments):
        offsets[number] = position
        position += len(segment)
    return struct.pack("<16L", len(segments), *offsets) + b"".join(segments)


#: By transfer syntax; the keys are those of `offers.ENCODED`.
FORMATS: dict[str, Format] = {
    "1.2.840.10008.1.2.4.50": Format(_jpeg_baseline, (8,), "ISO_10918_1", "YBR_FULL_422"),
    "1.2.840.10008.1.2.4.70": Format(_jpeg_lossless, (8, 16), others=True),
    "1.2.840.10008.1.2.4.80": Format(_jpeg_ls, (8, 16), others=True),
    "1.2.840.10008.1.2.4.81": Format(_jpeg_ls_near, (8, 16), "ISO_14495_1"),
    "1.2.840.10008.1.2.4.90": Format(_jpeg_2000, (8, 16), color="YBR_RCT"),
    "1.2.840.10008.1.2.4.91": Format(_jpeg_2000_lossy, (8, 16), "ISO_15444_1", "YBR_ICT"),
    "1.2.840.10008.1.2.4.201": Format(_htj2k, (8, 16), color="YBR_RCT"),
    "1.2.840.10008.1.2.4.202": Format(_htj2k_rpcl, (8, 16), color="YBR_RCT"),
    "1.2.840.10008.1.2.4.203": Format(_htj2k_lossy, (8, 16), "ISO_15444_15", "YBR_ICT"),
    "1.2.840.10008.1.2.5": Format(_rle, (8, 16, 32), others=True, planar=1),
}
