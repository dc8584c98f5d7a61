"""Requests as they go over the wire, encoded before the clock starts, in memory that the sender's process shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import urlsplit

from pydicom import dcmread

from benchmarks import cstore
from benchmarks.phantom import Instance
from benchmarks.servers import Server

_BOUNDARY = "benchmark-boundary"
_MULTIPART = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
_STUDY_KEYWORDS = "StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID PatientID AccessionNumber".split()
#: Digits at the end of a value that the sender writes over.
_DIGITS = 8
#: Bytes of a message in which names are looked for: all but pixels.
_HEADER = 64 << 10

Encode = Callable[[Instance], bytes]


@dataclass(frozen=True)
class Batch:
    """The messages of one connection: shared memory that holds them, where each is, and where each has its names."""

    memory: int
    messages: Sequence[tuple[int, int, Mapping[str, Sequence[int]]]]


@contextmanager
def batches(shares: Iterable[Iterable[tuple[bytes, Mapping[str, Sequence[int]]]]]) -> Iterator[list[Batch]]:
    """Shared memory for each connection's messages, as long as the block lasts."""
    made: list[Batch] = []
    try:
        for share in shares:
            memory = os.memfd_create("messages")
            made.append(Batch(memory, []))
            with os.fdopen(os.dup(memory), "wb") as file:
                made[-1] = Batch(memory, [(*_put(file, content), places) for content, places in share])
        yield made
    finally:
        for batch in made:
            os.close(batch.memory)


def storing(instances: Sequence[Instance], encode: Encode) -> Iterator[tuple[bytes, dict[str, list[int]]]]:
    """Requests that store; each can be made another instance, and a hundred of them another study."""
    for instance in instances:
        content = encode(instance)
        yield content, _places(content, instance)


def getting(server: Server, paths: Iterable[str], headers: Mapping[str, str]) -> Iterator[tuple[bytes, dict]]:
    """GET requests below the root of the DICOMweb service."""
    for path in paths:
        yield _request(server, "GET", f"/{path}", headers), {}


def stow(server: Server) -> Encode:
    """STOW-RS requests of one instance each, to this server."""
    headers = {"Content-Type": _MULTIPART, "Accept": "application/dicom+json"}

    def encode(instance: Instance) -> bytes:
        body = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + instance.content
        return _request(server, "POST", "/studies", headers, body + f"\r\n--{_BOUNDARY}--\r\n".encode())

    return encode


def c_store(max_pdu_bytes: int) -> Encode:
    """C-STORE messages in PDUs of at most this size."""
    return lambda instance: b"".join(cstore.pdus(instance, max_pdu_bytes))


def _request(server: Server, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    url = urlsplit(server.dicomweb)
    fields = {"Host": url.netloc, **headers, **server.headers} | ({"Content-Length": len(body)} if body else {})
    lines = [f"{method} {url.path}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def _put(file, content: bytes) -> tuple[int, int]:
    begin = file.tell()
    file.write(content)
    return begin, begin + len(content)


def _places(content: bytes, instance: Instance) -> dict[str, list[int]]:
    """Where the last digits are of what names the instance, and of what names its study, series and patient."""
    ds = dcmread(BytesIO(instance.content), stop_before_pixels=True, specific_tags=_STUDY_KEYWORDS)
    names = {"instance": [instance.instance_uid], "study": [str(ds.get(keyword, "")) for keyword in _STUDY_KEYWORDS]}
    return {
        level: [at for name in texts if name[-_DIGITS:].isdigit() for at in _ends(content[:_HEADER], name.encode())]
        for level, texts in names.items()
    }


def _ends(content: bytes, name: bytes) -> Iterator[int]:
    at = content.find(name)
    while at >= 0:
        yield at + len(name) - _DIGITS
        at = content.find(name, at + 1)
