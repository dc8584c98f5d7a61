"""Finds text in pictures: the one home of the OCR library, which is the optional extra `ocr`.

The library is RapidOCR with the models that its wheel carries (PaddleOCR's PP-OCRv6, Apache-2.0) on ONNX Runtime. It
asks no network: the models are named by their files. What it reads is identity, so no text leaves this module, only
where it is and how sure the reading was.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from rapidocr import RapidOCR

INSTALL: Final = "Text in pictures cannot be found: install the extra, pip install 'isthmus[ocr]'."

#: Cores that one call may take: half of them, so that the others answer.
_THREADS: Final = min(4, max(1, (os.cpu_count() or 1) // 2))
#: Pictures are shrunk to this, and searched in tiles that overlap by more than a line is high: every other time in
#: smaller ones, for a line that a detector overlooks in one cut it sees in another.
_LONGEST, _OVERLAP = 2048, 128
_TILES: Final = (1088, 768)
#: What differs less from its ground cannot be seen; and what of the ground belongs to the letters at its edge.
_SAME_COLOUR, _MARGIN = 2, 16
#: Below the library's own 0.5: what may be text is searched for, not what surely is.
_BOX_THRESHOLD: Final = 0.3
#: Lines are seldom higher than this part of a picture, or this many pixels: what is, such as a collimator's ring that
#: looks like an O, must surely read as more than one character to be taken for text.
_HIGH_LINE, _HIGH_LINE_PX, _HIGH_LINE_CHARACTERS, _HIGH_LINE_CONFIDENCE = 0.1, 24, 2, 0.7
#: A line this much higher than wide runs upwards.
_UPRIGHT: Final = 1.5
_DETECTOR, _RECOGNISER = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    def grown(self, margin: int) -> Box:
        """The box with a margin around it; it may reach outside the picture."""
        return Box(self.left - margin, self.top - margin, self.right + margin, self.bottom + margin)

    def scaled(self, factor: float) -> Box:
        """The box in a picture that is so many times as large."""
        low = (math.floor(edge * factor) for edge in (self.left, self.top))
        return Box(*low, *(math.ceil(edge * factor) for edge in (self.right, self.bottom)))

    @property
    def thickness(self) -> int:
        """The shorter side: the height of a line, whichever way it runs."""
        return min(self.right - self.left, self.bottom - self.top)


@dataclass(frozen=True, slots=True)
class Text:
    """Where text may be: its box, how many letters and digits were read there, and how sure the reading is, 0 to 1.

    Both are 0 where nobody tried to read.
    """

    box: Box
    characters: int = 0
    confidence: float = 0.0


def is_installed() -> bool:
    """Whether the extra `ocr` is there."""
    return all(importlib.util.find_spec(name) is not None for name in ("rapidocr", "onnxruntime"))


def shared_finder() -> TextFinder | None:
    """The finder that a process shares, for its models take 300 MB; None without the extra."""
    return _finder() if is_installed() else None


@cache
def _finder() -> TextFinder:
    return TextFinder()


class TextFinder:
    """The models, loaded when they are first needed. Safe to share between threads: one picture at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engine: RapidOCR | None = None

    def find(self, picture: np.ndarray, *, read: bool, turn: int = 0) -> list[Text]:
        """Find the lines of text in a picture.

        Parameters
        ----------
        picture : array of (rows, columns) or (rows, columns, 3), 8 bits a sample, as it is displayed.
        turn : of several looks at a picture, which decides how it is cut.
        read : tell of every line how well it can be read; else only of those that are too high to be one for sure.
        """
        rows, columns = picture.shape[:2]
        scale = min(1.0, _LONGEST / max(rows, columns))
        image = Image.fromarray(picture).convert("RGB")
        if scale < 1:
            image = image.resize((round(columns * scale), round(rows * scale)), Image.Resampling.BOX)
        small = np.asarray(image)[..., ::-1]  # it expects BGR
        highest, side = max(_HIGH_LINE_PX, min(small.shape[:2]) * _HIGH_LINE), _TILES[turn % 2]
        with self._lock:
            engine = self._engine = self._engine or _engine()
            boxes = [box for tile in _tiles(_content(small), side) for box in _detect(engine, small, tile)]
            texts = [_read(engine, small, box) if read or box.thickness > highest else Text(box) for box in boxes]
        return [
            replace(text, box=text.box.scaled(1 / scale))
            for text in texts
            if text.box.thickness <= highest or _is_sure(text)
        ]


def _is_sure(text: Text) -> bool:
    return text.characters >= _HIGH_LINE_CHARACTERS and text.confidence >= _HIGH_LINE_CONFIDENCE


def _engine() -> RapidOCR:
    import rapidocr  # 0.6 s and 300 MB: only who cleans pixels pays

    models = Path(rapidocr.__file__).parent / "models"
    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)  # it says what it reads
    return rapidocr.RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Global.text_score": 0.0,
            "Global.max_side_len": max(_TILES),
            "Det.model_path": str(models / _DETECTOR),
            "Det.box_thresh": _BOX_THRESHOLD,
            "Rec.model_path": str(models / _RECOGNISER),
            "EngineConfig.onnxruntime.intra_op_num_threads": _THREADS,
            "EngineConfig.onnxruntime.inter_op_num_threads": _THREADS,
        }
    )


def _content(picture: np.ndarray) -> Box:
    """The part of a picture that is not all of one colour, with a margin; empty if there is none."""
    differs = np.abs(picture.astype(np.int16) - picture[0, 0]).max(axis=-1) > _SAME_COLOUR
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if not rows.size:
        return Box(0, 0, 0, 0)
    box = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1).grown(_MARGIN)
    return Box(max(box.left, 0), max(box.top, 0), min(box.right, picture.shape[1]), min(box.bottom, picture.shape[0]))


def _tiles(content: Box, side: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of tiles that cover a part of a picture, spread evenly."""
    for down in _pieces(content.top, content.bottom, side):
        for across in _pieces(content.left, content.right, side):
            yield down, across


def _pieces(start: int, end: int, side: int) -> list[slice]:
    if start == end:
        return []
    length = end - start
    count = max(1, -(-(length - _OVERLAP) // (side - _OVERLAP)))
    step = -(-(length - _OVERLAP) // count)
    starts = (start + index * step for index in range(count))
    return [slice(at, min(at + step + _OVERLAP, end)) for at in starts]


def _detect(engine: RapidOCR, picture: np.ndarray, tile: tuple[slice, slice]) -> Iterator[Box]:
    """Boxes around the lines of text in one tile, in pixels of the picture."""
    top, left = tile[0].start, tile[1].start
    result: Any = engine(np.ascontiguousarray(picture[tile]), use_det=True, use_rec=False)
    for corners in () if result.boxes is None else result.boxes:
        low, high = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
        yield Box(left + int(low[0]), top + int(low[1]), left + int(high[0]), top + int(high[1]))


def _read(engine: RapidOCR, picture: np.ndarray, box: Box) -> Text:
    line = picture[max(box.top, 0) : box.bottom, max(box.left, 0) : box.right]
    if not line.size:
        return Text(box)
    if line.shape[0] > _UPRIGHT * line.shape[1]:
        line = np.rot90(line)
    result: Any = engine(np.ascontiguousarray(line), use_det=False, use_rec=True)
    if not result.txts:
        return Text(box)
    return Text(box, sum(map(str.isalnum, result.txts[0])), float(result.scores[0]))
