"""Looks at pictures on their way in and blanks what is written on them (PS3.15 section E.3.1, Clean Pixel Data).

Only those come here that are likely to show identity, see `suspicion`. Their instances are held in memory meanwhile, so
that nothing of the original is ever written; what is made of them leaves frame by frame.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import numpy as np

from dicomweb.pixels import codecs
from gateway.deid.pixels import PixelCleaner
from gateway.deid.policy import Refusal
from gateway.intake.header import Header
from gateway.intake.picture import MAX_DECODED_BYTES, Picture, treated
from gateway.intake.remade import Remade, unchanged
from gateway.intake.source import Buffer, ByteSource
from gateway.intake.taking import Taking, Treatment
from gateway.workers import Workers


class Cleaning:
    """Cleans the pictures of what a process takes in."""

    def __init__(self, cleaner: PixelCleaner, workers: Workers, *, max_bytes: int) -> None:
        """Hold instances of at most `max_bytes`."""
        codecs.register()  # before threads start
        self._cleaner = cleaner
        self._workers = workers
        self._max_bytes = max_bytes
        self._open = 0

    @property
    def is_busy(self) -> bool:
        """Whether a picture is looked at."""
        return self._open > 0

    async def picture(self, header: Header, source: ByteSource, treatment: Treatment, study_uid: str | None) -> Picture:
        """Take all that follows a header.

        Raises
        ------
        Refused : it is too large, nobody can look into it, or the profile refuses the object.
        BadRequest, Conflict, TooLarge : the instance cannot be taken.
        Unavailable : there is no memory left for it.
        """
        if await source.fill(self._max_bytes + 1):
            raise Refusal("The object is too large to look for text in its picture (ingest.max_cleaning_mb).")
        return await self._workers.run_through(Picture, header, source, treatment, study_uid)

    async def clean(self, picture: Picture) -> tuple[Taking, ByteSource]:
        """Look at a picture, and take its instance in as it is, or without what was found.

        Raises
        ------
        Refusal : it cannot be cleaned for sure; reading from the source that is returned may raise it, too.
        Unavailable : others are looked at for too long.
        """

        async def read(number: int) -> tuple[np.ndarray, str]:
            return await self._workers.run_through(picture.decoded, number)

        self._open += 1
        try:
            redaction = await self._cleaner.examine(picture.original, picture.frames.count, read)
        finally:
            self._open -= 1
        if redaction.blanks or not picture.header.encoding.little:
            remade = await self._workers.run_through(Remade, picture, redaction)
            header, attributes, pieces = remade.header, remade.attributes, self._frames(remade, picture.frames.count)
        else:
            (header, value), attributes = unchanged(picture), {}
            pieces = _one_by_one(value)
        treatment = treated(picture.treatment, attributes, is_clean=redaction.looked)
        source = ByteSource(pieces, max_bytes=MAX_DECODED_BYTES)
        return Taking(source, treatment, picture.study_uid, header, received=picture.taking.digests.received), source

    async def _frames(self, remade: Remade, count: int) -> AsyncIterator[bytes]:
        """Pixel data as its frames are made."""
        yield remade.start
        for number in range(1, count + 1):
            yield await self._workers.run_through(remade.frame, number)
        yield remade.end


async def _one_by_one(pieces: Iterable[Buffer]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield bytes(piece)
