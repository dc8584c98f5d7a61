"""`python -m benchmarks.memory`: the memory of a server that stores one huge instance, and that serves 100 clients.

The limit is real: a server whose processes together hold more than that is killed at once, and nothing is reported.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from pydicom.dataset import Dataset

from benchmarks import phantom, senders
from benchmarks.servers import ROOT, Isthmus, Server

#: Of all processes together, a page that several share counted once, as a container's limit counts.
LIMIT_BYTES = 600_000_000
_FRAME_BYTES = 2 * phantom.SIDE**2
_CLIENTS = 100
_SERIES = 100  # instances in the study that is retrieved
_SAMPLE_EVERY_S = 0.1
_REST_S = 3.0
_BOUNDARY = "benchmark-boundary"
_OUT = Path(__file__).parent / "out"
_TITLE = "## Memory"
_JSON = "application/dicom+json"


@dataclass(frozen=True)
class Row:
    """What was done, how long it took, and the most memory that was held meanwhile, as `Watch` counts it."""

    name: str
    seconds: float
    megabytes: float  # that were sent or received
    proportional_bytes: int
    total_bytes: int
    largest_bytes: int


class Watch:
    """Samples the memory of a process and all below it; kills them when they hold more than a limit together.

    `total_bytes` is the sum of resident memory, pages that processes share counted in each; `proportional_bytes` counts
    such a page once; `largest_bytes` is the largest process that is no database.
    """

    def __init__(self, root: int, limit_bytes: int) -> None:
        self.total_bytes = self.proportional_bytes = self.largest_bytes = 0
        self.exceeded = False
        self._root = psutil.Process(root)
        self._limit = limit_bytes
        self._stop = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Watch until the block ends; raise RuntimeError if the limit was passed."""
        thread = threading.Thread(target=self._run, name="memory", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()
            if self.exceeded:
                raise RuntimeError(f"the server held {self.proportional_bytes / 1e6:.0f} MB and was killed")

    def _run(self) -> None:
        while not self._stop.wait(_SAMPLE_EVERY_S):
            with contextlib.suppress(psutil.NoSuchProcess):
                self._sample([self._root, *self._root.children(recursive=True)])

    def _sample(self, processes: Sequence[psutil.Process]) -> None:
        resident = {process: process.memory_info().rss for process in processes}
        self.total_bytes = max(self.total_bytes, sum(resident.values()))
        self.largest_bytes = max(
            self.largest_bytes, *(size for process, size in resident.items() if "mongod" not in process.name())
        )
        proportional = sum(process.memory_full_info().pss for process in processes)
        self.proportional_bytes = max(self.proportional_bytes, proportional)
        if proportional > self._limit:
            self.exceeded = True
            for process in processes:
                process.kill()


def measure(gigabytes: float, scratch: Path) -> list[Row]:
    """Store one instance in both forms, then serve many clients, each on a fresh server that holds to the limit."""
    frames = int(gigabytes * 1e9 / _FRAME_BYTES)
    with _limited(scratch) as (_, watch):
        time.sleep(_REST_S)
        rows = [_row("At rest", _REST_S, 0, watch)]
    for name, body, content_type in (
        (f"STOW-RS, one instance of {gigabytes:g} GB, application/dicom", _part10(frames), "application/dicom"),
        (
            f"STOW-RS, one instance of {gigabytes:g} GB, metadata and bulk data",
            _metadata_and_bulk(frames),
            f'multipart/related; type="{_JSON}"; boundary={_BOUNDARY}',
        ),
    ):
        with _limited(scratch) as (server, watch):
            begin = time.perf_counter()
            _post(server, body, content_type)
            rows.append(_row(name, time.perf_counter() - begin, frames * _FRAME_BYTES, watch))
    with _limited(scratch) as (server, watch):
        series = list(phantom.series("memory", _SERIES))
        with senders.prepared_stow(server, series, 4, scratch) as send:
            send()
        begin = time.perf_counter()
        received = _retrieve(server, series)
        name = f"WADO-RS, {_CLIENTS} clients at once: studies of {_SERIES} x 0.5 MB, instances, frames"
        rows.append(_row(name, time.perf_counter() - begin, received, watch))
    return rows


@contextmanager
def _limited(scratch: Path) -> Iterator[tuple[Server, Watch]]:
    """A server on an empty folder that is killed if it passes the limit."""
    shutil.rmtree(scratch, ignore_errors=True)
    with Isthmus().start(scratch) as server, Watch(server.tree.root, LIMIT_BYTES).watching() as watch:
        yield server, watch


def _row(name: str, seconds: float, size: int, watch: Watch) -> Row:
    row = Row(name, seconds, size / 1e6, watch.proportional_bytes, watch.total_bytes, watch.largest_bytes)
    print(f"{name}: {seconds:.1f} s, {row.proportional_bytes / 1e6:.0f} MB", file=sys.stderr, flush=True)
    return row


def _header(frames: int) -> Dataset:
    ds = phantom.header("huge", phantom.uid("huge"), phantom.uid("huge/series"), phantom.SIDE)
    ds.SOPInstanceUID, ds.NumberOfFrames = phantom.uid("huge/1"), frames
    return ds


def _part10(frames: int) -> Iterator[bytes]:
    """One DICOM file of many frames, in pieces, none of it twice in memory."""
    ds = _header(frames)
    ds.PixelData = b""
    head = phantom.part10(ds)
    yield head[:-4] + (frames * _FRAME_BYTES).to_bytes(4, "little")
    yield from _pixels(frames)


def _metadata_and_bulk(frames: int) -> Iterator[bytes]:
    """The same as DICOM JSON and one bulk data part."""
    item = _header(frames).to_json_dict() | {"7FE00010": {"vr": "OW", "BulkDataURI": "pixels"}}
    head = "--{}\r\nContent-Type: {}\r\nContent-Location: {}\r\n\r\n"
    yield head.format(_BOUNDARY, _JSON, "metadata").encode() + json.dumps([item]).encode() + b"\r\n"
    yield head.format(_BOUNDARY, "application/octet-stream", "pixels").encode()
    yield from _pixels(frames)
    yield f"\r\n--{_BOUNDARY}--\r\n".encode()


def _pixels(frames: int) -> Iterator[bytes]:
    for number in range(frames):
        yield phantom.pixels(number % 25)


def _post(server: Server, body: Iterator[bytes], content_type: str) -> None:
    url = urlsplit(server.dicomweb)
    with closing(HTTPConnection(url.hostname, url.port, timeout=300)) as connection:
        headers = {"Content-Type": content_type, "Transfer-Encoding": "chunked"}
        connection.request("POST", f"{url.path}/studies", body, headers, encode_chunked=True)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"the instance was answered with {response.status}: {answer[:500]!r}")


def _retrieve(server: Server, series: Sequence[phantom.Instance]) -> int:
    """Let each client ask for a study, instances or frames, all beginning together; return how many bytes came."""
    start = threading.Barrier(_CLIENTS)

    def client(number: int) -> int:
        start.wait()
        return sum(_get(server, path, accept) for path, accept in _wishes(number, series))

    with ThreadPoolExecutor(_CLIENTS) as pool:
        return sum(pool.map(client, range(_CLIENTS)))


def _wishes(number: int, series: Sequence[phantom.Instance]) -> list[tuple[str, str]]:
    """What one client asks for: a third of them the study, the others instances or frames in an order of their own."""
    order = random.Random(number).sample(series, 20)
    if number % 3 == 0:
        return [(f"studies/{series[0].study_uid}", 'multipart/related; type="application/dicom"')]
    if number % 3 == 1:
        return [(one.path, "application/dicom") for one in order]
    return [(f"{one.path}/frames/1", 'multipart/related; type="application/octet-stream"') for one in order]


def _get(server: Server, path: str, accept: str) -> int:
    url = urlsplit(server.dicomweb)
    with closing(HTTPConnection(url.hostname, url.port, timeout=300)) as connection:
        connection.request("GET", f"{url.path}/{path}", headers={"Accept": accept})
        response = connection.getresponse()
        size = 0
        while piece := response.read(1 << 16):
            size += len(piece)
        if response.status != 200:
            raise RuntimeError(f"a retrieval was answered with {response.status}")
        return size


def section(rows: Sequence[Row]) -> str:
    """The section of the page."""
    lines = [
        "| | seconds | MB moved | all processes, MB | the same, shared pages in each, MB | largest process, MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        sizes = (row.proportional_bytes, row.total_bytes, row.largest_bytes)
        cells = [f"{row.seconds:.1f}", f"{row.megabytes:,.0f}", *(f"{size / 1e6:.0f}" for size in sizes)]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    words = (
        f"The most that Isthmus with 2 workers holds, its MongoDB included, sampled {1 / _SAMPLE_EVERY_S:.0f} times a "
        f"second. A server that holds more than {LIMIT_BYTES / 1e6:.0f} MB, a page that processes share counted once, "
        "is killed by the program that measures (`python -m benchmarks.memory`). The largest process is one of "
        "Isthmus, not the database. The first row is the server at rest."
    )
    return "\n\n".join([_TITLE, words, "\n".join(lines)])


def main() -> int:
    """Measure, and put the section into the page; 1 if the limit was passed."""
    parser = argparse.ArgumentParser(prog="benchmarks.memory", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=3.0, help="size of the instance that is stored")
    parser.add_argument("--scratch", type=Path, default=_OUT / "scratch", help="for the server's data; is emptied")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md", help="where the section goes")
    options = parser.parse_args()
    rows = measure(options.gigabytes, options.scratch)
    shutil.rmtree(options.scratch)
    page = options.page.read_text()
    found = section(rows) + "\n\n"
    pattern = re.compile(rf"^{_TITLE}\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
    before = "## Where Isthmus is behind"
    options.page.write_text(
        pattern.sub(lambda _: found, page) if pattern.search(page) else page.replace(before, found + before, 1)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
