"""Decoders of compressed frames, made known to pydicom by `register`.

All are imagecodecs: its functions release the GIL, those that pydicom finds by itself do not (two threads decoding
512x512 16-bit slices: JPEG 2000 26.6 ms a slice with pylibjpeg, 13.0 with imagecodecs; RLE 3.2 and 0.3; HTJ2K 12.7 and
4.5; JPEG-LS 4.6 and 2.2). It also knows what pydicom has no decoder for: lossless, 12-bit and progressive JPEG.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import imagecodecs
import numpy as np
from pydicom.pixels.common import PhotometricInterpretation
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

PLUGIN = "isthmus"

# Retired in PS3.5 2006; archives still hold them. pydicom has the UIDs but no decoder objects for them.
_RETIRED_JPEG = (UID("1.2.840.10008.1.2.4.53"), UID("1.2.840.10008.1.2.4.55"))
# ISO 10918-1 Table B.1, but for DHT, JPG and DAC, which lie between; SOF55 is JPEG-LS (ISO 14495-1).
_START_OF_FRAME = frozenset([*range(0xFFC0, 0xFFD0), 0xFFF7]) - {0xFFC4, 0xFFC8, 0xFFCC}
_FILL = 0xFFFF
_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, *_RETIRED_JPEG)


def register() -> None:
    """Add the decoders to pydicom, for all who use it in this process. Idempotent; call it before threads start."""
    for syntax in _DECODE:
        decoder = find(syntax)
        if decoder is not None and syntax not in _RETIRED_JPEG and PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))


def find(transfer_syntax_uid: str) -> Decoder | None:
    """The decoder of a transfer syntax, native ones included; None if there is none."""
    syntax = UID(transfer_syntax_uid)
    if syntax in _RETIRED_JPEG:
        decoder = Decoder(syntax)
        decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))
        return decoder
    if syntax.is_transfer_syntax and (syntax in _DECODE or not syntax.is_encapsulated):
        return get_decoder(syntax)
    return None


def can_decode(transfer_syntax_uid: str) -> bool:
    """Whether frames of this transfer syntax can be turned into native ones."""
    syntax = UID(transfer_syntax_uid)
    return syntax in _DECODE or (syntax.is_transfer_syntax and not syntax.is_encapsulated)


# The three names below are what pydicom asks of a plugin module.
def is_available(uid: str) -> bool:
    """Whether `decode_frame` decodes this transfer syntax."""
    return uid in _DECODE


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode one frame; corrects in `runner` what the result differs in from the data set (pydicom's contract).

    Raises ValueError if the codestream is of another size than the data set says: a few bytes may claim gigabytes.
    """
    size = codestream_size(src)
    if size is not None and size != (runner.rows, runner.columns):
        raise ValueError("the codestream and the data set differ in size")
    array = _DECODE[runner.transfer_syntax](src, runner)
    runner.set_option("bits_allocated", 8 * array.dtype.itemsize)
    return array.tobytes()


def codestream_size(src: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream claims; None if its headers do not tell."""
    if src.startswith(b"\xff\x4f\xff\x51"):  # SOC, SIZ (ISO 15444-1 section A.5.1)
        right, bottom, left, top = struct.unpack_from(">4I", src.ljust(24, b"\0"), 8)
        return bottom - top, right - left
    position = 2 if src.startswith(b"\xff\xd8") else len(src)
    while position + 9 <= len(src):
        marker, length, rows, columns = struct.unpack_from(">HHxHH", src, position)
        if marker in _START_OF_FRAME:
            return rows, columns
        position += 2 + length if marker != _FILL else 1
    return None


def _jpeg(src: bytes, runner: DecodeRunner) -> np.ndarray:
    """All processes of ISO 10918-1: libjpeg-turbo converts YCbCr, recognised by its markers, to RGB."""
    if runner.samples_per_pixel == 1:
        return imagecodecs.jpeg8_decode(src)
    # Without a JFIF or Adobe marker libjpeg guesses YCbCr; the data set knows better.
    colors = "RGB" if runner.photometric_interpretation == PhotometricInterpretation.RGB else None
    marked = b"JFIF\0" in src[:64] or b"Adobe" in src[:2048]
    array = imagecodecs.jpeg8_decode(src, colorspace=None if marked else colors, outcolorspace="RGB")
    runner.set_option("photometric_interpretation", PhotometricInterpretation.RGB)
    return array


def _jpeg_ls(src: bytes, runner: DecodeRunner) -> np.ndarray:
    runner.set_option("planar_configuration", 0)
    return imagecodecs.jpegls_decode(src)


def _jpeg_2000(src: bytes, runner: DecodeRunner) -> np.ndarray:
    _colors_are_transformed(runner)
    return imagecodecs.jpeg2k_decode(src)


def _htj2k(src: bytes, runner: DecodeRunner) -> np.ndarray:
    _colors_are_transformed(runner)
    if runner.transfer_syntax == HTJ2K:  # may be lossy: OpenJPH, twice as fast, lets overshoots wrap around
        return imagecodecs.jpeg2k_decode(src)
    return imagecodecs.htj2k_decode(src)


def _rle(src: bytes, runner: DecodeRunner) -> np.ndarray:
    runner.set_option("planar_configuration", 1)
    if runner.bits_allocated == 1:
        packed = np.frombuffer(imagecodecs.dicomrle_decode(src, np.dtype("u1")), np.uint8)
        return np.unpackbits(packed, count=runner.rows * runner.columns, bitorder="little")
    dtype = np.dtype(f"<u{runner.bits_allocated // 8}")
    return np.frombuffer(imagecodecs.dicomrle_decode(src, dtype), dtype)


def _colors_are_transformed(runner: DecodeRunner) -> None:
    """The component transformation that the codestream names (RCT, ICT) is undone by the decoder."""
    runner.set_option("planar_configuration", 0)
    if runner.photometric_interpretation in (PhotometricInterpretation.YBR_ICT, PhotometricInterpretation.YBR_RCT):
        runner.set_option("photometric_interpretation", PhotometricInterpretation.RGB)


_DECODE: dict[UID, Callable[[bytes, DecodeRunner], np.ndarray]] = {
    **dict.fromkeys(_JPEG, _jpeg),
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), _jpeg_ls),
    **dict.fromkeys((JPEG2000Lossless, JPEG2000), _jpeg_2000),
    **dict.fromkeys((HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K), _htj2k),
    RLELossless: _rle,
}
DECODER_DEPENDENCIES = dict.fromkeys(_DECODE, ("imagecodecs",))
