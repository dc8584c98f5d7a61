"""Tells what was measured: docs/performance.md, of the results, of `guide.md` (how to read them) and of `notes.md`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import read, store, targets
from benchmarks.kept import Results, Taken
from benchmarks.machine import LOAD
from benchmarks.table import Figure, Sheet, Table
from benchmarks.targets import THEIRS, TWO, Met

_HERE = Path(__file__).parent
_LATENCY = "p50_ms"
#: Closer to 1 than this a ratio says nothing: rounds on a quiet machine differ by as much.
_NOISE = 0.05
_BUSY_LOAD = 0.5
_BUSY = (
    "**The machine was busy with other work when some of this was taken** (load averages are below): rates and "
    "latencies are worse and less even than they would be alone; CPU times are affected least."
)
_OPENING = (
    "Written by `make {target}`. Do not edit: the words are in `benchmarks/guide.md` and `benchmarks/notes.md`. "
    "Isthmus beside Orthanc on the same machine in the same run, medians over alternating rounds."
)


def document(results: Results, plan: str, drawn: Mapping[str, str], folder: str) -> str:
    """The whole page; `drawn` are plots by file name below `folder`, with their words."""
    plots = {name: f"![{words}]({folder}/{name})\n\n*{words}.*" for name, words in drawn.items()}
    loads = [float(run.machine[LOAD].split(",")[0]) for run in results.runs]
    parts = [
        "# Performance",
        _OPENING.format(target="bench" if plan == "full" else "bench-quick"),
        *([_BUSY] if max(loads, default=0) > _BUSY_LOAD else []),
        "## Targets",
        *_targets(results),
        plots.get("targets.svg", ""),
        "## Results",
        *(_table(table) for table in results.tables),
        plots.get("latency.svg", ""),
        "### CPU time, milliseconds an instance or answer",
        _cpu(results),
        *(_sheet(sheet) for sheet in results.sheets),
        plots.get("growth.svg", ""),
        "### Start and peak memory of the tables",
        _costs(results),
        *_skipped(results),
        _behind(results),
        (_HERE / "notes.md").read_text().strip(),
        (_HERE / "guide.md").read_text().strip(),
        "## When and where",
        _runs(results.runs),
        _markdown(["", ""], _machine(results.runs), align="---"),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _targets(results: Results) -> Iterator[str]:
    heads = ["answers or instances a second, a study in MB/s", "1 worker", "2 workers", "Orthanc"]
    heads += ["ratio, 1 / 2 workers", "asked", "of nginx, 1 / 2 workers", "asked", "met, 1 / 2 workers"]
    yield _markdown(heads, map(_ratio_row, targets.ratios(results)))
    rows = [
        [most.name, _shown(found) + (most.unit if found is not None else ""), f"≤ {most.most:g}{most.unit}",
         "not measured" if found is None else _yes(float(found) <= most.most)]
        for most, found in targets.figures(results)
    ]  # fmt: skip
    yield _markdown(["", "measured", "asked", "met"], rows)


def _ratio_row(met: Met) -> list[str]:
    asked = met.target
    share = f"≥ {asked.share:.0%}" if asked.share else ""
    row = [asked.name, *map(_shown, met.rates), _shown(met.theirs)]
    row += [_pair(met.ratios, "{:.2f}"), f"≥ {asked.times:g}", _pair(met.shares, "{:.0%}"), share]
    verdicts = [_yes(one >= 1) if one is not None else "" for one in met.reached]
    return [*row, " / ".join(filter(None, verdicts)) or "not measured"]


def _yes(met: bool) -> str:
    return "yes" if met else "**no**"


def _pair(values: Sequence[float | None], form: str) -> str:
    return " / ".join(form.format(value) for value in values if value is not None)


def _table(table: Table) -> str:
    servers = _servers([table])
    limits = [column for column in table.columns if column not in servers]
    rows = []
    for row in table.rows:
        ratio = _ratio(table.median(row, TWO), table.median(row, THEIRS), less_is_better=table.value == _LATENCY)
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


def _sheet(sheet: Sheet) -> str:
    rows = [[name, *map(_shown, figures)] for name, figures in sheet.rows.items()]
    return "\n\n".join(filter(None, [f"### {sheet.title}", sheet.words, _markdown(["", *sheet.heads], rows)]))


def _servers(tables: Sequence[Table]) -> list[str]:
    """The columns that are servers, not limits of the machine; Orthanc last."""
    names = dict.fromkeys(name for table in tables for name in table.columns)
    return sorted((name for name in names if name.startswith(("Isthmus", "Orthanc"))), key=lambda name: name == THEIRS)


def _cpu(results: Results) -> str:
    """Of the servers, and of the client beside Isthmus: it shares the cores."""
    tables = [results.table(title) for title in (store.TITLE, read.RATES, read.STUDIES)]
    columns = _servers(tables)
    rows = []
    for table in tables:
        for row in table.rows:
            cells = {column: table.median(row, column, "cpu_ms") for column in columns}
            ratio = _ratio(cells.get(TWO), cells.get(THEIRS), less_is_better=True)
            client = table.median(row, TWO, "client_ms")
            rows.append([row, *(_shown(cells[column]) for column in columns), _shown(ratio), _shown(client)])
    return _markdown(["", *columns, "ratio", "the client"], rows)


def _costs(results: Results) -> str:
    tables = [results.table(title) for title in (store.TITLE, read.RATES)]
    columns = _servers(tables)
    rows = []
    for name, table in zip(("ready after, on new folders, s", "ready again after, with data, s"), tables, strict=True):
        cells = [statistics.median(table.costs[one].started_s) if one in table.costs else None for one in columns]
        rows.append([name, *map(_shown, cells)])
    for name, table in zip(("peak memory while storing, MB", "peak memory while reading, MB"), tables, strict=True):
        cells = [max(table.costs[one].peak_rss_bytes) / 1e6 if one in table.costs else None for one in columns]
        rows.append([name, *map(_shown, cells)])
    return _markdown(["", *columns], rows)


def _skipped(results: Results) -> list[str]:
    lines = [f"- {name}: {reason}." for table in results.tables for name, reason in table.skipped.items()]
    lines += [f"- The program `{run.program}` failed: {run.failure}." for run in results.runs if run.failure]
    return ["### Not measured", "\n".join(lines)] if lines else []


def _behind(results: Results) -> str:
    """Every row where Orthanc is ahead, worst first."""
    found = []
    for table in results.tables:
        for row in table.rows:
            ratio = _ratio(table.median(row, TWO), table.median(row, THEIRS), less_is_better=table.value == _LATENCY)
            if ratio is not None and ratio < 1 - _NOISE:
                found.append((ratio, f"- {row} ({table.title}): {ratio:.2f}."))
    return "## Where Isthmus is behind\n\n" + ("\n".join(line for _, line in sorted(found)) or "In no row.")


def _runs(runs: Sequence[Taken]) -> str:
    rows = [[run.program, run.date, f"{run.minutes:.1f}", run.machine[LOAD], run.machine["Isthmus"]] for run in runs]
    return _markdown(["program", "date", "minutes", "load average before", "Isthmus"], rows, align="---")


def _machine(runs: Sequence[Taken]) -> list[tuple[str, str]]:
    """The facts of the last run; what differs from run to run is said with each."""
    facts = runs[-1].machine if runs else {}
    return [(name, fact) for name, fact in facts.items() if name not in (LOAD, "Isthmus")]


def _shown(value: Figure) -> str:
    """Three digits that mean something; nothing where nothing was measured."""
    if value is None or isinstance(value, str):
        return value or ""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "---:") -> str:
    lines = [head, ["---", *[align] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
