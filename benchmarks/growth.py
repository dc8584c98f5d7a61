"""Growth: what searching, reading and storing cost as the catalogue grows from a thousand instances to a million.

The rows are copies (`clones.py`), without files; what is retrieved is a study that was stored for real. Every request
is sent once, and no two searches are alike, so that nothing is answered from memory unless a row says so.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import clones, messages, phantom, senders
from benchmarks.clones import FIRST, SERIES, Study
from benchmarks.load import Measurement
from benchmarks.phantom import Instance
from benchmarks.plan import Plan
from benchmarks.servers import Isthmus, Server
from benchmarks.table import Outcome, Sheet

TITLE, DATABASE = "Growth", "Growth: the database"
RATIO = "p99, largest / smallest"
NAME_PART = "PatientName=*x*"
_JSON = {"Accept": "application/dicom+json"}
_GZIP = _JSON | {"Accept-Encoding": "gzip"}
_FRAME = {"Accept": 'multipart/related; type="application/octet-stream"'}
_FILE = {"Accept": "application/dicom"}
_PROBES = 300
_MANY = 4000
#: Attributes whose combinations make searches differ: each asks for some of them besides.
_FIELDS = "00080090 00081030 00100030 00100040 00200010 00080061 00080062 00101010 00100021 00102160 00081060 00104000"
_WORDS = (
    "Milliseconds over one connection; the first {first} studies that a search finds, each of {series} instances. "
    "Searches differ from each other by what they look for or which attributes they ask for."
)


@dataclass(frozen=True)
class _Search:
    """A kind of search: its path for a study, and how many items it finds."""

    name: str
    path: Callable[[Study], str]
    finds: int
    indexed: bool = True


SEARCHES = (
    _Search("Latest studies", lambda _: "studies?limit=10", FIRST),
    _Search("Studies by PatientID", lambda one: f"studies?PatientID={one.patient_id}", 1),
    _Search("Studies by AccessionNumber", lambda one: f"studies?AccessionNumber={one.accession_number}", 1),
    _Search("Studies by StudyInstanceUID", lambda one: f"studies?StudyInstanceUID={one.study_uid}", 1),
    _Search("Studies by a range of StudyDate", lambda one: f"studies?StudyDate=20200101-{_later(one)}&limit=10", FIRST),
    _Search("Studies by ModalitiesInStudy", lambda _: "studies?ModalitiesInStudy=CT&limit=10", FIRST),
    _Search("Studies by PatientName, whole", lambda one: f"studies?PatientName={one.family_name}^{one.given_name}", 1),
    _Search(
        "Studies by PatientName, first letters", lambda one: f"studies?PatientName={one.family_name[:6]}*&limit=10", 1
    ),
    _Search(f"Studies by {NAME_PART}", lambda _: f"studies?{NAME_PART}&limit=10", 0, indexed=False),
    _Search("Studies by PatientName=*qqq*, which none has", lambda _: "studies?PatientName=*qqq*", 0, indexed=False),
    _Search("Series of a study", lambda one: f"studies/{one.study_uid}/series?", 1),
    _Search("Instances of a series", lambda one: f"{_series(one)}/instances?", SERIES),
)
OTHERS = (
    "Metadata of a series, for the first time",
    "Metadata of a series, again",
    "Frame, for the first time",
    "Frame, again",
    "Instance, 0.5 MB",
    "STOW-RS of one instance, 0.5 MB",
)


def measure(plan: Plan, scratch: Path) -> Outcome:
    """Let the catalogue grow from size to size, and measure at each on a server that was just started."""
    heads = [head for size in plan.growth for head in (f"{size:,}: p50", f"{size:,}: p99")]
    sheet = Sheet(TITLE, [*heads, RATIO], _WORDS.format(first=FIRST, series=SERIES))
    database = Sheet(DATABASE, ("seconds to add", "database, MB", "mongod, MB", "all processes, MB", "ready again, s"))
    probe = list(phantom.series("probe", _PROBES))
    found: dict[str, list[Measurement | None]] = {}
    folder = scratch / "growth"
    with Isthmus().start(folder) as server:
        senders.fill(server, [*clones.originals(), *probe])
        server.stored_instances()  # what is derived of instances is derived when it is asked for
    copied = 0
    for size in plan.growth:
        wanted = size // SERIES
        begin = time.monotonic()
        with Isthmus().start(folder):
            clones.copy(folder / "data", [Study(number) for number in range(copied, wanted)])
        copied, added_s = wanted, time.monotonic() - begin
        with Isthmus().start(folder) as server:
            for name, measurement in _measure(plan, server, wanted, probe):
                found.setdefault(name, []).append(measurement)
            mongod = sum(one.resident for one in server.tree.memory() if "mongod" in one.name)
            sizes = (_folder_bytes(folder / "data" / "mongo"), mongod, server.tree.peak_rss_bytes)
            database.add(f"{size:,} instances", [added_s, *(one / 1e6 for one in sizes), server.started_s])
    for name, measurements in found.items():
        figures = [value for one in measurements for value in (one.p50_ms, one.p99_ms)]
        sheet.add(name, [*figures, figures[-1] / figures[1]])
    return Outcome(sheets=[sheet, database])


def _measure(plan: Plan, server: Server, studies: int, probe: Sequence[Instance]) -> Iterator[tuple[str, Measurement]]:
    chosen = [Study(number) for number in random.Random(studies).choices(range(studies), k=_MANY)]
    for search in SEARCHES:
        answer = server.get_json(search.path(chosen[0]))
        if len(answer) < search.finds:
            raise RuntimeError(f"{search.name} found {len(answer)} instead of {search.finds}")
        paths = [f"{search.path(one)}{_fields(number)}" for number, one in enumerate(chosen)]
        yield search.name, _sent(server, paths, _JSON, plan.growth_s, warm_up_s=plan.growth_s / 4)
    series = [f"{_series(Study(number))}/metadata" for number in range(min(studies, 200))]
    first, again, frame, frame_again, instance, stow = OTHERS
    yield first, _sent(server, series, _GZIP, plan.growth_s)
    yield again, _sent(server, series[:1] * _MANY, _GZIP, plan.growth_s)
    frames = [f"{one.path}/frames/1" for one in probe]
    yield frame, _sent(server, frames, _FRAME, plan.growth_s)
    yield frame_again, _sent(server, frames * 10, _FRAME, plan.growth_s)
    yield instance, _sent(server, [one.path for one in probe] * 10, _FILE, plan.growth_s)
    stored = list(phantom.series(f"stored among {studies}", SERIES))
    with senders.prepared_stow(server, stored, 1) as sender:
        yield stow, sender.measure(plan.growth_s)[0]


def _sent(
    server: Server, paths: Sequence[str], headers: dict[str, str], seconds: float, warm_up_s: float = 0.0
) -> Measurement:
    """Send each request once, as many as there is time for."""
    with (
        messages.batches([messages.getting(server, paths, headers)]) as batches,
        senders.posting(server, batches) as sender,
    ):
        if warm_up_s:
            sender.measure(warm_up_s)
        return sender.measure(seconds, once=True)[0]


def _fields(number: int) -> str:
    fields = [field for bit, field in enumerate(_FIELDS.split()) if number >> bit & 1]
    return "".join(f"&includefield={field}" for field in fields)


def _series(study: Study) -> str:
    return f"studies/{study.study_uid}/series/{study.series_uid}"


def _later(study: Study) -> str:
    """A day after that of the first studies."""
    return f"2020{study.number % 11 + 2:02d}{study.number % 28 + 1:02d}"


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
