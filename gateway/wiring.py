"""Joins settings to implementations: the one place that chooses an object store and opens the archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.archive import Archive
from gateway.assignment import Keys
from gateway.audit import Audit
from gateway.config import Settings
from gateway.deid.profile import Profile, load_profile
from gateway.identities import Identities
from gateway.intake.rewrite import quiet_pydicom
from gateway.store import driver
from gateway.store.cached import CachedStore
from gateway.store.catalogue import Catalogue
from gateway.store.filesystem import FileSystemStore
from gateway.store.generations import Generations
from gateway.store.objects import ObjectStore
from gateway.store.scheme import Scheme
from gateway.store.seals import Seals
from gateway.store.turn import Turn
from gateway.workers import Workers

DICOMWEB = "/dicomweb"
_VIEWER = Path(__file__).resolve().parent.parent / "viewer"
#: Where the built web application and OHIF lie.
VIEWER_DIST, VIEWER_OHIF = _VIEWER / "dist", _VIEWER / "ohif"


@dataclass(frozen=True, slots=True)
class Core:
    """What every process of a gateway works with."""

    settings: Settings
    catalogue: Catalogue
    objects: ObjectStore
    workers: Workers
    archive: Archive
    audit: Audit
    identities: Identities


def object_store(settings: Settings, workers: Workers) -> ObjectStore:
    """The object store that the settings ask for; a new backend is one line here."""
    if settings.storage.backend == "s3":
        from gateway.store.s3 import S3Store  # its client takes 12 MB of each process

        store = S3Store(settings.storage.s3)
        if settings.storage.s3.cache_mb <= 0:
            return store
        return CachedStore(store, settings.data.dir / "cache" / "objects", settings.storage.s3.cache_mb << 20, workers)
    return FileSystemStore(settings.storage.dir or settings.data.dir / "objects", workers.io)


def dicomweb_path(settings: Settings) -> str:
    """The path of the DICOMweb root as callers reach it, behind whatever `http.public_url` says."""
    return settings.http.public_path + DICOMWEB


def generations_file(settings: Settings) -> Path | None:
    """Where processes tell each other of writes; none for a catalogue that other machines may write to."""
    return None if settings.mongodb.uri else settings.data.dir / "catalogue.generations"


def named_profiles(settings: Settings) -> list[Profile]:
    """Read every profile that the settings name, so that a fault in one shows before the first object comes.

    Raises
    ------
    ConfigurationError : naming the file and the key.
    """
    names = {settings.ingest.profile, *settings.ingest.sources.values()}
    return [load_profile(name, settings.deid.profiles_dir) for name in sorted(names)]


@asynccontextmanager
async def open_core(settings: Settings, uri: str, keys: Keys) -> AsyncIterator[Core]:
    """Connect to the catalogue at `uri` and to the object store; raise ConfigurationError or Unavailable."""
    quiet_pydicom()
    await asyncio.to_thread(named_profiles, settings)
    scheme = Scheme(settings.search.extra_keys)
    workers = Workers()
    connection = driver.connect(settings.mongodb, uri)
    turn = Turn(settings.data.dir / "catalogue.lock")
    generations = await asyncio.to_thread(Generations, generations_file(settings))
    catalogue = Catalogue(
        connection,
        settings.mongodb.database,
        replace=settings.storage.replace,
        turn=turn,
        scheme=scheme,
        generations=generations,
    )
    objects = object_store(settings, workers)
    try:
        await objects.start()
        await catalogue.start()
        await catalogue.settle()
        archive = Archive(settings, catalogue, objects, workers, keys=keys, root=dicomweb_path(settings))
        if archive.quarantine is not None:
            await workers.run_io(archive.quarantine.prepare)
        audit = Audit(catalogue.db, keys)
        identities = Identities(Seals(catalogue), archive.vault, keys.deid, audit, workers)
        yield Core(settings, catalogue, objects, workers, archive, audit, identities)
    finally:
        await catalogue.close()
        await objects.close()
        await workers.close()
        await driver.close(connection)
        turn.close()
        generations.close()  # a thread that still inserted a row needed them
