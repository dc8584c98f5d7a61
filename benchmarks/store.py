"""Storing: instances a second that are on disk and acknowledged, by C-STORE and STOW-RS."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import phantom, realdata, senders, storescu
from benchmarks.limits import synced_writes_per_s
from benchmarks.load import Measurement
from benchmarks.phantom import Instance
from benchmarks.plan import Plan
from benchmarks.servers import Isthmus, Kind, Orthanc, Server, Unavailable
from benchmarks.table import Outcome, Table, counted

TITLE = "Store"
RESEARCH = Isthmus(profile="research")
COLUMNS: tuple[Kind, ...] = (Isthmus(workers=1), Isthmus(), RESEARCH, Orthanc())
DISK = "disk: write + sync"
REAL = "STOW-RS, real CT in JPEG-LS, 4 connections"
_CONNECTIONS = (1, 4)
_FILES = 25  # that storescu sends again and again
_DISK_WRITES = 400


@dataclass(frozen=True)
class _Row:
    """A way to store. `store` gives what was measured and how many instances were acknowledged, warm-up included."""

    name: str
    connections: int
    store: Callable[[Server], tuple[Measurement, int]]


def row_name(way: str, connections: int) -> str:
    """What a row is called."""
    return f"{way}, {counted(connections, 'connection')}"


def measure(plan: Plan, scratch: Path) -> Outcome:
    """Every row on every server, each round on new folders."""
    table = Table(TITLE, "instances a second")
    rows = list(_rows(plan, table, scratch / "files"))
    for _ in plan.rounds(plan.store_minutes):
        for kind in COLUMNS:
            folder = scratch / "store"
            try:
                with kind.start(folder) as server:
                    _measure(table, server, rows)
                table.add_cost(server)
            except Unavailable as exc:
                table.skipped[kind.name] = str(exc)
            shutil.rmtree(folder, ignore_errors=True)
        _disk(table, rows, scratch / "disk")
    return Outcome([table])


def _rows(plan: Plan, table: Table, files: Path) -> Iterator[_Row]:
    """C-STORE and STOW-RS; the instances of a prepared row are made once and become others when they are sent."""
    for connections in _CONNECTIONS:
        batch = list(phantom.series("storescu", _FILES))
        repeats = max(1, plan.storescu // _FILES)
        yield _Row(
            row_name("C-STORE, storescu", connections),
            connections,
            partial(storescu.send, instances=batch, connections=connections, repeats=repeats, scratch=files),
        )
    for way, prepared in (
        ("C-STORE, prepared", senders.prepared_cstore),
        ("STOW-RS, prepared", senders.prepared_stow),
    ):
        for connections in _CONNECTIONS:
            name = row_name(way, connections)
            yield _prepared(plan, name, prepared, list(phantom.series(name, 100)), connections)
    if real := realdata.ct():
        yield _prepared(plan, REAL, senders.prepared_stow, real, 4)
    else:
        table.skipped[REAL] = realdata.MISSING


def _prepared(plan: Plan, name: str, way: Callable, batch: Sequence[Instance], connections: int) -> _Row:
    size = sum(len(one.content) for one in batch) // len(batch)

    def store(server: Server) -> tuple[Measurement, int]:
        with way(server, batch, connections) as sender:
            _, first = sender.measure(plan.store_s / 3)
            measurement, count = sender.measure(plan.store_s, size=size)
        return measurement, first + count

    return _Row(name, connections, store)


def _measure(table: Table, server: Server, rows: Sequence[_Row]) -> None:
    """Measure each way; what was acknowledged must be there at the end."""
    total = 0
    for row in rows:
        measurement, count = row.store(server)
        table.add(row.name, server.name, measurement)
        total += count
    found = server.stored_instances()
    if found != total:
        raise RuntimeError(f"{server.name} acknowledged {total} instances and has {found}")


def _disk(table: Table, rows: Sequence[_Row], folder: Path) -> None:
    """What the disk allows: the same bytes written and synced by as many threads as there are connections."""
    (one,) = phantom.series("disk", 1)
    rates = {count: synced_writes_per_s(folder, one.content, _DISK_WRITES, count) for count in _CONNECTIONS}
    for row in rows:
        if row.name != REAL:
            rate = rates[row.connections]
            table.add(row.name, DISK, Measurement(rate, megabytes_per_s=rate * len(one.content) / 1e6))
