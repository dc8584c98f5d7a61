"""The meshes that runs made: their encodings in the object store, one row each in the collection `meshes`."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymongo import ASCENDING

from dicomweb.errors import NotFound
from gateway.jobs.model import Output, Run
from gateway.jobs.queue import Database
from gateway.store.driver import wrapped
from gateway.store.objects import ObjectReader, ObjectStore, new_key
from ray_plugins.task import MeshFiles

#: Encoding -> suffix of its key.
ENCODINGS: Mapping[str, str] = {"x3d": "x3d.gz", "glb": "glb", "stl": "stl"}
#: X3D is text: it is kept compressed (gzip), and nearly always sent so.
KEPT_ZIPPED = frozenset({"x3d"})


@dataclass(frozen=True, slots=True)
class Mesh:
    """A stored mesh: the series that it shows, and per encoding the object's key and size in bytes."""

    id: str
    study_uid: str
    series_uid: str
    title: str
    keys: Mapping[str, str]
    sizes: Mapping[str, int]


class MeshStore:
    """The meshes of one database and its object store.

    In a row `keys` and `sizes` are per encoding; `objects` lists the keys for the sweeper, which spares them.
    """

    def __init__(self, db: Database, objects: ObjectStore) -> None:
        self._rows = db["meshes"]
        self._objects = objects

    @wrapped()
    async def create_indexes(self) -> None:
        """Create what `forget` and the sweeper need. Idempotent."""
        await self._rows.create_index([("study", ASCENDING), ("series", ASCENDING)])
        await self._rows.create_index([("objects", ASCENDING)])

    @wrapped()
    async def add(self, output: Output, run: Run, files: MeshFiles) -> None:
        """Keep a mesh under `output.mesh_id`. Its row comes first: after a crash it names what may be there."""
        x3d = await asyncio.to_thread(gzip.compress, files.x3d, 6, mtime=0)
        contents = {"x3d": x3d, "glb": files.glb, "stl": files.stl}
        keys = {name: new_key(suffix) for name, suffix in ENCODINGS.items()}
        row = {
            "_id": output.mesh_id,
            "run": run.id,
            "study": output.study_uid,
            "series": output.series_uid,
            "title": output.title,
            "triangles": files.triangles,
            "bounds_mm": list(files.bounds_mm),
            "keys": keys,
            "objects": list(keys.values()),
            "sizes": {name: len(content) for name, content in contents.items()},
        }
        await self._rows.update_one(
            {"_id": output.mesh_id}, {"$setOnInsert": row, "$currentDate": {"created": True}}, upsert=True
        )
        for name, content in contents.items():
            await self._objects.put(keys[name], content)

    @wrapped()
    async def get(self, mesh_id: str) -> Mesh:
        """Read a row; raise NotFound."""
        row = await self._rows.find_one({"_id": mesh_id})
        if row is None:
            raise NotFound("There is no such mesh.")
        return Mesh(row["_id"], row["study"], row["series"], row["title"], row["keys"], row["sizes"])

    def open(self, mesh: Mesh, encoding: str) -> ObjectReader:
        """The bytes of one encoding, as they are kept."""
        return self._objects.open(mesh.keys[encoding], mesh.sizes[encoding])

    async def delete(self, mesh_id: str) -> None:
        """Remove a mesh; to remove one that is not there is no error."""
        await self._delete({"_id": mesh_id})

    async def forget(self, study_uid: str, series_uid: str) -> None:
        """Remove the meshes of a series that was deleted."""
        await self._delete({"study": study_uid, "series": series_uid})

    @wrapped()
    async def _delete(self, chosen: Mapping[str, Any]) -> None:
        async for row in self._rows.find(chosen, {"keys": 1}):
            for key in row["keys"].values():
                await self._objects.delete(key)
            await self._rows.delete_one({"_id": row["_id"]})
