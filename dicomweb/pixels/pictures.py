"""Pictures that DICOM has no transfer syntax for, decoded losslessly into native pixel data (PS3.18 section 10.5.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageSequence

from dicomweb.errors import BadRequest, TooLarge
from dicomweb.negotiate import EXPLICIT_LITTLE_ENDIAN
from dicomweb.pixels.bitstreams import Description

MEDIA_TYPES = {"image/png": "PNG", "image/gif": "GIF"}
MAX_FILE_BYTES = 64 << 20
_MAX_PIXEL_BYTES = 128 << 20
_TOO_MANY = "The pictures have more pixels than the gateway decodes."
#: Palettes become true colour, transparency is discarded, as the section says.
_MODES = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB"}
_MODES |= dict.fromkeys(["I;16", "I;16B", "I;16L", "I"], "I;16")


def decode(files: Sequence[bytes]) -> tuple[Description, int, bytes]:
    """What the pictures are, how many frames they have together, and their pixels, frame by frame.

    Raises
    ------
    BadRequest : one is no such picture, or they differ in size or kind.
    TooLarge : they have too many pixels.
    """
    pixels = bytearray()
    descriptions = set()
    frames = 0
    for file in files:
        for description, data in _frames(file):
            descriptions.add(description)
            frames += 1
            pixels += data
            if len(pixels) > _MAX_PIXEL_BYTES:
                raise TooLarge(_TOO_MANY)
    if len(descriptions) != 1:
        raise BadRequest("The frames of an instance must have one size and one kind of pixels.")
    return descriptions.pop(), frames, bytes(pixels)


def _frames(file: bytes) -> Iterator[tuple[Description, bytes]]:
    try:
        with Image.open(BytesIO(file), formats=list(MEDIA_TYPES.values())) as picture:  # reads no pixels yet
            if 3 * picture.width * picture.height > _MAX_PIXEL_BYTES:
                raise TooLarge(_TOO_MANY)
            for frame in ImageSequence.Iterator(picture):
                yield _frame(frame)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge(_TOO_MANY) from None
    except (OSError, SyntaxError, ValueError, EOFError) as exc:
        raise BadRequest("A picture cannot be decoded.") from exc


def _frame(frame: Image.Image) -> tuple[Description, bytes]:
    mode = _MODES.get(frame.mode)
    if mode is None:
        raise BadRequest("A picture has a kind of pixels that cannot be stored.")
    size = (frame.height, frame.width)
    if mode == "I;16":
        deep = np.asarray(frame)
        if deep.size and not 0 <= int(deep.min()) <= int(deep.max()) <= 0xFFFF:
            raise BadRequest("A picture has a kind of pixels that cannot be stored.")
        return Description(EXPLICIT_LITTLE_ENDIAN, *size, 1, 16, False, "MONOCHROME2"), deep.astype("<u2").tobytes()
    flat = frame if frame.mode == mode else frame.convert(mode)
    samples, photometric = (1, "MONOCHROME2") if mode == "L" else (3, "RGB")
    return Description(EXPLICIT_LITTLE_ENDIAN, *size, samples, 8, False, photometric), flat.tobytes()
