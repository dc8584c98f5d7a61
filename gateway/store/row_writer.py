"""What the catalogue keeps of an instance, and how new rows get in: by the thread that has just written the file.

So an instance goes from its bytes to its commit in one call of a worker thread. Threads that come while another inserts
wait, and the next of them inserts the rows of all. A blocking call of PyMongo costs half of one for asyncio (0.28 ms
instead of 0.50), and nothing is handed over to the event loop and back.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import BulkWriteError, ConnectionFailure, PyMongoError

from dicomweb.pixels.frames import FrameTable
from gateway.errors import CatalogueUnavailable
from gateway.store.arrivals import Stream
from gateway.store.generations import Generations

_MAX_GROUP = 256
#: MongoDB's code of a violated unique index.
_DUPLICATE_KEY = 11000


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """An instance as the catalogue keeps it.

    `digest` is the sameness of what was received, `stored_digest` of what is kept, `checksum` of the whole stored file;
    `keys` come from `scheme.py`, `number` and `item`, the text of a search result, from `items.py`; `json_gzip` is the
    compressed DICOM JSON; `sealed` is for the vault, empty where nothing was de-identified.
    """

    study_uid: str
    series_uid: str
    instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    key: str
    size: int
    checksum: bytes
    digest: bytes
    stored_digest: bytes
    frames: FrameTable
    pixel_offset: int
    keys: dict[str, Any]
    number: int
    item: bytes
    json_gzip: bytes
    source: str
    sealed: bytes = field(default=b"", repr=False)

    def document(self, arrival: int, at: datetime, scheme_id: str) -> dict[str, Any]:
        """The document of the row."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["_id"] = fields.pop("instance_uid")
        if not self.sealed:
            del fields["sealed"]
        return fields | {"frames": self.frames.pack(), "arrival": arrival, "at": at, "scheme": scheme_id}


class RowWriter:
    """Inserts rows, for any thread; each call blocks until they are durable."""

    def __init__(self, db: Any, generations: Generations, scheme_id: str) -> None:
        """Write to `db`, a database of a blocking client."""
        self._instances = db.instances
        self._stream = Stream(db)
        self._generations = generations
        self._scheme_id = scheme_id
        self._one = threading.Lock()
        self._waiting: deque[_Entry] = deque()

    def insert(self, row: InstanceRow) -> bool:
        """Insert a row; False if one with its UID is there.

        Raises CatalogueUnavailable: nobody knows then whether it was inserted.
        """
        entry = _Entry(row)
        self._waiting.append(entry)
        while not entry.done:
            with self._one:
                if not entry.done:
                    self._insert([self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_GROUP))])
        if entry.failure is not None:
            raise entry.failure
        return entry.inserted

    def _insert(self, group: list[_Entry]) -> None:
        """Settle these entries, in their order."""
        while group:
            try:
                count = self._inserted([entry.row for entry in group])
            except Exception as exc:  # noqa: BLE001 - each entry gets the failure
                if len(group) > 1 and not isinstance(exc, ConnectionFailure):
                    for entry in group:  # what one row is at fault for is no failure of the others
                        self._insert([entry])
                    return
                for entry in group:
                    entry.fail(exc)
                return
            for entry in group[:count]:
                entry.settle(inserted=True)
            for entry in group[count : count + 1]:
                entry.settle(inserted=False)
            group = group[count + 1 :]

    def _inserted(self, rows: Sequence[InstanceRow]) -> int:
        """Insert rows in their order; how many, which is less than all if one of them was there."""
        with self._generations.writing({row.study_uid for row in rows}):
            numbers = self._stream.numbers(len(rows))
            at = datetime.now(UTC)
            try:
                self._instances.insert_many(
                    [row.document(number, at, self._scheme_id) for number, row in zip(numbers, rows, strict=True)]
                )
            except BaseException as exc:
                if isinstance(exc, BulkWriteError) and is_duplicate(exc):
                    return int(exc.details["nInserted"])
                self._stream.end()
                raise
        return len(rows)


class _Entry:
    """A row that waits, and what became of it."""

    __slots__ = ("done", "failure", "inserted", "row")

    def __init__(self, row: InstanceRow) -> None:
        self.row = row
        self.inserted = False
        self.failure: Exception | None = None
        self.done = False

    def settle(self, *, inserted: bool) -> None:
        self.inserted = inserted
        self.done = True

    def fail(self, exc: Exception) -> None:
        self.failure = exc
        if isinstance(exc, PyMongoError):
            self.failure = CatalogueUnavailable()
            self.failure.__cause__ = exc
        self.done = True


def is_duplicate(exc: BulkWriteError) -> bool:
    """Whether another writer was faster, and nothing else went wrong."""
    details = exc.details or {}
    errors = details.get("writeErrors", [])
    duplicates = all(error.get("code") == _DUPLICATE_KEY for error in errors)
    return bool(errors) and duplicates and not details.get("writeConcernErrors")
