"""The DICOM JSON of a series, ready to be sent: compressed once after a change, then read as it is."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bson import Binary

from dicomweb.ports import Metadata
from dicomweb.remembered import Remembered
from dicomweb.resource import Level, Resource
from gateway.store import driver
from gateway.store.catalogue import Catalogue
from gateway.store.objects import ObjectStore, new_key
from gateway.store.retrieval import selector
from gateway.store.rows import json_of

#: Bytes of metadata that are remembered for the next who asks.
_REMEMBERED = 32 << 20
#: Larger blobs go to the object store; a MongoDB document may have 16 MiB.
_INLINE_BYTES = 1 << 20
#: Rows that are read in one piece, so that the event loop is held for no more than some milliseconds.
_BATCH = 250
_URI = b'"BulkDataURI":"'
Run = Callable[..., Awaitable[Any]]


class MetadataReader:
    """Gives the metadata of studies, series and instances.

    `root` is the path under which the DICOMweb service is reached, such as `/dicomweb`: BulkDataURIs are path-absolute.
    """

    def __init__(self, catalogue: Catalogue, objects: ObjectStore, run: Run, root: str) -> None:
        self._catalogue = catalogue
        self._db = catalogue.db
        self._objects = objects
        self._run = run
        self._root = root
        self._remembered: Remembered[Metadata] = Remembered(_REMEMBERED)

    async def read(self, resource: Resource) -> Metadata:
        """The metadata of a resource; raise NotFound or Gone."""
        generation = self._catalogue.generations.of(resource.study_uid)
        known = self._remembered.get(resource, generation)
        if known is None:
            known = await self._read(resource)
            self._remembered.put(resource, generation, known, len(known.gzip_body))
        return known

    async def _read(self, resource: Resource) -> Metadata:
        if resource.level is Level.INSTANCE:
            return await self._build(resource)
        if resource.level is Level.SERIES:
            await self._catalogue.complete(resource.study_uid)
            return await self._series(resource)
        await self._catalogue.complete(resource.study_uid)
        async with driver.wrapped():
            found = (
                await self._db.series.find({"study_uid": resource.study_uid}, {"series_uid": 1})
                .sort("_id", 1)
                .to_list(None)
            )
        if not found:
            await self._catalogue.raise_missing(resource)
        parts = [await self._series(Resource(resource.study_uid, document["series_uid"])) for document in found]
        return _metadata(await self._run(_merge, [part.gzip_body for part in parts]))

    async def forget(self, resource: Resource) -> None:
        """Drop what is kept ready of a study, or of the series that holds an instance."""
        identity: Any = f"{resource.study_uid}/{resource.series_uid}"
        if resource.level is Level.STUDY:
            identity = {"$regex": f"^{re.escape(resource.study_uid)}/"}
        async with driver.wrapped():
            found = await self._db.metadata.find({"_id": identity}, {"key": 1}).to_list(None)
            await self._db.metadata.delete_many({"_id": {"$in": [document["_id"] for document in found]}})
        for document in found:
            if "key" in document:
                await self._objects.delete(document["key"])

    async def _series(self, resource: Resource) -> Metadata:
        identity = f"{resource.study_uid}/{resource.series_uid}"
        async with driver.wrapped():
            series = await self._db.series.find_one({"_id": identity}, {"version": 1})
            if series is None:
                await self._catalogue.raise_missing(resource)
            version = series["version"]
            ready = await self._db.metadata.find_one({"_id": identity, "version": version, "root": self._root})
        if ready is not None:
            body = ready.get("body") or await self._objects.open(ready["key"], ready["size"]).read()
            return Metadata(bytes(body), ready["etag"])
        built = await self._build(resource)
        await self._keep(identity, version, built)
        return built

    async def _build(self, resource: Resource) -> Metadata:
        """Join the JSON of the rows of a series or an instance."""
        async with driver.wrapped():
            fields, order = {"json_gzip": 1, "study_uid": 1, "series_uid": 1}, [("number", 1), ("_id", 1)]
            cursor = self._db.instances.find(selector(resource), fields, sort=order, batch_size=_BATCH)
            found: list[dict[str, Any]] = []
            while batch := await cursor.to_list(_BATCH):
                found += batch
        if not found:
            await self._catalogue.raise_missing(resource)
        return _metadata(await self._run(_join, [(row, self._bulkdata(row)) for row in found]))

    def _bulkdata(self, row: dict[str, Any]) -> str:
        """The path that the BulkDataURIs of an instance begin with."""
        return f"{self._root}/{Resource(row['study_uid'], row['series_uid'], row['_id']).path}/bulkdata/"

    async def _keep(self, identity: str, version: int, built: Metadata) -> None:
        """Save what was built, for every worker; a later version replaces it."""
        fields: dict[str, Any] = {
            "version": version,
            "root": self._root,
            "etag": built.etag,
            "size": len(built.gzip_body),
        }
        if len(built.gzip_body) <= _INLINE_BYTES:
            fields["body"] = Binary(built.gzip_body)
        else:
            fields["key"] = new_key("json.gz")
            await self._objects.put(fields["key"], built.gzip_body)
        async with driver.wrapped():
            await self._db.metadata.replace_one({"_id": identity}, fields, upsert=True)


def _join(parts: Sequence[tuple[dict[str, Any], str]]) -> bytes:
    """One compressed JSON array of data sets. Quotes within JSON strings are escaped, so `_URI` is always the key."""
    items = [json_of(row).replace(_URI, _URI + prefix.encode()) for row, prefix in parts]
    return gzip.compress(b"[" + b",".join(items) + b"]", 5, mtime=0)


def _merge(bodies: Sequence[bytes]) -> bytes:
    arrays = [gzip.decompress(body)[1:-1] for body in bodies]
    return gzip.compress(b"[" + b",".join(array for array in arrays if array) + b"]", 5, mtime=0)


def _metadata(body: bytes) -> Metadata:
    return Metadata(body, hashlib.sha256(body).hexdigest()[:32])
