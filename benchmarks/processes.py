"""What a server costs: CPU seconds and memory of its process and of all below it, read from /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SAMPLE_EVERY_S = 0.25
_END_TIMEOUT_S = 30.0


class ProcessTree:
    """A process and its descendants. Memory is sampled as long as the tree is watched; its peak is kept."""

    def __init__(self, root: int) -> None:
        self.peak_rss_bytes = 0
        self.root = root
        self._stop = threading.Event()

    def cpu_s(self) -> float:
        """CPU seconds so far, in user and kernel mode, those of children that ended included."""
        return sum(sum(map(int, fields[11:15])) for _, fields in _members(self.root)) / _TICKS_PER_S

    def rss_bytes(self) -> int:
        """Resident memory now; pages that processes share are counted in each."""
        return sum(int(fields[21]) for _, fields in _members(self.root)) * _PAGE_BYTES

    @contextmanager
    def watched(self) -> Iterator[ProcessTree]:
        """Sample memory until the block ends."""
        thread = threading.Thread(target=self._sample, name="rss", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_EVERY_S):
            self.peak_rss_bytes = max(self.peak_rss_bytes, self.rss_bytes())


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


def _members(root: int) -> list[tuple[int, list[str]]]:
    """Process id and the fields of /proc/PID/stat after the command's name, of the tree below `root`."""
    found = {pid: fields for pid in _all_pids() if (fields := _stat(pid))}
    members, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        if pid in found:
            members.append((pid, found[pid]))
            waiting += [child for child, fields in found.items() if int(fields[1]) == pid]
    return members


def _all_pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208 - names are all we need


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
