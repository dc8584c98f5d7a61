"""Adversity: what slow, vanishing and idle clients cost the others, and what becomes of a flood of stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks import crowd, flood, load, messages, phantom, senders
from benchmarks.phantom import Instance
from benchmarks.plan import Plan
from benchmarks.servers import Isthmus, Server
from benchmarks.table import Outcome, Sheet

TITLE = "Adversity"
_HEADS = ("frames/s of others", "p50, ms", "p99, ms", "p99 / p99 alone", "failed", "memory, MB", "what they did")
_WORDS = (
    "Others ask for frames over 8 connections meanwhile. Slow clients move 40 kB a second; those that vanish reset the "
    "connection in the middle of a study or of a store request. Memory is the resident of all processes, just after."
)
_SLOW, _VANISHING = 100, 50
_FRAME = {"Accept": 'multipart/related; type="application/octet-stream"'}
_STUDY = {"Accept": 'multipart/related; type="application/dicom"'}


def measure(plan: Plan, scratch: Path) -> Outcome:
    """One server with each kind of bad clients after the other, then another one in a flood."""
    sheet = Sheet(TITLE, _HEADS, _WORDS)
    series = list(phantom.series("adversity", plan.series))
    with Isthmus().start(scratch / "adversity") as server:
        senders.fill(server, series)
        _beside(sheet, plan, server, series)
        found = server.stored_instances()
        if found != len(series):
            raise RuntimeError(f"half a request was stored: {found} instances instead of {len(series)}")
    return Outcome(sheets=[sheet, flood.measure(plan, scratch / "flood")])


def _beside(sheet: Sheet, plan: Plan, server: Server, series: Sequence[Instance]) -> None:
    ((asking, _),) = messages.getting(server, [f"studies/{series[0].study_uid}"], _STUDY)
    (another,) = phantom.series("never complete", 1)
    storing = messages.stow(server)(another)
    alone_ms = _row(sheet, plan, server, series, "alone", None)
    for name, client, count in (
        (f"{_SLOW} slow readers of a study", crowd.slow_reader(server, asking), _SLOW),
        (f"{_SLOW} slow writers", crowd.slow_writer(server, storing), _SLOW),
        (
            f"{_VANISHING} clients that vanish, 4 times a second",
            crowd.vanishing(server, asking, storing),
            _VANISHING,
        ),
        (f"{plan.idle:,} idle connections", crowd.idle(server), plan.idle),
    ):
        with crowd.behaving(client, count) as counted:
            _row(sheet, plan, server, series, name, alone_ms, counted)


def _row(
    sheet: Sheet,
    plan: Plan,
    server: Server,
    series: Sequence[Instance],
    name: str,
    alone_ms: float | None,
    counted: dict[str, int] | None = None,
) -> float:
    urls = [server.url(f"{one.path}/frames/1") for one in series]
    load.fetch(urls[:10], _FRAME)
    found = load.crowd(*(server.tree, urls, _FRAME), clients=1, connections=plan.connections, seconds=plan.adversity_s)
    told = ", ".join(f"{count:,} {what}" for what, count in (counted or {}).items())
    ratio = found.p99_ms / alone_ms if alone_ms else None
    memory = server.tree.rss_bytes() / 1e6
    sheet.add(name, [found.rate, found.p50_ms, found.p99_ms, ratio, found.failed, memory, told])
    return found.p99_ms
