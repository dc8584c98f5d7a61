"""Instances from metadata and bulk data parts (PS3.18 sections 8.6.1.2 and 10.5.1.4), each stored as one DICOM file.

Parts are read once, in their order. Pixel data that arrives when all else of its instance is there goes straight
through to the archive; what arrives early waits in a spool file. URIs are names within the request: none is fetched.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, nullcontext
from dataclasses import replace

from dicomweb.dicom_encode import Hole, element_head, pack
from dicomweb.errors import BadRequest, IsthmusError, RequestTimeout, TooLarge, UnsupportedMediaType
from dicomweb.negotiate import DICOM, EXPLICIT_LITTLE_ENDIAN
from dicomweb.ports import Archive, Limits, Runner, StoreOutcome
from dicomweb.storing.body import METADATA, Part
from dicomweb.storing.metadata import PIXEL_TAGS, Instance, Rejected, frame_of, read, resolved
from dicomweb.storing.pixels import Held, PixelData, native, spooled, video
from dicomweb.storing.spool import Spool
from dicomweb.storing.stores import Stores, failure
from dicomweb.storing.uploads import Uploads

_BUFFER_BYTES = 256 << 10
_MAX_LENGTH = 0xFFFFFFFE
_LARGE_BYTES = 2 << 20  # of metadata; while it is read it takes up to 30 times as much
_MISSING = "Bulk data that the metadata of an instance refers to is not in the request."


class Assembly:
    """The parts of one request on their way into the archive; `outcomes` grows with each instance and each failure."""

    def __init__(
        self,
        parts: AsyncIterator[Part],
        archive: Archive,
        spool: Spool,
        run: Runner,
        limits: Limits,
        uploads: Uploads,
        *,
        turn: asyncio.Semaphore,
        study_uid: str | None,
        base: str,
    ) -> None:
        """Large metadata is read in turns, one part of all requests at a time."""
        self.outcomes: list[StoreOutcome] = []
        self._parts = parts
        self._part: Part | None = None
        self._archive = archive
        self._stores = Stores(archive, uploads, self.outcomes, study_uid=study_uid)
        self._spool = spool
        self._run = run
        self._limits = limits
        self._turn = turn
        self._study_uid = study_uid
        self._base = base
        self._metadata_left = limits.max_metadata_bytes
        self._queue: deque[Instance] = deque()
        self._wanted: Counter[str] = Counter()  # holes by the URI that they want
        self._frames: dict[str, int] = {}  # frames of the image whose pixel data the URI is
        self._held: dict[str, Held] = {}
        self._lost: dict[str, IsthmusError] = {}  # why bulk data that came could not be kept
        self._given: set[str] = set()
        self._broken: IsthmusError | None = None

    async def run(self) -> list[StoreOutcome]:
        """Take all parts. A failure of the body as a whole ends them: what came before stays stored."""
        try:
            while (part := await self._next()) is not None:
                await self._take(part)
                while self._queue:
                    await self._assemble(self._queue.popleft())
        finally:
            await self._stores.settle()
        if self._broken is not None:
            self.outcomes.append(failure(self._broken))
        return self.outcomes

    async def _next(self) -> Part | None:
        """The next part, once the one before is passed over; None at the end, or where the body is broken."""
        if self._broken is not None:
            return None
        try:
            if self._part is not None:
                await self._part.drain()
            self._part = await anext(self._parts, None)
        except IsthmusError as exc:
            if isinstance(exc, UnsupportedMediaType):
                raise  # of the request itself, before its first part
            self._broken, self._part = exc, None
        return self._part

    async def _take(self, part: Part) -> str | None:
        """Store, read or keep a part that is not asked for now; return the URI of bulk data that is now complete."""
        try:
            if part.media_type in METADATA:
                await self._read(part)
            elif part.media_type == DICOM:
                await self._stores.add(part)
            else:
                return await self._keep(part)
        except (BadRequest, RequestTimeout) as exc:
            if part.media_type in METADATA and not isinstance(exc, RequestTimeout):
                self.outcomes.append(failure(exc))
            else:  # the body is malformed or stalls: there is no next part
                self._broken = exc
        except IsthmusError as exc:
            self.outcomes.append(failure(exc))
        return None

    async def _read(self, part: Part) -> None:
        data = await part.whole(self._metadata_left)
        self._metadata_left -= len(data)
        async with self._turn if len(data) > _LARGE_BYTES else nullcontext():
            instances = await self._run(read, METADATA[part.media_type], data, self._base)
        for found in instances:
            if isinstance(found, Rejected):
                self.outcomes.append(failure(found.error, found.sop_class_uid, found.instance_uid))
                continue
            self._queue.append(found)
            self._wanted.update(found.uris)
            if found.pixels is not None:
                self._frames[found.pixels.uri] = found.image.frames

    def _named(self, part: Part) -> tuple[str, int | None]:
        """The URI that a part answers, and the number of the frame if it says one."""
        uri = resolved(self._base, part.location)
        if uri not in self._wanted and (found := frame_of(uri)) is not None:
            return found
        return uri, None

    async def _keep(self, part: Part) -> str | None:
        """Put bulk data that some instance wants into the spool."""
        uri, number = self._named(part)
        if self._wanted[uri] <= 0:
            self._refuse(uri)
            return None
        held = self._held.setdefault(uri, Held(part.media_type, part.parameters))
        number = number or len(held.frames) + 1
        expected = held.parts_of(self._frames.get(uri, 1))
        if number in held.frames or number > expected:
            self._refuse(uri)
            return None
        self._given.add(uri)
        try:
            held.frames[number] = await self._spool.put(aiter(part))
        except (BadRequest, RequestTimeout):
            raise
        except IsthmusError as exc:
            self._lost[uri] = exc
            return uri
        return uri if len(held.frames) == expected else None

    def _refuse(self, uri: str) -> None:
        """Say of a part that nothing wants it."""
        if uri in self._given:
            self.outcomes.append(failure(BadRequest("A bulk data part was sent twice.")))
        elif self._frames or self._wanted:
            self.outcomes.append(failure(BadRequest("A bulk data part is referred to by no metadata.")))
        else:
            self.outcomes.append(failure(UnsupportedMediaType(f"A part is not of type {DICOM}.")))

    async def _assemble(self, instance: Instance) -> None:
        """Wait for the bulk data of an instance, and store it."""
        waiting = {uri for uri in instance.uris if not self._is_complete(uri)}
        try:
            straight = await self._gather(instance, waiting)
            for uri in instance.uris:
                if uri in self._lost:
                    raise self._lost[uri]
            if waiting and straight is None:
                raise self._broken or BadRequest(_MISSING)
            pixels = straight or await self._pixels(instance)
            part = _file(instance, pixels, self._held, self._spool)
            async with aclosing(part):
                outcome = await self._archive.store(part, study_uid=self._study_uid)
            if not outcome.instance_uid:  # what failed may have come before the archive looked
                outcome = replace(outcome, sop_class_uid=instance.sop_class_uid, instance_uid=instance.instance_uid)
            self.outcomes.append(outcome)
        except IsthmusError as exc:
            if isinstance(exc, RequestTimeout):
                self._broken = exc
            self.outcomes.append(failure(exc, instance.sop_class_uid, instance.instance_uid))
        finally:
            self._release(instance)

    def _is_complete(self, uri: str) -> bool:
        held = self._held.get(uri)
        return uri in self._lost or (held is not None and len(held.frames) == held.parts_of(self._frames.get(uri, 1)))

    async def _gather(self, instance: Instance, waiting: set[str]) -> PixelData | None:
        """Read on until nothing is waited for; return pixel data that can go straight through, the last that was."""
        while waiting and (part := await self._next()) is not None:
            pixels = self._straight(instance, waiting, part)
            if pixels is not None:
                return pixels
            complete = await self._take(part)
            if complete is not None:
                waiting.discard(complete)
        return None

    def _straight(self, instance: Instance, waiting: set[str], part: Part) -> PixelData | None:
        """Pixel data from the part itself: the one that is waited for, wanted once, of a length known beforehand."""
        hole = instance.pixels
        if hole is None or waiting != {hole.uri} or self._wanted[hole.uri] != 1 or not part.location:
            return None
        if self._named(part) != (hole.uri, None):
            return None
        held = Held(part.media_type, part.parameters)
        length = part.said_length or (instance.image.native_bytes if held.is_native else None)
        if length is None or not (held.is_native or held.media_type.startswith("video/")):
            return None
        self._given.add(hole.uri)
        return native(hole, length, aiter(part)) if held.is_native else video(hole, held, length, aiter(part))

    async def _pixels(self, instance: Instance) -> PixelData | None:
        if instance.pixels is None:
            return None
        return await spooled(instance, self._held[instance.pixels.uri], self._spool, self._run)

    def _release(self, instance: Instance) -> None:
        for uri in instance.uris:
            self._wanted[uri] -= 1
            if self._wanted[uri] <= 0:
                self._held.pop(uri, None)


async def _file(
    instance: Instance, pixels: PixelData | None, held: Mapping[str, Held], spool: Spool
) -> AsyncGenerator[bytes]:
    """The instance as a DICOM file (PS3.10 section 7), in chunks."""
    syntax = pixels.transfer_syntax_uid if pixels is not None else EXPLICIT_LITTLE_ENDIAN
    buffer = bytearray(_file_meta(instance, syntax))
    elements = instance.elements | (dict(pixels.attributes) if pixels is not None else {})
    for _, pieces in sorted(elements.items()):
        for piece in pieces:
            if isinstance(piece, bytes):
                buffer += piece
            else:
                yield bytes(buffer)
                buffer.clear()
                async for chunk in _filled(piece, instance, pixels, held, spool):
                    yield chunk
            if len(buffer) >= _BUFFER_BYTES:
                yield bytes(buffer)
                buffer.clear()
    yield bytes(buffer)


async def _filled(
    hole: Hole, instance: Instance, pixels: PixelData | None, held: Mapping[str, Held], spool: Spool
) -> AsyncGenerator[bytes]:
    """The element of a hole with its bulk data."""
    if pixels is not None and hole is instance.pixels:
        yield pixels.head
        async for chunk in pixels.value:
            yield chunk
        return
    if hole.tag in PIXEL_TAGS and not held[hole.uri].is_native:
        raise UnsupportedMediaType("Pixel data in a sequence, such as an icon, is stored uncompressed only.")
    values = held[hole.uri].values
    length = sum(value.length for value in values)
    if length > _MAX_LENGTH:
        raise TooLarge("A value has at most 4 GiB.")
    yield hole.head(length + length % 2)
    for value in values:
        async for chunk in spool.get(value):
            yield chunk
    if length % 2:
        yield hole.padding


def _file_meta(instance: Instance, syntax: str) -> bytes:
    uids = {"00020002": instance.sop_class_uid, "00020003": instance.instance_uid, "00020010": syntax}
    elements = b"".join(pack(tag, "UI", uid.encode("utf-8")) for tag, uid in uids.items())
    group_length = element_head("00020000", "UL", 4) + len(elements).to_bytes(4, "little")
    return b"\0" * 128 + b"DICM" + group_length + elements
