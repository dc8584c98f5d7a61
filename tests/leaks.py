"""Looks for planted identity in whatever a running gateway keeps or says outside of objects. It needs no test runner.

Texts are looked for as they are and as they may be dressed up: in other character sets, in base64, hexadecimal or
percent-encoding, inside of gzip, zlib and zip, and in the pages and the journal that WiredTiger compresses.
"""

import base64
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import bson
import psutil
import pymongo
from bson.raw_bson import RawBSONDocument

_MAX_INFLATED = 32 << 20
_ZEROS = re.compile(rb"\0{64,}")
_GZIP, _ZIP = b"\x1f\x8b\x08", b"PK\x03\x04"
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
#: Of WiredTiger: where what is compressed begins in a page and in a record of the journal, and how these are aligned.
_PAGE_BYTES, _PAGE_SKIP = 4096, 64
_RECORD_BYTES, _RECORD_SKIP = 128, 16


@dataclass(frozen=True)
class Place:
    """Bytes that a gateway keeps or says: of what sort of place, where, and which of the texts may be there."""

    category: str
    name: str
    content: bytes
    allowed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Leak:
    """A planted text, and where it was found."""

    text: str
    category: str
    name: str


class Needles:
    """Texts to look for, in all their forms."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._forms = {text: frozenset(_forms(text)) for text in texts}

    def found(self, content: bytes) -> set[str]:
        """Which texts are in these bytes, or in what is packed in them."""
        found: set[str] = set()
        for piece in unpacked(_ZEROS.sub(b"\0" * 64, content)):
            folded = piece.lower()
            found |= {text for text, forms in self._forms.items() if any(form in folded for form in forms)}
        return found

    def leaks(self, places: Iterable[Place]) -> list[Leak]:
        """What was found where it may not be; what lies in several places is searched once."""
        found, leaks = dict[bytes, set[str]](), list[Leak]()
        for place in places:
            if place.content not in found:
                found[place.content] = self.found(place.content)
            texts = sorted(found[place.content] - place.allowed)
            leaks += [Leak(text, place.category, place.name) for text in texts]
        return leaks


def _forms(text: str) -> Iterator[bytes]:
    """All forms of a text, in lower case: bytes are compared in lower case, too."""
    for variant in {text, text.upper(), text.lower()}:
        for encoding in ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "iso2022_jp", "gb18030"):
            with suppress(UnicodeEncodeError):
                encoded = variant.encode(encoding)
                yield encoded.lower()
                yield encoded.hex().encode()
                yield quote(encoded).lower().encode()
                yield from _base64_forms(encoded)
        yield variant.encode("unicode_escape").lower()


def _base64_forms(encoded: bytes) -> Iterator[bytes]:
    """The characters that a text has in base64 for certain, at each of three offsets, in both alphabets."""
    for offset in range(3):
        shifted = b"\0" * offset + encoded
        whole = len(shifted) // 3 * 3
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            form = encode(shifted[:whole])[4 if offset else 0 :]
            if len(form) >= 8:  # less is found in any text
                yield form.lower()


def unpacked(content: bytes) -> Iterator[bytes]:
    """Bytes, and whatever is packed in them as gzip, zlib or zip has it."""
    yield content
    for begin in _all(content, _GZIP):
        yield from _inflated(content[begin:], 31)
    for mark in _ZLIB:
        for begin in _all(content, mark):
            yield from _inflated(content[begin:], 15)
    for begin in _all(content, _ZIP):
        names = sum(struct.unpack_from("<HH", content[begin : begin + 30].ljust(30, b"\0"), 26))
        yield from _inflated(content[begin + 30 + names :], -15)


def _all(content: bytes, mark: bytes) -> Iterator[int]:
    at = content.find(mark)
    while at >= 0:
        yield at
        at = content.find(mark, at + 1)


def _inflated(data: bytes, window: int) -> Iterator[bytes]:
    with suppress(zlib.error):
        if made := zlib.decompressobj(window).decompress(data, _MAX_INFLATED):
            yield made


def folder(path: Path, category: str, *, without: str = "") -> Iterator[Place]:
    """All files below a folder, and their names; but for one folder below it."""
    for file in sorted(path.rglob("*")):
        name = str(file.relative_to(path))
        if without and name.startswith(f"{without}/"):
            continue
        yield Place(f"{category} names", name, name.encode())
        if not file.is_file():
            continue
        content = file.read_bytes()
        yield Place(category, name, content)
        if file.suffix == ".wt" or file.name.startswith("WiredTigerLog."):
            yield Place(f"{category} expanded", name, b"\n".join(expanded(content, is_journal=file.suffix != ".wt")))


def database(uri_parts: Mapping[str, Any]) -> Iterator[Place]:
    """Every document of every collection of a mongod, the oplog, users and profiles too; indexes, and mongod's log."""
    with pymongo.MongoClient(**uri_parts, document_class=RawBSONDocument) as mongo:
        for database_name in mongo.list_database_names():
            found = mongo[database_name]
            for collection in found.list_collection_names():
                category = "oplog" if collection == "oplog.rs" else "database"
                raw = b"\n".join(document.raw for document in found[collection].find())
                yield Place(category, f"{database_name}.{collection}", raw)
                with suppress(pymongo.errors.OperationFailure):  # of the oplog there are none
                    raw = b"\n".join(bson.encode(index) for index in found[collection].list_indexes())
                    yield Place("indexes", f"{database_name}.{collection}", raw)
        for kind in ("global", "startupWarnings"):
            yield Place("database log", kind, bson.encode(mongo.admin.command("getLog", kind)))


def internal_user(data: Path) -> dict[str, Any]:
    """How to connect to a gateway's private mongod as the one who may read everything."""
    key = (data / "secrets" / "mongod.key").read_text("ascii")
    port = int((data / "mongo" / "isthmus.port").read_text("ascii"))
    names = {"username": "__system", "password": "".join(key.split()), "authSource": "local"}
    return {"host": "127.0.0.1", "port": port, "directConnection": True} | names


def processes(pid: int) -> Iterator[Place]:
    """What other programs can see of a process and its descendants: arguments, environment, names, and open files.

    Open files are read too, if they have a name no longer, or never had one.
    """
    parent, seen = psutil.Process(pid), set[tuple[int, int]]()
    for process in [parent, *parent.children(recursive=True)]:
        proc = Path(f"/proc/{process.pid}")
        for name in ("cmdline", "environ", "comm"):
            with suppress(OSError):
                yield Place("process", f"{process.pid} {name}", (proc / name).read_bytes())
        yield from _open_files(proc, seen)


def _open_files(proc: Path, seen: set[tuple[int, int]]) -> Iterator[Place]:
    """The names of open files, and what is in those that no folder has; each is read once."""
    with suppress(OSError):
        for descriptor in sorted((proc / "fd").iterdir()):
            with suppress(OSError):
                target, found = str(descriptor.readlink()), descriptor.stat()
                yield Place("open files", f"{proc.name} {target}", target.encode())
                nameless = target.endswith("(deleted)") or target.startswith("/dev/shm/")
                if nameless and stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    yield Place("open files", f"{proc.name} {target}", _written(descriptor))


def _written(path: Path) -> bytes:
    """What was written to a file that may be mostly holes."""
    pieces, at = [], 0
    with path.open("rb", buffering=0) as file, suppress(OSError):  # there is no more data
        while True:
            begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            pieces.append(os.pread(file.fileno(), at - begin, begin))
    return b"\n".join(pieces)


def expanded(content: bytes, *, is_journal: bool) -> Iterator[bytes]:
    """What WiredTiger compressed by snappy in a file: pages of a table, or records of the journal."""
    align, skip = (_RECORD_BYTES, _RECORD_SKIP) if is_journal else (_PAGE_BYTES, _PAGE_SKIP)
    for begin in range(0, len(content) - skip - 8, align):
        head = content[begin : begin + skip]
        is_compressed = head[8] & 1 if is_journal else head[25] & 1
        if not is_compressed:
            continue
        (length,) = struct.unpack_from("<Q", content, begin + skip)
        first = begin + skip + 8
        if 0 < length <= len(content) - first:
            with suppress(ValueError, IndexError):
                yield _unsnapped(content[first : first + length])


def _unsnapped(data: bytes) -> bytes:
    """Decode a snappy stream (google/snappy, format_description.txt); raise ValueError or IndexError if it is none."""
    at = shift = size = 0
    while True:
        size |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            break
    if size > _MAX_INFLATED:
        raise ValueError("too large")
    made = bytearray()
    while at < len(data):
        at = _element(data, at, made)
    if len(made) != size:
        raise ValueError("not snappy")
    return bytes(made)


def _element(data: bytes, at: int, made: bytearray) -> int:
    """Append what one element stands for; where the next begins."""
    tag, at = data[at], at + 1
    kind, length = tag & 3, tag >> 2
    if kind == 0:  # a literal, whose length may follow in 1 to 4 bytes
        if length >= 60:
            count = length - 59
            length, at = int.from_bytes(data[at : at + count], "little"), at + count
        made += data[at : at + length + 1]
        return at + length + 1
    if kind == 1:
        offset, length, at = (tag >> 5 << 8) | data[at], (length & 7) + 4, at + 1
    else:
        count = 2 if kind == 2 else 4
        offset, length, at = int.from_bytes(data[at : at + count], "little"), length + 1, at + count
    if not 0 < offset <= len(made):
        raise ValueError("not snappy")
    for _ in range(length):
        made.append(made[-offset])
    return at
