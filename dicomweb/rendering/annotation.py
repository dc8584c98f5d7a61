"""Text burned into rendered pictures where the caller asks for it (PS3.18 section 8.3.5.1.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset

from dicomweb.pixels.functional_groups import Frame

#: Lines of text are at least so many pixels high, and else this part of the picture's shorter side.
_MIN_TEXT_PX = 9
_TEXT_PART = 1 / 32
_MAX_CHARACTERS = 64


def burn_in(image: Image.Image, corners: Sequence[Sequence[str]]) -> Image.Image:
    """Draw lines of text into the corners: top left, top right, bottom left; white with a black edge.

    Drawn last: after windowing, scaling and color (the rendering pipelines of PS3.4).
    """
    mode = image.mode
    image = image.convert("RGB") if mode not in ("L", "RGB") else image.copy()
    size = max(_MIN_TEXT_PX, round(min(image.size) * _TEXT_PART))
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(image)
    top_left, top_right, bottom_left = ("\n".join(lines) for lines in corners)
    margin = size // 2
    places = [
        (top_left, (margin, margin), "la", "left"),
        (top_right, (image.width - margin, margin), "ra", "right"),
        (bottom_left, (margin, image.height - margin), "ld", "left"),
    ]
    for text, place, anchor, align in places:
        if text:
            edge = max(1, size // 10)
            draw.text(place, text, "white", font, anchor, align=align, stroke_width=edge, stroke_fill="black")
    return image


def corners(header: Dataset, frame: int, wanted: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """What to write where: the patient top left, the procedure top right, the plane bottom left."""
    wanted = set(wanted)
    patient = _patient(header) if "patient" in wanted else []
    if "technique" not in wanted:
        return patient, [], []
    return patient, _procedure(header, frame), _plane(header, frame)


def _patient(header: Dataset) -> list[str]:
    birth = " ".join(filter(None, [date(header.get("PatientBirthDate")), _text(header.get("PatientSex"))]))
    return _lines([_name(header.get("PatientName")), _text(header.get("PatientID")), birth])


def _procedure(header: Dataset, frame: int) -> list[str]:
    count = _text(header.get("NumberOfFrames"))
    numbers = [("Series", header.get("SeriesNumber")), ("Image", header.get("InstanceNumber"))]
    shown = " ".join(f"{name} {_text(value)}" for name, value in numbers if _text(value))
    when = " ".join(filter(None, [date(header.get("StudyDate")), time(header.get("StudyTime"))]))
    return _lines(
        [
            when,
            _text(header.get("StudyDescription")),
            _text(header.get("SeriesDescription")),
            _text(header.get("Modality")) + (" " + shown if shown else ""),
            f"Frame {frame}/{count}" if count and count != "1" else "",
        ]
    )


def _plane(header: Dataset, number: int) -> list[str]:
    frame = Frame(header, number)
    position = frame.numbers("PlanePositionSequence", "ImagePositionPatient")
    thickness = frame.numbers("PixelMeasuresSequence", "SliceThickness")
    return _lines(
        [
            "Position " + " ".join(f"{value:.1f}" for value in position) + " mm" if len(position) == 3 else "",
            f"Thickness {thickness[0]:g} mm" if thickness else "",
            f"{_text(header.get('KVP'))} kV" if _text(header.get("KVP")) else "",
        ]
    )


def _lines(lines: Iterable[str]) -> list[str]:
    return [line[:_MAX_CHARACTERS] for line in lines if line.strip()]


def _name(value: Any) -> str:
    """A person's name as people write it: the first of its component groups that is there."""
    text = next((group for group in str(value or "").split("=") if group), "")
    return " ".join(part for part in _text(text).split("^") if part)


def date(value: Any) -> str:
    """A DICOM date as ISO 8601 writes it; other text as it is."""
    text = _text(value)
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text


def time(value: Any) -> str:
    """A DICOM time without seconds; other text as it is."""
    text = _text(value)
    return f"{text[:2]}:{text[2:4]}" if len(text) >= 4 and text[:4].isdigit() else text


def _text(value: Any) -> str:
    """Printable characters of a value; empty for none."""
    return "".join(character for character in str("" if value is None else value) if character.isprintable()).strip()
