"""Start: seconds until a server is ready, and what its processes hold when nothing is asked of them."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import phantom, senders
from benchmarks.plan import Plan
from benchmarks.processes import Memory
from benchmarks.servers import Isthmus, Kind, Orthanc, Server, Unavailable
from benchmarks.table import Outcome, Sheet

TITLE, PROCESSES = "Start and memory at rest", "Memory at rest of each process"
EXISTING = "ready on existing data, s"
_HEADS = ("ready on a new folder, s", EXISTING, "unique, MB", "shared pages counted once, MB", "resident, MB")
_REST_S = 2.0
_STORED = 100
_WORDS = (
    f"From the start of the command to its line `ready`; medians, the existing data are {_STORED} instances. "
    f"Memory {_REST_S:.0f} s after that, MongoDB included: what no other process shares, what is left when a page that "
    "several share is counted once, and resident memory with such pages in each."
)


def measure(plan: Plan, scratch: Path) -> Outcome:
    """Start each server on a new folder, store something, start it again and look at it."""
    sheet = Sheet(TITLE, _HEADS, _WORDS)
    each = Sheet(PROCESSES, ("unique, MB", "shared pages counted once, MB", "resident, MB"))
    series = list(phantom.series("start", _STORED))
    kinds: Sequence[Kind] = (Isthmus(workers=1), Isthmus(), Orthanc())
    for kind in kinds:
        try:
            _measure(sheet, each, kind, scratch / "start", series, plan.max_rounds)
        except Unavailable as exc:
            sheet.words += f" {kind.name}: {exc}."
        shutil.rmtree(scratch / "start", ignore_errors=True)
    return Outcome(sheets=[sheet, each])


def _measure(
    sheet: Sheet, each: Sheet, kind: Kind, folder: Path, series: Sequence[phantom.Instance], times: int
) -> None:
    new_s = []
    for number in range(times):
        with kind.start(folder / str(number)) as server:
            new_s.append(server.started_s)
            if number == 0:
                senders.fill(server, series)
    existing_s, found = [], []
    for _ in range(times):
        with kind.start(folder / "0") as server:
            existing_s.append(server.started_s)
            found = _at_rest(server)
    sums = [
        sum(sizes) / 1e6 for sizes in zip(*((one.unique, one.proportional, one.resident) for one in found), strict=True)
    ]
    sheet.add(kind.name, [statistics.median(new_s), statistics.median(existing_s), *sums])
    if kind != Isthmus(workers=1):
        for number, one in enumerate(found, 1):
            sizes = (one.unique, one.proportional, one.resident)
            each.add(f"{kind.name}: {one.name} {number}", [size / 1e6 for size in sizes])


def _at_rest(server: Server) -> list[Memory]:
    time.sleep(_REST_S)
    return server.tree.memory()
