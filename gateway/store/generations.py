"""What the processes of one machine remember of the catalogue, and the shared numbers that tell when it is outdated.

Every write raises the number of each study that it touches, in memory that all processes of a data folder share,
before it is acknowledged. What was read from the catalogue may be given again as long as the number is the same: a
look-up costs a microsecond instead of the half millisecond of a question to MongoDB, and is never behind it.

Each process counts its own writes in a place of its own, so that nobody waits for another; the number is the sum over
all places. It also tells whether a write is under way anywhere, or nobody knows how one ended: then nothing is
remembered. Machines that share a catalogue share no memory: there the catalogue is opened without numbers, and every
question goes to MongoDB.
"""

from __future__ import annotations

import mmap
import os
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.byte_locks import is_anothers, lock, unlock

#: Studies share numbers: two that do are forgotten together, no more.
_STUDIES = 4095
#: Numbers of a place: one for all studies together, and those of studies.
_WIDTH = 1 + _STUDIES
#: Processes that open the same file, at most; the file has holes where no place was used.
_PLACES = 512
#: Before the places stands how many of them were ever taken, alone in a page.
_HEAD = 512
_BYTES = 8 * (_HEAD + _PLACES * _WIDTH)
#: A count holds the writes under way in its lower bits, and above them those that ended.
_ENDED = 1 << 24
_UNDER_WAY = _ENDED - 1
#: The byte of the file that is locked while a process opens it; before it come those of the places.
_DOOR = _PLACES


class Generations:
    """One number for all studies together, and one for each of some thousand groups of studies. For any thread.

    Without a file, nothing is ever current.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Map the file at `path`, which is made if it is not there; raise OSError if there is no room."""
        self._file: int | None = None
        self._numbers: memoryview | None = None
        self._place = 0
        self._lock = threading.Lock()
        self._begun = 0
        #: What this process does not know the state of, and how many writes had begun when that was found.
        self._unclear: set[int] = set()
        self._failed = 0
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._open(self._file)
            except OSError:
                os.close(self._file)
                raise

    def _open(self, file: int) -> None:
        lock(file, _DOOR, wait=True)
        numbers = _map(file)
        self._place = _take_place(file, numbers)
        self._numbers = numbers
        self._inherit()
        unlock(file, _DOOR)

    def close(self) -> None:
        """Give the memory and the place back; from now on nothing is current."""
        if self._file is not None and self._numbers is not None:
            self._numbers = None
            os.close(self._file)

    def of(self, study_uid: str | None) -> int | None:
        """The number of a study, or with None of all; None if what is read now must not be remembered."""
        if self._numbers is None:
            return None
        number = _sum(self._numbers, _slot(study_uid))
        return None if number & _UNDER_WAY else number

    def snapshot(self) -> bytes:
        """All numbers as they are now, for `unchanged`."""
        if self._numbers is None:
            return b""
        return self._numbers[: _HEAD + _WIDTH * self._numbers[0]].tobytes()

    def unchanged(self, snapshot: bytes, study_uid: str | None) -> bool:
        """Whether a study, or with None anything, is surely as it was when the snapshot was taken."""
        number = self.of(study_uid)
        return (
            number is not None and bool(snapshot) and number == _sum(memoryview(snapshot).cast("Q"), _slot(study_uid))
        )

    @contextmanager
    def writing(self, study_uids: Iterable[str] = ()) -> Iterator[None]:
        """A block that changes these studies; after an exception nobody knows whether it did, until the next that ends
        without.
        """
        slots = {0, *map(_slot, study_uids)}
        with self._lock:
            self._begun += 1
            number = self._begun
            self._add(slots, 1)
        try:
            yield
        except BaseException:
            with self._lock:
                self._add(slots & self._unclear, -1)
                self._unclear |= slots
                self._failed = self._begun
            raise
        with self._lock:
            self._add(slots, _ENDED - 1)
            if self._unclear and number > self._failed:
                self._add(self._unclear, _ENDED - 1)
                self._unclear = set()

    def unsettled(self) -> bool:
        """Whether there are writes, of this process or of one that is gone, of which nobody knows how they ended."""
        return bool(self._unclear or self._orphaned())

    @contextmanager
    def settling(self) -> Iterator[None]:
        """A block after which they have ended: it makes another write durable. For one at a time in a process."""
        orphaned = [place for place in self._orphaned() if self._file is not None and lock(self._file, place)]
        try:
            with self.writing():
                yield
            for place in orphaned:
                self._end_all(place)
        finally:
            for place in orphaned:
                if self._file is not None:
                    unlock(self._file, place)

    def _orphaned(self) -> list[int]:
        """Places with a write under way whose process is gone; the first number of a place is in each write."""
        if self._file is None or self._numbers is None:
            return []
        firsts = self._numbers[_HEAD : _HEAD + _WIDTH * self._numbers[0] : _WIDTH].tolist()
        return [
            place
            for place, number in enumerate(firsts)
            if number & _UNDER_WAY and place != self._place and not is_anothers(self._file, place)
        ]

    def _inherit(self) -> None:
        """Take over what whoever had the place before left under way, as a write that failed."""
        for slot, number in self._under_way(self._place):
            self._add([slot], 1 - (number & _UNDER_WAY))
            self._unclear.add(slot)

    def _end_all(self, place: int) -> None:
        for slot, number in self._under_way(place):
            if self._numbers is not None:
                self._numbers[_HEAD + _WIDTH * place + slot] = (number | _UNDER_WAY) + 1

    def _under_way(self, place: int) -> list[tuple[int, int]]:
        if self._numbers is None:
            return []
        start = _HEAD + _WIDTH * place
        numbers = self._numbers[start : start + _WIDTH].tolist()
        return [(slot, number) for slot, number in enumerate(numbers) if number & _UNDER_WAY]

    def _add(self, slots: Iterable[int], count: int) -> None:
        if self._numbers is not None:
            for slot in slots:
                self._numbers[_HEAD + _WIDTH * self._place + slot] += count


def _slot(study_uid: str | None) -> int:
    return 0 if study_uid is None else 1 + zlib.crc32(study_uid.encode()) % _STUDIES


def _sum(numbers: memoryview, slot: int) -> int:
    """The counts of a slot in all places.

    Since any earlier moment without a write under way they have only grown, at the next such moment: the sum is the
    same only if each of them is.
    """
    return sum(numbers[_HEAD + slot : _HEAD + _WIDTH * numbers[0] : _WIDTH].tolist())


def _map(file: int) -> memoryview:
    """The numbers of a file, made if it is new or of another version."""
    if os.fstat(file).st_size != _BYTES:
        os.ftruncate(file, 0)
        os.ftruncate(file, _BYTES)
        os.posix_fallocate(file, 0, 8 * _HEAD)
    return memoryview(mmap.mmap(file, _BYTES)).cast("Q")


def _take_place(file: int, numbers: memoryview) -> int:
    """Lock a place until the file is closed, or the process ends in whatever way; raise OSError if there is none.

    It takes its room on the disk now: who writes to a hole of a full disk by memory is killed.
    """
    place = next((place for place in range(numbers[0]) if lock(file, place)), None)
    if place is None:
        place = numbers[0]
        if place == _PLACES:
            raise OSError("There are too many processes of this gateway.")
        os.posix_fallocate(file, 8 * (_HEAD + _WIDTH * place), 8 * _WIDTH)
        lock(file, place)
        numbers[0] += 1
    return place
