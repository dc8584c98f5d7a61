"""`python -m benchmarks [--quick] [--only store,read]`: measure, keep what was found, write docs/performance.md."""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import adversity, growth, machine, memory, plots, read, report, start, store, viewers
from benchmarks.kept import Results, Taken
from benchmarks.plan import PLANS, Plan
from benchmarks.servers import ROOT
from benchmarks.table import Outcome

_OUT = Path(__file__).parent / "out"
#: In the order of their weight: what is cut short has measured what matters most.
_PROGRAMS: Mapping[str, Callable[[Plan, Path], Outcome]] = {
    "store": store.measure,
    "read": read.measure,
    "growth": growth.measure,
    "viewers": viewers.measure,
    "adversity": adversity.measure,
    "start": start.measure,
    "memory": memory.measure,
}
#: Without these nothing can be measured; without Orthanc or nginx a column is left out, and the page says so.
_NEEDED = ("wrk", "curl", "storescu")
_PACKAGES = "wrk curl dcmtk"


def main() -> int:
    """Run the programs; 0 when all were measured, 1 when one failed or what they need is missing."""
    options = _options()
    plan = PLANS["quick" if options.quick else options.plan]
    if missing := [program for program in _NEEDED if shutil.which(program) is None]:
        print(f"benchmarks: {' and '.join(missing)} not found; install Debian's {_PACKAGES}", file=sys.stderr)
        return 1
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for thousands of connections, of servers too
    kept = options.out / plan.name
    _empty(options.scratch)
    facts = machine.describe(options.scratch)  # before anything of ours is a load
    failed = False
    for name in options.only:
        taken = _run(name, plan, options.scratch, facts)
        taken.save(kept)
        failed = failed or bool(taken.failure)
        _write(options.page, kept, plan)
    _write(options.page, kept, plan)
    shutil.rmtree(options.scratch, ignore_errors=True)
    print(f"{options.page} is written", file=sys.stderr)
    return int(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller and shorter: some 5 minutes instead of 30")
    parser.add_argument("--plan", choices=PLANS, default="full", help="`tiny` only shows whether everything works")
    parser.add_argument("--only", type=_programs, default=list(_PROGRAMS), help="some of the programs, or none")
    parser.add_argument("--out", type=Path, default=_OUT, help="where what was measured is kept")
    parser.add_argument("--scratch", type=Path, default=_OUT / "scratch", help="for the servers' data; is emptied")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md", help="where the page goes")
    return parser.parse_args()


def _programs(text: str) -> list[str]:
    chosen = [] if text == "none" else text.split(",")
    if unknown := set(chosen) - set(_PROGRAMS):
        raise argparse.ArgumentTypeError(f"there is no {' and no '.join(sorted(unknown))}")
    return [name for name in _PROGRAMS if name in chosen]


def _run(name: str, plan: Plan, scratch: Path, facts: Mapping[str, str]) -> Taken:
    """One program on an empty folder. If it fails the others are still run, and the page says why."""
    _empty(scratch)
    begin, outcome, failure = time.monotonic(), Outcome(), ""
    try:
        outcome = _PROGRAMS[name](plan, scratch)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the other programs do not depend on it
        traceback.print_exc()
        failure = f"{type(exc).__name__}: {str(exc)[:300]}"
    minutes = (time.monotonic() - begin) / 60
    print(f"{name} took {minutes:.1f} minutes", file=sys.stderr, flush=True)
    return Taken(name, plan.name, f"{datetime.now(UTC):%Y-%m-%d}", minutes, facts, outcome, failure)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _write(page: Path, kept: Path, plan: Plan) -> None:
    results = Results(kept, tuple(_PROGRAMS))
    folder = page.with_suffix("")
    drawn = plots.draw(results, folder)
    page.write_text(report.document(results, plan.name, drawn, folder.name))


if __name__ == "__main__":
    sys.exit(main())
