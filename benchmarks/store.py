"""Table 1: storing. Instances a second that are on disk and acknowledged, by C-STORE and STOW-RS."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import phantom, realdata, senders
from benchmarks.limits import synced_writes_per_s
from benchmarks.load import Measurement, costed
from benchmarks.phantom import Instance
from benchmarks.plan import Plan
from benchmarks.servers import Isthmus, Kind, Orthanc, Server, Unavailable
from benchmarks.table import Table, counted

COLUMNS: tuple[Kind, ...] = (Isthmus(workers=1), Isthmus(), Isthmus(profile="research"), Orthanc())
DISK = "disk: write + sync"
_WAYS = {
    "C-STORE, storescu": senders.storescu,
    "C-STORE, prepared": senders.prepared_cstore,
    "STOW-RS, prepared": senders.prepared_stow,
}
_CONNECTIONS = (1, 4)
_REAL = "STOW-RS, real CT in JPEG-LS, 4 connections"


def measure(plan: Plan, scratch: Path) -> list[Table]:
    """Every row on every server, each round on new folders."""
    table = Table("Store", "instances a second")
    real = realdata.ct()
    if not real:
        table.skipped[_REAL] = realdata.MISSING
    for number in plan.rounds():
        for kind in COLUMNS:
            folder = scratch / "store"
            try:
                with kind.start(folder) as server:
                    _rows(table, plan, server, number, real, folder / "files")
                table.add_cost(server)
            except Unavailable as exc:
                table.skipped[kind.name] = str(exc)
            shutil.rmtree(folder, ignore_errors=True)
        _disk(table, plan, scratch / "disk")
    return [table]


def _rows(table: Table, plan: Plan, server: Server, number: int, real: Sequence[Instance], files: Path) -> None:
    """Store a batch of new instances in each way; what is acknowledged must be there at the end."""
    warm_up = list(phantom.series(f"warm-up {number}", 4))
    _store(server, warm_up, senders.prepared_stow, 1, files)
    count = len(warm_up)
    for row, connections, way in _ways():
        batch = list(phantom.series(f"{row} {number}", plan.batch))
        table.add(row, server.name, _store(server, batch, way, connections, files))
        count += len(batch)
    if real:
        table.add(_REAL, server.name, _store(server, real, senders.prepared_stow, 4, files))
    found = server.stored_instances()
    if found != count + len(real):
        raise RuntimeError(f"{server.name} acknowledged {count + len(real)} instances and has {found}")


def _ways() -> list[tuple[str, int, senders.Way]]:
    return [
        (f"{name}, {counted(connections, 'connection')}", connections, way)
        for name, way in _WAYS.items()
        for connections in _CONNECTIONS
    ]


def _store(
    server: Server, instances: Sequence[Instance], way: senders.Way, connections: int, files: Path
) -> Measurement:
    """Store instances in one way, and see how long it took and what it cost the server."""
    with way(server, instances, connections, files) as send:
        begin = time.perf_counter()
        _, cpu_s = costed(server.tree, send)
        seconds = time.perf_counter() - begin
    megabytes = sum(len(one.content) for one in instances) / 1e6
    return Measurement(
        len(instances) / seconds, megabytes_per_s=megabytes / seconds, cpu_ms=1000 * cpu_s / len(instances)
    )


def _disk(table: Table, plan: Plan, folder: Path) -> None:
    """What the disk allows: the same bytes written and synced by as many threads as there are connections."""
    (one,) = phantom.series("disk", 1)
    for row, connections, _ in _ways():
        rate = synced_writes_per_s(folder, one.content, plan.batch, connections)
        table.add(row, DISK, Measurement(rate, megabytes_per_s=rate * len(one.content) / 1e6))
