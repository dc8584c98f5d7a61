"""Memory: of a server that stores one huge instance, and of one that serves 100 clients.

The limit is real: a server whose processes together hold more than that is killed at once, and nothing is reported.
"""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from pydicom.dataset import Dataset

from benchmarks import phantom, senders
from benchmarks.plan import Plan
from benchmarks.processes import ProcessTree
from benchmarks.servers import Isthmus, Server
from benchmarks.table import Outcome, Sheet

#: Of all processes together, a page that several share counted once, as a container's limit counts.
LIMIT_BYTES = 600_000_000
_FRAME_BYTES = 2 * phantom.SIDE**2
_CLIENTS = 100
_BOUNDARY = "benchmark-boundary"
_JSON = "application/dicom+json"
TITLE = "Memory under load"
_HEADS = (
    *("seconds", "MB moved", "all processes, MB", "the same, shared pages in each, MB"),
    "largest process that is no database, MB",
)
_WORDS = (
    "The most that Isthmus with 2 workers holds, its MongoDB included, sampled 10 times a second. A server that holds "
    f"more than {LIMIT_BYTES / 1e6:.0f} MB, a page that processes share counted once, is killed by the harness."
)


def measure(plan: Plan, scratch: Path) -> Outcome:
    """Store one instance in both forms, then serve many clients, each on a fresh server that holds to the limit."""
    sheet = Sheet(TITLE, _HEADS, _WORDS)
    frames = int(plan.gigabytes * 1e9 / _FRAME_BYTES)
    for name, body, content_type in (
        (f"STOW-RS, one instance of {plan.gigabytes:g} GB, application/dicom", _part10(frames), "application/dicom"),
        (
            f"STOW-RS, one instance of {plan.gigabytes:g} GB, metadata and bulk data",
            _metadata_and_bulk(frames),
            f'multipart/related; type="{_JSON}"; boundary={_BOUNDARY}',
        ),
    ):
        with _limited(scratch / "memory") as (server, tree):
            begin = time.perf_counter()
            _post(server, body, content_type)
            _add(sheet, name, time.perf_counter() - begin, frames * _FRAME_BYTES, tree)
    with _limited(scratch / "memory") as (server, tree):
        series = list(phantom.series("memory", plan.series))
        senders.fill(server, series)
        begin = time.perf_counter()
        received = _retrieve(server, series)
        name = f"WADO-RS, {_CLIENTS} clients at once: studies of {plan.series} x 0.5 MB, instances, frames"
        _add(sheet, name, time.perf_counter() - begin, received, tree)
    return Outcome(sheets=[sheet])


@contextmanager
def _limited(folder: Path) -> Iterator[tuple[Server, ProcessTree]]:
    """A server on an empty folder that is killed if it passes the limit."""
    shutil.rmtree(folder, ignore_errors=True)
    with Isthmus().start(folder) as server, ProcessTree(server.tree.root).watched(LIMIT_BYTES) as tree:
        yield server, tree


def _add(sheet: Sheet, name: str, seconds: float, size: int, tree: ProcessTree) -> None:
    sizes = (tree.peak_pss_bytes, tree.peak_rss_bytes, tree.peak_largest_bytes)
    sheet.add(name, [seconds, size / 1e6, *(one / 1e6 for one in sizes)])


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
