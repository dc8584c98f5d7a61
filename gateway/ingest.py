"""One attempt to take in one instance: header -> profile -> object store -> catalogue row.

Nothing is acknowledged before the bytes are synced and the row is committed. Whatever goes wrong before that leaves
at most an object that no row refers to, which the attempt deletes itself or the sweeper finds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np

from dicomweb import dicom_json
from dicomweb.errors import BadRequest, Conflict, NotDicom, Refused, TooLarge, Unavailable
from dicomweb.ports import StoreOutcome
from dicomweb.resource import Level
from gateway.header_memory import HeaderMemory, Lease
from gateway.part10 import UNDEFINED, ByteSource, Header, PixelLayout, read_header, read_rest, stream_pixels
from gateway.store.catalogue import Catalogue, InstanceRow
from gateway.store.objects import ObjectStore, ObjectWriter, new_key
from gateway.stored_form import Deidentify, StoredHeader, prepare, sent_names
from gateway.workers import Workers

logger = logging.getLogger(__name__)
#: A document of MongoDB has at most 16 MiB.
_MAX_ROW_BYTES = 12 << 20
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """Bounds of one instance, in bytes."""

    max_bytes: int
    max_header_bytes: int


@dataclass(frozen=True, slots=True)
class Ingest:
    """Takes in instances from one source under one profile. `digest_key` keys the sameness digest."""

    catalogue: Catalogue
    objects: ObjectStore
    workers: Workers
    profile: Deidentify
    digest_key: bytes
    limits: IngestLimits
    memory: HeaderMemory
    source: str

    async def take(self, part: AsyncIterator[bytes], *, study_uid: str | None = None) -> StoreOutcome:
        """Store one Part 10 file as it arrives; a failure of the data is an outcome, one of the server is raised."""
        sent = _Names()
        lease = self.memory.lease()
        source = ByteSource(part, max_bytes=self.limits.max_bytes, on_growth=lease.grow)
        try:
            header = await self._receive(source, lease, sent)
            return await self._store(source, header, study_uid)
        except (BadRequest, Refused, TooLarge, Conflict) as exc:
            return StoreOutcome(
                sent.sop_class_uid,
                sent.instance_uid,
                failure=exc.dimse_status,
                reason=exc.message,
                # What is sent is no DICOM, but how it is sent is well-formed (PS3.18 Table 10.5.3-1).
                status=int(Conflict.status if isinstance(exc, NotDicom) else exc.status),
            )
        finally:
            await lease.close()

    async def _receive(self, source: ByteSource, lease: Lease, sent: _Names) -> _Received:
        """Read and prepare the header, which is let go as it came; `sent` learns what the sender calls the object."""
        header = await read_header(source, max_bytes=self.limits.max_header_bytes)
        async with lease.parsing():
            try:
                received = await self.workers.run(_prepared, header, self.profile, self.digest_key)
            except (BadRequest, Refused):
                sent.sop_class_uid, sent.instance_uid = await self.workers.run(sent_names, header)
                raise
        sent.sop_class_uid, sent.instance_uid = received.stored.sent_class_uid, received.stored.sent_instance_uid
        return received

    async def _store(self, source: ByteSource, received: _Received, study_uid: str | None) -> StoreOutcome:
        stored = received.stored
        if study_uid is not None and study_uid not in (stored.sent_study_uid, stored.resource.study_uid):
            raise Conflict("The instance belongs to another study than the one in the request.")
        key = new_key()
        writer = await self.objects.create(key)
        try:
            row = await self._write(source, received, writer, key)
        except BaseException:
            await writer.abort()
            raise
        return await self._commit(stored, row)

    async def _write(self, source: ByteSource, received: _Received, writer: ObjectWriter, key: str) -> InstanceRow:
        """Write header and pixels, and describe what was written."""
        header, stored = received.header, received.stored
        output = _Output(writer)
        await output.start(stored.head)
        layout = PixelLayout()
        if header.pixels is not None:
            async with aclosing(stream_pixels(source, header.pixels, layout)) as pieces:
                async for piece in _swapped(pieces, stored.swap):
                    await output.write(piece)
            if layout.size % 2 and header.pixels.length != UNDEFINED:  # after items comes a delimiter
                await output.write(b"\0")
        rest = await read_rest(source, max_bytes=self.limits.max_header_bytes)
        kept = rest if self.profile.is_identity and header.encoding.explicit and header.encoding.little else b""
        await output.end(kept)  # padding or signatures stay only where the object is kept as it came
        frames = stored.frame_table(header.pixels, layout)
        scheme = self.catalogue.scheme
        attributes = scheme.attributes(stored.attributes)
        if len(stored.json_gzip) + len(frames.pack()) + len(dicom_json.dumps(attributes)) > _MAX_ROW_BYTES:
            raise TooLarge("The header of the DICOM object is larger than the catalogue takes.")
        size = await writer.commit()
        where = stored.resource
        return InstanceRow(
            study_uid=where.study_uid,
            series_uid=where.series_uid or "",
            instance_uid=where.instance_uid or "",
            sop_class_uid=stored.sop_class_uid,
            transfer_syntax_uid=stored.transfer_syntax_uid,
            key=key,
            size=size,
            sha256=output.sha256.digest(),
            digest=output.sameness(received.digest, rest),
            stored_digest=output.sameness(received.stored_digest, kept),
            frames=frames,
            pixel_offset=stored.pixel_offset,
            keys=scheme.search_keys(stored.attributes, Level.INSTANCE),
            attributes=attributes,
            json_gzip=stored.json_gzip,
            source=self.source,
        )

    async def _commit(self, stored: StoredHeader, row: InstanceRow) -> StoreOutcome:
        """Commit the row. When the catalogue fails its answer is unknown: the object stays for the sweeper to judge."""
        added = await self.catalogue.add(row)
        sent = (stored.sent_class_uid, stored.sent_instance_uid)
        if added.status == "new":
            await self._drop(added.superseded)
            return StoreOutcome(*sent, stored=stored.resource)
        await self._drop(row.key)
        if added.status == "same":
            return StoreOutcome(*sent, stored=stored.resource, duplicate=True)
        return StoreOutcome(
            *sent,
            failure=Conflict.dimse_status,
            reason="An instance with this SOP Instance UID and other content is stored already; the first is kept.",
            status=int(Conflict.status),
        )

    async def _drop(self, key: str | None) -> None:
        if key is None:
            return
        try:
            await self.objects.delete(key)
        except Unavailable:
            logger.warning("an unreferenced object could not be deleted; the sweeper will")


@dataclass(slots=True)
class _Names:
    """Class and instance UID as the sender sent them, once they are known."""

    sop_class_uid: str = ""
    instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class _Received:
    """A header that was prepared, its data let go, and the keyed digests of it as it came and as it is kept."""

    header: Header
    stored: StoredHeader
    digest: hashlib.blake2b
    stored_digest: hashlib.blake2b


def _prepared(header: Header, profile: Deidentify, key: bytes) -> _Received:
    stored = prepare(header, profile)
    digest, stored_digest = (hashlib.blake2b(data, key=key, digest_size=32) for data in (header.data, stored.data_set))
    return _Received(dataclasses.replace(header, data=b""), stored, digest, stored_digest)


class _Output:
    """Passes the head, the pixel value and the rest of a file to an object writer, hashing as they go by."""

    def __init__(self, writer: ObjectWriter) -> None:
        self.sha256 = hashlib.sha256()
        self._writer = writer
        self._value = hashlib.blake2b(digest_size=32)

    async def start(self, head: bytes) -> None:
        for at in range(0, len(head), _PIECE_BYTES):  # hashed piece by piece, so that a large one holds up nobody
            piece = head[at : at + _PIECE_BYTES]
            self.sha256.update(piece)
            await self._writer.write(piece)

    async def write(self, data: bytes) -> None:
        self.sha256.update(data)
        self._value.update(data)
        await self._writer.write(data)

    async def end(self, rest: bytes) -> None:
        self.sha256.update(rest)
        await self._writer.write(rest)

    def sameness(self, digest: hashlib.blake2b, rest: bytes) -> bytes:
        """The keyed digest of a data set: of its elements before the pixel value, goes on with it and what follows."""
        digest.update(self._value.digest())
        digest.update(rest)
        return digest.digest()


async def _swapped(pieces: AsyncIterator[bytes], width: int) -> AsyncIterator[bytes]:
    """Reverse the bytes of each word of big endian pixel data."""
    if width == 1:
        async for piece in pieces:
            yield piece
        return
    left = b""
    async for piece in pieces:
        data = left + piece
        whole = len(data) // width * width
        left = data[whole:]
        yield np.frombuffer(data[:whole], f"u{width}").byteswap().tobytes()
    if left:
        yield left
