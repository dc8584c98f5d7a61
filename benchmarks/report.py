"""Tells what was measured: docs/performance.md, of the tables, of `guide.md` (how to read them) and of `notes.md`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.plan import Plan
from benchmarks.servers import Isthmus, Orthanc
from benchmarks.table import Table

OURS, THEIRS = Isthmus().name, Orthanc().name
_HERE = Path(__file__).parent
_LATENCY = "p50_ms"
#: Closer to 1 than this a ratio says nothing: rounds on a quiet machine differ by as much.
_NOISE = 0.05


def document(plan: Plan, machine: Mapping[str, str], tables: Sequence[Table], minutes: float) -> str:
    """The whole page."""
    rounds = max(len(cell) for table in tables for cells in table.cells.values() for cell in cells.values())
    parts = [
        "# Performance",
        f"Written by `make {'bench' if plan.name == 'full' else 'bench-quick'}` on {datetime.now(UTC):%Y-%m-%d}, in "
        f"{minutes:.0f} minutes, medians over {rounds} round{'s' * (rounds > 1)}. Do not edit: the words are in "
        "`benchmarks/guide.md` and `benchmarks/notes.md`.",
        "## Results",
        *(_section(table) for table in tables),
        "### CPU time of the server, milliseconds an instance or answer",
        _grid("", [_cpu_row(table, row) for table in tables[:2] for row in table.rows], _servers(tables)),
        "### Start and memory",
        _costs(tables),
        *_skipped(tables),
        _behind(tables),
        (_HERE / "notes.md").read_text().strip(),
        (_HERE / "guide.md").read_text().strip(),
        "## The machine",
        _markdown(["", ""], machine.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _section(table: Table) -> str:
    rows = [
        [row, *(_cell(table, row, column) for column in table.columns), _ratio_text(table, row)] for row in table.rows
    ]
    return f"### {table.title}: {table.unit}\n\n" + _markdown(["", *table.columns, "ratio"], rows)


def _cell(table: Table, row: str, column: str) -> str:
    middle = table.median(row, column)
    if middle is None:
        return ""
    if table.value != _LATENCY:
        return number(middle)
    return f"{number(middle)} / {number(table.median(row, column, 'p99_ms') or 0)}"


def ratio(table: Table, row: str) -> float | None:
    """How many times better Isthmus is than Orthanc: above 1 it is ahead, of a rate as of a latency."""
    ours, theirs = table.median(row, OURS), table.median(row, THEIRS)
    if not ours or not theirs:
        return None
    return theirs / ours if table.value == _LATENCY else ours / theirs


def _ratio_text(table: Table, row: str) -> str:
    value = ratio(table, row)
    return "" if value is None else f"{value:.2f}"


def _servers(tables: Sequence[Table]) -> list[str]:
    """The columns that are servers, not limits of the machine."""
    return list(
        dict.fromkeys(name for table in tables for name in table.columns if name.startswith((OURS[:7], THEIRS)))
    )


def _cpu_row(table: Table, row: str) -> tuple[str, dict[str, float | None]]:
    return row, {column: table.median(row, column, "cpu_ms") for column in table.columns}


def _grid(corner: str, rows: Iterable[tuple[str, Mapping[str, float | None]]], columns: Sequence[str]) -> str:
    """Rows of numbers, empty where there is none."""
    lines = []
    for name, cells in rows:
        values = [cells.get(column) for column in columns]
        lines.append([name, *("" if value is None else number(value) for value in values)])
    return _markdown([corner, *columns], lines)


def _costs(tables: Sequence[Table]) -> str:
    columns = _servers(tables)
    store, read = tables[0].costs, tables[1].costs
    rows = []
    for name, cost in (("ready after, seconds", store), ("ready again after, with data, seconds", read)):
        rows.append((name, {column: statistics.median(cost[column].started_s) for column in columns if column in cost}))
    for name, cost in (("peak memory while storing, MB", store), ("peak memory while reading, MB", read)):
        rows.append((name, {one: max(cost[one].peak_rss_bytes) / 1e6 for one in columns if one in cost}))
    return _grid("", rows, columns)


def _skipped(tables: Sequence[Table]) -> list[str]:
    lines = [f"- {name}: {reason}." for table in tables for name, reason in table.skipped.items()]
    return ["### Not measured", "\n".join(lines)] if lines else []


def _behind(tables: Sequence[Table]) -> str:
    """Every row where Orthanc is ahead, worst first."""
    found = [(value, table, row) for table in tables for row in table.rows if (value := ratio(table, row)) is not None]
    lines = [
        f"- {row} ({table.title}): {value:.2f}."
        for value, table, row in sorted(found, key=lambda one: one[0])
        if value < 1 - _NOISE
    ]
    return "## Where Isthmus is behind\n\n" + ("\n".join(lines) or "In no row of this run.")


def number(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
