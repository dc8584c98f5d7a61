"""Tables 2 to 4: reading. Rates over several connections, latencies over one, and whole studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load, phantom, realdata, senders
from benchmarks.asks import Ask, asks
from benchmarks.limits import BareAiohttp, Nginx
from benchmarks.phantom import Instance
from benchmarks.plan import Plan
from benchmarks.servers import Isthmus, Kind, Orthanc, Server, Unavailable
from benchmarks.table import Table, counted

_SMALL_SIDE = 64
_FILL_CONNECTIONS = 4


@dataclass(frozen=True)
class _Column:
    """A server and the folder that it serves; `is_limit` if that is the folder of saved answers."""

    kind: Kind
    folder: Path
    asks: Sequence[Ask]
    is_limit: bool = False


@dataclass(frozen=True)
class _Tables:
    rates: Table
    latencies: Table
    studies: Table

    def add(self, plan: Plan, server: Server, ask: Ask, *, is_limit: bool) -> None:
        """Measure one row on one server."""
        urls = [f"{server.dicomweb}/{ask.file_name}" if is_limit else f"{server.dicomweb}/{path}" for path in ask.paths]
        headers = {} if is_limit else ask.headers | server.headers
        if ask.whole_study:
            outcome = load.download(server.tree, urls * plan.downloads, headers)
            self.studies.add(ask.name, server.name, outcome)
        elif len(urls) > 1:
            self.latencies.add(ask.name, server.name, load.download(server.tree, urls, headers))
        else:
            for table, connections in ((self.rates, plan.connections), (self.latencies, 1)):
                outcome = load.wrk(server.tree, urls[0], headers, connections=connections, seconds=plan.seconds)
                table.add(ask.name, server.name, outcome)


def measure(plan: Plan, scratch: Path) -> list[Table]:
    """Fill each kind of server once; then start each on what it has stored, in turn, once a round."""
    tables = _Tables(
        Table(f"Read, {counted(plan.connections, 'connection')}", "answers a second"),
        Table("Read, 1 connection", "milliseconds, p50 / p99", "p50_ms"),
        Table("Retrieve a study, 1 connection", "MB a second", "megabytes_per_s"),
    )
    series, real = list(phantom.series("read", plan.series)), realdata.ct()
    if not real:
        tables.rates.skipped["rows on real CT"] = realdata.MISSING
    columns = _columns(asks(plan, series, real), scratch)
    _fill_all(columns, [*series, *real, *_small_studies(plan)], scratch / "bodies", tables.rates)
    for _ in plan.rounds():
        for column in columns:
            if column.kind.name in tables.rates.skipped:
                continue
            try:
                with column.kind.start(column.folder) as server:
                    for ask in column.asks:
                        tables.add(plan, server, ask, is_limit=column.is_limit)
                tables.rates.add_cost(server)
            except Unavailable as exc:
                tables.rates.skipped[column.kind.name] = str(exc)
    return [tables.rates, tables.latencies, tables.studies]


def _columns(rows: Sequence[Ask], scratch: Path) -> list[_Column]:
    ours = scratch / "isthmus"
    return [
        _Column(Isthmus(workers=1), ours, rows),
        _Column(Isthmus(), ours, rows),
        _Column(Isthmus(auth="token"), ours, [row for row in rows if row.with_token]),
        _Column(Orthanc(), scratch / "orthanc", rows),
        _Column(Nginx(), scratch, [row for row in rows if len(row.paths) == 1], is_limit=True),
        _Column(BareAiohttp(), scratch, [row for row in rows if len(row.paths) == 1], is_limit=True),
    ]


def _small_studies(plan: Plan) -> list[Instance]:
    """Studies of one small image each, so that with the others there are as many as a search is to find."""
    names = [f"small {number}" for number in range(plan.studies)]
    return [instance for name in names for instance in phantom.series(name, 1, side=_SMALL_SIDE)]


def _fill_all(columns: Sequence[_Column], instances: Sequence[Instance], bodies: Path, table: Table) -> None:
    """Store all instances in each folder that is served, and keep the answers of Isthmus for the machine's limits."""
    by_folder = {column.folder: column for column in columns if not column.is_limit}
    for folder, column in by_folder.items():
        try:
            with Isthmus().start(folder) if isinstance(column.kind, Isthmus) else column.kind.start(folder) as server:
                with senders.prepared_stow(server, instances, _FILL_CONNECTIONS, folder) as send:
                    send()
                if isinstance(column.kind, Isthmus):
                    _save(server, [ask for ask in columns[0].asks if len(ask.paths) == 1], bodies)
        except Unavailable as exc:
            table.skipped[column.kind.name] = str(exc)


def _save(server: Server, rows: Sequence[Ask], bodies: Path) -> None:
    bodies.mkdir()
    for ask in rows:
        load.save(f"{server.dicomweb}/{ask.paths[0]}", ask.headers, bodies / ask.file_name)
