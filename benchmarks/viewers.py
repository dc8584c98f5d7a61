"""Viewers: many at once, each asking for frame after frame over as many connections as a browser opens.

OHIF asks for one frame a request and lets up to 100 wait; over HTTP/1.1 a browser sends no more than 6 of them at a
time to one host, on as many connections, and the others wait in the browser. So a viewer is a thread of wrk with 6
connections that never pause: 200 of them are 1,200 connections.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load, objectstore, phantom, senders
from benchmarks.limits import Nginx
from benchmarks.plan import Plan
from benchmarks.servers import Isthmus, Kind, Orthanc, Server, Unavailable
from benchmarks.table import Outcome, Sheet

TITLE = "Viewers"
FILES, S3 = "Isthmus, 2 workers, files", "Isthmus, 2 workers, S3"
SPREAD, ERRORS = "p99 / p50", "errors"
HEADS = (
    *("seconds", "frames/s", "MB/s", "p50, ms", "p99, ms", SPREAD, ERRORS, "least / most served viewer"),
    *("CPU, ms a frame", "client's CPU, ms a frame", "peak memory, MB"),
)
_CONNECTIONS = 6
_STUDIES = 10
_APART = 37  # frames from where one viewer begins to where the next does
_FRAME = {"Accept": 'multipart/related; type="application/octet-stream"'}
_WORDS = (
    "{viewers} viewers at once, {connections} connections each, on {studies} studies of {series} frames of 0.5 MB. "
    "Those of one viewer are answered as fast as those of another if the last column but two is near 1. S3 is nanio, a "
    "server in Python on the same cores, whose CPU time is not in the table; the rows of 1 worker, of "
    "Orthanc and of nginx take a quarter of the time."
)


@dataclass(frozen=True)
class _Row:
    name: str
    kind: Kind
    seconds: float


def measure(plan: Plan, scratch: Path) -> Outcome:
    """Fill each server, then let all viewers look."""
    words = _WORDS.format(viewers=plan.viewers, connections=_CONNECTIONS, studies=_STUDIES, series=plan.series)
    sheet = Sheet(TITLE, HEADS, words)
    names = [f"viewed {number}" for number in range(_STUDIES)]
    instances = [instance for name in names for instance in phantom.series(name, plan.series)]
    with objectstore.running(scratch / "nanio") as settings:
        for row in (
            _Row(FILES, Isthmus(), plan.viewers_s),
            _Row(S3, Isthmus(label="S3", settings=settings), plan.viewers_s),
            _Row("Isthmus, 1 worker, files", Isthmus(workers=1), max(1.0, plan.viewers_s / 4)),
            _Row("Orthanc", Orthanc(), max(1.0, plan.viewers_s / 4)),
        ):
            try:
                with row.kind.start(scratch / "viewers") as server:
                    senders.fill(server, instances)
                    urls = [server.url(f"{one.path}/frames/1") for one in instances]
                    sheet.add(row.name, _look(plan, server, urls, row.seconds))
            except Unavailable as exc:
                sheet.words += f" {row.name}: {exc}."
            shutil.rmtree(scratch / "viewers", ignore_errors=True)
    _limit(sheet, plan, instances[0].content, scratch)
    return Outcome(sheets=[sheet])


def _limit(sheet: Sheet, plan: Plan, content: bytes, scratch: Path) -> None:
    """What the load generator and the kernel make of it: nginx sends one file to all."""
    (scratch / "bodies").mkdir()
    (scratch / "bodies" / "frame").write_bytes(content)
    try:
        with Nginx().start(scratch) as server:
            sheet.add(server.name, _look(plan, server, [f"{server.dicomweb}/frame"] * 2, max(1.0, plan.viewers_s / 4)))
    except Unavailable as exc:
        sheet.words += f" {Nginx().name}: {exc}."


def _look(plan: Plan, server: Server, urls: Sequence[str], seconds: float) -> list[float]:
    load.fetch(urls[:20], _FRAME | dict(server.headers))
    found = load.crowd(
        *(server.tree, urls, _FRAME | dict(server.headers)),
        clients=plan.viewers,
        connections=_CONNECTIONS,
        seconds=seconds,
        apart=_APART,
    )
    return [
        seconds,
        found.rate,
        found.megabytes_per_s,
        found.p50_ms,
        found.p99_ms,
        found.p99_ms / found.p50_ms,
        found.failed,
        min(found.shares) / max(found.shares),
        found.cpu_ms,
        found.client_ms,
        server.tree.peak_rss_bytes / 1e6,
    ]
