"""DCMTK's storescu as a load: programs that read files and send them, as a modality's or a PACS's would."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.load import Measurement, children_s, costed
from benchmarks.phantom import Instance
from benchmarks.senders import MAX_PDU_BYTES
from benchmarks.servers import Server


def send(
    server: Server, instances: Sequence[Instance], connections: int, repeats: int, scratch: Path
) -> tuple[Measurement, int]:
    """DCMTK's program, as many at once as `connections`, each sending all instances under UIDs of its own invention.

    The start of the programs and their reading of files are in the time.
    """
    folder = _write(scratch, instances)
    command = ["storescu", "--propose-little", "--max-send-pdu", str(MAX_PDU_BYTES), "--call", server.ae_title]
    command += ["--repeat", str(repeats), "--invent-series", "100", "--invent-study", "1", "--scan-directories"]
    command += ["127.0.0.1", str(server.dicom_port), str(folder)]
    used = children_s()
    begin = time.perf_counter()
    try:
        _, cpu_s = costed(server.tree, lambda: _run(command, connections))
    finally:
        shutil.rmtree(folder)
    seconds = time.perf_counter() - begin
    count = len(instances) * repeats * connections
    size = sum(len(one.content) for one in instances) * repeats * connections
    client_ms = 1000 * (children_s() - used) / count
    measured = Measurement(count / seconds, size / seconds / 1e6, cpu_ms=1000 * cpu_s / count, client_ms=client_ms)
    return measured, count


def _write(folder: Path, instances: Sequence[Instance]) -> Path:
    folder.mkdir(parents=True)
    for number, instance in enumerate(instances):
        (folder / f"{number:05d}.dcm").write_bytes(instance.content)
    return folder


def _run(command: Sequence[str], times: int) -> None:
    """Run a command so many times at once."""
    with ThreadPoolExecutor(times) as pool:
        for done in pool.map(
            lambda _: subprocess.run(command, check=False, capture_output=True, text=True), range(times)
        ):
            if done.returncode:
                raise RuntimeError(f"storescu failed: {(done.stderr or done.stdout)[-1000:]}")
