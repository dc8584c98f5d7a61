"""Text burned into pixels, as modalities and screen captures do it: for tests and for the measurement of cleaning."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

#: Fonts of Debian's packages fonts-dejavu-core and fonts-liberation; the one within Pillow is always there.
FOLDERS = [Path("/usr/share/fonts/truetype/dejavu"), Path("/usr/share/fonts/truetype/liberation")]
NAMES = ["DejaVuSans", "DejaVuSansMono-Bold", "DejaVuSerif", "LiberationSans-Regular", "LiberationMono-Regular"]


@dataclass(frozen=True)
class Canary:
    """A text, where it was burned (left, top, right, bottom) and which pixels it changed."""

    text: str
    box: tuple[int, int, int, int]
    mask: np.ndarray


def fonts() -> list[Path | None]:
    """Fonts of this machine; None is Pillow's own."""
    files = (folder / f"{name}.ttf" for folder in FOLDERS for name in NAMES)
    return [None, *(file for file in files if file.exists())]


def burn(
    pixels: np.ndarray, text: str, at: tuple[int, int], size_px: int, value: float, font: Path | None = None
) -> Canary:
    """Write a text into pixels of (rows, columns) or (rows, columns, samples), in place.

    Parameters
    ----------
    at : left and top, in pixels.
    value : of the strokes, in stored values; their edges are blended with what lies below.
    """
    face = ImageFont.truetype(str(font), size_px) if font else ImageFont.load_default(size_px)
    canvas = Image.new("L", (pixels.shape[1], pixels.shape[0]))
    ImageDraw.Draw(canvas).text(at, text, fill=255, font=face)
    alpha = np.asarray(canvas, np.float32) / 255.0
    if pixels.ndim == 3:
        alpha = alpha[..., None]
    pixels[...] = np.rint(pixels * (1 - alpha) + value * alpha).astype(pixels.dtype)
    box = canvas.getbbox() or (0, 0, 0, 0)
    return Canary(text, box, np.asarray(canvas) > 64)
