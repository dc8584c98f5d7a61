"""How well text burned into pictures is found and blanked: `python -m benchmarks.burned_in FOLDER` of real DICOM.

Lines of invented identity are drawn on real pictures in several fonts, sizes, places and both polarities, where they
can be seen: their strokes differ from the ground below by at least a third of the picture's range. A line counts as
blanked if 98 of 100 pixels of its strokes are; as read, if Tesseract, a second opinion that Isthmus does not use, still
finds four of its characters in a row. On pictures without text, whatever is blanked is too much.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.pixels import pixel_array

from dicomweb.pixels import codecs
from gateway.deid.pixels import PixelCleaner, Redaction
from gateway.deid.policy import Refusal
from gateway.deid.views import views
from gateway.intake.rewrite import quiet_pydicom
from tests.burned_in import Canary, burn, fonts

BACKGROUNDS = {
    "CT": "transfer-syntaxes/ct-littleendianexplicit.dcm",
    "MR": "enhanced-mf/emr-knee-19f.dcm",
    "XA": "xa/xa-96f.dcm",
    "US": "us/cine-grey-27f-burnedin.dcm",
    "US color": "us/us-ybr422-native.dcm",
    "CR": "cr/chest-cr.dcm",
    "MG": "mammo/film-lcc.dcm",
}
#: Pictures on which nothing is written; CR and MG have side markers at most.
CLEAN = ("ct-chest/0*.dcm", "ct-bone/0*.dcm", "xa/*.dcm", "enhanced-mf/emr-knee-19f.dcm", "mammo/ffdm-rmlo.dcm")
SIZES = (8, 10, 12, 16, 24, 40)
LARGE_SIZES = (16, 24, 40, 64)
LINES = ("CANARY^ANNA", "MRN 00417", "DOE JOHN 1948-02-29", "Dr. Heron", "ID:7Q3X9", "Müller, Jörg")
_STROKES, _CONTRAST, _LEGIBLE = 0.98, 1 / 3, 4


async def run(function: Callable[..., Any], *arguments: Any) -> Any:
    """Work in a thread, as in the server."""
    return await asyncio.to_thread(function, *arguments)


def load(file: Path) -> tuple[Dataset, np.ndarray]:
    """The header and the first frame of a file, as a suspect picture of one frame."""
    header = dcmread(file, stop_before_pixels=True)
    pixels = pixel_array(file, index=0) if int(header.get("NumberOfFrames") or 1) > 1 else pixel_array(file)
    header.NumberOfFrames, header.BurnedInAnnotation = 1, "YES"
    if "SequenceOfUltrasoundRegions" in header:
        del header.SequenceOfUltrasoundRegions  # text is to be found, not to be cut off
    return header, np.array(pixels)


def draw(pixels: np.ndarray, size_px: int, rng: random.Random) -> list[Canary]:
    """Draw each line somewhere in a band of its own; left out where it would not fit or not be seen."""
    low, high = (0.0, 255.0) if pixels.dtype == np.uint8 else (float(pixels.min()), float(pixels.max()))
    band = pixels.shape[0] // len(LINES)
    drawn = []
    for index, line in enumerate(LINES):
        width = int(0.7 * size_px * len(line))
        if width + 8 > pixels.shape[1] or size_px + 8 > band:
            continue
        left = rng.randrange(pixels.shape[1] - width)
        top = index * band + rng.randrange(band - size_px - 6)
        ground = pixels[top : top + size_px, left : left + width]
        value = rng.choice([low, high])
        if abs(value - float(ground.mean())) < _CONTRAST * (high - low):
            value = low + high - value
        if abs(value - float(ground.mean())) - float(ground.std()) > _CONTRAST * (high - low) / 2:
            drawn.append(burn(pixels, line, (left, top), size_px, value, rng.choice(fonts())))
    return drawn


async def clean(header: Dataset, pixels: np.ndarray) -> Redaction:
    """What the cleaner blanks; everything where it refuses the picture, which is safe as well."""

    async def read(_number: int) -> tuple[np.ndarray, str]:
        return pixels, _photometric(header)

    return await PixelCleaner(run).examine(header, 1, read)


def covered(redaction: Redaction, canary: Canary) -> float:
    """The part of a line's strokes that is blanked."""
    return float(mask(redaction, canary.mask.shape)[canary.mask].mean())


def mask(redaction: Redaction, shape: tuple[int, ...]) -> np.ndarray:
    """Where a picture is blanked."""
    blank = np.zeros(shape[:2], bool)
    for box in redaction.blank:
        blank[max(box.top, 0) : max(box.bottom, 0), max(box.left, 0) : max(box.right, 0)] = True
    return blank


def tesseract(picture: np.ndarray) -> str:
    """What Tesseract reads in a picture and in its negative, twice as large."""
    if shutil.which("tesseract") is None:
        return ""
    image = Image.fromarray(picture).convert("L")
    image = image.resize((2 * image.width, 2 * image.height), Image.Resampling.BICUBIC) if image.width < 1200 else image
    text = ""
    for view in (image, Image.eval(image, lambda value: 255 - value)):
        buffer = BytesIO()
        view.save(buffer, "PNG")
        command = ["tesseract", "stdin", "stdout", "--psm", "11", "--dpi", "150"]
        text += subprocess.run(command, input=buffer.getvalue(), capture_output=True, check=True).stdout.decode()
    return "".join(text.split())


def is_legible(line: str, text: str) -> bool:
    """Whether four characters in a row of a line are in a text."""
    bare = "".join(line.split())
    return any(bare[start : start + _LEGIBLE] in text for start in range(len(bare) - _LEGIBLE + 1))


async def recall(folder: Path, seed: int = 1) -> None:
    """Print how many lines are blanked, by picture and by size; and how many can still be read."""
    rng = random.Random(seed)
    for name, path in BACKGROUNDS.items():
        header, ground = load(folder / path)
        for size_px in LARGE_SIZES if max(ground.shape) > 1500 else SIZES:
            pixels = ground.copy()
            canaries = draw(pixels, size_px, rng)
            started = time.perf_counter()
            try:
                redaction = await clean(header, pixels)
            except Refusal:
                print(f"{name:9} {size_px:3} px: refused")
                continue
            seconds = time.perf_counter() - started
            parts = [covered(redaction, one) for one in canaries]
            counts = Counter(lines=len(parts), blanked=sum(part >= _STROKES for part in parts))
            shown = views(pixels, _photometric(header), header, 1)[0]
            left = views(redaction.apply(pixels, _photometric(header), header), _photometric(header), header, 1)[0]
            for text, label in ((tesseract(shown), "read_before"), (tesseract(left), "read_after")):
                counts[label] = sum(is_legible(one.text, text) for one in canaries)
            worst = f"{min(parts):.2f}" if parts else "-"
            print(f"{name:9} {size_px:3} px: {dict(counts)} worst {worst} in {seconds:.1f} s", flush=True)


async def precision(folder: Path) -> None:
    """Print how much of pictures without text is blanked, if they are suspected and if they are not."""
    files = [file for pattern in CLEAN for file in sorted(folder.glob(pattern))[::6]]  # noqa: ASYNC240 - nothing else runs
    for annotated in ("YES", "NO"):
        boxes, parts = 0, []
        for file in files:
            header, pixels = load(file)
            header.BurnedInAnnotation = annotated
            redaction = await clean(header, pixels)
            boxes += len(redaction.blank)
            parts.append(float(mask(redaction, pixels.shape).mean()))
        hit = sum(part > 0 for part in parts)
        print(f"BurnedInAnnotation {annotated}: {len(files)} pictures, {hit} with a box, {boxes} boxes, ", end="")
        print(f"{100 * np.mean(parts):.3f} % of pixels, at worst {100 * max(parts):.2f} %", flush=True)


def _photometric(header: Dataset) -> str:
    """After pydicom's decoding, which gives RGB."""
    photometric = str(header.PhotometricInterpretation)
    return "RGB" if photometric.startswith("YBR") else photometric


async def main() -> None:
    """Measure with the pictures of a folder."""
    quiet_pydicom()
    codecs.register()
    folder = Path(sys.argv[1])
    await recall(folder)
    await precision(folder)


if __name__ == "__main__":
    asyncio.run(main())
