"""Real CT, where there is some: the series `ct-chest` of the test data, 100 slices in JPEG-LS."""

from __future__ import annotations

import os
from pathlib import Path

from pydicom import dcmread

from benchmarks.phantom import Instance
from benchmarks.servers import ROOT

MISSING = "no real CT here: set ISTHMUS_TEST_DATA to a folder of test data with ct-chest/"


def ct() -> list[Instance]:
    """The instances, by file name; none where the data is not there."""
    folder = Path(os.environ.get("ISTHMUS_TEST_DATA", ROOT.parent / "shared" / "data")) / "ct-chest"
    return [_instance(path) for path in sorted(folder.glob("*.dcm"))]


def _instance(path: Path) -> Instance:
    ds = dcmread(path, stop_before_pixels=True)
    return Instance(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, path.read_bytes())
