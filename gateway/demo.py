"""Studies to look at first: real ones if a data folder lies beside the project, else a phantom that is made here."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from pydicom.data import get_testdata_file

from gateway.archive import Archive, Source
from gateway.importer import import_files
from gateway.store import driver

logger = logging.getLogger(__name__)
_SOURCE = Source("import", "demo")
#: Folders of real studies in the data folder.
_REAL = ("ct-bone", "ct-chest", "mr-brain", "mammo", "dental-cbct-sim", "dental-panoramic", "xa", "ct-prior-current")
#: Small images that pydicom ships for its own tests.
_SHIPPED = ("CT_small.dcm", "MR_small.dcm", "examples_ybr_color.dcm", "US1_J2KR.dcm")


async def load(archive: Archive) -> bool:
    """Store the demonstration studies, once: what a user deleted of them stays deleted. Always True."""
    db = archive.catalogue.db
    async with driver.wrapped():
        if await db.keys.find_one({"_id": "demo"}):
            return True
    report = await import_files(archive, await asyncio.to_thread(lambda: list(_files())), _SOURCE)
    if not await asyncio.to_thread(_real_folder):
        from ray_plugins.testing import phantom_series

        for content in await asyncio.to_thread(phantom_series):
            await archive.ingest(_once(content), _SOURCE)
    async with driver.wrapped():
        await db.keys.insert_one({"_id": "demo"})
    logger.info("demonstration studies: %d instances stored, %d not taken", report.stored, len(report.failed))
    return True


def _real_folder() -> Path | None:
    default = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("ISTHMUS_TEST_DATA", default))
    return folder if (folder / "ct-bone").is_dir() else None


def _files() -> Iterator[Path]:
    real = _real_folder()
    if real is None:
        yield from (Path(path) for name in _SHIPPED if (path := get_testdata_file(name, download=False)))
        return
    for name in _REAL:
        yield from sorted((real / name).glob("**/*.dcm"))


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
