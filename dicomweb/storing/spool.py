"""Bulk data that arrives before it can be used waits in a file without a name: no crash leaves one behind.

It has not been de-identified yet, so what lies on the disk is encrypted, with a key that only this process has.
"""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from dicomweb.errors import OutOfSpace, TooLarge, Unavailable

#: Runs a blocking function in a pool of threads.
Run = Callable[..., Awaitable[Any]]
_CHUNK_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_KEY_BYTES, _BLOCK_BYTES = 32, 16


@dataclass(frozen=True, slots=True)
class Spooled:
    """A value in a spool file."""

    offset: int
    length: int


class SpoolFolder:
    """A private folder for spool files, with bounds on their number and on their bytes together."""

    def __init__(self, folder: Path, *, max_files: int = 64, max_bytes: int = 16 << 30) -> None:
        self._folder = folder
        self._files_left = max_files
        self._bytes_left = max_bytes

    def open(self, run: Run) -> Spool:
        """A spool of one request; it takes no file before something is put into it. Close it."""
        return Spool(self, run)

    def make(self) -> IO[bytes]:
        """A new file without a name. Blocking."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return tempfile.TemporaryFile(dir=self._folder, buffering=0)

    def take_file(self) -> None:
        """Count a file; raise Unavailable if there are too many."""
        if self._files_left == 0:
            raise Unavailable("Too many stores of bulk data at once; try again shortly.")
        self._files_left -= 1

    def take_bytes(self, count: int) -> None:
        """Count bytes; raise TooLarge if there are too many."""
        if count > self._bytes_left:
            raise TooLarge("The bulk data that waits to be stored is more than the gateway keeps.")
        self._bytes_left -= count

    def give_back(self, count: int) -> None:
        """A file with so many bytes is gone."""
        self._files_left += 1
        self._bytes_left += count


class Spool:
    """The spool file of one request, used by one task."""

    def __init__(self, folder: SpoolFolder, run: Run) -> None:
        self._folder = folder
        self._run = run
        self._file: IO[bytes] | None = None
        self._size = 0
        self._key = os.urandom(_KEY_BYTES)

    async def put(self, chunks: AsyncIterator[bytes]) -> Spooled:
        """Write a value to the end; raise OutOfSpace, TooLarge or Unavailable."""
        begin = self._size
        buffer = bytearray()
        async for chunk in chunks:
            buffer += chunk
            if len(buffer) >= _CHUNK_BYTES:
                await self._write(bytes(buffer))
                buffer.clear()
        if buffer:
            await self._write(bytes(buffer))
        return Spooled(begin, self._size - begin)

    async def get(self, value: Spooled) -> AsyncGenerator[bytes]:
        """Read a value in chunks."""
        at, end = value.offset, value.offset + value.length
        while at < end:
            data = await self.peek(Spooled(at, end - at), _CHUNK_BYTES)
            yield data
            at += len(data)

    async def peek(self, value: Spooled, count: int) -> bytes:
        """The first bytes of a value."""
        if self._file is None or not value.length:
            return b""
        data: bytes = await self._run(self._read, self._file.fileno(), min(count, value.length), value.offset)
        return data

    async def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            file, self._file = self._file, None
            self._folder.give_back(self._size)
            await asyncio.shield(asyncio.ensure_future(self._run(file.close)))

    async def _write(self, data: bytes) -> None:
        if self._file is None:
            self._folder.take_file()
            try:
                self._file = await self._run(self._folder.make)
            except BaseException as exc:  # of a task that is cancelled, too
                self._folder.give_back(0)
                if isinstance(exc, OSError):
                    raise _error(exc) from exc
                raise
        self._folder.take_bytes(len(data))
        begin, self._size = self._size, self._size + len(data)
        try:
            await self._run(self._append, self._file, data, begin)
        except OSError as exc:
            raise _error(exc) from exc

    def _append(self, file: IO[bytes], data: bytes, offset: int) -> None:
        view = memoryview(self._crypted(data, offset))
        while view:
            view = view[file.write(view) :]

    def _read(self, descriptor: int, count: int, offset: int) -> bytes:
        return self._crypted(os.pread(descriptor, count, offset), offset)

    def _crypted(self, data: bytes, offset: int) -> bytes:
        """Encrypt or decrypt what lies at an offset: AES in counter mode, of which each place is written once."""
        blocks, skipped = divmod(offset, _BLOCK_BYTES)
        counter = modes.CTR(blocks.to_bytes(_BLOCK_BYTES, "big"))
        stream = Cipher(algorithms.AES256(self._key), counter).encryptor()
        stream.update(bytes(skipped))
        return stream.update(data)


def _error(exc: OSError) -> OutOfSpace | Unavailable:
    return OutOfSpace() if exc.errno in _FULL else Unavailable("The folder for bulk data cannot be used.")
