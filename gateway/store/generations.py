"""What the processes of one machine remember of the catalogue, and the shared numbers that tell when it is outdated.

Every write raises the number of each study that it touches, in memory that all processes of a data folder share,
before it is acknowledged. What was read from the catalogue may be given again as long as the number is the same: a
look-up costs a microsecond instead of the half millisecond of a question to MongoDB, and is never behind it.

A number is odd while a write is under way, or if nobody knows how one ended: then nothing is remembered. Writers take
turns (see `turn.py`), so that there is one at a time. Machines that share a catalogue share no memory: there the
catalogue is opened without numbers, and every question goes to MongoDB.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Studies share numbers: two that do are forgotten together, no more.
_STUDIES = 4095
_BYTES = 8 * (1 + _STUDIES)


class Generations:
    """One number for all studies together, and one for each of some thousand groups of studies.

    Without a file, nothing is ever current.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Map the file at `path`, which is made if it is not there."""
        self._memory: mmap.mmap | None = None
        self._numbers: memoryview | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
                os.ftruncate(file.fileno(), _BYTES)
                self._memory = mmap.mmap(file.fileno(), _BYTES)
            self._numbers = memoryview(self._memory).cast("Q")

    def close(self) -> None:
        """Give the memory back, and the file descriptor that comes with it; from now on nothing is current."""
        if self._memory is not None and self._numbers is not None:
            self._numbers.release()
            self._numbers = None
            self._memory.close()

    def of(self, study_uid: str | None) -> int | None:
        """The number of a study, or with None of all; None if what is read now must not be remembered."""
        if self._numbers is None:
            return None
        number = self._numbers[0 if study_uid is None else _slot(study_uid)]
        return None if number % 2 else number

    def snapshot(self) -> bytes:
        """All numbers as they are now, for `unchanged`."""
        return b"" if self._numbers is None else self._numbers.tobytes()

    def unchanged(self, snapshot: bytes, study_uid: str | None) -> bool:
        """Whether a study, or with None anything, is surely as it was when the snapshot was taken."""
        if self._numbers is None or not snapshot:
            return False
        slot = 0 if study_uid is None else _slot(study_uid)
        number = self._numbers[slot]
        return not number % 2 and number == memoryview(snapshot).cast("Q")[slot]

    @contextmanager
    def writing(self, study_uids: Iterable[str]) -> Iterator[None]:
        """A block that changes these studies; after an exception nobody knows whether it did."""
        if self._numbers is None:
            yield
            return
        slots = {0, *map(_slot, study_uids)}
        for slot in slots:
            self._numbers[slot] += 1 + self._numbers[slot] % 2
        yield
        for slot in slots:
            self._numbers[slot] += 1

    def settle(self) -> None:
        """Begin anew when a server starts: what a crash left unclear is as the catalogue says."""
        if self._numbers is not None:
            for slot, number in enumerate(self._numbers):
                self._numbers[slot] = number + 2 - number % 2


def _slot(study_uid: str) -> int:
    return 1 + zlib.crc32(study_uid.encode()) % _STUDIES
