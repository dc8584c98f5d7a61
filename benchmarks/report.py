"""Tells what was measured: docs/performance.md, of the tables, of `guide.md` (how to read them) and of `notes.md`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.plan import Plan
from benchmarks.servers import Isthmus, Orthanc
from benchmarks.table import Table, counted

OURS, THEIRS = Isthmus().name, Orthanc().name
_HERE = Path(__file__).parent
_LATENCY = "p50_ms"
#: Closer to 1 than this a ratio says nothing: rounds on a quiet machine differ by as much.
_NOISE = 0.05
_BUSY = (
    "**The machine was busy with other work when this was taken** (load average {load}): rates and latencies are worse "
    "and less even than they would be alone; CPU times are affected least."
)


def document(plan: Plan, machine: Mapping[str, str], tables: Sequence[Table], minutes: float, memory: str) -> str:
    """The whole page; `memory` is its section of that name."""
    rounds = max(len(cell) for table in tables for cells in table.cells.values() for cell in cells.values())
    load = machine["Load average before the run"]
    parts = [
        "# Performance",
        f"Written by `make {'bench' if plan.name == 'full' else 'bench-quick'}` on {datetime.now(UTC):%Y-%m-%d}, in "
        f"{minutes:.0f} minutes, medians over {counted(rounds, 'round')}. Do not edit: the words are in "
        "`benchmarks/guide.md` and `benchmarks/notes.md`.",
        *([_BUSY.format(load=load)] if float(load.split(",")[0]) > 0.5 else []),
        "## Results",
        *(_section(table) for table in tables),
        "### CPU time of the server, milliseconds an instance or answer",
        _cpu(tables),
        "### Start and memory",
        _costs(tables),
        *_skipped(tables),
        memory,
        _behind(tables),
        (_HERE / "notes.md").read_text().strip(),
        (_HERE / "guide.md").read_text().strip(),
        "## The machine",
        _markdown(["", ""], machine.items(), align="---"),
    ]
    return "\n\n".join(parts) + "\n"


def _section(table: Table) -> str:
    servers = _servers([table])
    limits = [column for column in table.columns if column not in servers]
    rows = []
    for row in table.rows:
        ratio = _ratio(table.median(row, OURS), table.median(row, THEIRS), less_is_better=table.value == _LATENCY)
        cells = {column: _cell(table, row, column) for column in table.columns}
        rows.append([row, *map(cells.get, servers), _shown(ratio), *map(cells.get, limits)])
    return f"### {table.title}: {table.unit}\n\n" + _markdown(["", *servers, "ratio", *limits], rows)


def _cell(table: Table, row: str, column: str) -> str:
    middle = table.median(row, column)
    if middle is None or table.value != _LATENCY:
        return _shown(middle)
    return f"{_shown(middle)} / {_shown(table.median(row, column, 'p99_ms'))}"


def _ratio(ours: float | None, theirs: float | None, *, less_is_better: bool) -> float | None:
    """How many times better Isthmus is than Orthanc: above 1 it is ahead."""
    if not ours or not theirs:
        return None
    return theirs / ours if less_is_better else ours / theirs


def _servers(tables: Sequence[Table]) -> list[str]:
    """The columns that are servers, not limits of the machine; Orthanc last."""
    names = dict.fromkeys(name for table in tables for name in table.columns)
    return sorted((name for name in names if name.startswith(("Isthmus", "Orthanc"))), key=lambda name: name == THEIRS)


def _cpu(tables: Sequence[Table]) -> str:
    columns = _servers(tables)
    rows = []
    for table in tables[:2]:
        for row in table.rows:
            cells = {column: table.median(row, column, "cpu_ms") for column in columns}
            ratio = _ratio(cells.get(OURS), cells.get(THEIRS), less_is_better=True)
            rows.append([row, *(_shown(cells[column]) for column in columns), _shown(ratio)])
    return _markdown(["", *columns, "ratio"], rows)


def _costs(tables: Sequence[Table]) -> str:
    columns = _servers(tables)
    store, read = tables[0].costs, tables[1].costs
    rows = []
    for name, cost in (("ready after, seconds", store), ("ready again after, with data, seconds", read)):
        values = {one: statistics.median(cost[one].started_s) for one in columns if one in cost}
        rows.append([name, *(_shown(values.get(one)) for one in columns)])
    for name, cost in (("peak memory while storing, MB", store), ("peak memory while reading, MB", read)):
        values = {one: max(cost[one].peak_rss_bytes) / 1e6 for one in columns if one in cost}
        rows.append([name, *(_shown(values.get(one)) for one in columns)])
    return _markdown(["", *columns], rows)


def _skipped(tables: Sequence[Table]) -> list[str]:
    lines = [f"- {name}: {reason}." for table in tables for name, reason in table.skipped.items()]
    return ["### Not measured", "\n".join(lines)] if lines else []


def _behind(tables: Sequence[Table]) -> str:
    """Every row where Orthanc is ahead, worst first."""
    found = []
    for table in tables:
        for row in table.rows:
            ratio = _ratio(table.median(row, OURS), table.median(row, THEIRS), less_is_better=table.value == _LATENCY)
            if ratio is not None and ratio < 1 - _NOISE:
                found.append((ratio, f"- {row} ({table.title}): {ratio:.2f}."))
    return "## Where Isthmus is behind\n\n" + ("\n".join(line for _, line in sorted(found)) or "In no row of this run.")


def _shown(value: float | None) -> str:
    """Three digits that mean something; nothing where nothing was measured."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "---:") -> str:
    lines = [head, ["---", *[align] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
