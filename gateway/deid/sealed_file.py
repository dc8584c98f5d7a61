"""Files that are sealed piece by piece, so that one of any size is written and read in little memory.

Each piece is a seal of the vault, bound to its file, its place there and whether it is the last: a piece that was
changed, left out, moved, or taken from another file does not open, and nor does a file that was cut off (the idea of
STREAM: Hoang, Reyhanitabar, Rogaway and Vizár, Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance,
2015). The last piece says what the file is, so that it can be written when that is known, and read alone.

The file: magic, 16 random bytes, then for each piece its length and the seal, then the length of the last piece with
its seal and the number of pieces before it.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from gateway.deid.vault import OVERHEAD_BYTES, Vault
from gateway.errors import VaultError

_MAGIC: Final = b"ISTHMSF1"
_PREFIX_BYTES: Final = 16
_HEAD_BYTES: Final = len(_MAGIC) + _PREFIX_BYTES
_LENGTH: Final = struct.Struct(">L")
_END: Final = struct.Struct(">LQ")
_PIECE_BYTES: Final = 1 << 20
_MAX_SEAL_BYTES: Final = _PIECE_BYTES + OVERHEAD_BYTES
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class SealedWriter:
    """A sealed file that is being written, readable by its owner alone. The calls block, one at a time."""

    def __init__(self, path: Path, vault: Vault) -> None:
        """Make the file, which may not exist yet."""
        self._vault = vault
        self._prefix = os.urandom(_PREFIX_BYTES)
        self._count = 0
        self._rest = bytearray()
        self._file = os.fdopen(os.open(path, _NEW, 0o600), "wb", buffering=0)
        #: Bytes of the file by now, and of what it holds.
        self.size = self.content_size = 0
        try:
            self._put(_MAGIC + self._prefix)
        except BaseException:
            self._file.close()
            path.unlink()  # nobody has it, to do so
            raise

    def write(self, data: bytes) -> None:
        """Go on with these bytes."""
        self.content_size += len(data)
        self._rest += data
        while len(self._rest) >= _PIECE_BYTES:
            self._piece(bytes(self._rest[:_PIECE_BYTES]))
            del self._rest[:_PIECE_BYTES]

    def finish(self, description: Mapping[str, Any]) -> None:
        """Write the last bytes and what the file is, and have it durable but for its name."""
        if self._rest:
            self._piece(bytes(self._rest))
        text = json.dumps(dict(description)).encode()
        seal = self._vault.seal(text, _context(self._prefix, self._count, last=True))
        self._put(seal + _END.pack(len(seal), self._count))
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        """Close the file, finished or not. Idempotent."""
        self._file.close()

    def _piece(self, data: bytes) -> None:
        seal = self._vault.seal(data, _context(self._prefix, self._count, last=False))
        self._put(_LENGTH.pack(len(seal)) + seal)
        self._count += 1

    def _put(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        self.size += len(data)


class SealedReader:
    """A sealed file that is read. The calls block; close it."""

    def __init__(self, path: Path, vault: Vault) -> None:
        """Open the file; raise OSError, or VaultError if it is not whole or not ours."""
        self._vault = vault
        self._file: BinaryIO = path.open("rb")
        try:
            self._prefix = self._begin()
            self._end, self._count, self.description = self._last()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def pieces(self) -> Iterator[bytes]:
        """What the file holds, in order; raise VaultError where that is not what was written."""
        self._file.seek(_HEAD_BYTES)
        for number in range(self._count):
            (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
            if length > _MAX_SEAL_BYTES:
                raise VaultError
            yield self._vault.open(self._exactly(length), _context(self._prefix, number, last=False))
        if self._file.tell() != self._end:
            raise VaultError

    def _begin(self) -> bytes:
        head = self._exactly(_HEAD_BYTES)
        if not head.startswith(_MAGIC):
            raise VaultError
        return head[len(_MAGIC) :]

    def _last(self) -> tuple[int, int, Mapping[str, Any]]:
        """Where the pieces end, how many there are, and what the file is."""
        size = self._file.seek(0, os.SEEK_END)
        if size < _HEAD_BYTES + _END.size:
            raise VaultError
        self._file.seek(-_END.size, os.SEEK_END)
        length, count = _END.unpack(self._exactly(_END.size))
        start = size - _END.size - length
        if length > _MAX_SEAL_BYTES or start < _HEAD_BYTES:
            raise VaultError
        self._file.seek(start)
        text = self._vault.open(self._exactly(length), _context(self._prefix, count, last=True))
        description: Mapping[str, Any] = json.loads(text)
        return start, count, description

    def _exactly(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) < length:
            raise VaultError
        return data


def _context(prefix: bytes, number: int, *, last: bool) -> bytes:
    return b"file:" + prefix + struct.pack(">Q?", number, last)
