"""Clean Pixel Data (PS3.15 section E.3.1): finds what is written on pictures and blanks it, in the pixel values.

Frames come decoded and leave decoded: who reads and who encodes them is the caller's choice, so that the same serves
what is handed out and what is taken in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from dicomweb.errors import Unavailable
from dicomweb.ports import FrameSource, Runner
from dicomweb.rendering import color
from gateway.deid import ocr
from gateway.deid.ocr import Box, Text, TextFinder
from gateway.deid.policy import Refusal
from gateway.deid.risk import Assessment, Risk, assess
from gateway.deid.views import darkest, views

_MAX_PIXELS: Final = 1 << 26
#: What pydicom and NumPy raise on malformed attributes.
_MALFORMED: Final = (ValueError, TypeError, AttributeError, ArithmeticError, LookupError)
#: A picture of 2 megapixels takes 10 s on an idle core.
_MAX_SECONDS: Final = 300.0
#: How many frames are looked at in a round, and in how many rounds: each looks at other frames, blanked as the earlier
#: ones found.
_FRAMES: Final = 3
_MAX_ROUNDS: Final = 4
#: In the second round of a cine: frames, at most so many in equal distances, are laid over each other, so that what is
#: written on any is seen; and those that differ most from the one before, where a banner may appear.
_MAX_COMPARED, _CHANGES = 256, 2
_STRIDE: Final = 4
#: What counts as text where none is expected, and must not be left where some was: several characters, surely read.
#: What detectors take for text besides are mostly single spots of bone, table or noise.
_LEGIBLE_CHARACTERS, _LEGIBLE_CONFIDENCE = 3, 0.7
_LIKELY_CONFIDENCE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Redaction:
    """What to blank on every frame of an object.

    Attributes
    ----------
    blank : boxes to blank.
    keep : if any, everything outside them is blanked, too.
    looked : whether text was looked for, that is whether the pixels are clean after `apply`.
    """

    blank: tuple[Box, ...] = ()
    keep: tuple[Box, ...] = ()
    looked: bool = False

    @property
    def blanks(self) -> bool:
        """Whether there is anything to blank."""
        return bool(self.blank or self.keep)

    def apply(self, pixels: np.ndarray, photometric: str, header: Dataset) -> np.ndarray:
        """Return a frame with the boxes black as displayed; the frame itself if there is nothing to blank."""
        if not self.blanks:
            return pixels
        mask = np.full(pixels.shape[:2], bool(self.keep))
        for box in self.keep:
            mask[_slices(box)] = False
        for box in self.blank:
            mask[_slices(box)] = True
        result = pixels.copy()
        result[mask] = darkest(pixels, photometric, header)
        return result


class PixelCleaner:
    """Examines the pictures of objects, one at a time."""

    def __init__(self, run: Runner, finder: TextFinder | None = None) -> None:
        """Take a pool to work in, and what finds text; without the extra `ocr` there is none.

        A call of `run` that is cancelled should end with its thread, so that one picture at a time is in memory.
        """
        self._run = run
        self._finder = finder or ocr.shared_finder()
        self._turn = asyncio.Semaphore(1)

    async def examine(self, header: Dataset, frames: int, read: FrameSource) -> Redaction:
        """Work out what to blank.

        Parameters
        ----------
        header : of the object as it was received: its rules and regions are needed.
        frames : how many there are.
        read : reads one of them, decoded.

        Raises
        ------
        Refusal : if the picture is likely to show identity and cannot be cleaned for sure.
        Unavailable : if that takes too long, once it is its turn.
        """
        known = await self._run(_assess, header)
        if known.risk is Risk.NONE or not frames:
            return Redaction()
        if self._finder is None:
            if known.risk is not Risk.LOW:
                raise Refusal(ocr.INSTALL)
            return Redaction(known.blank)
        try:
            async with self._turn, asyncio.timeout(_MAX_SECONDS):
                return await self._look(self._finder, header, frames, read, known)
        except TimeoutError as exc:
            raise Unavailable("Looking for text in the picture took too long.") from exc

    async def _look(
        self, finder: TextFinder, header: Dataset, frames: int, read: FrameSource, known: Assessment
    ) -> Redaction:
        """Look at some frames, blank what was found, look at others: until nothing is found any more."""
        redaction = Redaction(looked=True)  # at first nothing is blanked: half a line of text is no text to a detector
        for turn in range(_MAX_ROUNDS):
            look = _Look(finder, header, redaction, turn, known.risk)
            texts: list[Text] = []
            numbers = _sample(frames, turn, _FRAMES)
            if turn == 1 and frames > len(numbers):
                cine = await self._overlaid(frames, read)
                numbers = cine.changes
                for pixels in cine.overlaid:
                    texts += await self._run(look, pixels, cine.photometric, 1)
            for number in numbers:
                texts += await self._run(look, *await read(number), number)
            if not turn:
                redaction = replace(redaction, blank=known.blank, keep=known.keep)
            found = [text for text in texts if _counts(text, known.risk, turn)]
            redaction = _with(redaction, found)
            if (turn or known.risk is Risk.LOW) and not any(map(_is_legible, found)):
                return redaction
        raise Refusal("Text keeps turning up in the picture, so that it cannot be cleaned for sure.")

    async def _overlaid(self, frames: int, read: FrameSource) -> _Cine:
        """The frames of a cine, laid over each other."""
        cine = _Cine()
        for number in sorted({1 + index * frames // _MAX_COMPARED for index in range(_MAX_COMPARED)}):
            await self._run(cine.add, number, *await read(number))
        return cine


class _Cine:
    """The frames of a cine, laid over each other: the largest and the smallest value that each pixel has."""

    def __init__(self) -> None:
        self.photometric = ""
        self._highest: np.ndarray | None = None
        self._lowest: np.ndarray | None = None
        self._before: np.ndarray | None = None
        self._differences: list[tuple[float, int]] = []

    def add(self, number: int, pixels: np.ndarray, photometric: str) -> None:
        """Lay a frame over the others."""
        small = pixels[::_STRIDE, ::_STRIDE].copy()
        if self._highest is None or self._lowest is None or self._before is None:
            self.photometric, self._highest, self._lowest = photometric, pixels.copy(), pixels.copy()
        else:
            np.maximum(self._highest, pixels, out=self._highest)
            np.minimum(self._lowest, pixels, out=self._lowest)
            self._differences.append((float(np.abs(small.astype(np.float32) - self._before).mean()), number))
        self._before = small

    @property
    def overlaid(self) -> list[np.ndarray]:
        """Two pictures; none of a palette, whose indexes have no order."""
        if self._highest is None or self._lowest is None or self.photometric == color.PALETTE:
            return []
        return [self._highest, self._lowest]

    @property
    def changes(self) -> list[int]:
        """The frames that differ most from the one before."""
        return sorted(number for _, number in sorted(self._differences, reverse=True)[:_CHANGES])


@dataclass(frozen=True, slots=True)
class _Look:
    """A look at what is left of frames after a redaction; pure CPU, for a worker thread."""

    finder: TextFinder
    header: Dataset
    redaction: Redaction
    turn: int
    risk: Risk

    def __call__(self, pixels: np.ndarray, photometric: str, number: int) -> list[Text]:
        """Find text in every way that a frame is displayed; in later turns in one of them, in the negative.

        Detectors see dark text on light ground a little worse than the reverse.
        """
        try:
            cleaned = self.redaction.apply(pixels, photometric, self.header)
            shown = views(cleaned, photometric, self.header, number)
        except _MALFORMED as exc:
            raise Refusal("The picture cannot be displayed, so that nobody can look for text in it.") from exc
        if self.turn:
            shown = [255 - shown[self.turn % len(shown)]]
        read = self.turn > 0 or self.risk is not Risk.HIGH
        return [text for view in shown for text in self.finder.find(view, read=read, turn=self.turn)]


def _assess(header: Dataset) -> Assessment:
    """Assess a picture; raise Refusal if its header does not tell how."""
    try:
        known = assess(header)
        if known.risk is not Risk.NONE and int(header.get("Rows") or 0) * int(header.get("Columns") or 0) > _MAX_PIXELS:
            raise Refusal("The frames are too large to look for text in them.")
    except _MALFORMED as exc:
        raise Refusal("The picture has malformed attributes, so that nobody can look for text in it.") from exc
    return known


def _sample(frames: int, turn: int, count: int) -> list[int]:
    """Frames to look at: all of a few; of many, `count` in equal distances and the last, each turn others."""
    if frames <= count:
        return list(range(1, frames + 1))
    shift = turn / _MAX_ROUNDS
    return sorted({1 + int((index + shift) * frames / count) for index in range(count)} | {frames})


def _with(redaction: Redaction, texts: Iterable[Text]) -> Redaction:
    return replace(redaction, blank=(*redaction.blank, *dict.fromkeys(_with_margin(text.box) for text in texts)))


def _with_margin(box: Box) -> Box:
    """Detectors cut ascenders and the ends of lines: a quarter of the height around covers them."""
    return box.grown(max(2, (box.bottom - box.top) // 4))


def _counts(text: Text, risk: Risk, turn: int) -> bool:
    """Whether to blank it: anything at first where text is likely, then what reads as a character at least."""
    if risk is Risk.LOW:
        return _is_legible(text)
    if risk is Risk.HIGH and not turn:
        return True
    return text.characters > 0 and text.confidence >= _LIKELY_CONFIDENCE


def _is_legible(text: Text) -> bool:
    return text.characters >= _LEGIBLE_CHARACTERS and text.confidence >= _LEGIBLE_CONFIDENCE


def _slices(box: Box) -> tuple[slice, slice]:
    return slice(max(box.top, 0), max(box.bottom, 0)), slice(max(box.left, 0), max(box.right, 0))
