"""One attempt to take in one instance: header -> picture, if it is suspect -> profile -> object store -> catalogue row.

Nothing is acknowledged before the bytes are synced and the row is committed. Whatever goes wrong before that leaves
at most an object that no row refers to, which the attempt deletes itself or the sweeper finds.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from dicomweb.errors import BadRequest, Conflict, NotDicom, Refused, TooLarge, Unavailable
from dicomweb.ports import StoreOutcome
from dicomweb.resource import Level
from gateway.deid.original import context_of
from gateway.intake.cleaning import Cleaning
from gateway.intake.header_memory import LOOKING_WAIT_S, HeaderMemory, Lease
from gateway.intake.keeping import Keeper, Kept
from gateway.intake.source import Buffer, ByteSource, Short
from gateway.intake.stored import StoredHeader, sent_names
from gateway.intake.suspicion import Suspect
from gateway.intake.taking import WHOLE_BYTES, Taking, Treatment
from gateway.store import items
from gateway.store.catalogue import Added, Catalogue
from gateway.store.objects import ObjectStore, ObjectWriter, new_key
from gateway.store.row_writer import InstanceRow
from gateway.workers import Workers

logger = logging.getLogger(__name__)
#: A document of MongoDB has at most 16 MiB.
_MAX_ROW_BYTES = 12 << 20


@dataclass(frozen=True, slots=True)
class Ingest:
    """Takes in instances from one source; what is refused goes to `keeper`, if there is one."""

    catalogue: Catalogue
    objects: ObjectStore
    workers: Workers
    treatment: Treatment
    memory: HeaderMemory
    cleaning: Cleaning
    source: str
    keeper: Keeper | None = None

    async def take(self, part: AsyncIterator[bytes], *, study_uid: str | None = None) -> StoreOutcome:
        """Store one Part 10 file as it arrives; a failure of the data is an outcome, one of the server is raised."""
        lease, max_bytes = self.memory.lease(), self.treatment.limits.max_bytes
        kept = self.keeper.keep(part, max_bytes) if self.keeper is not None else None
        source = ByteSource(kept or part, max_bytes=max_bytes, on_growth=lease.grow)
        taking = Taking(source, self.treatment, study_uid)
        try:
            return await self._take(source, lease, taking, kept)
        except (BadRequest, Refused, TooLarge, Conflict) as exc:
            if kept is not None and not isinstance(exc, Conflict):
                await kept.seal(exc.message)
            return StoreOutcome(
                *taking.sent,
                failure=exc.dimse_status,
                reason=exc.message,
                # What is sent is no DICOM, but how it is sent is well-formed (PS3.18 Table 10.5.3-1).
                status=int(Conflict.status if isinstance(exc, NotDicom) else exc.status),
            )
        finally:
            await lease.close()
            if kept is not None:
                await kept.close()

    async def _take(self, source: ByteSource, lease: Lease, taking: Taking, kept: Kept | None) -> StoreOutcome:
        """Store what arrives; a suspect picture is looked at before. The same as is stored needs no second look."""
        try:
            return await self._store(source, lease, taking, kept)
        except Suspect as suspect:
            header = suspect.header
        lease.wait_s = LOOKING_WAIT_S
        taking.sent = await self.workers.run_store(sent_names, header)
        picture = await self.cleaning.picture(header, source, self.treatment, taking.study_uid)
        where, digests = picture.taking.stored.resource, picture.taking.digests
        if await self.catalogue.holds(where, digests.received, digests.stored):
            return StoreOutcome(*taking.sent, stored=where, duplicate=True)
        cleaned, pixels = await self.cleaning.clean(picture)
        return await self._store(pixels, lease, cleaned, None)

    async def _store(self, source: ByteSource, lease: Lease, taking: Taking, kept: Kept | None) -> StoreOutcome:
        row, added = await self._write(source, lease, taking, kept)
        return await self._outcome(taking, row, added or await self.catalogue.add(row))

    async def _write(
        self, source: ByteSource, lease: Lease, taking: Taking, kept: Kept | None
    ) -> tuple[InstanceRow, Added | None]:
        """Write the file, durably when this returns, describe it and, where that is all in a thread, commit the row.

        A task that is cancelled waits for its thread, and leaves the file of a row that may have been committed.
        """
        done = _Done(new_key())
        writer = await self.objects.create(done.key)
        wanted = WHOLE_BYTES
        try:
            while done.row is None:
                await source.fill(wanted)
                try:
                    async with lease.parsing():
                        pieces = await self.workers.run_store(self._advance, taking, writer, done)
                except Short as short:
                    wanted = short.needed
                else:
                    if kept is not None:
                        kept.release()
                    for piece in pieces:
                        await writer.write(piece)
                    wanted = source.held + WHOLE_BYTES
            await writer.commit()
            if not done.durable:
                done.durable = True
                done.added = await self.workers.run_store(self.catalogue.insert, done.row)
        except BaseException:
            if not done.durable:
                await writer.abort()
            raise
        return done.row, done.added

    def _advance(self, taking: Taking, writer: ObjectWriter, done: _Done) -> list[Buffer]:
        """Go on with what has arrived, in a thread; the bytes that are still to be written."""
        pieces = taking.advance()
        row = self._row(taking, done.key) if taking.done else None
        if not writer.write_now(pieces, last=taking.done):
            done.row = row
            return pieces
        if row is not None:
            done.durable = True
            done.added = self.catalogue.insert(row)
            done.row = row
        return []

    def _row(self, taking: Taking, key: str) -> InstanceRow:
        stored, frames, scheme = taking.stored, taking.frames, self.catalogue.scheme
        where, json_gzip = stored.resource, stored.json_gzip
        item = items.ready_instance(stored.attributes, where, stored.transfer_syntax_uid)
        if len(json_gzip) + len(frames.pack()) + len(item) > _MAX_ROW_BYTES:
            raise TooLarge("The header of the DICOM object is larger than the catalogue takes.")
        return InstanceRow(
            study_uid=where.study_uid,
            series_uid=where.series_uid or "",
            instance_uid=where.instance_uid or "",
            sop_class_uid=stored.sop_class_uid,
            transfer_syntax_uid=stored.transfer_syntax_uid,
            key=key,
            size=taking.size,
            checksum=taking.digests.checksum,
            digest=taking.digests.received,
            stored_digest=taking.digests.stored,
            frames=frames,
            pixel_offset=stored.pixel_offset,
            keys=scheme.search_keys(stored.attributes, Level.INSTANCE),
            number=items.instance_number(stored.attributes),
            item=item,
            json_gzip=json_gzip,
            source=self.source,
            sealed=self._sealed(stored),
        )

    def _sealed(self, stored: StoredHeader) -> bytes:
        """What the object said before it was de-identified, for whoever has the vault's key."""
        if not stored.original:
            return b""
        return self.treatment.vault.seal(stored.original, context_of(stored.resource.instance_uid or ""))

    async def _outcome(self, taking: Taking, row: InstanceRow, added: Added) -> StoreOutcome:
        """What the sender is told. When the catalogue failed instead, the object stays for the sweeper to judge."""
        where = taking.stored.resource
        if added.status == "new":
            await self._drop(added.superseded)
            return StoreOutcome(*taking.sent, stored=where)
        await self._drop(row.key)
        if added.status == "same":
            return StoreOutcome(*taking.sent, stored=where, duplicate=True)
        return StoreOutcome(
            *taking.sent,
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
class _Done:
    """What the threads have done for one instance."""

    key: str
    row: InstanceRow | None = None
    added: Added | None = None
    durable: bool = False
