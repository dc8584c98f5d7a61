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
#: How many frames are looked at in a round, by risk, and in how many rounds: each looks at other frames, blanked as the
#: earlier ones found.
_FRAMES: Final = {Risk.HIGH: 6, Risk.LOW: 3}
_MAX_ROUNDS: Final = 4
#: Frames up to which each is compared with the one before, for where a cine changes a banner may appear.
_MAX_COMPARED, _CHANGES = 256, 3
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
        """Take a pool to work in, and what finds text; without the extra `ocr` there is none."""
        self._run = run
        self._finder = finder or (TextFinder() if ocr.is_installed() else None)
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
        Unavailable : if that takes too long, or others are examined for too long.
        """
        known = await self._run(_assess, header)
        if known.risk is Risk.NONE or not frames:
            return Redaction()
        if self._finder is None:
            if known.risk is Risk.HIGH:
                raise Refusal(ocr.INSTALL)
            return Redaction()
        try:
            async with asyncio.timeout(_MAX_SECONDS), self._turn:
                return await self._look(self._finder, header, frames, read, known)
        except TimeoutError as exc:
            raise Unavailable("Looking for text in the picture took too long.") from exc

    async def _look(
        self, finder: TextFinder, header: Dataset, frames: int, read: FrameSource, known: Assessment
    ) -> Redaction:
        """Look at some frames, blank what was found, look at others: until nothing is found any more."""
        redaction = Redaction(looked=True)  # at first nothing is blanked: half a line of text is no text to a detector
        for turn in range(_MAX_ROUNDS):
            numbers = _sample(frames, turn, _FRAMES[known.risk])
            if turn == 1:
                numbers = sorted({*numbers, *await self._changes(frames, read)})
            look = _Look(finder, header, redaction, turn, known.risk)
            texts: list[Text] = []
            for number in numbers:
                texts += await self._run(look, *await read(number), number)
            if not turn:
                redaction = replace(redaction, blank=known.blank, keep=known.keep)
            found = [text for text in texts if _counts(text, known.risk, turn)]
            redaction = _with(redaction, found)
            if (turn or known.risk is Risk.LOW) and not any(map(_is_legible, found)):
                return redaction
        raise Refusal("Text keeps turning up in the picture, so that it cannot be cleaned for sure.")

    async def _changes(self, frames: int, read: FrameSource) -> list[int]:
        """The frames that differ most from the one before."""
        if not _CHANGES < frames <= _MAX_COMPARED:
            return []
        differences: list[tuple[float, int]] = []
        before: np.ndarray | None = None
        for number in range(1, frames + 1):
            small = (await read(number))[0][::_STRIDE, ::_STRIDE].copy()
            if before is not None:
                differences.append((await self._run(_difference, small, before), number))
            before = small
        return [number for _, number in sorted(differences, reverse=True)[:_CHANGES]]


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
        read = self.turn > 0 or self.risk is Risk.LOW
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


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """How much two frames differ on average."""
    return float(np.abs(one.astype(np.float32) - other).mean())


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
    if risk is not Risk.HIGH:
        return _is_legible(text)
    return not turn or (text.characters > 0 and text.confidence >= _LIKELY_CONFIDENCE)


def _is_legible(text: Text) -> bool:
    return text.characters >= _LEGIBLE_CHARACTERS and text.confidence >= _LEGIBLE_CONFIDENCE


def _slices(box: Box) -> tuple[slice, slice]:
    return slice(max(box.top, 0), max(box.bottom, 0)), slice(max(box.left, 0), max(box.right, 0))
