"""A flood of STOW-RS and C-STORE at once, beyond what the server takes: who is refused how, and is anything lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from benchmarks import messages, phantom, senders
from benchmarks.phantom import Instance
from benchmarks.plan import Plan
from benchmarks.sender import STUDY
from benchmarks.senders import ACKNOWLEDGED, Sent
from benchmarks.servers import Isthmus, Server
from benchmarks.table import Sheet

TITLE = "Flood"
LOST = "acknowledged and lost"
ROW = "STOW-RS and C-STORE at once"
_HEADS = (
    *("seconds", "stored by STOW-RS", "answered 503", "other answers", "stored by C-STORE", "answered A700"),
    *("associations refused", "connections lost", "read back", LOST, "peak memory, MB"),
)
_STOWS, _ASSOCIATIONS = 200, 100
_WORDS = (
    f"{_STOWS} connections that store by STOW-RS and {_ASSOCIATIONS} associations that store by C-STORE, all without a "
    "pause, 0.5 MB each. Afterwards every acknowledged instance is read back."
)
_READERS = 4
_FILE = {"Accept": "application/dicom"}


def measure(plan: Plan, folder: Path) -> Sheet:
    """Flood a new server, then read back what it acknowledged."""
    sheet = Sheet(TITLE, _HEADS, _WORDS)
    (by_stow,), (by_dimse,) = phantom.series("flood by STOW", 1), phantom.series("flood by C-STORE", 1)
    with Isthmus().start(folder) as server:
        stowed, stored, refused = _flood(server, by_stow, by_dimse, plan.adversity_s)
        peak = server.tree.peak_rss_bytes / 1e6
        paths = [*_acknowledged(by_stow, stowed), *_acknowledged(by_dimse, stored)]
        found = _read_back(server, paths)
    web, dimse = stowed.counts, stored.counts
    others = sum((web - Counter({name: web[name] for name in ("200", "503", "closed")})).values())
    figures = [plan.adversity_s, web["200"], web["503"], others, dimse["0000"], dimse["A700"], refused]
    figures += [web["closed"] + dimse["closed"], found, len(paths) - found, peak]
    sheet.add(ROW, figures)
    return sheet


def _flood(server: Server, by_stow: Instance, by_dimse: Instance, seconds: float) -> tuple[Sent, Sent, int]:
    """Send both ways at once; also how many associations were refused."""
    with ExitStack() as stack:
        requests = list(messages.storing([by_stow], messages.stow(server)))
        batches = stack.enter_context(messages.batches([requests] * _STOWS))
        web = stack.enter_context(senders.posting(server, batches))
        requests = list(messages.storing([by_dimse], messages.c_store(senders.MAX_PDU_BYTES)))
        batches = stack.enter_context(messages.batches([requests] * _ASSOCIATIONS))
        dimse, refused = stack.enter_context(senders.associated(server, batches, refusable=True))
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.submit(web.send, seconds), pool.submit(dimse.send, seconds)
            return first.result(), second.result(), refused


def _acknowledged(instance: Instance, sent: Sent) -> Iterator[str]:
    """The paths of the instances that were answered with success, as the sender named them."""
    for number, answers in enumerate(sent.answers):
        for serial, status in enumerate(answers):
            if status in ACKNOWLEDGED:
                study, one = f"{number:03d}{serial // STUDY:05d}", f"{number:03d}{serial:05d}"
                uids = (instance.study_uid[:-8] + study, instance.series_uid[:-8] + study)
                yield "studies/{}/series/{}/instances/{}".format(*uids, instance.instance_uid[:-8] + one)


def _read_back(server: Server, paths: Sequence[str]) -> int:
    """How many of these instances the server gives."""
    parts = [messages.getting(server, paths[number::_READERS], _FILE) for number in range(_READERS)]
    with messages.batches(parts) as batches, senders.posting(server, batches) as sender:
        return sender.send(600.0, once=True).counts["200"]
