"""Plots beside the page: small SVG files with text as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import growth, read, targets
from benchmarks.kept import Results
from benchmarks.table import Sheet, Table

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "isthmus",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
_ACROSS = 3  # plots of latencies beside each other
_GROWTH_PARTS = (
    ("searching", [search.name for search in growth.SEARCHES]),
    ("reading and storing", growth.OTHERS),
)


def draw(results: Results, folder: Path) -> dict[str, str]:
    """Draw what was measured; gives the words for each file that was written."""
    import matplotlib as mpl

    mpl.use("svg")
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, str] = {}
    with mpl.rc_context(_STYLE):
        met = [(one.target.name, one.reached[1]) for one in targets.ratios(results) if one.reached[1]]
        if met:
            _targets(met, folder / "targets.svg")
            drawn["targets.svg"] = "What was reached of what is asked, with 2 workers; from the line on it is met"
        if (sheet := results.sheet(growth.TITLE)).rows:
            _growth(sheet, folder / "growth.svg")
            drawn["growth.svg"] = "p50 (dashed) and p99 as the catalogue grows"
        if (table := results.table(read.LATENCIES)).rows:
            _latencies(table, folder / "latency.svg")
            drawn["latency.svg"] = "p50 (dashed) and p99 by connections"
    return drawn


def _targets(met: Sequence[tuple[str, float]], path: Path) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.5 + 0.28 * len(met)))
    names, values = zip(*reversed(met), strict=True)
    bars = axes.barh(names, values, color=["#2a7f62" if value >= 1 else "#c0562f" for value in values])
    axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("of what is asked")
    _save(figure, path)


def _growth(sheet: Sheet, path: Path) -> None:
    from matplotlib import pyplot as plt

    heads = [head for head in sheet.heads if head.endswith(": p99")]
    sizes = [int(head.partition(":")[0].replace(",", "")) for head in heads]
    figure, parts = plt.subplots(1, 2, figsize=(11, 5.5), sharey=True)
    for axes, (title, names) in zip(parts, _GROWTH_PARTS, strict=True):
        for color, name in enumerate(name for name in names if name in sheet.rows):
            p99 = [sheet.figure(name, head) for head in heads]
            p50 = [sheet.figure(name, head.replace("p99", "p50")) for head in heads]
            marker = "osv"[color // 10]
            axes.plot(sizes, p99, f"C{color % 10}", marker=marker, markersize=4, label=name)
            axes.plot(sizes, p50, f"C{color % 10}", linestyle="--", linewidth=0.8)
        _log(axes, sizes)
        axes.set(xlabel="instances in the catalogue", title=title)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=7)
    parts[0].set_ylabel("milliseconds")
    _save(figure, path)


def _latencies(table: Table, path: Path) -> None:
    from matplotlib import pyplot as plt

    rows = list(dict.fromkeys(row.rpartition("; ")[0] for row in table.rows))
    lines = -(-len(rows) // _ACROSS)
    figure, parts = plt.subplots(lines, _ACROSS, figsize=(10, 3.2 * lines), sharey=True, squeeze=False)
    for empty in parts.flat[len(rows) :]:
        empty.set_visible(False)
    columns = [column for column in (targets.ONE, targets.TWO, targets.THEIRS) if column in table.columns]
    for axes, row in zip(parts.flat, rows, strict=False):
        for color, column in enumerate(columns):
            for value, line in (("p99_ms", "-"), ("p50_ms", "--")):
                points = list(_points(table, row, column, value))
                label = column if value == "p99_ms" else None
                axes.plot(
                    *zip(*points, strict=True), f"C{color}", linestyle=line, marker="o", markersize=3, label=label
                )
        _log(axes, read.LEVELS)
        axes.set_xlabel("connections")
        axes.set_title(row, fontsize=8)
    for line in parts:
        line[0].set_ylabel("milliseconds")
    parts[0][0].legend(fontsize=7)
    _save(figure, path)


def _points(table: Table, row: str, column: str, value: str) -> Iterator[tuple[int, float]]:
    for level in read.LEVELS:
        found = table.median(read.latency_row(row, level), column, value)
        if found is not None:
            yield level, found


def _log(axes, sizes: Sequence[int]) -> None:
    """Both axes logarithmic, with plain numbers."""
    axes.set(xscale="log", yscale="log")
    axes.minorticks_off()
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.yaxis.set_major_formatter("{x:g}")


def _save(figure, path: Path) -> None:
    from matplotlib import pyplot as plt

    metadata: Mapping = {"Date": None}
    figure.savefig(path, metadata=metadata)
    plt.close(figure)
