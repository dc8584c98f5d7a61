"""`python -m benchmarks [--quick]`: measure all tables, keep the rounds as JSON, write docs/performance.md."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks import machine, memory, read, report, store
from benchmarks.plan import FULL, QUICK
from benchmarks.servers import ROOT

_OUT = Path(__file__).parent / "out"
#: Without these nothing can be measured; without Orthanc or nginx a column is left out, and the page says so.
_PROGRAMS = ("wrk", "curl", "storescu")
_PACKAGES = "wrk curl dcmtk"


def main() -> int:
    """Run the benchmarks; 0 when the page is written, 1 when a program is missing."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller and shorter: some 5 minutes instead of 30")
    parser.add_argument("--scratch", type=Path, default=_OUT / "scratch", help="for the servers' data; is emptied")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md", help="where the page goes")
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    if missing := [program for program in _PROGRAMS if shutil.which(program) is None]:
        print(f"benchmarks: {' and '.join(missing)} not found; install Debian's {_PACKAGES}", file=sys.stderr)
        return 1
    _empty(options.scratch)
    begin = time.monotonic()
    facts = machine.describe(options.scratch)
    tables = [*store.measure(plan, options.scratch), *read.measure(plan, options.scratch)]
    rows = memory.measure(plan.gigabytes, options.scratch / "memory")
    minutes = (time.monotonic() - begin) / 60
    results = {"plan": plan.name, "minutes": minutes, "machine": facts, "tables": [one.as_json() for one in tables]}
    results["memory"] = [asdict(row) for row in rows]
    (_OUT / f"{plan.name}.json").write_text(json.dumps(results, indent=1))
    options.page.parent.mkdir(exist_ok=True)
    options.page.write_text(report.document(plan, facts, tables, minutes, memory.section(rows)))
    shutil.rmtree(options.scratch)
    print(f"{options.page} is written, after {minutes:.0f} minutes", file=sys.stderr)
    return 0


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


if __name__ == "__main__":
    sys.exit(main())
