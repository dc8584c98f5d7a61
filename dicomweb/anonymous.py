"""A stored instance as its de-identified copy: read like any other, but native, its frames cleaned as they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

from dicomweb.errors import Refused
from dicomweb.negotiate import EXPLICIT_LITTLE_ENDIAN
from dicomweb.pieces import Piece, Span
from dicomweb.pixels import frames, transcode
from dicomweb.pixels.frames import FrameTable
from dicomweb.pixels.transcode import Undecodable
from dicomweb.ports import Anonymizer, AnonymousCopy, Bytes, Runner
from dicomweb.stored import Reader, T


class AnonymousReader(Reader):
    """The copy of an instance. Nothing of the stored file is handed out as it is, so there are no pieces of it."""

    def __init__(self, source: Reader, made: AnonymousCopy, run: Runner) -> None:
        """Take the reader of the instance, and its copy, whose header describes native frames."""
        stored, header = source.instance, made.header
        self.instance = replace(
            stored,
            study_uid=str(header.StudyInstanceUID),
            series_uid=str(header.SeriesInstanceUID),
            instance_uid=str(header.SOPInstanceUID),
            transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
            frames=_native(header, stored.frames.count) if stored.pixel_offset else FrameTable(0),
        )
        self._source = source
        self._made = made
        self._run = run

    @property
    def whole(self) -> Span:
        """Not for this."""
        raise NotImplementedError

    def pixel_pieces(self) -> list[Piece]:
        """Not for this."""
        raise NotImplementedError

    def frame_pieces(self, number: int) -> list[Piece] | None:
        """Frames are made when they are read."""
        self.instance.frames.ranges(number)
        return None

    async def header(self) -> Dataset:
        """The de-identified header."""
        return self._made.header

    async def stored_frame(self, number: int) -> bytes:
        """A frame, decoded and cleaned."""
        self.instance.frames.ranges(number)
        stored, header = await self._source.stored_frame(number), await self._source.header()
        return await self._run(_cleaned, header, self._source.instance.transfer_syntax_uid, stored, self._made)

    async def picture(self, number: int, make: Callable[[Bytes, Dataset], T], *, is_light: bool) -> T:
        """What `make` makes of a frame, decoded and cleaned, and of the de-identified header."""
        return await self._run(make, await self.stored_frame(number), self._made.header)

    def file_in(self, transfer_syntax_uid: str) -> AsyncIterator[bytes]:
        """The copy in any transfer syntax that it is offered in."""
        if not self.instance.pixel_offset:
            return self._file()
        if transfer_syntax_uid == EXPLICIT_LITTLE_ENDIAN:
            return self.native_file()
        return self.encoded_file(transfer_syntax_uid)

    async def _file(self) -> AsyncIterator[bytes]:
        """The copy of what has no pixel data."""
        yield await self._run(_file, self._made.header)


async def anonymous(source: Reader, anonymizer: Anonymizer, run: Runner) -> AnonymousReader:
    """Make the de-identified copy of an instance; raise Refused where that cannot be done safely."""
    syntax, header = source.instance.transfer_syntax_uid, await source.header()

    async def read(number: int) -> tuple[np.ndarray, str]:
        return await run(_decoded, header, syntax, await source.stored_frame(number))

    try:
        made = await anonymizer.copy(source.instance, header, read)
        if source.instance.frames.count:
            await run(_describe, made.header, *await read(1))
    except Undecodable as exc:
        raise Refused("The pixel data cannot be decoded, so that nobody can look for identity in it.") from exc
    return AnonymousReader(source, made, run)


def _decoded(header: Dataset, syntax: str, stored: bytes) -> tuple[np.ndarray, str]:
    """A frame, in color as RGB: what YBR is once it is decoded not every IOD allows (PS3.3 section C.8.5.6.1.2)."""
    return transcode.decode(header, syntax, stored, rgb=True)


def _describe(header: Dataset, pixels: np.ndarray, photometric: str) -> None:
    """Describe native frames as they come out of the decoder."""
    header.add_new("PhotometricInterpretation", "CS", photometric)
    if pixels.ndim == 3:
        header.add_new("PlanarConfiguration", "US", 0)


def _cleaned(header: Dataset, syntax: str, stored: bytes, made: AnonymousCopy) -> bytes:
    pixels, photometric = _decoded(header, syntax, stored)
    return transcode.array_bytes(made.clean(pixels, photometric), int(header.BitsAllocated))


def _native(header: Dataset, count: int) -> FrameTable:
    return frames.native(count, 0, header.Rows * header.Columns * header.SamplesPerPixel * header.BitsAllocated)


def _file(header: Dataset) -> bytes:
    buffer = BytesIO()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(buffer, header, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return buffer.getvalue()
