"""Decoders for compressed grey pixels, made known to pydicom: by itself it has none for JPEG-LS and HTJ2K.

imagecodecs is always installed, what pydicom looks for is not; and its functions release the GIL, so that the threads
that read a series work side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import imagecodecs
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

PLUGIN = "isthmus-plugins"

_DECODE: dict[str, Callable[[bytes], Any]] = {
    **dict.fromkeys((JPEGLossless, JPEGLosslessSV1), imagecodecs.jpeg8_decode),
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), imagecodecs.jpegls_decode),
    **dict.fromkeys((JPEG2000Lossless, JPEG2000), imagecodecs.jpeg2k_decode),
    **dict.fromkeys((HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K), imagecodecs.jpeg2k_decode),
}
DECODER_DEPENDENCIES = dict.fromkeys(_DECODE, ("imagecodecs",))  # pydicom wants it, and the two functions below


def register() -> None:
    """Add the decoders to pydicom, for all of this process; those that are there already come first. Idempotent."""
    for syntax in _DECODE:
        decoder = get_decoder(syntax)
        if PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))


def is_available(uid: str) -> bool:
    """Whether `decode_frame` decodes this transfer syntax."""
    return uid in _DECODE


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode one grey frame, as pydicom asks for it.

    Raises
    ------
    ValueError : the codestream has another size than the data set says.
    """
    array = _DECODE[runner.transfer_syntax](src)
    if array.shape != (runner.rows, runner.columns):
        raise ValueError("the codestream and the data set differ in size")
    runner.set_option("bits_allocated", 8 * array.dtype.itemsize)
    return bytes(array.tobytes())
