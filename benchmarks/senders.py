"""Ways to store a batch of instances: DCMTK's storescu, prepared C-STORE messages, prepared STOW-RS requests.

Each yields a function that sends all and returns when the last instance was acknowledged; only that call is timed.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.cstore import Sender
from benchmarks.phantom import Instance
from benchmarks.servers import Server

Send = Callable[[], None]
Way = Callable[[Server, Sequence[Instance], int, Path], AbstractContextManager[Send]]
_BOUNDARY = "benchmark-boundary"
_MULTIPART = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'


@contextmanager
def storescu(server: Server, instances: Sequence[Instance], connections: int, scratch: Path) -> Iterator[Send]:
    """DCMTK's program, as many at once as `connections`; its start and its reading of files are in the time."""
    folders = [_write(scratch / str(number), share) for number, share in enumerate(shares(instances, connections))]
    command = ["storescu", "--propose-little", "--max-send-pdu", "131072", "--call", server.ae_title]
    command += ["--scan-directories", "127.0.0.1", str(server.dicom_port)]
    try:
        yield lambda: _all([lambda folder=folder: _run([*command, str(folder)]) for folder in folders])
    finally:
        shutil.rmtree(scratch)


@contextmanager
def prepared_cstore(server: Server, instances: Sequence[Instance], connections: int, _: Path) -> Iterator[Send]:
    """Messages encoded before, over `connections` associations opened before."""
    with ExitStack() as stack:
        parts = shares(instances, connections)
        senders = [stack.enter_context(closing(Sender(server, part))) for part in parts]
        yield lambda: _all([sender.send for sender in senders])


@contextmanager
def prepared_stow(server: Server, instances: Sequence[Instance], connections: int, _: Path) -> Iterator[Send]:
    """A request for each instance, over `connections` connections."""
    parts = [[_body(instance.content) for instance in share] for share in shares(instances, connections)]
    yield lambda: _all([lambda part=part: _post(server, part) for part in parts])


def shares(instances: Sequence[Instance], count: int) -> list[Sequence[Instance]]:
    """The instances dealt out to `count` senders."""
    return [instances[number::count] for number in range(count)]


def _all(sends: Sequence[Send]) -> None:
    with ThreadPoolExecutor(len(sends)) as pool:
        for future in [pool.submit(send) for send in sends]:
            future.result()


def _write(folder: Path, instances: Sequence[Instance]) -> Path:
    folder.mkdir(parents=True)
    for number, instance in enumerate(instances):
        (folder / f"{number:05d}.dcm").write_bytes(instance.content)
    return folder


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"storescu failed: {(done.stderr or done.stdout)[-1000:]}")


def _body(content: bytes) -> bytes:
    head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return head + content + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _post(server: Server, bodies: Sequence[bytes]) -> None:
    url = urlsplit(server.dicomweb)
    headers = {"Content-Type": _MULTIPART, "Accept": "application/dicom+json", **server.headers}
    with closing(HTTPConnection(url.hostname, url.port, timeout=60)) as connection:
        for body in bodies:
            connection.request("POST", f"{url.path}/studies", body, headers)
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise RuntimeError(f"an instance was answered with {response.status}: {answer[:500]!r}")
