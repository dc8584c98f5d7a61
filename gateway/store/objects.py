"""The object store: immutable byte strings under keys. Backends: filesystem.py, s3.py; contract: testing.py."""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from dicomweb.ports import Bytes, Runner, StoredFile

T = TypeVar("T")
#: Bytes that a stream hands out at a time.
CHUNK_BYTES = 256 << 10
_KEY = re.compile(r"[0-9]{8}/[0-9]{4}/[0-9a-f]{32}\.[a-z0-9]{1,8}(?:\.[a-z0-9]{1,8})?", re.ASCII)


def new_key(suffix: str = "dcm") -> str:
    """A key nobody has used: `YYYYMMDD/HHMM/<128 random bits>.<suffix>`.

    The time groups what is written together, so that one directory sync covers a batch, and lets the sweeper list
    old keys only. Keys never hold a UID or anything else from the object.
    """
    return f"{datetime.now(UTC):%Y%m%d/%H%M}/{secrets.token_hex(16)}.{suffix}"


def is_key(text: str) -> bool:
    """Whether `text` has the form that `new_key` makes, and so cannot leave the store's root."""
    return _KEY.fullmatch(text) is not None


def checked_key(key: str) -> str:
    """Return `key` if it is one, else raise ValueError: keys come from `new_key`, never from a request."""
    if not is_key(key):
        raise ValueError("not a key of this object store")
    return key


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """A listed object: its key, bytes and when it was completed (UTC)."""

    key: str
    size: int
    modified: datetime


class ObjectWriter(ABC):
    """Writes one object. Until `commit` returns nothing is promised; after it the object survives a crash."""

    @abstractmethod
    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; memory used stays bounded whatever the size of the object. Raises OutOfSpace, StoreUnavailable."""

    def write_now(self, pieces: Sequence[bytes | memoryview], *, last: bool) -> bool:
        """Write from a worker thread instead, and with the `last` pieces make the object durable: `commit` still has
        to be called, but has nothing left to wait for. False if this store cannot, and nothing was written.

        Either all of an object is written so or nothing.
        """
        return False

    @abstractmethod
    async def commit(self) -> int:
        """Make the object durable and readable; return its size in bytes. Raises OutOfSpace, StoreUnavailable."""

    @abstractmethod
    async def abort(self) -> None:
        """Drop what was written. Idempotent, never raises, and harmless after `commit`."""


class ObjectReader(ABC):
    """One object's bytes; satisfies `dicomweb.ports.StoredObject`."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Length in bytes."""

    def end(self, offset: int, length: int | None) -> int:
        """Where a range ends: at the end of the object at the latest, and not before it begins."""
        return max(offset, self.size if length is None else min(self.size, offset + length))

    @abstractmethod
    async def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range; short at the end of the object. Raises ObjectNotFound, StoreUnavailable."""

    async def use(self, function: Callable[[Bytes], T], offset: int, length: int, run: Runner) -> T:
        """What a function gives for a range, called in a thread; `run` runs what does not wait. Raises like `read`."""
        return await run(function, await self.read(offset, length))

    @abstractmethod
    def stream(self, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Iterate over a range in chunks of at most CHUNK_BYTES. Raises like `read`, at the first step."""

    async def file(self) -> StoredFile | None:
        """The local file, opened; None where there is none. Raises like `read`."""
        return None


class ObjectStore(ABC):
    """Where objects live. Every method may be called by many tasks at once; all state belongs to one event loop."""

    #: Whether the objects are files that a sibling process on this machine can map or send.
    supports_paths: bool = False

    @property
    def origin(self) -> ObjectStore:
        """The store without a cache before it, for who wants to know what it really holds."""
        return self

    @abstractmethod
    async def start(self) -> None:
        """Connect and check that the store can be written. Raises ConfigurationError or StoreUnavailable."""

    @abstractmethod
    async def close(self) -> None:
        """Release all resources. Idempotent."""

    @abstractmethod
    async def create(self, key: str) -> ObjectWriter:
        """Begin to write a new object. Keys are used once: an existing key raises Conflict, at the latest at commit."""

    @abstractmethod
    def open(self, key: str, size: int) -> ObjectReader:
        """Read an object whose size the catalogue knows; does no I/O itself."""

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove an object; to remove one that is not there is no error."""

    @abstractmethod
    async def info(self, key: str) -> ObjectInfo:
        """Size and time of an object. Raises ObjectNotFound."""

    @abstractmethod
    def list(self, *, older_than: timedelta = timedelta(0)) -> AsyncIterator[ObjectInfo]:
        """All objects completed at least `older_than` ago, in any order."""

    @abstractmethod
    def uri(self, key: str) -> str:
        """`file:///…` or `s3://bucket/key`: how a plugin worker, which has its own credentials, finds the object."""

    async def put(self, key: str, data: bytes) -> int:
        """Write a whole object."""
        writer = await self.create(key)
        try:
            await writer.write(data)
            return await writer.commit()
        except BaseException:
            await writer.abort()
            raise
