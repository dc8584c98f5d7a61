"""Loads by programs written in C, so that the client is not what is measured: wrk for rates, curl for downloads."""

from __future__ import annotations

import json
import random
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.processes import ProcessTree

T = TypeVar("T")
#: wrk counts answers that are complete: a slow server is given time for as many on each connection.
_ANSWERS = 2
_MAX_SECONDS = 20.0
_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Measurement:
    """One row on one server in one round.

    `rate` is requests or instances a second, `megabytes_per_s` of bodies; `cpu_ms` is what a request cost the server,
    `client_ms` what it cost who asked. `shares` are the requests that each of several clients sent.
    """

    rate: float
    megabytes_per_s: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_ms: float | None = None
    client_ms: float | None = None
    failed: int = 0
    shares: Sequence[int] = ()


def wrk(
    tree: ProcessTree, urls: Sequence[str], headers: Mapping[str, str], *, connections: int, seconds: float
) -> Measurement:
    """Ask for URLs of one server in turn over `connections` connections, after some requests that warm it up.

    Raise if a request fails.
    """
    fetch(urls[:1], headers)
    once_s = min(time_s for _, time_s in fetch(urls[-3:] if len(urls) > 3 else urls[:1], headers))
    seconds = max(seconds, min(_MAX_SECONDS, _ANSWERS * connections * once_s))
    found = crowd(tree, urls, headers, clients=1, connections=connections, seconds=seconds)
    if found.failed:
        raise RuntimeError(f"{found.failed} requests for {urls[0]} failed")
    return found


def crowd(
    tree: ProcessTree,
    urls: Sequence[str],
    headers: Mapping[str, str],
    *,
    clients: int,
    connections: int,
    seconds: float,
    apart: int = 0,
) -> Measurement:
    """Let several clients ask for URLs in turn, each over `connections` connections and from another place on.

    Each is a thread of wrk; they begin `apart` URLs from one another. Failed requests are told, not raised.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".paths") as file:
        file.write("\n".join("/" + url.split("/", 3)[3] for url in urls))
        file.flush()
        command = ["wrk", "-t", str(clients), "-c", str(clients * connections), "-d", f"{seconds:.0f}s"]
        command += ["--timeout", "60s", "-s", str(_SCRIPT), *(f"-H{name}: {value}" for name, value in headers.items())]
        command += [urls[0], *(["--", file.name, str(random.randrange(len(urls))), str(apart)] if urls[1:] else [])]
        used = children_s()
        output, cpu_s = costed(tree, lambda: subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found = json.loads(output.strip().splitlines()[-1])
    requests = found["requests"]
    if not requests:
        raise RuntimeError(f"no request for {urls[0]} was answered:\n{output}")
    return Measurement(
        rate=requests / found["seconds"],
        megabytes_per_s=found["bytes"] / found["seconds"] / 1e6,
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        cpu_ms=1000 * cpu_s / requests,
        client_ms=1000 * (children_s() - used) / requests,
        failed=found["failed"],
        shares=found["shares"],
    )


def download(tree: ProcessTree, urls: Sequence[str], headers: Mapping[str, str]) -> Measurement:
    """Get each URL once, one after the other, over one connection."""
    used = children_s()
    begin = time.perf_counter()
    answers, cpu_s = costed(tree, lambda: fetch(urls, headers))
    seconds = time.perf_counter() - begin
    taken_s = [time_s for _, time_s in answers]
    return Measurement(
        rate=len(urls) / seconds,
        # of the middle one: the first finds nothing warm, and curl's own start is in the total
        megabytes_per_s=statistics.median(size / time_s for size, time_s in answers) / 1e6,
        p50_ms=1000 * statistics.median(taken_s),
        p99_ms=1000 * percentile(taken_s, 0.99),
        cpu_ms=1000 * cpu_s / len(urls),
        client_ms=1000 * (children_s() - used) / len(urls),
    )


def fetch(urls: Sequence[str], headers: Mapping[str, str]) -> list[tuple[int, float]]:
    """Bytes and seconds of each answer; raise if one is not a success."""
    lines = [f'url = "{url}"\noutput = "/dev/null"\n' for url in urls]
    lines += [f'header = "{name}: {_quoted(value)}"\n' for name, value in headers.items()]
    lines += ['write-out = "%{http_code} %{size_download} %{time_total}\\n"\n', "silent\n"]
    with tempfile.NamedTemporaryFile("w", suffix=".curl") as file:
        file.writelines(lines)
        file.flush()
        command = ["curl", "--config", file.name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answers = [line.split() for line in output.splitlines()]
    refused = [status for status, _, _ in answers if not status.startswith("2")]
    if refused or len(answers) != len(urls):
        raise RuntimeError(f"{urls[0]} was answered with {refused or 'nothing'}")
    return [(int(size), float(time_s)) for _, size, time_s in answers]


def save(url: str, headers: Mapping[str, str], path: Path) -> None:
    """Keep the body of an answer as it is sent, compressed if so."""
    lines = [argument for name, value in headers.items() for argument in ("--header", f"{name}: {value}")]
    subprocess.run(["curl", "--silent", "--fail", *lines, "--output", path, url], check=True)


def costed(tree: ProcessTree, work: Callable[[], T]) -> tuple[T, float]:
    """The result of `work`, and the CPU seconds that the server used for it."""
    before = tree.cpu_s()
    result = work()
    return result, tree.cpu_s() - before


def children_s() -> float:
    """CPU seconds of the programs that were run and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
