"""Tells what was found: docs/deidentification-benchmark.md, of the results and of `guide.md`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.deid import throughput, tools
from benchmarks.deid.answers import CONSISTENCY, PRIVACY, UTILITY
from benchmarks.deid.canaries import COUNT
from benchmarks.deid.probes import Probes
from benchmarks.deid.score import STAMPS, Score

#: Not asked of a profile without the option.
SAFE_PRIVATE = "private, safe"
MIN_UTILITY, MIN_ACTIONS = 99.5, 99.9
_MAX_SHOWN = 12
_ABBREVIATED = 60


@dataclass
class CanaryResult:
    """What became of the nine objects with a tool: leaks by group, and the objects that were released."""

    leaked: Counter[str] = field(default_factory=Counter)
    released: list[str] = field(default_factory=list)


@dataclass
class Results:
    """All that one run found; what was not measured is empty."""

    date: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)
    canaries: dict[str, CanaryResult] = field(default_factory=dict)
    groups: Counter[str] = field(default_factory=Counter)
    outside: dict[str, tuple[int, int]] = field(default_factory=dict)
    probes: Probes | None = None
    pace: throughput.Pace | None = None


def document(results: Results) -> str:
    """The whole page."""
    here = Path(__file__).parent
    parts = [
        "# De-identification, measured",
        "Written by `make bench-deid`. Do not edit: the words are in `benchmarks/deid/guide.md`. Identity that was "
        "planted in every place where it hides, and what is left of it: Isthmus beside other tools, on the same files.",
        "## Summary",
        _table(["", *results.scores], _summary(results)),
        "## Where Isthmus falls short",
        "\n".join(f"- {line}" for line in _short(results)) or "In nothing that was measured.",
        "## Checks by sort of place: passed / all",
        *(_by_category(results, actions, name) for name, actions in _SORTS.items()),
        "## Released and refused objects",
        _table(["kind", "objects", *results.scores], _released(results)),
        _refusals(results),
        f"## {COUNT} canaries in nine objects: how many leak",
        _table(["group", "planted", *results.canaries], _canaries(results)),
        "## Outside of objects",
        _outside(results),
        "## Without the key",
        _probed(results.probes),
        "## Throughput of one core: objects a second",
        *_pace(results.pace),
        (here / "guide.md").read_text(encoding="utf-8").strip(),
        "## When and where",
        _table(["", ""], [["Date", results.date], *map(list, results.facts.items())]),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


_SORTS = {
    "Identity removed": ("text_removed",),
    "Dates shifted": ("date_shifted",),
    "UIDs changed": ("uid_changed",),
    "Burned-in text hidden": ("pixels_hidden",),
    "Text, numbers and pixels retained": UTILITY,
    "Identifiers consistent": CONSISTENCY,
}


def _summary(results: Results) -> Iterable[list[str]]:
    scores = list(results.scores.values())

    def row(name: str, cells: Iterable[str]) -> list[str]:
        return [name, *cells]

    yield row("objects released", (f"{sum(s.released.values())} of {sum(s.objects.values())}" for s in scores))
    yield row("**privacy**: identity, dates, UIDs, pixels (must be 100 %)", (_share(s, PRIVACY) for s in scores))
    yield row(f"**utility**: retained (≥ {MIN_UTILITY} %)", (_share(s, UTILITY) for s in scores))
    yield row("**consistency** of UIDs and patients (100 %)", (_share(s, CONSISTENCY) for s in scores))
    yield row(f"all actions (≥ {MIN_ACTIONS} %)", (_share(s, (*PRIVACY, *UTILITY, *CONSISTENCY)) for s in scores))
    yield row("references that resolve (all)", (f"{s.references[1]} of {s.references[0]}" for s in scores))
    yield row("PET: minutes from injection to scan as they were", (f"{s.uptakes[1]} of {s.uptakes[0]}" for s in scores))
    yield row("objects whose bytes hold identity (0)", (str(len(s.leaks)) for s in scores))
    yield row("objects whose bytes hold an original UID (0)", (str(len(s.old_uids)) for s in scores))
    yield row("errors of dciodvfy that are new (0)", (str(sum(s.errors.values())) for s in scores))
    yield row("objects that cannot be read any more", (str(len(s.unreadable)) for s in scores))
    for stamp in STAMPS:
        yield row(f"stamped {stamp}", (f"{s.stamps[stamp]} of {sum(s.released.values())}" for s in scores))
    if results.canaries:
        found = [results.canaries.get(name, CanaryResult()) for name in results.scores]
        yield row(f"canaries that leak, of {COUNT} (0)", (str(sum(one.leaked.values())) for one in found))


def _share(score: Score, actions: tuple[str, ...]) -> str:
    passed, total = score.share(actions, without=(SAFE_PRIVATE,))
    return f"{percent(passed, total)} ({passed} / {total})"


def percent(passed: int, total: int) -> str:
    """Rounded down, so that 100 % means all."""
    return f"{int(10_000 * passed / total) / 100:.2f} %" if total else "-"


def _by_category(results: Results, actions: tuple[str, ...], name: str) -> str:
    categories = sorted({c for score in results.scores.values() for a, c in score.total if a in actions})
    rows = []
    for category in categories:
        cells = []
        for score in results.scores.values():
            passed = sum(score.passed[action, category] for action in actions)
            total = sum(score.total[action, category] for action in actions)
            cells.append("" if not total else f"{passed} / {total}" if passed == total else f"**{passed}** / {total}")
        rows.append([category, *cells])
    return f"### {name}\n\n" + _table(["", *results.scores], rows) if rows else ""


def _released(results: Results) -> Iterable[list[str]]:
    some = next(iter(results.scores.values()), Score())
    for kind, count in sorted(some.objects.items()):
        yield [kind, str(count), *(str(score.released[kind]) for score in results.scores.values())]


def _refusals(results: Results) -> str:
    rows = []
    for tool, score in results.scores.items():
        for reason, kinds in sorted(score.refused.items()):
            told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            rows.append([tool, reason, told])
    return _table(["tool", "reason", "objects"], rows) if rows else ""


def _canaries(results: Results) -> Iterable[list[str]]:
    found = list(results.canaries.values())
    for group, count in sorted(results.groups.items()):
        yield [group, str(count), *(str(one.leaked[group]) for one in found)]
    yield ["**all**", str(COUNT), *(f"**{sum(one.leaked.values())}**" for one in found)]
    yield ["objects released", "9", *(str(len(one.released)) for one in found)]


def _outside(results: Results) -> str:
    if not results.outside:
        return "Not measured in this run."
    words = (
        "A gateway at log level debug took a person in by DIMSE, DICOMweb and import, well and badly formed; then all "
        "that it kept or said was searched."
    )
    rows = [[category, str(count), str(leaking)] for category, (count, leaking) in results.outside.items()]
    return f"{words}\n\n" + _table(["sort of place", "searched", "with identity (0)"], rows)


def _probed(probes: Probes | None) -> str:
    if probes is None:
        return "Not measured in this run."
    rows = [
        ["guesses of pseudonyms and UIDs from all originals, by unkeyed hashes", f"{probes.guesses:,}"],
        ["of these in the output (0)", str(probes.hits)],
        ["pseudonyms and UIDs that outputs under two keys share (0)", str(probes.shared)],
        ["objects that a second process made again with the same key", str(probes.compared)],
        ["of these with other bytes (0)", str(probes.different)],
    ]
    return _table(["", ""], rows)


def _pace(pace: throughput.Pace | None) -> Iterable[str]:
    if pace is None:
        yield "Not measured in this run."
        return
    rows = []
    for sample, count in pace.files.items():
        cells = []
        for tool in throughput.COLUMNS:
            rate, made = pace.rate(sample, tool), pace.made[sample].get(tool, 0)
            cells.append("" if rate is None else f"{rate:.0f}" + (f" ({made} made)" if made < count else ""))
        rows.append([sample, *cells])
    yield _table(["sample", *throughput.COLUMNS], rows)
    ratios = [
        [tool, *(_ratio(pace, sample, tool) for sample in pace.files)]
        for tool in tools.PEERS
        if tool in pace.rates[throughput.BAR]
    ]
    if ratios:
        yield f"Isthmus, files to files, is so many times as fast (asked: {throughput.MIN_RATIO} on {throughput.BAR}):"
        yield _table(["", *pace.files], ratios)


def _ratio(pace: throughput.Pace, sample: str, tool: str) -> str:
    ours, theirs = pace.rate(sample, throughput.FILES), pace.rate(sample, tool)
    return f"{ours / theirs:.1f}" if ours and theirs else "-"


def _short(results: Results) -> Iterable[str]:
    """Every bar that is missed, and the checks that failed."""
    for tool in tools.PROFILES:
        score = results.scores.get(tool)
        if score is not None:
            yield from (f"{tool}: {line}" for line in _missed(score))
    for tool in tools.PROFILES:
        if found := results.canaries.get(tool):
            yield from (f"{tool}: {n} canaries of {group} leak." for group, n in found.leaked.items())
    yield from (f"{category}: identity in {n} places." for category, (_, n) in results.outside.items() if n)
    if (probes := results.probes) and (probes.hits or probes.shared or probes.different):
        yield "Without the key: see the table below."
    if results.pace is not None:
        yield from _slow(results.pace)


def _missed(score: Score) -> Iterable[str]:
    passed, total = score.share(UTILITY, without=(SAFE_PRIVATE,))
    if 100 * passed < MIN_UTILITY * total:
        yield f"utility is {percent(passed, total)}."
    seen = Counter((one.action, one.category, one.kind, one.tag_ds.split("]")[-1]) for one in score.failures)
    failed = [(key, n) for key, n in seen.most_common() if key[1] != SAFE_PRIVATE]
    for (action, category, kind, tag), count in failed[:_MAX_SHOWN]:
        yield f"{action} ({category}) fails {count} times in {kind}, {tag.strip('<>')}."
    if len(failed) > _MAX_SHOWN:
        yield f"{sum(n for _, n in failed[_MAX_SHOWN:])} further checks fail."
    if score.leaks:
        kinds = Counter(kind for found in score.leaks.values() for kind in found)
        told = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())
        yield f"bytes of {len(score.leaks)} objects hold identity: {told}."
    if score.old_uids:
        yield f"bytes of {len(score.old_uids)} objects hold an original UID."
    if score.references[0] != score.references[1]:
        yield f"{score.references[0] - score.references[1]} references do not resolve."
    for error, count in score.errors.most_common(_MAX_SHOWN):
        yield f"new in dciodvfy, {count} times: {error[: _ABBREVIATED * 2]}"


def _slow(pace: throughput.Pace) -> Iterable[str]:
    rate = pace.rate(throughput.BAR, throughput.FILES) or 0
    if rate < throughput.MIN_RATE:
        yield f"{rate:.0f} objects a second of {throughput.BAR}; {throughput.MIN_RATE} are asked."
    for tool in throughput.SLOWER:
        theirs = pace.rate(throughput.BAR, tool)
        if theirs and rate / theirs < throughput.MIN_RATIO:
            yield f"{rate / theirs:.1f} times as fast as {tool} on {throughput.BAR}; {throughput.MIN_RATIO} are asked."


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
