"""Scores what a tool made of the corpus: privacy, utility and consistency apart, and refusals apart from all."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from pydicom import config, dcmread
from pydicom.dataset import Dataset

from benchmarks.deid import scan
from benchmarks.deid.answers import CONSISTENCY, Answer, Entry, passes, text_of, value_at
from benchmarks.deid.corpus import Corpus, pixel_digest
from benchmarks.deid.images import UPTAKE_MINUTES
from benchmarks.deid.pictures import is_hidden
from benchmarks.deid.planting import walk

DCIODVFY = shutil.which("dciodvfy", path=f"{Path(sys.executable).parent}:/usr/bin")
_OUTCOMES = "outcomes.json"
_REFERENCED = 0x00081155
#: What an object says of having been de-identified (PS3.15 section E.1.1).
STAMPS = {
    "(0012,0062) YES": lambda ds: ds.get("PatientIdentityRemoved") == "YES",
    "(0012,0063)": lambda ds: bool(ds.get("DeidentificationMethod")),
    "(0012,0064) 113100": lambda ds: any(
        item.get("CodeValue") == "113100" for item in ds.get("DeidentificationMethodCodeSequence") or ()
    ),
    "(0028,0303)": lambda ds: bool(ds.get("LongitudinalTemporalInformationModified")),
}


@dataclass(frozen=True)
class Failure:
    """One check that failed."""

    file: str
    kind: str
    action: str
    tag_ds: str
    category: str
    wanted: str
    found: str


@dataclass
class Score:
    """What became of the corpus.

    Attributes
    ----------
    passed, total : checks by action and category.
    refused : reasons -> kind of object -> number of objects.
    leaks : file -> kinds of needles that its bytes spell.
    old_uids : file -> original UIDs in its bytes.
    uptakes : PET images, and those of which the minutes from injection to scan are what they were.
    references : how many references there are whose target was released, and how many resolve.
    unreadable : released files that cannot be read.
    errors : errors of dciodvfy that the input did not have, by text.
    """

    passed: Counter[tuple[str, str]] = field(default_factory=Counter)
    total: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    released: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    refused: dict[str, Counter[str]] = field(default_factory=dict)
    leaks: dict[str, list[str]] = field(default_factory=dict)
    old_uids: dict[str, list[str]] = field(default_factory=dict)
    uptakes: list[int] = field(default_factory=lambda: [0, 0])
    references: list[int] = field(default_factory=lambda: [0, 0])
    unreadable: list[str] = field(default_factory=list)
    stamps: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def share(self, actions: tuple[str, ...], *, without: tuple[str, ...] = ()) -> tuple[int, int]:
        """How many checks of these actions passed, and how many there are, of all categories but some."""
        chosen = [key for key in self.total if key[0] in actions and key[1] not in without]
        return sum(self.passed[key] for key in chosen), sum(self.total[key] for key in chosen)

    def categories(self) -> list[str]:
        """What sorts of places there are."""
        return sorted({category for _, category in self.total})


class Scorer:
    """Scores the outputs of one tool."""

    def __init__(self, corpus: Corpus, folder: Path, *, verify: bool = True, look: bool = True) -> None:
        """Take where a tool wrote; `verify` runs dciodvfy on all, `look` reads what is burned into pixels."""
        self._corpus, self._folder = corpus, folder
        self._verify, self._look = verify, look
        self._outcomes: dict[str, str] = json.loads((folder / _OUTCOMES).read_text())
        self._new: dict[tuple[str, str], str] = {}
        self._old: dict[tuple[str, str], str] = {}
        self.score = Score()

    def run(self) -> Score:
        """Score all."""
        released = []
        for entry in self._corpus.entries:
            self.score.objects[_group(entry)] += 1
            file, reason = self._folder / entry.file, self._outcomes.get(entry.file, "no outcome")
            if reason or not file.exists():
                self.score.refused.setdefault(reason or "nothing written", Counter())[_group(entry)] += 1
                continue
            released.append((entry, file.read_bytes()))
        self._resolve([self._one(entry, raw) for entry, raw in released], [entry for entry, _ in released])
        if self._verify:
            with ThreadPoolExecutor(2) as pool:
                for found in pool.map(self._new_errors, *zip(*released, strict=True)):
                    self.score.errors += found
        return self.score

    def _one(self, entry: Entry, raw: bytes) -> Dataset | None:
        """Check one object that was released."""
        score = self.score
        score.released[_group(entry)] += 1
        if found := scan.leaks(raw, entry.needles):
            score.leaks[entry.file] = found
        if old := scan.spelt(raw, entry.uids):
            score.old_uids[entry.file] = old
        ds = _read(raw)
        if ds is None:
            score.unreadable.append(entry.file)
            return None
        for answer in entry.answers:
            self._check(entry, answer, ds, raw)
        if entry.kind == "PET":
            score.uptakes[0] += 1
            score.uptakes[1] += _uptake_minutes(ds) == UPTAKE_MINUTES
        score.stamps.update(name for name, holds in STAMPS.items() if holds(ds))
        return ds

    def _check(self, entry: Entry, answer: Answer, ds: Dataset, raw: bytes) -> None:
        if answer.action == "pixels_hidden":
            if not self._look:
                return
            value, passed = "", is_hidden(self._corpus.path(entry).read_bytes(), raw, answer)
        elif answer.action == "pixels_retained":
            value = pixel_digest(raw)
            passed = value == answer.text
        else:
            value = value_at(ds, answer.path)
            passed = self._agrees(answer, value) if answer.action in CONSISTENCY else passes(answer, value)
        key = (answer.action, answer.category)
        self.score.total[key] += 1
        self.score.passed[key] += passed
        if not passed:
            shown = (entry.file, _group(entry), answer.action, answer.tag_ds, answer.category, answer.text, str(value))
            self.score.failures.append(Failure(*shown))

    def _agrees(self, answer: Answer, value: str | None) -> bool:
        """Whether an identifier became what it became elsewhere, and no other the same; a UID that is gone agrees."""
        if not value:
            return answer.action == "uid_consistent"
        new = self._new.setdefault((answer.action, answer.value), value)
        old = self._old.setdefault((answer.action, value), answer.value)
        return new == value and old == answer.value

    def _resolve(self, outputs: list[Dataset | None], entries: list[Entry]) -> None:
        """Count references between objects that were both released, and those that lead to the object's new name."""
        names = {
            one.instance_uid: str(ds.get("SOPInstanceUID")) for one, ds in zip(entries, outputs, strict=True) if ds
        }
        for entry, ds in zip(entries, outputs, strict=True):
            wanted = {names[uid] for uid in entry.references if uid in names}
            if ds is None or not wanted:
                continue
            found = {text_of(element.value) for path, element in walk(ds) if path[-1][0] == _REFERENCED}
            self.score.references[0] += len(wanted)
            self.score.references[1] += len(wanted & found)

    def _new_errors(self, entry: Entry, raw: bytes) -> Counter[str]:
        return errors(raw) - _errors_of_input(self._corpus.path(entry))


def _read(raw: bytes) -> Dataset | None:
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = dcmread(io.BytesIO(raw))
            for _ in ds.iterall():
                pass
    except Exception:  # noqa: BLE001 - whatever a tool wrote
        return None
    return ds


def _uptake_minutes(ds: Dataset) -> float | None:
    """The minutes between injection and scan, on which every standardized uptake value rests."""
    form = "%Y%m%d%H%M%S"
    try:
        dose = ds.RadiopharmaceuticalInformationSequence[0]
        injected = datetime.strptime(str(dose.RadiopharmaceuticalStartDateTime)[:14], form).replace(tzinfo=UTC)
        scanned = datetime.strptime(f"{ds.AcquisitionDate}{ds.AcquisitionTime}"[:14], form).replace(tzinfo=UTC)
    except (AttributeError, IndexError, ValueError):
        return None
    return (scanned - injected).total_seconds() / 60


def _group(entry: Entry) -> str:
    return "bundled with pydicom" if entry.kind.startswith("bundled") else entry.kind


@cache
def _errors_of_input(path: Path) -> Counter[str]:
    return errors(path.read_bytes())


def errors(raw: bytes) -> Counter[str]:
    """The errors that dciodvfy finds in a file, without the values that it quotes."""
    if DCIODVFY is None:
        return Counter()
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:  # it seeks
        file.write(raw)
        file.flush()
        run = subprocess.run([DCIODVFY, "-new", file.name], capture_output=True, check=False, timeout=60)
    lines = (run.stdout + run.stderr).decode("utf-8", "replace").splitlines()
    return Counter(re.sub(r"<.*?>|'.*?'", "", line) for line in lines if line.startswith("Error"))


def shares(score: Score, action: str) -> Mapping[str, tuple[int, int]]:
    """Passed and all checks of an action by category."""
    return {one: (score.passed[action, one], score.total[action, one]) for one in score.categories()}
