"""Whether text that was burned into pixels is gone: by its strokes, and by what Tesseract still reads there."""

from __future__ import annotations

import warnings
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image
from pydicom.pixels import pixel_array

from benchmarks.burned_in import is_legible, tesseract
from benchmarks.deid.answers import Answer

#: Of the pixels of strokes, how many must have changed.
_STROKES = 0.98
_BRIGHT, _CHANGED, _MARGIN_PX = 128, 40, 4


def is_hidden(before: bytes, after: bytes, answer: Answer) -> bool:
    """Whether the strokes of a text were painted over in every frame, and nothing legible is left where it was."""
    assert answer.box is not None
    left, top, right, bottom = answer.box
    old, new = _frames(before), _frames(after)
    if old is None or new is None or old.shape != new.shape:
        return new is None
    old, new = (frames[:, top:bottom, left:right] for frames in (old, new))
    strokes = old > _BRIGHT
    changed = np.abs(old.astype(int) - new) > _CHANGED
    if changed[strokes].mean() < _STROKES:
        return False
    return not is_legible(answer.text, _read(_frames(after), answer.box))


def _read(frames: np.ndarray | None, box: tuple[int, int, int, int]) -> str:
    """What Tesseract reads in the first frame around a box."""
    assert frames is not None
    left, top, right, bottom = box
    margin = _MARGIN_PX
    part = frames[0, max(top - margin, 0) : bottom + margin, max(left - margin, 0) : right + margin]
    picture = Image.fromarray(part.astype(np.uint8))
    return tesseract(np.asarray(picture.resize((3 * picture.width, 3 * picture.height), Image.Resampling.BICUBIC)))


@lru_cache(4)
def _frames(raw: bytes) -> np.ndarray | None:
    """The frames in grey, of shape (frames, rows, columns); None if nobody can decode them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = pixel_array(BytesIO(raw))
    except Exception:  # noqa: BLE001 - whatever a tool wrote
        return None
    if pixels.shape[-1] == 3:
        pixels = pixels.mean(axis=-1)
    return pixels if pixels.ndim == 3 else pixels[None]
