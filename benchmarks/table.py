"""A table of measurements: rows by what is asked, columns by who answers, each cell the rounds that were measured."""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass, field

from benchmarks.load import Measurement
from benchmarks.servers import Server


@dataclass
class Cost:
    """What a server took to start and the most memory that it used."""

    started_s: list[float] = field(default_factory=list)
    peak_rss_bytes: list[int] = field(default_factory=list)


@dataclass
class Table:
    """Measurements by row and column.

    `value` names the field of a measurement that the table is about, in `unit`; `skipped` says why a column or a row
    could not be measured.
    """

    title: str
    unit: str
    value: str = "rate"
    cells: dict[str, dict[str, list[Measurement]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    costs: dict[str, Cost] = field(default_factory=lambda: defaultdict(Cost))
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, row: str, column: str, measurement: Measurement) -> None:
        """Add a round's measurement, and say so."""
        self.cells[row][column].append(measurement)
        print(f"{self.title}: {row}: {column}: {getattr(measurement, self.value):.1f}", file=sys.stderr, flush=True)

    def add_cost(self, server: Server) -> None:
        """Note what a server took, once it is measured."""
        cost = self.costs[server.name]
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
        found = [getattr(one, value or self.value) for one in self.cells[row].get(column, [])]
        return statistics.median(found) if found and None not in found else None

    def as_json(self) -> dict:
        """All that was measured, round by round."""
        return {
            "title": self.title,
            "unit": self.unit,
            "cells": {
                row: {column: [asdict(one) for one in rounds] for column, rounds in cells.items()}
                for row, cells in self.cells.items()
            },
            "costs": {name: asdict(cost) for name, cost in self.costs.items()},
            "skipped": self.skipped,
        }


def counted(number: int, noun: str) -> str:
    """`1 connection`, `4 connections`."""
    return f"{number} {noun}{'s' * (number != 1)}"
