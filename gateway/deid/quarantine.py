"""The quarantine: a folder where what was refused is kept, sealed, for whoever has the key to look into.

Each object is one file with a random name. The oldest stay when the folder is full.
The processes of a gateway share it.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from dicomweb.errors import NotFound, OutOfSpace
from gateway.config import QuarantineSettings
from gateway.deid.sealed_file import SealedReader, SealedWriter
from gateway.deid.vault import Vault
from gateway.errors import ConfigurationError, VaultError
from gateway.store.durable_names import sync_folder

_DAY_S: Final = 86_400.0
#: What is not finished and was not written to for so long is what a killed process left.
_ABANDONED_S: Final = 3_600.0
#: Between two looks at how much there is, while that is far from the bound or beyond it.
_LOOK_EVERY_S: Final = 5.0
#: Written by one file between two looks.
_LOOK_EVERY_BYTES: Final = 16 << 20
#: Below this bound, and beyond half of any, each file is counted exactly: nobody adds so much between two looks.
_FAR_BYTES: Final = 1 << 30
#: What a file takes at least.
_BLOCK_BYTES: Final = 4096
_SUFFIX, _DRAFT = ".sealed", ".part"
_ID: Final = re.compile(r"[0-9a-f]{32}")


class QuarantineFull(OutOfSpace):
    """The quarantine is full."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one object: when it came, from where, why it was refused, its size in bytes."""

    id: str
    at: datetime
    source: str
    reason: str
    size: int


class Quarantine:
    """The folder. Thread-safe; the calls block."""

    def __init__(self, folder: Path, vault: Vault, *, max_bytes: int, keep_days: int) -> None:
        """Keep up to `max_bytes` in `folder`, for `keep_days` unless that is 0."""
        self._folder = folder
        self._vault = vault
        self._max_bytes = max_bytes
        self._keep_s = keep_days * _DAY_S
        self._lock = threading.Lock()
        self._total, self._looked = 0, float("-inf")

    @classmethod
    def of(cls, settings: QuarantineSettings, vault: Vault) -> Self | None:
        """The quarantine that the settings ask for."""
        if settings.dir is None:
            return None
        return cls(settings.dir, vault, max_bytes=settings.max_mb << 20, keep_days=settings.keep_days)

    def prepare(self) -> None:
        """Make the folder; raise ConfigurationError if that cannot be, or others may read it."""
        folder = self._folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            is_open = bool(stat.S_IMODE(folder.stat().st_mode) & 0o077)
        except OSError as exc:
            raise ConfigurationError(f"Cannot use the folder quarantine.dir = {folder}.") from exc
        if is_open:
            raise ConfigurationError(f"Others may read quarantine.dir = {folder}; run: chmod 700 {folder}")

    def begin(self) -> Draft:
        """Begin a file; raise QuarantineFull or OSError."""
        if self._is_full(_LOOK_EVERY_S, _BLOCK_BYTES):
            raise QuarantineFull
        return Draft(self, self._folder / f"{secrets.token_hex(16)}{_DRAFT}", self._vault)

    def entries(self) -> list[Entry]:
        """All that is kept, the oldest first; what cannot be opened is among it, and says so."""
        found: list[Entry] = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # it was removed meanwhile
                found.append(self._entry(path))
        return sorted(found, key=lambda one: (one.at, one.id))

    def open(self, entry_id: str) -> SealedReader:
        """What is kept under an id; raise NotFound or VaultError."""
        try:
            return SealedReader(self._path(entry_id), self._vault)
        except FileNotFoundError:
            raise NotFound("The quarantine holds nothing of this id.") from None

    def remove(self, entry_id: str) -> None:
        """Remove what is kept under an id; raise NotFound."""
        try:
            self._path(entry_id).unlink()
        except FileNotFoundError:
            raise NotFound("The quarantine holds nothing of this id.") from None
        sync_folder(self._folder)
        self.look_again()

    def prune(self) -> int:
        """Remove what is older than it may be, and what killed processes left; return how many files."""
        removed = 0
        for path, info in self._files():
            age_s = time.time() - info.st_mtime
            is_old = age_s > _ABANDONED_S if path.suffix == _DRAFT else 0 < self._keep_s < age_s
            if is_old:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def look_again(self) -> None:
        """Something was removed: what is known of how much there is has passed."""
        with self._lock:
            self._looked = float("-inf")

    def check(self, size: int) -> None:
        """Count `size` bytes that a file has got; raise QuarantineFull if there is more than may be."""
        with self._lock:
            is_far = self._total + size < self._max_bytes // 2 and self._max_bytes > _FAR_BYTES
            self._total += size
        if self._is_full(_LOOK_EVERY_S if is_far else 0.0):
            raise QuarantineFull

    def publish(self, draft: Path, size: int) -> None:
        """Give a finished file its name, durably, unless there would be more than may be; `size` as `check` has it."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # of two that finish at once, the second sees the first
            self.check(size)
            draft.rename(draft.with_suffix(_SUFFIX))
            os.fsync(folder)
        finally:
            os.close(folder)

    def _is_full(self, trusted_s: float, more: int = 0) -> bool:
        """Whether there is more than may be, as of a look that is at most so old; what is too old is removed first."""
        with self._lock:
            if time.monotonic() - self._looked >= trusted_s:
                if self._look() + more > self._max_bytes and self.prune():
                    self._look()
                self._looked = time.monotonic()
            return self._total + more > self._max_bytes

    def _look(self) -> int:
        self._total = sum(max(info.st_size, _BLOCK_BYTES) for _, info in self._files())
        return self._total

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        with os.scandir(self._folder) as found:
            for item in found:
                if item.name.endswith((_SUFFIX, _DRAFT)):
                    try:
                        yield Path(item.path), item.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue

    def _entry(self, path: Path) -> Entry:
        try:
            with SealedReader(path, self._vault) as reader:
                said = reader.description
            return Entry(path.stem, datetime.fromisoformat(said["at"]), said["source"], said["reason"], said["size"])
        except (OSError, VaultError):
            at = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
            return Entry(path.stem, at, "", VaultError().message, path.lstat().st_size)

    def _path(self, entry_id: str) -> Path:
        if not _ID.fullmatch(entry_id):
            raise NotFound("The quarantine holds nothing of this id.")
        return self._folder / f"{entry_id}{_SUFFIX}"


class Draft:
    """One object on its way into the quarantine. The calls block, one at a time."""

    def __init__(self, quarantine: Quarantine, path: Path, vault: Vault) -> None:
        self._quarantine = quarantine
        self._path = path
        self._writer = SealedWriter(path, vault)
        self._looked = 0
        self._finished = False

    def write(self, chunks: Sequence[bytes]) -> None:
        """Go on with these bytes; raise QuarantineFull or OSError."""
        for chunk in chunks:
            self._writer.write(chunk)
        if self._writer.size - self._looked > _LOOK_EVERY_BYTES:
            self._look()

    def finish(self, source: str, reason: str) -> None:
        """Say where it came from and why it was refused, and keep it durably; raise QuarantineFull or OSError."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        size = self._writer.content_size
        self._writer.finish({"at": at, "source": source, "reason": reason, "size": size})
        self._quarantine.publish(self._path, self._writer.size - self._looked)
        self._finished = True

    def discard(self) -> None:
        """Remove it, unless it is finished. Idempotent."""
        self._writer.close()
        if not self._finished:
            self._path.unlink(missing_ok=True)
            self._quarantine.look_again()

    def _look(self) -> None:
        size, self._looked = self._writer.size - self._looked, self._writer.size
        self._quarantine.check(size)
