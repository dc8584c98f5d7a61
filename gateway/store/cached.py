"""A remote object store with a bounded cache of whole objects on a local disk, shared by the processes of a machine.

A request for a frame of a remote object costs a round trip and some ms of CPU time. The first one fetches the whole
object; from then on it is read, or sent by the kernel, as if the store were a folder. What goes wrong with the cache
makes reading slow, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from dicomweb.ports import StoredFile
from gateway.errors import ConfigurationError, ObjectNotFound, StoreUnavailable
from gateway.store.copies import Copies, Incoming
from gateway.store.filesystem import FileSystemStore
from gateway.store.objects import ObjectInfo, ObjectReader, ObjectStore, ObjectWriter
from gateway.workers import Workers

logger = logging.getLogger(__name__)
T = TypeVar("T")
#: An object up to this is waited for while it is fetched; ranges of a larger one are read from the remote store until
#: it has come. What is written up to this goes into the cache at once.
_SMALL_BYTES = 8 << 20
#: Objects larger than this share of the cache are not kept.
_SHARE = 8
_FETCHES = 16
_WRITE_BYTES = 1 << 20
#: How exactly it is known what was used last.
_TOUCH_EVERY_S = 600.0
_MAX_TOUCHED = 20_000


class CachedStore(ObjectStore):
    """`remote`, with copies of what is read and written in `folder`, of at most `max_bytes` together."""

    def __init__(self, remote: ObjectStore, folder: Path, max_bytes: int, workers: Workers) -> None:
        self._remote = remote
        self._folder = folder
        self._cache = _Cache(Copies(folder, max_bytes), max_bytes // _SHARE, remote, workers)
        self._local = FileSystemStore(folder, workers.io)

    @property
    def origin(self) -> ObjectStore:
        """The remote store."""
        return self._remote

    async def start(self) -> None:
        """Start the remote store, and make the folder."""
        await self._remote.start()
        try:
            await self._cache.prepare()
        except OSError as exc:
            raise ConfigurationError(f"The cache folder {self._folder} cannot be used: {exc.strerror}.") from exc

    async def close(self) -> None:
        """End what is being fetched, and close the remote store."""
        await self._cache.close()
        await self._remote.close()

    async def create(self, key: str) -> ObjectWriter:
        """Write to the remote store; a small object is likely to be looked at soon, and put into the cache."""
        return _Writer(await self._remote.create(key), key, self._cache)

    def open(self, key: str, size: int) -> ObjectReader:
        """Read the copy, or make one."""
        return _Reader(key, self._local.open(key, size), self._remote.open(key, size), self._cache)

    async def delete(self, key: str) -> None:
        """Delete the object, and then its copy, which nobody can fetch again."""
        await self._remote.delete(key)
        await self._cache.drop(key)

    async def info(self, key: str) -> ObjectInfo:
        """Ask the remote store."""
        return await self._remote.info(key)

    def list(self, *, older_than: timedelta = timedelta(0)) -> AsyncIterator[ObjectInfo]:
        """List the remote store."""
        return self._remote.list(older_than=older_than)

    def uri(self, key: str) -> str:
        """Where the remote store has it."""
        return self._remote.uri(key)


class _Cache:
    """Fetches copies, each once at a time, and notes their use."""

    def __init__(self, copies: Copies, max_object_bytes: int, remote: ObjectStore, workers: Workers) -> None:
        self._copies = copies
        self._max_object_bytes = max_object_bytes
        self._remote = remote
        self._workers = workers
        self._fetching: dict[str, asyncio.Task[bool]] = {}
        self._slots = asyncio.Semaphore(_FETCHES)
        self._touched: dict[str, float] = {}

    async def prepare(self) -> None:
        await self._run(self._copies.prepare)

    async def close(self) -> None:
        for task in self._fetching.values():
            task.cancel()
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)

    async def fetch(self, key: str, size: int) -> bool:
        """Whether there is a copy now. A large object comes while its ranges are read elsewhere. Raises as `read`."""
        if not 0 < size <= self._max_object_bytes:
            return False
        task = self._fetching.get(key)
        if task is None:
            task = self._fetching[key] = asyncio.create_task(self._fetch(key, size))
            task.add_done_callback(lambda done: self._fetched(key, done))
        return size <= _SMALL_BYTES and await asyncio.shield(task)

    async def keep(self, key: str, pieces: list[bytes]) -> None:
        """Make a copy of what was just written."""
        with suppress(OSError):
            await self._run(self._keep, key, pieces)

    async def drop(self, key: str) -> None:
        try:
            await self._run(self._copies.drop, key)
        except OSError as exc:
            logger.warning("a copy of a deleted object may be left in the cache: %s", exc.strerror)

    async def used(self, key: str) -> None:
        """Note that a copy was used, if that was not done a short time ago."""
        now = time.monotonic()
        if now - self._touched.get(key, -_TOUCH_EVERY_S) < _TOUCH_EVERY_S:
            return
        if len(self._touched) >= _MAX_TOUCHED:
            self._touched.clear()
        self._touched[key] = now
        await self._run(self._copies.touch, key)

    def _fetched(self, key: str, task: asyncio.Task[bool]) -> None:
        del self._fetching[key]
        if not task.cancelled():
            task.exception()  # who waits for it raises it; nobody may

    async def _fetch(self, key: str, size: int) -> bool:
        async with self._slots:
            try:
                incoming = await self._run(self._copies.begin, key)
                try:
                    await self._receive(incoming, self._remote.open(key, size))
                    if incoming.size == size:
                        await self._run(self._copies.add, incoming)
                    return incoming.size == size
                finally:
                    await asyncio.shield(self._run(incoming.close))
            except OSError as exc:
                logger.warning("the cache of objects cannot be written: %s", exc.strerror)
                return False

    async def _receive(self, incoming: Incoming, reader: ObjectReader) -> None:
        pieces: list[bytes] = []
        held = 0
        async with aclosing(reader.stream()) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                pieces.append(chunk)
                held += len(chunk)
                if held >= _WRITE_BYTES:
                    await self._run(_write, incoming, pieces)
                    pieces, held = [], 0
        await self._run(_write, incoming, pieces)

    def _keep(self, key: str, pieces: list[bytes]) -> None:
        incoming = self._copies.begin(key)
        try:
            _write(incoming, pieces)
            self._copies.add(incoming)
        finally:
            incoming.close()

    async def _run(self, function: Callable[..., T], *args: object) -> T:
        return await self._workers.io.run(function, *args)


class _Reader(ObjectReader):
    """Reads a copy if it is whole: copies are not synced, and of one that a power failure cut short a part is left."""

    def __init__(self, key: str, local: ObjectReader, remote: ObjectReader, cache: _Cache) -> None:
        self._key = key
        self._local = local
        self._remote = remote
        self._cache = cache

    @property
    def size(self) -> int:
        return self._remote.size

    async def file(self) -> StoredFile | None:
        file = await self._opened()
        if file is None and await self._cache.fetch(self._key, self.size):
            file = await self._opened()
        return file

    async def read(self, offset: int = 0, length: int | None = None) -> bytes:
        for is_last in (False, True):
            with suppress(ObjectNotFound, StoreUnavailable):
                data = await self._local.read(offset, length)
                if len(data) == self._local.end(offset, length) - offset:
                    await self._cache.used(self._key)
                    return data
            if is_last or not await self._cache.fetch(self._key, self.size):
                break
        return await self._remote.read(offset, length)

    async def stream(self, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        file = await self.file()
        if file is not None:
            file.close()
        source = self._remote if file is None else self._local
        async for chunk in source.stream(offset, length):
            yield chunk

    async def _opened(self) -> StoredFile | None:
        try:
            file = await self._local.file()
        except (ObjectNotFound, StoreUnavailable):
            return None
        if file is None or os.fstat(file.fileno()).st_size != self.size:
            if file is not None:
                file.close()
            return None
        await self._cache.used(self._key)
        return file


class _Writer(ObjectWriter):
    """Writes to the remote store, and remembers what a small object has, to be copied once it is there."""

    def __init__(self, remote: ObjectWriter, key: str, cache: _Cache) -> None:
        self._remote = remote
        self._key = key
        self._cache = cache
        self._pieces: list[bytes] = []
        self._size = 0

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        await self._remote.write(data)
        self._size += len(data)
        if self._size <= _SMALL_BYTES:
            self._pieces.append(bytes(data))
        else:
            self._pieces.clear()

    async def commit(self) -> int:
        size = await self._remote.commit()
        if 0 < size <= _SMALL_BYTES:
            await self._cache.keep(self._key, self._pieces)
        self._pieces.clear()
        return size

    async def abort(self) -> None:
        self._pieces.clear()
        await self._remote.abort()


def _write(incoming: Incoming, pieces: list[bytes]) -> None:
    for piece in pieces:
        incoming.write(piece)
