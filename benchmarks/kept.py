"""What each program measured, kept as JSON between runs, so that one can be run again without the others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.table import Outcome, Sheet, Table


@dataclass(frozen=True)
class Taken:
    """One run of one program: when, how long it took, on which machine, and what came of it or why nothing did."""

    program: str
    plan: str
    date: str
    minutes: float
    machine: Mapping[str, str]
    outcome: Outcome
    failure: str = ""

    def save(self, folder: Path) -> None:
        """Keep it in place of what was kept of this program."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = {"plan": self.plan, "date": self.date, "minutes": self.minutes, "machine": dict(self.machine)}
        kept |= {"outcome": self.outcome.as_json(), "failure": self.failure}
        (folder / f"{self.program}.json").write_text(json.dumps(kept, indent=1))


class Results:
    """What is kept of all programs of a plan."""

    def __init__(self, folder: Path, programs: tuple[str, ...]) -> None:
        """Read what is there, in the order of `programs`."""
        self.runs = [_load(path, name) for name in programs if (path := folder / f"{name}.json").exists()]
        outcomes = [run.outcome for run in self.runs]
        self.tables = [table for outcome in outcomes for table in outcome.tables]
        self.sheets = [sheet for outcome in outcomes for sheet in outcome.sheets]

    def table(self, title: str) -> Table:
        """The table whose title begins so; an empty one if it was not measured."""
        return next((table for table in self.tables if table.title.startswith(title)), Table(title, ""))

    def sheet(self, title: str) -> Sheet:
        """The sheet of this title; an empty one if it was not measured."""
        return next((sheet for sheet in self.sheets if sheet.title == title), Sheet(title, ()))


def _load(path: Path, program: str) -> Taken:
    kept = json.loads(path.read_text())
    return Taken(program, outcome=Outcome.of(kept.pop("outcome")), **kept)
