"""The pixel data of an instance made anew, frame by frame, with what was found on its picture blanked.

What was lossless stays in its transfer syntax, if there is an encoder for it. What was lossy is not compressed so a
second time, which would change it everywhere: it becomes HTJ2K lossless, which takes half the space of JPEG-LS in color
and a fifth of the time of JPEG 2000 (640x480 RGB: 91 KB in 5 ms, 165 KB in 6 ms, 84 KB in 21 ms). Pure CPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicomweb.pixels import compress, transcode
from dicomweb.pixels.compress import Unencodable
from gateway.deid.pixels import Redaction
from gateway.deid.policy import Refusal
from gateway.intake.header import Header
from gateway.intake.picture import Picture
from gateway.intake.pixels import UNDEFINED, PixelElement
from gateway.intake.source import Buffer

_MAX_NATIVE_BYTES: Final = (1 << 32) - 2  # the length of an element has 32 bits
_PIECE_BYTES: Final = 1 << 20
_NATIVE, _DEFAULT = str(ExplicitVRLittleEndian), str(HTJ2KLossless)
#: What an encoder gives exactly, by the transfer syntax that it came in.
_SAME: Final = {
    **{str(uid): str(uid) for uid in (JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL, RLELossless)},
    **dict.fromkeys(map(str, (JPEGLossless, JPEGLosslessSV1)), str(JPEGLosslessSV1)),
    _NATIVE: _NATIVE,
}
#: Says in no attribute, before it is decoded, that something was lost (PS3.5 section A.4.1).
_DCT: Final = frozenset(map(str, (JPEGBaseline8Bit, JPEGExtended12Bit)))
_UNENCODABLE: Final = "The picture cannot be encoded again once identity is blanked in it."


class Remade:
    """The pixel data of a picture after a redaction: the header of an instance that has it, and its pieces."""

    def __init__(self, picture: Picture, redaction: Redaction) -> None:
        """Make the first frame; raise Refusal if that is not possible."""
        self._picture = picture
        self._redaction = redaction
        self._syntax, self._first, self.attributes = self._begin()
        length = UNDEFINED if self._syntax != _NATIVE else len(self._first) * picture.frames.count
        if self._syntax == _NATIVE and length > _MAX_NATIVE_BYTES:
            raise Refusal(_UNENCODABLE)
        before = picture.header.pixels
        assert before is not None  # noqa: S101 - there is a picture
        element = PixelElement(before.tag, "", length)
        #: The header of the instance as it came, but for its pixel data.
        self.header: Header = dataclasses.replace(picture.header, transfer_syntax_uid=self._syntax, pixels=element)

    def _begin(self) -> tuple[str, bytes, dict[str, Any]]:
        """Transfer syntax, first frame and what differs in the header."""
        for target in self._targets():
            pixels, photometric = self._cleaned(1, target)
            try:
                frame, named = self._encoded(pixels, photometric, target)
            except Unencodable:
                continue
            return target, frame, self._described(pixels, named, target)
        raise Refusal(_UNENCODABLE)

    def _targets(self) -> list[str]:
        """Transfer syntaxes by preference."""
        same = _SAME.get(self._picture.syntax, _DEFAULT)
        if not self._picture.header.encoding.little:  # a retired form, whose native pixels are swapped when stored
            return [_DEFAULT]
        return list(dict.fromkeys([same, _DEFAULT, _NATIVE]))

    def _cleaned(self, number: int, target: str) -> tuple[np.ndarray, str]:
        """A frame, blanked. What is encoded as before keeps its color space if that can be kept exactly."""
        header, syntax = self._picture.original, self._picture.syntax
        is_subsampled = header.get("PhotometricInterpretation") == "YBR_FULL_422"
        exact = target in (_NATIVE, _SAME.get(syntax)) and syntax in _SAME and not is_subsampled
        pixels, photometric = self._picture.decoded(number, rgb=not exact)
        return self._redaction.apply(pixels, photometric, header), photometric

    def _encoded(self, pixels: np.ndarray, photometric: str, target: str) -> tuple[bytes, str]:
        if target == _NATIVE:
            return transcode.array_bytes(pixels, int(self._picture.original.BitsAllocated)), photometric
        encoded = compress.encode(self._picture.original, pixels, photometric, target)
        return transcode.item(encoded.data), encoded.photometric

    def _described(self, pixels: np.ndarray, photometric: str, target: str) -> dict[str, Any]:
        """What the header says of the pixel data; None of what it says no more."""
        header = self._picture.original
        found: dict[str, Any] = {
            "PhotometricInterpretation": photometric,
            "ExtendedOffsetTable": None,
            "ExtendedOffsetTableLengths": None,
        }
        if pixels.ndim == 3:
            found["PlanarConfiguration"] = compress.FORMATS[target].planar if target != _NATIVE else 0
        if header.BitsAllocated != 1:
            found["BitsAllocated"] = 8 * pixels.dtype.itemsize
        if self._picture.syntax in _DCT and not header.get("LossyImageCompression"):
            found["LossyImageCompression"] = "01"
        return found

    def frame(self, number: int) -> bytes:
        """A frame as it lies in the pixel data; raise Refusal."""
        if number == 1:
            return self._first
        try:
            return self._encoded(*self._cleaned(number, self._syntax), self._syntax)[0]
        except Unencodable:
            raise Refusal(_UNENCODABLE) from None

    @property
    def start(self) -> bytes:
        """What comes before the first frame: an empty offset table, for where they lie is not known yet."""
        return b"" if self._syntax == _NATIVE else transcode.EMPTY_OFFSET_TABLE

    @property
    def end(self) -> bytes:
        """What comes after the last frame."""
        return b"" if self._syntax == _NATIVE else transcode.SEQUENCE_END


def unchanged(picture: Picture) -> tuple[Header, Iterator[Buffer]]:
    """A picture on which there is nothing to blank: the header of its instance and the value of its pixel data."""
    value, element = picture.value, picture.header.pixels
    assert element is not None  # noqa: S101 - there is a picture
    if element.length != UNDEFINED:
        element = dataclasses.replace(element, length=len(value))
    pieces = (value[at : at + _PIECE_BYTES] for at in range(0, len(value), _PIECE_BYTES))
    return dataclasses.replace(picture.header, pixels=element), pieces
