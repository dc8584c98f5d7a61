"""Objects as files below one folder, durable when `commit` returns."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from dicomweb.errors import Conflict, IsthmusError, OutOfSpace
from dicomweb.ports import Bytes, Runner
from gateway.errors import ConfigurationError, ObjectNotFound, StoreUnavailable
from gateway.store import first_look, page_cache
from gateway.store.durable_names import DurableNames, sync_folder
from gateway.store.new_file import Buffer, NewFile
from gateway.store.objects import (
    CHUNK_BYTES,
    ObjectInfo,
    ObjectReader,
    ObjectStore,
    ObjectWriter,
    checked_key,
    is_key,
)
from gateway.threads import Threads

logger = logging.getLogger(__name__)
T = TypeVar("T")
#: What a writer holds before a thread writes it: most CT and MR images fit, and go from open to sync in one hop.
_BUFFER_BYTES = 1 << 20
#: What is read without a thread if it is in memory.
_AT_ONCE_BYTES = 1 << 20
#: Buffers that a writer holds at most.
_MAX_BUFFERS = 512


class FileSystemStore(ObjectStore):
    """Objects below `root`, a file each, named by their keys."""

    supports_paths = True

    def __init__(self, root: Path, workers: Threads) -> None:
        """Keep objects below `root`; blocking calls run in `workers`, which the caller closes after this store."""
        self._root = root.absolute()
        self._threads = _Threads(workers)
        self._names = DurableNames()
        self._seen = first_look.Seen()

    async def start(self) -> None:
        """Make the folder if it is missing, and check that a file in it can be written and synced."""
        try:
            await self._threads.run(_probe, self._root)
        except IsthmusError as exc:
            reason = getattr(exc.__cause__, "strerror", None) or exc.message
            raise ConfigurationError(f"The object folder {self._root} cannot be used: {reason}.") from exc

    async def close(self) -> None:
        """Nothing is held open."""

    async def create(self, key: str) -> ObjectWriter:
        """Begin to write; the file itself is made when the first buffer is full, or at commit."""
        return _FileWriter(self._root / checked_key(key), self._threads, self._names)

    def open(self, key: str, size: int) -> ObjectReader:
        """Read the file of `key`."""
        return _FileReader(self._root / checked_key(key), size, self._threads, self._seen)

    async def delete(self, key: str) -> None:
        """Unlink the file. Not synced: a file that a crash brings back has no row, and the sweeper takes it."""
        await self._threads.run(_unlink, self._root / checked_key(key))

    async def info(self, key: str) -> ObjectInfo:
        """Size and modification time of the file."""
        return await self._threads.run(_info, self._root / checked_key(key), key)

    async def list(self, *, older_than: timedelta = timedelta(0)) -> AsyncIterator[ObjectInfo]:
        """Walk the folders, one minute at a time, passing over those whose name is newer than the cutoff."""
        cutoff = datetime.now(UTC) - older_than
        for folder in await self._threads.run(_minutes, self._root, f"{cutoff:%Y%m%d/%H%M}"):
            for info in await self._threads.run(_objects, folder):
                if info.modified <= cutoff:
                    yield info

    def uri(self, key: str) -> str:
        """The file's URI."""
        return (self._root / checked_key(key)).as_uri()


class _Threads:
    """Runs blocking calls in the pool; their OSError becomes an error of the store."""

    def __init__(self, workers: Threads) -> None:
        self._workers = workers

    async def run(self, function: Callable[..., T], *args: object) -> T:
        try:
            return await self._workers.run(function, *args)
        except OSError as exc:
            raise _store_error(exc) from exc


def _store_error(exc: OSError) -> IsthmusError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfSpace()
    if isinstance(exc, FileExistsError):
        return Conflict("An object with this key exists.")
    if isinstance(exc, FileNotFoundError):
        return ObjectNotFound()
    return StoreUnavailable(f"The object store failed: {exc.strerror}.")


class _File:
    """A file descriptor read by one thread at a time: `close` waits for a call whose task was cancelled."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._closed = False

    def read(self, offset: int, length: int) -> bytes:
        with self._lock:
            if self._closed:
                raise ValueError("the file is closed")
            if self._descriptor is None:
                self._descriptor = _open_old(self._path)
            return _read_all(self._descriptor, offset, length)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)


class _OpenFile:
    """A file that is read; see `dicomweb.ports.StoredFile`."""

    def __init__(self, descriptor: int, threads: _Threads) -> None:
        self._descriptor = descriptor
        self._threads = threads

    def fileno(self) -> int:
        return self._descriptor

    async def load(self, offset: int, length: int) -> None:
        if not page_cache.holds(self._descriptor, offset, length):
            await self._threads.run(page_cache.load, self._descriptor, offset, length)

    def close(self) -> None:
        os.close(self._descriptor)


class _FileReader(ObjectReader):
    def __init__(self, path: Path, size: int, threads: _Threads, seen: first_look.Seen) -> None:
        self._path = path
        self._size = size
        self._threads = threads
        self._seen = seen

    @property
    def size(self) -> int:
        return self._size

    async def file(self) -> _OpenFile:
        descriptor = page_cache.open_known(str(self._path))
        if descriptor is None:
            descriptor = await self._threads.run(_open_old, self._path)
        return _OpenFile(descriptor, self._threads)

    async def read(self, offset: int = 0, length: int | None = None) -> bytes:
        count = self.end(offset, length) - offset
        if count <= _AT_ONCE_BYTES:
            data = page_cache.read(str(self._path), offset, count)
            if data is not None:
                return data
        return await self._threads.run(_read_file, self._path, offset, count)

    async def use(self, function: Callable[[Bytes], T], offset: int, length: int, run: Runner) -> T:
        path, count = str(self._path), self.end(offset, length) - offset
        if self._seen.is_first(path):
            return await self._threads.run(_use, function, _read_first, path, offset, count)
        is_at_hand = page_cache.likely_has(path, offset, count)
        return await (run if is_at_hand else self._threads.run)(_use, function, _read_file, path, offset, count)

    async def stream(self, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        end = self.end(offset, length)
        file = _File(self._path)
        try:
            while True:
                chunk = await self._threads.run(file.read, offset, min(CHUNK_BYTES, end - offset))
                if not chunk:
                    return
                yield chunk
                offset += len(chunk)
        finally:
            await asyncio.shield(self._threads.run(file.close))


class _FileWriter(ObjectWriter):
    def __init__(self, path: Path, threads: _Threads, names: DurableNames) -> None:
        self._path = path
        self._file = NewFile(path)
        self._threads = threads
        self._names = names
        self._buffers: list[Buffer] = []
        self._buffered = 0
        self._size = 0
        self._durable = False
        self._done = False

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self._size += len(data)
        self._buffered += len(data)
        full = self._buffered >= _BUFFER_BYTES or len(self._buffers) + 1 >= _MAX_BUFFERS
        # What stays in the buffer is copied unless it is immutable: the caller may reuse it. A full one is written now.
        self._buffers.append(data if full else bytes(data))
        if full:
            await self._threads.run(self._file.write, self._take())

    def write_now(self, pieces: Sequence[bytes | memoryview], *, last: bool) -> bool:
        self._size += sum(map(len, pieces))
        try:
            if last:
                self._finish(pieces)
            else:
                self._file.write(pieces)
        except OSError as exc:
            raise _store_error(exc) from exc
        return True

    async def commit(self) -> int:
        if not self._durable:
            await self._threads.run(self._finish, self._take())
        self._done = True
        return self._size

    async def abort(self) -> None:
        if self._done:
            return
        self._done = True
        self._take()
        try:
            await asyncio.shield(self._threads.run(self._file.discard))
        except IsthmusError as exc:
            logger.warning("an aborted object was left for the sweeper: %s", exc.message)

    def _finish(self, last: Sequence[Buffer]) -> None:
        """Write the end, and make the file durable and then its name."""
        self._file.finish(last)
        self._names.sync(self._path.parent)
        self._durable = True

    def _take(self) -> list[Buffer]:
        buffers, self._buffers, self._buffered = self._buffers, [], 0
        return buffers


def _open_old(path: str | Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _read_all(descriptor: int, offset: int, length: int) -> bytes:
    """Read up to the end of the file; one pread returns at most 2 GiB."""
    data = os.pread(descriptor, length, offset)
    if len(data) in (0, length):
        return data
    parts = [data]
    while data:
        offset += len(data)
        length -= len(data)
        data = os.pread(descriptor, length, offset)
        parts.append(data)
    return b"".join(parts)


def _read_file(path: str | Path, offset: int, length: int) -> bytes:
    descriptor = _open_old(path)
    try:
        return _read_all(descriptor, offset, length)
    finally:
        os.close(descriptor)


def _read_first(path: str, offset: int, length: int) -> Bytes:
    data = first_look.read(path, offset, length)
    return _read_file(path, offset, length) if data is None else data


def _use(
    function: Callable[[Bytes], T], read: Callable[[str, int, int], Bytes], path: str, offset: int, length: int
) -> T:
    try:
        data = read(path, offset, length)
    except OSError as exc:
        raise _store_error(exc) from exc
    return function(data)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _probe(root: Path) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = root / f".probe-{secrets.token_hex(8)}"
    try:
        with path.open("xb") as file:
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)
    sync_folder(root)


def _info(path: str | Path, key: str) -> ObjectInfo:
    status = os.stat(path)  # noqa: PTH116 - also given a scanned entry's path
    return ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _minutes(root: Path, last: str) -> list[Path]:
    """The minute folders up to `last` (YYYYMMDD/HHMM): an object is completed after its key was made."""
    days = [day for day in root.iterdir() if day.is_dir() and day.name <= last[:8]]
    minutes = [minute for day in days for minute in day.iterdir() if minute.is_dir()]
    return [minute for minute in minutes if f"{minute.parent.name}/{minute.name}" <= last]


def _objects(folder: Path) -> list[ObjectInfo]:
    """The objects of a minute folder, but for those deleted meanwhile."""
    found: list[ObjectInfo] = []
    strangers = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            key = f"{folder.parent.name}/{folder.name}/{entry.name}"
            if not is_key(key):
                strangers += 1
                continue
            with contextlib.suppress(FileNotFoundError):
                found.append(_info(entry.path, key))
    if strangers:
        logger.warning("%d files in %s are not objects of this store", strangers, folder)
    return found
