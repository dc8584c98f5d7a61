"""What the programs give: tables of servers beside each other, and sheets of figures of Isthmus alone."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.load import Measurement
from benchmarks.servers import Server

#: A figure of a sheet; None where it could not be taken.
Figure = float | str | None


@dataclass
class Cost:
    """What a server took to start and the most memory that it used."""

    started_s: list[float] = field(default_factory=list)
    peak_rss_bytes: list[int] = field(default_factory=list)


@dataclass
class Table:
    """Measurements by row and column: what is asked, and who answers; each cell holds the rounds that were measured.

    `value` names the field of a measurement that the table is about, in `unit`; `skipped` says why a column or a row
    could not be measured.
    """

    title: str
    unit: str
    value: str = "rate"
    cells: dict[str, dict[str, list[Measurement]]] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, row: str, column: str, measurement: Measurement) -> None:
        """Add a round's measurement, and say so."""
        self.cells.setdefault(row, {}).setdefault(column, []).append(measurement)
        print(f"{self.title}: {row}: {column}: {getattr(measurement, self.value):.1f}", file=sys.stderr, flush=True)

    def add_cost(self, server: Server) -> None:
        """Note what a server took, once it is measured."""
        cost = self.costs.setdefault(server.name, Cost())
        cost.started_s.append(server.started_s)
        cost.peak_rss_bytes.append(server.tree.peak_rss_bytes)

    @property
    def rows(self) -> list[str]:
        """Names of the rows, in the order they were measured."""
        return list(self.cells)

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in the order they were measured."""
        return list(dict.fromkeys(column for cells in self.cells.values() for column in cells))

    def median(self, row: str, column: str, value: str = "") -> float | None:
        """The median over the rounds of a field of a cell, of `self.value` by default; None if it was not measured."""
        rounds = self.cells.get(row, {}).get(column, [])
        found = [getattr(one, value or self.value) for one in rounds]
        return statistics.median(found) if found and None not in found else None

    @classmethod
    def of(cls, kept: Mapping) -> Table:
        """The table that was kept as JSON."""
        table = cls(kept["title"], kept["unit"], kept["value"], skipped=kept["skipped"])
        for row, cells in kept["cells"].items():
            for column, rounds in cells.items():
                table.cells.setdefault(row, {})[column] = [Measurement(**one) for one in rounds]
        for name, cost in kept["costs"].items():
            table.costs[name] = Cost(**cost)
        return table


@dataclass
class Sheet:
    """Figures by row and head, with the words that explain them."""

    title: str
    heads: Sequence[str]
    words: str = ""
    rows: dict[str, list[Figure]] = field(default_factory=dict)

    def add(self, row: str, figures: Iterable[Figure]) -> None:
        """Add a row, and say so."""
        self.rows[row] = list(figures)
        told = ", ".join(f"{head} {figure}" for head, figure in zip(self.heads, self.rows[row], strict=True))
        print(f"{self.title}: {row}: {told}", file=sys.stderr, flush=True)

    def figure(self, row: str, head: str) -> Figure:
        """One figure; None if it was not taken."""
        return self.rows[row][list(self.heads).index(head)] if row in self.rows and head in self.heads else None


@dataclass
class Outcome:
    """All that one program measured."""

    tables: list[Table] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)

    def as_json(self) -> dict:
        """All of it, round by round."""
        return {"tables": [asdict(one) for one in self.tables], "sheets": [asdict(one) for one in self.sheets]}

    @classmethod
    def of(cls, kept: Mapping) -> Outcome:
        """What was kept as JSON."""
        return cls([Table.of(one) for one in kept["tables"]], [Sheet(**one) for one in kept["sheets"]])


def counted(number: int, noun: str) -> str:
    """`1 connection`, `4 connections`."""
    return f"{number} {noun}{'s' * (number != 1)}"
