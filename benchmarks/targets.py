"""What Isthmus is to reach, and whether it does: beside Orthanc, beside nginx, and in figures of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks import asks, flood, growth, read, start, store, viewers
from benchmarks.kept import Results
from benchmarks.limits import Nginx
from benchmarks.servers import Isthmus, Orthanc
from benchmarks.store import RESEARCH, row_name
from benchmarks.table import Figure

ONE, TWO, THEIRS, LIMIT = Isthmus(workers=1).name, Isthmus().name, Orthanc().name, Nginx().name
_INDEXED = [search.name for search in growth.SEARCHES if search.indexed]


@dataclass(frozen=True)
class Ratio:
    """A row that is to be so many times as fast as Orthanc's, and to reach a share of nginx's rate."""

    name: str
    table: str
    row: str
    times: float
    share: float | None = None
    columns: Sequence[str] = (ONE, TWO)


@dataclass(frozen=True)
class Most:
    """A figure of a sheet that is not to be larger; of several rows the largest counts."""

    name: str
    sheet: str
    rows: Sequence[str]
    head: str
    most: float
    unit: str = ""


@dataclass(frozen=True)
class Met:
    """A ratio and what became of it, for each number of workers."""

    target: Ratio
    rates: Sequence[float | None]
    theirs: float | None
    limit: float | None

    @property
    def ratios(self) -> list[float | None]:
        """How many times as fast as Orthanc."""
        return [rate / self.theirs if rate and self.theirs else None for rate in self.rates]

    @property
    def shares(self) -> list[float | None]:
        """Which share of nginx's rate."""
        return [rate / self.limit if rate and self.limit else None for rate in self.rates]

    @property
    def reached(self) -> list[float | None]:
        """What was reached of what was asked, for each number of workers: 1 or more if it is met."""
        found: list[float | None] = []
        for ratio, share in zip(self.ratios, self.shares, strict=True):
            parts = [ratio and ratio / self.target.times]
            parts += [share and share / self.target.share] if self.target.share else []
            found.append(None if None in parts else min(parts))
        return found


_C_STORE, _STOW = row_name("C-STORE, prepared", 4), row_name("STOW-RS, prepared", 4)
RATIOS = (
    Ratio("QIDO-RS, studies (1,000 stored)", read.RATES, asks.STUDIES, 30),
    Ratio("the same, each search another", read.RATES, asks.STUDIES + ", each search another", 30),
    Ratio("QIDO-RS, instances of a series (100)", read.RATES, asks.INSTANCES, 100),
    Ratio("Metadata of a series (100 instances), gzip", read.RATES, asks.METADATA_GZIP, 150),
    Ratio("Metadata of a series (100 instances), not compressed", read.RATES, asks.METADATA, 150),
    Ratio("One frame, 512 x 512 x 16 bit", read.RATES, asks.FRAME, 3, 0.55),
    Ratio("One instance", read.RATES, asks.INSTANCE, 2.2, 0.55),
    Ratio("Study, 100 x 0.5 MB", read.STUDIES, asks.STUDY, 1.1, 0.70),
    Ratio("Rendered JPEG, for the first time, 1 connection", read.RATES, f"{asks.COLD}, 1 connection", 4),
    Ratio("Rendered JPEG, for the first time, 8 connections", read.RATES, f"{asks.COLD}, 8 connections", 4),
    Ratio("Rendered JPEG, again", read.RATES, asks.RENDERED, 20),
    Ratio("STOW-RS, 0.5 MB instances, 4 connections", store.TITLE, _STOW, 2),
    Ratio("C-STORE, 4 associations", store.TITLE, _C_STORE, 2),
    Ratio("C-STORE, 4 associations, DCMTK's storescu", store.TITLE, row_name("C-STORE, storescu", 4), 2),
    Ratio("C-STORE, 4 associations, while de-identifying", store.TITLE, _C_STORE, 1, columns=("", RESEARCH.name)),
)
FIGURES = (
    Most("QIDO-RS on indexed keys, first page: worst p99, largest / smallest catalogue", growth.TITLE, _INDEXED,
         growth.RATIO, 2),
    Most("PatientName=*x* at 10,000 studies, p99", growth.TITLE, [f"Studies by {growth.NAME_PART}"],
         "1,000,000: p99", 50, " ms"),
    Most("Ready on an existing data folder", start.TITLE, [ONE, TWO], start.EXISTING, 3, " s"),
    Most("Viewers, files: p99 / median", viewers.TITLE, [viewers.FILES], viewers.SPREAD, 3),
    Most("Viewers, files: errors", viewers.TITLE, [viewers.FILES], viewers.ERRORS, 0),
    Most("Viewers, S3: p99 / median", viewers.TITLE, [viewers.S3], viewers.SPREAD, 3),
    Most("Viewers, S3: errors", viewers.TITLE, [viewers.S3], viewers.ERRORS, 0),
    Most("Flood of STOW-RS and C-STORE: acknowledged and lost", flood.TITLE, [flood.ROW], flood.LOST, 0),
)  # fmt: skip


def ratios(results: Results) -> Iterator[Met]:
    """Each ratio with what was measured of it."""
    for target in RATIOS:
        table = results.table(target.table)
        rates = [table.median(target.row, column) for column in target.columns]
        limit = table.median(target.row, LIMIT) if target.share else None
        yield Met(target, rates, table.median(target.row, THEIRS), limit)


def figures(results: Results) -> Iterator[tuple[Most, Figure]]:
    """Each figure that was measured; None if one of its rows was not."""
    for target in FIGURES:
        sheet = results.sheet(target.sheet)
        found = [sheet.figure(row, target.head) for row in target.rows]
        yield target, None if None in found else max(found)
