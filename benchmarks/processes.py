"""What a server costs: CPU seconds and memory of its process and of all below it, read from /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SAMPLE_EVERY_S = 0.25
#: With a limit, the samples are closer: what passes it is to be caught.
_GUARD_EVERY_S = 0.1
_END_TIMEOUT_S = 30.0
_ROLLUP = {"Rss:": 0, "Pss:": 1, "Private_Clean:": 2, "Private_Dirty:": 2}


@dataclass(frozen=True)
class Memory:
    """Of one process, in bytes: resident; the same with shared pages divided by who shares them; not shared at all."""

    pid: int
    name: str
    resident: int
    proportional: int
    unique: int


class ProcessTree:
    """A process and its descendants. Memory is sampled as long as the tree is watched; the peaks are kept.

    `peak_rss_bytes` is the sum of resident memory, pages that processes share counted in each; the two others are only
    known of a tree with a limit: `peak_pss_bytes` counts such a page once, `peak_largest_bytes` is the largest process
    that is no database.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self.peak_rss_bytes = self.peak_pss_bytes = self.peak_largest_bytes = 0
        self.exceeded = False
        self._stop = threading.Event()

    def cpu_s(self) -> float:
        """CPU seconds so far, in user and kernel mode, those of children that ended included."""
        return sum(sum(map(int, fields[11:15])) for _, fields in self._members()) / _TICKS_PER_S

    def rss_bytes(self) -> int:
        """Resident memory now; pages that processes share are counted in each."""
        return sum(int(fields[21]) for _, fields in self._members()) * _PAGE_BYTES

    def memory(self) -> list[Memory]:
        """What each process holds now. It takes the kernel milliseconds: not while rates are taken."""
        return [found for pid, _ in self._members() if (found := _memory(pid)) is not None]

    @contextmanager
    def watched(self, limit_bytes: int | None = None) -> Iterator[ProcessTree]:
        """Sample memory until the block ends; with a limit, kill what holds more and raise RuntimeError."""
        sample = self._sample if limit_bytes is None else lambda: self._guard(limit_bytes)
        every_s = _SAMPLE_EVERY_S if limit_bytes is None else _GUARD_EVERY_S
        thread = threading.Thread(target=self._repeat, args=(sample, every_s), name="memory", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()
            if self.exceeded:
                raise RuntimeError(f"the server held {self.peak_pss_bytes / 1e6:.0f} MB and was killed")

    def _repeat(self, sample, every_s: float) -> None:
        while not self._stop.wait(every_s):
            sample()

    def _sample(self) -> None:
        self.peak_rss_bytes = max(self.peak_rss_bytes, self.rss_bytes())

    def _guard(self, limit_bytes: int) -> None:
        found = self.memory()
        proportional = sum(one.proportional for one in found)
        self.peak_rss_bytes = max(self.peak_rss_bytes, sum(one.resident for one in found))
        self.peak_pss_bytes = max(self.peak_pss_bytes, proportional)
        largest = max((one.resident for one in found if "mongod" not in one.name), default=0)
        self.peak_largest_bytes = max(self.peak_largest_bytes, largest)
        if proportional > limit_bytes:
            self.exceeded = True
            for one in found:
                with suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGKILL)

    def _members(self) -> list[tuple[int, Sequence[str]]]:
        """Process id and the fields of /proc/PID/stat after the command's name, of the whole tree."""
        members, waiting = [], [self.root]
        while waiting:
            pid = waiting.pop()
            if fields := _stat(pid):
                members.append((pid, fields))
                waiting += _children(pid)
        return members


@contextmanager
def running(command: list[str | Path], log: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A server process with its output in `log` and its standard output to read, ended by SIGTERM after the block."""
    environ = os.environ | {"TCP_NODELAY": "1"} | environment
    with (
        log.open("a") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environ) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _children(pid: int) -> list[int]:
    """The processes that any thread of this one started."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - names are all we need
            with suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def _stat(pid: int) -> Sequence[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _memory(pid: int) -> Memory | None:
    sizes = [0, 0, 0]
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, *values = line.split()
            if name in _ROLLUP:
                sizes[_ROLLUP[name]] += 1024 * int(values[0])
        return Memory(pid, _name(pid), *sizes)
    except OSError:
        return None  # it ended meanwhile


def _name(pid: int) -> str:
    """What a process calls itself, the name of its program where that is no more than Python's."""
    return Path(f"/proc/{pid}/comm").read_text().strip()
