"""Prepared C-STORE messages, STOW-RS and GET requests.

They are sent by a process of its own (`sender.py`), one request at a time over each connection. Only the
time from the first request to the last answer is taken; what sending costs the client is told beside it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks import cstore, messages
from benchmarks.load import Measurement, costed, percentile
from benchmarks.messages import Batch
from benchmarks.phantom import Instance
from benchmarks.servers import ROOT, Server

#: As much as DCMTK sends in one PDU, and both servers take.
MAX_PDU_BYTES = 131072
#: Statuses of success, of HTTP and of DIMSE.
ACKNOWLEDGED = frozenset({"200", "0000"})


@dataclass(frozen=True)
class Sent:
    """What a run of the sender came to: the status of each connection's answers, and the milliseconds of all."""

    seconds: float
    cpu_s: float
    answers: Sequence[Sequence[str]]
    latencies_ms: Sequence[float]

    @property
    def counts(self) -> Counter[str]:
        """How many answers had which status."""
        return Counter(status for answers in self.answers for status in answers)


class Sender:
    """A running `sender.py`, connected and with its messages at hand."""

    def __init__(self, server: Server, process: subprocess.Popen[str]) -> None:
        self._server = server
        self._process = process

    def send(self, seconds: float, *, once: bool = False) -> Sent:
        """Send for some seconds, or each message once if that takes less."""
        self._process.stdin.write(json.dumps({"seconds": seconds, "once": once}) + "\n")
        self._process.stdin.flush()
        return Sent(**json.loads(self._process.stdout.readline()))

    def measure(self, seconds: float, *, once: bool = False, size: int = 0) -> tuple[Measurement, int]:
        """Send, and see what that cost the server; raise unless all answers are a success. Also how many there were.

        `size` is that of what each request moves, in bytes.
        """
        sent, cpu_s = costed(self._server.tree, lambda: self.send(seconds, once=once))
        count = len(sent.latencies_ms)
        if not count or set(sent.counts) - ACKNOWLEDGED:
            raise RuntimeError(f"{self._server.name} answered {dict(sent.counts)}")
        measurement = Measurement(
            rate=count / sent.seconds,
            megabytes_per_s=count * size / sent.seconds / 1e6,
            p50_ms=statistics.median(sent.latencies_ms),
            p99_ms=percentile(sent.latencies_ms, 0.99),
            cpu_ms=1000 * cpu_s / count,
            client_ms=1000 * sent.cpu_s / count,
        )
        return measurement, count


@contextmanager
def posting(server: Server, batches: Sequence[Batch]) -> Iterator[Sender]:
    """A sender of HTTP requests, one connection for each batch."""
    url = urlsplit(server.dicomweb)
    tasks = [{"protocol": "http", "address": [url.hostname, url.port]} | vars(batch) for batch in batches]
    with _started(server, tasks, [batch.memory for batch in batches]) as sender:
        yield sender


@contextmanager
def associated(server: Server, batches: Sequence[Batch], *, refusable: bool = False) -> Iterator[tuple[Sender, int]]:
    """A sender of C-STORE messages, one association for each batch, and how many were refused; none may, by default."""
    with ExitStack() as stack:
        tasks, refused = [], 0
        for batch in batches:
            try:
                connection, max_pdu_bytes = cstore.associate(server)
            except (cstore.Refused, OSError):
                if not refusable:
                    raise
                refused += 1
                continue
            stack.callback(connection.close)
            if max_pdu_bytes != MAX_PDU_BYTES:
                raise RuntimeError(f"{server.name} takes PDUs of {max_pdu_bytes} bytes, not of {MAX_PDU_BYTES}")
            tasks.append({"protocol": "dimse", "socket": connection.fileno()} | vars(batch))
        inherited = [task[name] for task in tasks for name in ("socket", "memory")]
        yield stack.enter_context(_started(server, tasks, inherited)), refused


@contextmanager
def prepared_stow(server: Server, instances: Sequence[Instance], connections: int) -> Iterator[Sender]:
    """STOW-RS requests of one instance each; each connection sends all instances, as others than the next."""
    batch = list(messages.storing(instances, messages.stow(server)))
    with messages.batches([batch] * connections) as batches, posting(server, batches) as sender:
        yield sender


@contextmanager
def prepared_cstore(server: Server, instances: Sequence[Instance], connections: int) -> Iterator[Sender]:
    """C-STORE requests over associations that are open."""
    batch = list(messages.storing(instances, messages.c_store(MAX_PDU_BYTES)))
    with messages.batches([batch] * connections) as batches, associated(server, batches) as (sender, _):
        yield sender


def once(server: Server, paths: Sequence[str], headers: Mapping[str, str], connections: int) -> Measurement:
    """GET each path once."""
    parts = [messages.getting(server, paths[number::connections], headers) for number in range(connections)]
    with messages.batches(parts) as batches, posting(server, batches) as sender:
        return sender.measure(60.0, once=True)[0]


def fill(server: Server, instances: Sequence[Instance], connections: int = 4) -> None:
    """Store all instances as they are, without measuring."""
    encode = messages.stow(server)
    batch = [(encode(instance), {}) for instance in instances]
    parts = [batch[number::connections] for number in range(connections)]
    with messages.batches(parts) as batches, posting(server, batches) as sender:
        sender.measure(600.0, once=True)


@contextmanager
def _started(server: Server, tasks: Sequence[dict], inherited: Sequence[int]) -> Iterator[Sender]:
    process = subprocess.Popen(
        [sys.executable, "-S", ROOT / "benchmarks" / "sender.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=inherited,
    )
    with process:
        try:
            process.stdin.write(json.dumps(tasks) + "\n")
            process.stdin.flush()
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError("the sender did not start")
            yield Sender(server, process)
        finally:
            with suppress(OSError):
                process.stdin.close()
