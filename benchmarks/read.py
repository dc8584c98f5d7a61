"""Reading: rates over several connections, latencies over 1, 25 and 100, and whole studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load, phantom, realdata, senders
from benchmarks.asks import Ask, How, asks
from benchmarks.limits import BareAiohttp, Nginx
from benchmarks.phantom import Instance
from benchmarks.plan import Plan
from benchmarks.servers import Isthmus, Kind, Orthanc, Server, Unavailable
from benchmarks.table import Outcome, Table, counted

RATES, STUDIES, LATENCIES = "Read", "Retrieve a study", "Latency"
LEVELS = (1, 25, 100)
_SMALL_SIDE = 64
#: A server that takes longer for one answer on each connection is not asked over so many.
_MAX_TURN_S = 2.5


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
    studies: Table
    latencies: Table

    def add(self, plan: Plan, server: Server, ask: Ask, *, is_limit: bool, latencies: bool) -> None:
        """Measure one row on one server."""
        urls = [f"{server.dicomweb}/{ask.file_name}"] if is_limit else [server.url(path) for path in ask.paths]
        headers = {} if is_limit else ask.headers | server.headers
        connections = ask.connections or plan.connections
        if ask.how is How.DOWNLOAD:
            self.studies.add(ask.name, server.name, load.download(server.tree, urls * plan.downloads, headers))
        elif ask.how is How.ONCE:
            self.rates.add(ask.name, server.name, senders.once(server, ask.paths, headers, connections))
        else:
            found = load.wrk(server.tree, urls, headers, connections=connections, seconds=plan.read_s)
            self.rates.add(ask.name, server.name, found)
            if ask.latency and latencies:
                self._add_latencies(plan, server, ask, urls)

    def _add_latencies(self, plan: Plan, server: Server, ask: Ask, urls: Sequence[str]) -> None:
        headers = ask.headers | server.headers
        answer_s = 1 / self.rates.cells[ask.name][server.name][-1].rate
        for connections in LEVELS:
            row = latency_row(ask.name, connections)
            if answer_s * connections > _MAX_TURN_S:
                reason = f"one answer on each connection takes {answer_s * connections:.0f} s"
                self.latencies.skipped[f"{row}, {server.name}"] = reason
                continue
            found = load.wrk(server.tree, urls, headers, connections=connections, seconds=plan.read_s)
            self.latencies.add(row, server.name, found)


def latency_row(name: str, connections: int) -> str:
    """What a row of the table of latencies is called."""
    return f"{name}; {counted(connections, 'connection')}"


def measure(plan: Plan, scratch: Path) -> Outcome:
    """Fill each kind of server once; then start each on what it has stored, in turn, once a round."""
    tables = _Tables(
        Table(f"{RATES}, {counted(plan.connections, 'connection')}", "answers a second"),
        Table(f"{STUDIES}, 1 connection", "MB a second", "megabytes_per_s"),
        Table(LATENCIES, "milliseconds, p50 / p99", "p50_ms"),
    )
    series, real = list(phantom.series("read", plan.series)), realdata.ct()
    pictures = list(phantom.series("pictures", plan.pictures))
    if not real:
        tables.rates.skipped["rows on real CT"] = realdata.MISSING
    columns = _columns(asks(plan, series, pictures, real), scratch)
    _fill_all(columns, [*series, *pictures, *real, *_small_studies(plan)], scratch / "bodies", tables.rates)
    for number in plan.rounds(plan.read_minutes):
        for column in columns:
            if column.kind.name not in tables.rates.skipped:
                _measure(plan, tables, column, latencies=number == 0 and not column.is_limit)
    return Outcome([tables.rates, tables.studies, tables.latencies])


def _measure(plan: Plan, tables: _Tables, column: _Column, *, latencies: bool) -> None:
    try:
        with column.kind.start(column.folder) as server:
            for ask in column.asks:
                tables.add(plan, server, ask, is_limit=column.is_limit, latencies=latencies and not server.headers)
        tables.rates.add_cost(server)
    except Unavailable as exc:
        tables.rates.skipped[column.kind.name] = str(exc)


def _columns(rows: Sequence[Ask], scratch: Path) -> list[_Column]:
    ours = scratch / "isthmus"
    limited = [row for row in rows if row.has_limit]
    json = [row for row in limited if row.is_json]
    return [
        _Column(Isthmus(workers=1), ours, rows),
        _Column(Isthmus(), ours, rows),
        _Column(Isthmus(auth="token"), ours, [row for row in rows if row.with_token]),
        _Column(Orthanc(), scratch / "orthanc", rows),
        _Column(Nginx(), scratch, limited, is_limit=True),
        _Column(BareAiohttp(processes=1), scratch, json, is_limit=True),
        _Column(BareAiohttp(processes=Isthmus().workers), scratch, json, is_limit=True),
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
                senders.fill(server, instances)
                if isinstance(column.kind, Isthmus):
                    _save(server, [ask for ask in columns[0].asks if ask.has_limit], bodies)
        except Unavailable as exc:
            table.skipped[column.kind.name] = str(exc)


def _save(server: Server, rows: Sequence[Ask], bodies: Path) -> None:
    bodies.mkdir()
    for ask in rows:
        load.save(server.url(ask.paths[0]), ask.headers, bodies / ask.file_name)
