"""The archive: the one way in and the one way out, for HTTP, DIMSE, imports and plugin results alike."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from dicomweb.ports import Metadata, SearchPage, StoredInstance, StoreOutcome
from dicomweb.query import Query, SearchKeys
from dicomweb.resource import Resource
from dicomweb.storing.uploads import Uploads
from gateway.assignment import Keys
from gateway.config import Settings
from gateway.deid.anonymizer import Anonymizer
from gateway.deid.engine import Deidentifier
from gateway.deid.keys import derive
from gateway.deid.pixels import PixelCleaner
from gateway.deid.quarantine import Quarantine
from gateway.deid.vault import Vault
from gateway.deid.workitems import WorkitemDeidentifier
from gateway.errors import ObjectNotFound
from gateway.intake.attempt import Ingest
from gateway.intake.cleaning import Cleaning
from gateway.intake.digests import FileDigest
from gateway.intake.elements import Elements
from gateway.intake.header_memory import HeaderMemory
from gateway.intake.keeping import Keeper
from gateway.intake.taking import IngestLimits, Treatment
from gateway.store import driver
from gateway.store.arrivals import Retirement
from gateway.store.catalogue import Catalogue
from gateway.store.keystate import KeyStates
from gateway.store.metadata import MetadataReader
from gateway.store.objects import ObjectReader, ObjectStore
from gateway.store.search import Breadth, search
from gateway.workers import Workers

logger = logging.getLogger(__name__)

#: Sources of which it is remembered how their objects are taken in.
_MAX_SOURCES = 256
#: An object that no row refers to is removed only after this: its row may be about to be written.
_SWEEP_AGE = timedelta(hours=1)
#: What the gateway makes itself from what it holds enters as it is: it was de-identified on its way in.
_OWN_PROFILE = "none"


@dataclass(frozen=True, slots=True)
class Source:
    """Where an object comes from: `kind` is stow, dimse, import or plugin; `name` an AE title, a user or a plugin.

    Of a source that `is_clean` it is known that nothing is written on its pictures.
    """

    kind: str
    name: str = ""
    is_clean: bool = False

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that `Archive.verify` found wrong: `kind` is missing, altered or unreferenced."""

    kind: str
    key: str
    resource: Resource | None = None


class Archive:
    """Everything that is stored. `for_source` gives it as `dicomweb.ports.Archive`, bound to where objects come."""

    def __init__(
        self, settings: Settings, catalogue: Catalogue, objects: ObjectStore, workers: Workers, *, keys: Keys, root: str
    ) -> None:
        self.catalogue = catalogue
        self.key_states = KeyStates(catalogue.db, catalogue.scheme)
        self.objects = objects
        self._settings = settings
        self._workers = workers
        self._metadata = MetadataReader(catalogue, objects, workers.run, root)
        self._key = key = keys.deid
        #: Seals what identifies, and opens it for those who may know.
        self.vault = Vault(keys.vault, keys.previous)
        #: What was refused, if that is kept.
        self.quarantine = Quarantine.of(settings.quarantine, self.vault)
        self._deid = (key, settings.deid.profiles_dir)
        self._digest_key = derive(key, "sameness")
        self._memory = HeaderMemory()
        ingest = settings.ingest
        self.uploads = Uploads(max_uploads=ingest.max_uploads, max_bytes=ingest.max_upload_mb << 20)
        self._elements = Elements()
        self._retirement = Retirement(catalogue.db)
        self._profiles: dict[str, Deidentifier] = {}
        self._attempts: dict[Source, Ingest] = {}
        self._treatments: dict[str, WorkitemDeidentifier | None] = {}
        cleaner = PixelCleaner(workers.run_through)
        self._cleaning = Cleaning(cleaner, workers, max_bytes=ingest.max_cleaning_mb << 20)
        #: Makes de-identified copies of what is stored, whatever profile it was stored under.
        self.anonymizer = Anonymizer(key, workers.run, cleaner)

    @property
    def is_looking(self) -> bool:
        """Whether pictures are looked at on their way in, one after the other: senders wait for minutes."""
        return self._cleaning.is_busy

    def for_source(self, source: Source) -> BoundArchive:
        """The archive as objects from `source` enter it."""
        return BoundArchive(self, source)

    def profile_of(self, source: Source) -> str:
        """The name of the profile that objects from `source` are de-identified under."""
        if source.kind == "plugin":
            return _OWN_PROFILE
        ingest = self._settings.ingest
        return ingest.sources.get(str(source), ingest.sources.get(source.name, ingest.profile))

    async def uid_map(self, source: Source) -> Callable[[str], str]:
        """How UIDs that `source` sends are stored: as they are, or as its profile replaces them."""
        profile = await self._profile(self.profile_of(source))
        return str if profile.is_identity else profile.uid

    def secret(self, purpose: str) -> bytes:
        """A key for one purpose, derived from the gateway's."""
        return derive(self._key, purpose)

    async def treatment_of_workitems(self, source: Source) -> WorkitemDeidentifier | None:
        """How workitems that `source` sends are de-identified; None if they are kept as they are."""
        name = self.profile_of(source)
        if name not in self._treatments:
            self._treatments[name] = await self._workers.run(WorkitemDeidentifier.load, name, *self._deid)
        return self._treatments[name]

    async def ingest(self, part: AsyncIterator[bytes], source: Source, *, study_uid: str | None = None) -> StoreOutcome:
        """Take in one Part 10 file; see `dicomweb.ports.Archive.store`. Raise Unavailable if there are too many.

        A request by STOW-RS is counted as a whole, before its body is read.
        """
        with nullcontext() if source.kind == "stow" else self.uploads.admitted():
            attempt = self._attempts.get(source) or await self._attempt(source)
            return await attempt.take(part, study_uid=study_uid)

    async def retry(self, part: AsyncIterator[bytes], source: Source) -> StoreOutcome:
        """Take in a file of the quarantine, as `ingest` does; what is refused again is not kept twice."""
        return await replace(await self._attempt(source), keeper=None).take(part)

    async def _attempt(self, source: Source) -> Ingest:
        """How objects from `source` are taken in."""
        largest = max(self._settings.http.max_part_bytes, self._settings.dicom.max_instance_bytes)  # both check
        limits = IngestLimits(largest, self._settings.ingest.max_header_bytes)
        profile = await self._profile(self.profile_of(source))
        looks = profile.cleans_pixels and not source.is_clean
        treatment = Treatment(profile, self._elements, self._digest_key, limits, self.vault, looks)
        # Without identity it is kept how an object came, not from where: an AE title may name a ward or a doctor.
        kept = str(source) if profile.is_identity else source.kind
        keeper = Keeper(self.quarantine, self._workers, str(source)) if self.quarantine is not None else None
        attempt = Ingest(
            self.catalogue, self.objects, self._workers, treatment, self._memory, self._cleaning, kept, keeper
        )
        if len(self._attempts) >= _MAX_SOURCES:
            self._attempts.clear()
        self._attempts[source] = attempt
        return attempt

    async def search(self, query: Query) -> SearchPage:
        """Answer a QIDO-RS query."""
        breadth = Breadth(self._settings.search.max_parents, self._settings.search.max_matches)
        return await search(self.catalogue, query, breadth, self._workers.run)

    async def search_keys(self) -> SearchKeys:
        """What can be searched by now."""
        return await self.key_states.usable()

    async def instances(self, resource: Resource) -> Sequence[StoredInstance]:
        """The instances of a resource."""
        return await self.catalogue.instances(resource)

    async def metadata(self, resource: Resource) -> Metadata:
        """The DICOM JSON of a resource."""
        return await self._metadata.read(resource)

    def open(self, instance: StoredInstance) -> ObjectReader:
        """The stored file of an instance."""
        return self.objects.open(instance.key, instance.size)

    async def delete(self, resource: Resource) -> int:
        """Delete a resource: rows first, which makes it gone for every reader, then what was kept for it.

        Meshes that plugins made of it go with the change feed, see `gateway.jobs.deletions`.
        """
        keys = await self.catalogue.delete(resource)
        await self._metadata.forget(resource)
        for key in keys:
            await self.objects.delete(key)
        return len(keys)

    async def sweep(self) -> int:
        """Remove old objects that nothing refers to: what crashes and lost races left. Return how many."""
        removed = 0
        old = [info.key async for info in self.objects.list(older_than=_SWEEP_AGE)]
        for keys in batched_list(old, 1000):
            for key in set(keys) - await self.catalogue.referenced(keys):
                await self.objects.delete(key)
                removed += 1
        await self._retirement.step()
        if removed:
            logger.info("swept %d unreferenced objects", removed)
        return removed

    async def verify(self) -> AsyncIterator[Difference]:
        """Compare every row with its object, byte for byte, and look for objects without a row."""
        await self.catalogue.complete()
        seen: set[str] = set()
        async with driver.wrapped():
            fields = dict.fromkeys(["study_uid", "series_uid", "key", "size", "checksum", "pixel_offset"], 1)
            async for row in self.catalogue.db.instances.find({}, fields):
                seen.add(row["key"])
                problem = await self._problem(row)
                if problem:
                    yield Difference(problem, row["key"], Resource(row["study_uid"], row["series_uid"], row["_id"]))
        others = [info.key async for info in self.objects.list(older_than=_SWEEP_AGE) if info.key not in seen]
        for keys in batched_list(others, 1000):
            for key in sorted(set(keys) - await self.catalogue.referenced(keys)):
                yield Difference("unreferenced", key)

    async def _problem(self, row: dict[str, Any]) -> str | None:
        digest = FileDigest(row["pixel_offset"])
        try:
            async for chunk in self.objects.origin.open(row["key"], row["size"]).stream():
                digest.update(chunk)
        except ObjectNotFound:
            return "missing"
        return None if digest.digest() == row["checksum"] else "altered"

    async def _profile(self, name: str) -> Deidentifier:
        if name not in self._profiles:
            self._profiles[name] = await self._workers.run(Deidentifier.load, name, *self._deid)
        return self._profiles[name]


class BoundArchive:
    """An archive bound to the source of what is stored through it; implements `dicomweb.ports.Archive`."""

    def __init__(self, archive: Archive, source: Source) -> None:
        self._archive = archive
        self._source = source
        self.version = archive.catalogue.generations.of
        self.search = archive.search
        self.search_keys = archive.search_keys
        self.instances = archive.instances
        self.metadata = archive.metadata
        self.open = archive.open
        self.delete = archive.delete

    async def store(self, part: AsyncIterator[bytes], *, study_uid: str | None = None) -> StoreOutcome:
        """Take in one Part 10 file as it arrives."""
        return await self._archive.ingest(part, self._source, study_uid=study_uid)


def batched_list(items: Sequence[str], size: int) -> list[list[str]]:
    """Consecutive pieces of at most `size` items."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]
