"""Studies to look at first: real ones if a data folder lies beside the project, else a phantom that is made here."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from pathlib import Path

from pydicom.data import get_testdata_file

from gateway.archive import Archive, Source
from gateway.importer import import_files
from gateway.store import driver
from ray_plugins.testing import Phantom

logger = logging.getLogger(__name__)
_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
#: Public studies, on whose pictures nobody is named: to look for that would take a minute before the gateway is ready.
_SOURCE = Source("import", "demo", is_clean=True)
#: Folders of real studies in the data folder.
_REAL = ("ct-bone", "ct-chest", "mr-brain", "mammo", "dental-cbct-sim", "dental-panoramic", "xa", "ct-prior-current")
#: Small images that pydicom ships for its own tests.
_SHIPPED = ("CT_small.dcm", "MR_small.dcm", "examples_ybr_color.dcm", "US1_J2KR.dcm")
#: A body with a hollow sphere of bone: something for the bone plugin to find.
_PHANTOM = Phantom(shape=(80, 192, 192), spacing_mm=(2.0, 1.2, 1.2), radius_mm=45.0, marrow_mm=30.0)


async def load(archive: Archive) -> None:
    """Store the demonstration studies, once: what a user deleted of them stays deleted."""
    db = archive.catalogue.db
    async with driver.wrapped():
        if await db.keys.find_one({"_id": "demo"}):
            return
    with tempfile.TemporaryDirectory(prefix="isthmus-demo-") as made:
        files = await asyncio.to_thread(_files, Path(made))
        report = await import_files(archive, files, _SOURCE)
    async with driver.wrapped():
        await db.keys.insert_one({"_id": "demo"})
    logger.info("demonstration studies: %d instances stored, %d not taken", report.stored, len(report.failed))


def _files(made: Path) -> list[Path]:
    """The real studies if they are there, else small images that pydicom ships and a phantom written to `made`."""
    folder = Path(os.environ.get("ISTHMUS_TEST_DATA", _DATA))
    if (folder / _REAL[0]).is_dir():
        return [path for name in _REAL for path in sorted((folder / name).glob("**/*.dcm"))]
    _PHANTOM.write(made, {"StudyDescription": "CT PHANTOM", "SeriesDescription": "AXIAL 2.0"})
    shipped = [get_testdata_file(name, download=False) for name in _SHIPPED]
    return [*sorted(made.iterdir()), *(Path(str(path)) for path in shipped if path)]
