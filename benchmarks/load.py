"""Loads by programs written in C, so that the client is not what is measured: wrk for rates, curl for downloads."""

from __future__ import annotations

import json
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
_ANSWERS = 3
_MAX_SECONDS = 30.0
_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Measurement:
    """One row on one server in one round.

    `rate` is requests or instances a second, `megabytes_per_s` of bodies; `cpu_ms` is what a request cost the server.
    """

    rate: float
    megabytes_per_s: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_ms: float | None = None


def wrk(tree: ProcessTree, url: str, headers: Mapping[str, str], *, connections: int, seconds: float) -> Measurement:
    """Ask for one URL again and again over `connections` connections, after two requests that warm it up."""
    fetch([url], headers)
    ((_, once_s),) = fetch([url], headers)
    # wrk counts answers that are complete: let a slow server complete a few on each connection.
    seconds = max(seconds, min(_MAX_SECONDS, _ANSWERS * connections * once_s))
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds:.0f}s", "--timeout", "60s"]
    command += ["-s", str(_SCRIPT), *(f"-H{name}: {value}" for name, value in headers.items()), url]
    output, cpu_s = costed(tree, lambda: subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found = json.loads(output.strip().splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise RuntimeError(f"{found['failed']} of {found['requests']} requests for {url} failed:\n{output}")
    rate = found["requests"] / found["seconds"]
    return Measurement(
        rate,
        found["bytes"] / found["seconds"] / 1e6,
        found["p50_ms"],
        found["p99_ms"],
        1000 * cpu_s / found["requests"],
    )


def download(tree: ProcessTree, urls: Sequence[str], headers: Mapping[str, str]) -> Measurement:
    """Get each URL once, one after the other, over one connection."""
    (answers, seconds), cpu_s = costed(tree, lambda: _timed(lambda: fetch(urls, headers)))
    times_ms = sorted(1000 * time_s for _, time_s in answers)
    return Measurement(
        len(answers) / seconds,
        sum(size for size, _ in answers) / seconds / 1e6,
        statistics.median(times_ms),
        times_ms[min(len(times_ms) - 1, round(0.99 * len(times_ms)))],
        1000 * cpu_s / len(answers),
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


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    begin = time.perf_counter()
    result = work()
    return result, time.perf_counter() - begin


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
