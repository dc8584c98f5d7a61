"""What this machine can do at all: nginx sending the same bytes from a file, aiohttp from memory, a disk that syncs."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ProcessTree, running
from benchmarks.servers import ROOT, Server, Unavailable, await_http, free_port

_NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 2048; multi_accept on; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000; etag off;
  types {{}} default_type application/octet-stream;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {bodies}; }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """One process of nginx over the saved bodies of Isthmus' answers."""

    name: str = "nginx, a file"

    @contextmanager
    def start(self, folder: Path) -> Iterator[Server]:
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise Unavailable("nginx is not there: install nginx-light")
        port = free_port()
        configuration = folder / "nginx.conf"
        configuration.write_text(_NGINX.format(folder=folder, port=port, bodies=folder / "bodies"))
        with _served(self.name, [program, "-c", configuration], folder / "nginx.log", port) as server:
            yield server


@dataclass(frozen=True)
class BareAiohttp:
    """Processes of aiohttp whose only handler answers with the saved bodies, from memory."""

    processes: int = 1

    @property
    def name(self) -> str:
        return f"aiohttp, memory, {self.processes} process{'es' * (self.processes > 1)}"

    @contextmanager
    def start(self, folder: Path) -> Iterator[Server]:
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.bare_aiohttp", folder / "bodies", str(port), str(self.processes)]
        with _served(self.name, command, folder / "aiohttp.log", port) as server:
            yield server


@contextmanager
def _served(name: str, command: list[str | Path], log: Path, port: int) -> Iterator[Server]:
    url = f"http://127.0.0.1:{port}"
    with running(command, log, PYTHONPATH=str(ROOT)) as process, ProcessTree(process.pid).watched() as tree:
        await_http(url, log)
        yield Server(name, url, 0, "", tree, 0.0)


def synced_writes_per_s(folder: Path, content: bytes, count: int, threads: int) -> float:
    """Files a second that this disk makes durable: each written, synced, and its entry in the folder synced."""
    folder.mkdir(parents=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def write(number: int) -> None:
        with (folder / str(number)).open("xb", buffering=0) as file:
            file.write(content)
            os.fdatasync(file.fileno())
        os.fsync(descriptor)

    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, range(count)))
    rate = count / (time.perf_counter() - begin)
    os.close(descriptor)
    shutil.rmtree(folder)
    return rate
