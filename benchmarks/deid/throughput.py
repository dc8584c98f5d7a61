"""How many instances a second one core reads, de-identifies and writes: Isthmus beside others, in turn, in one run.

`python -m benchmarks.deid.throughput measure HOW FROM TO OPTION` is the child that measures ours: it waits for numbers
on standard input, goes over all files that often, and prints the seconds of CPU and how many objects were made.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydicom.data
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian

from benchmarks.deid import tools
from benchmarks.deid.directly import Refusal, taken, treatment
from gateway.deid.engine import Deidentifier
from gateway.deid.profile import load_profile
from gateway.intake.rewrite import quiet_pydicom

#: How Isthmus is measured: files read and written, and bytes in memory.
FILES, MEMORY = "Isthmus, files", "Isthmus, memory"
COLUMNS = (FILES, MEMORY, *tools.PEERS)
_BUNDLED = "A: 79 files that come with pydicom, headers alone"
_CT = "B: CT 512 x 512, 530 kB"
_ENHANCED = "C: enhanced CT of 200 frames, 1.7 MB"
_REAL = "real CT 512 x 512, uncompressed"
_CHEST = "real CT series, JPEG-LS"
#: Files of a sample, and how often they are gone over in a round: as much as the slowest tool does in some seconds.
_SIZES = {_BUNDLED: (79, 1), _CT: (50, 1), _ENHANCED: (6, 1), _REAL: (20, 2), _CHEST: (50, 1)}
_ROUNDS = 3
_HEADERS = "headers"
_OF_DATA = {_REAL: "transfer-syntaxes/ct-littleendianexplicit.dcm", _CHEST: "ct-chest"}
#: The bars: instances a second on one core, and how many times as fast as others.
MIN_RATE, MIN_RATIO, BAR, SLOWER = 150, 5, _CT, ("dicognito", "dicom-anonymizer")


@dataclass
class Pace:
    """Instances a second by sample and tool, round by round; and how many of the files of a sample were made."""

    rates: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    made: dict[str, dict[str, int]] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)

    def rate(self, sample: str, tool: str) -> float | None:
        """The median over the rounds; None if it was not measured."""
        rounds = self.rates.get(sample, {}).get(tool)
        return statistics.median(rounds) if rounds else None


def measure(scratch: Path, data: Path | None) -> Pace:
    """Measure every sample with every tool, in turn."""
    pace = Pace()
    for name, (count, repeat) in _SIZES.items():
        folder = scratch / str(len(pace.files))
        if not _prepare(name, count, folder, data):
            continue
        pace.files[name] = len(list(folder.glob("*.dcm")))
        _sample(pace, name, folder, scratch / "out", repeat)
    return pace


def _sample(pace: Pace, name: str, folder: Path, target: Path, repeat: int) -> None:
    target.mkdir(exist_ok=True)
    with ExitStack() as stack:
        option = _HEADERS if name == _BUNDLED else "clean-pixel-data"
        children = {tool: stack.enter_context(_Child(tool, folder, target, option)) for tool in _columns()}
        for child in children.values():
            child.measure(1)  # what is imported and remembered once
        for number in range(_ROUNDS):
            for tool, child in children.items():
                seconds, made = child.measure(repeat)
                pace.rates.setdefault(name, {}).setdefault(tool, []).append(made / seconds if made else 0.0)
                pace.made.setdefault(name, {})[tool] = made // repeat
                print(f"{name}: {tool}: round {number}: {made / seconds:.0f}/s", file=sys.stderr, flush=True)


def _columns() -> Sequence[str]:
    return COLUMNS if tools.PEERS_PYTHON.exists() else (FILES, MEMORY)


class _Child:
    """A process that measures when it is told to."""

    def __init__(self, tool: str, source: Path, target: Path, option: str) -> None:
        self._command = (
            [sys.executable, "-m", "benchmarks.deid.throughput", "measure", tool, str(source), str(target), option]
            if tool in {FILES, MEMORY}
            else tools.peer("measure", tool, source, target)
        )

    def __enter__(self) -> _Child:
        self._process = subprocess.Popen(
            self._command,
            cwd=tools.ROOT,
            env=tools.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def measure(self, repeat: int) -> tuple[float, int]:
        """Go over all files that often; seconds of CPU, and objects made."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{repeat}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("["):
                seconds, made = json.loads(line)
                return seconds, made
        raise RuntimeError(f"{self._command} ended")


def _prepare(name: str, count: int, folder: Path, data: Path | None) -> bool:
    """Write the files of a sample; False if there are none here."""
    folder.mkdir(parents=True)
    if name in _OF_DATA:
        if data is None or not (data / _OF_DATA[name]).exists():
            return False
        path = data / _OF_DATA[name]
        sources = [path] * count if path.is_file() else sorted(path.glob("*.dcm"))[:count]
        contents = [dcmread(source) for source in sources]
    elif name == _BUNDLED:
        test_files = Path(pydicom.data.__file__).parent / "test_files"
        for source in sorted(test_files.rglob("*.dcm"))[:count]:
            (folder / source.name).write_bytes(source.read_bytes())
        return True
    else:
        make: Callable[[int], Dataset] = ct if name == _CT else enhanced_ct
        contents = [make(number) for number in range(count)]
    for number, ds in enumerate(contents):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.9.7135.{number + 1}"
        ds.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return True


def ct(number: int) -> Dataset:
    """A slice made of pydicom's CT, enlarged: 261 elements, private ones among them."""
    ds = dcmread(Path(pydicom.data.__file__).parent / "test_files" / "CT_small.dcm")
    ds.PixelData = np.kron(ds.pixel_array, np.ones((4, 4), np.int16)).astype("<i2").tobytes()
    ds.Rows = ds.Columns = 512
    ds.InstanceNumber, ds.SliceLocation = number + 1, f"{-77.2 + 2.5 * number:.2f}"
    ds.ImagePositionPatient = [-158.1, -179.0, round(-75.7 + 2.5 * number, 2)]
    ds.ContentTime = f"1127{number % 60:02d}"
    return ds


def enhanced_ct(number: int) -> Dataset:
    """A multi-frame CT with its functional groups: 1,500 elements."""
    ds = ct(number)
    ds.SOPClassUID = EnhancedCTImageStorage
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.TransferSyntaxUID = (
        EnhancedCTImageStorage,
        ExplicitVRLittleEndian,
    )
    ds.Rows = ds.Columns = 64
    ds.NumberOfFrames = 200
    ds.PixelData = np.zeros((200, 64, 64), "<i2").tobytes()
    ds.PerFrameFunctionalGroupsSequence = Items([_frame(frame) for frame in range(200)])
    return ds


def _frame(number: int) -> Dataset:
    group, content, position = Dataset(), Dataset(), Dataset()
    content.FrameAcquisitionDateTime = f"20040119112{number % 10}{number % 60:02d}"
    content.DimensionIndexValues = [1, number + 1]
    position.ImagePositionPatient = [0, 0, number]
    group.FrameContentSequence, group.PlanePositionSequence = Items([content]), Items([position])
    return group


def _measure(how: str, source: Path, target: Path, option: str) -> None:
    """The child. With `headers` pictures are not looked at, as other tools do not."""
    quiet_pydicom()
    asked = load_profile("research")
    if option == _HEADERS:
        asked = replace(asked, options=asked.options - {"clean-pixel-data"})
    ours = treatment(Deidentifier(asked, tools.KEY))
    paths = sorted(source.glob("*.dcm"))
    held = {path: path.read_bytes() for path in paths} if how == MEMORY else {}
    for line in sys.stdin:
        done, started = 0, time.process_time()
        for _ in range(int(line)):
            for number, path in enumerate(paths):
                try:
                    made = taken(ours, held[path] if held else path.read_bytes())
                except Refusal:
                    continue
                done += 1
                if how == FILES:
                    (target / f"{number}.dcm").write_bytes(made)
        print(json.dumps([time.process_time() - started, done]), flush=True)


def data_folder() -> Path | None:
    """The folder of real DICOM, if there is one."""
    folder = Path(os.environ.get("ISTHMUS_TEST_DATA", tools.ROOT.parent / "shared" / "data"))
    return folder if folder.is_dir() else None


if __name__ == "__main__":
    _measure(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
