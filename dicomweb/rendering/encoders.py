"""Pictures as image/jpeg, image/png, image/gif and image/jp2 (PS3.18 section 8.7.4), still or moving."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from imagecodecs import jpeg8_encode  # by name, which loads it before workers are forked: 5 ms of the first picture
from PIL import GifImagePlugin, Image

from dicomweb.rendering.options import DEFAULT_QUALITY

_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF", "image/jp2": "JPEG2000"}
#: What a still picture can be encoded as, the default first.
MEDIA_TYPES = tuple(_FORMATS)
#: What several frames can be encoded as in one piece.
ANIMATED = "image/gif"
#: Browsers play faster frames at 100 ms each.
_MIN_FRAME_MS = 20


def encode(
    image: Image.Image | np.ndarray, media_type: str, quality: int = DEFAULT_QUALITY, profile: bytes | None = None
) -> bytes:
    """Encode one picture; `profile` is an ICC profile to embed. JPEG is baseline, PNG, GIF and JP2 lose nothing.

    JP2 with another than the default quality is compressed irreversibly, to (quality / 100) ** 2 of its size.
    """
    if media_type == "image/jpeg" and not profile:
        # The same bytes as Pillow's, which keeps the GIL: two threads take 0.37 ms a slice, with Pillow 0.51.
        return bytes(jpeg8_encode(np.asarray(image), level=quality))
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    options: dict[str, Any] = {"icc_profile": profile} if profile else {}
    if media_type == "image/jpeg":
        options["quality"] = quality
    elif media_type == "image/png":
        options["compress_level"] = 4  # a CT slice: 8 ms and 138 kB, where level 6 takes 14 ms and 136 kB
    elif media_type == "image/jp2" and quality != DEFAULT_QUALITY:
        options |= {"irreversible": True, "quality_mode": "rates", "quality_layers": [(100 / quality) ** 2]}
    buffer = io.BytesIO()
    image.save(buffer, _FORMATS[media_type], **options)
    return buffer.getvalue()


def animate(images: Sequence[Image.Image], frame_ms: float) -> bytes:
    """Encode frames as an animated GIF that plays for ever; gray frames lose nothing.

    Put together from Pillow's parts, since its own animations leave out frames that are like the one before.
    """
    duration = max(_MIN_FRAME_MS, round(frame_ms / 10) * 10)
    frames = [image if image.mode == "L" else image.quantize(256) for image in images]
    pieces: list[bytes] = GifImagePlugin.getheader(frames[0], info={"loop": 0, "duration": duration})[0]
    for frame in frames:
        pieces += GifImagePlugin.getdata(frame, duration=duration, include_color_table=True)
    return b"".join([*pieces, b";"])
