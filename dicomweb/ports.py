"""What the DICOMweb handlers need of the server behind them; gateway implements these Protocols."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from aiohttp import web
from pydicom import Dataset

from dicomweb.pixels.frames import FrameTable
from dicomweb.query import STANDARD_KEYS, Key, Query, SearchKeys, TagPath
from dicomweb.resource import Resource
from dicomweb.storing.spool import SpoolFolder
from dicomweb.storing.uploads import Uploads

T = TypeVar("T")
#: What is read, whoever holds its memory.
Bytes = bytes | memoryview
#: One item of the DICOM JSON model (PS3.18 Annex F).
JsonDataSet = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """What a retrieval needs to know of a stored instance, from one catalogue look-up.

    `key` names its Part 10 file in the object store; `size` is that file's length in bytes; `etag` is a strong
    validator without quotes. `transfer_syntax_uid` is never Implicit, Big Endian or Deflated: ingest re-encodes those.
    `pixel_offset` is where the Pixel Data element (its tag) starts in the file, 0 if it has none.
    """

    study_uid: str
    series_uid: str
    instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    key: str
    size: int
    etag: str
    frames: FrameTable
    pixel_offset: int = 0

    @property
    def resource(self) -> Resource:
        """The instance as a DICOMweb resource."""
        return Resource(self.study_uid, self.series_uid, self.instance_uid)


class StoredFile(Protocol):
    """A file that the kernel can send; close it."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...

    async def load(self, offset: int, length: int) -> None:
        """Have a range of it in memory, so that nobody who sends it waits for a disk."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class StoredObject(Protocol):
    """The bytes of one stored file."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    async def file(self) -> StoredFile | None:
        """The file on a local disk, opened; None in an object store."""
        ...

    async def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range into memory; to the end without `length`."""
        ...

    async def use(self, function: Callable[[Bytes], T], offset: int, length: int, run: Runner) -> T:
        """What a function gives for a range, called in the thread that reads it if that can be.

        `run` runs what waits for neither a disk nor a server. It bounds how much of that is done at once, the others
        do not: the function must be quick and take little memory.
        """
        ...

    def stream(self, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Iterate over a range in chunks of bounded size."""
        ...


@dataclass(frozen=True, slots=True)
class Metadata:
    """DICOM JSON of a study, series or instance: a gzip-compressed JSON array, and its validator without quotes."""

    gzip_body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of results as DICOM JSON items, and how many more there are after it, or that many at least.

    Items that were encoded when they were stored come as `dicomweb.ready.ReadyItems`, whose texts need only be joined.
    """

    items: Sequence[JsonDataSet]
    remaining: int
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """What became of one instance that was sent to be stored. A failure is data, not an exception.

    `sop_class_uid` and `instance_uid` are as the sender sent them, empty if unreadable; `stored` is the resource under
    which it is kept, None if it failed. `failure` is a Failure Reason (PS3.18 Table I.2-2), `warning` a Warning Reason.
    `reason` is one sentence without patient data; `status` the HTTP status that this failure alone would deserve.
    """

    sop_class_uid: str = ""
    instance_uid: str = ""
    stored: Resource | None = None
    failure: int | None = None
    warning: int | None = None
    reason: str = ""
    status: int = 200
    duplicate: bool = False


class Archive(Protocol):
    """An archive as one caller sees it: the caller's rights and the source's policy are bound to it."""

    def version(self, study_uid: str | None) -> int | None:
        """A number of a study, or with None of the whole archive, that is another one after every write to it.

        What was read after this was asked may be given again while it is the same; None: nothing may be remembered.
        """
        ...

    async def search(self, query: Query) -> SearchPage:
        """Find studies, series or instances. Items carry every default attribute of their level, sorted by tag,
        but for Retrieve URL (0008,1190), which the handler adds. Same query, same order.
        """
        ...

    async def search_keys(self) -> SearchKeys:
        """What `search` can match by now."""
        ...

    async def instances(self, resource: Resource) -> Sequence[StoredInstance]:
        """All instances of a resource in a stable order; raise NotFound, or Gone if it was deleted."""
        ...

    async def metadata(self, resource: Resource) -> Metadata:
        """The DICOM JSON of all instances of a resource; raise NotFound or Gone."""
        ...

    def open(self, instance: StoredInstance) -> StoredObject:
        """The stored Part 10 file of an instance."""
        ...

    async def store(self, part: AsyncIterator[bytes], *, study_uid: str | None = None) -> StoreOutcome:
        """Take in one Part 10 file as it arrives; when this returns without failure it is durable.

        With `study_uid` an instance of any other study is a failure (PS3.18 section 10.5.1). Raises only where the
        server itself cannot go on (Unavailable, OutOfSpace).
        """
        ...

    async def delete(self, resource: Resource) -> int:
        """Delete a resource and all below it; return how many instances went. Raise NotFound or Gone."""
        ...


class EventQueue(Protocol):
    """The events of one connection, in order; bounded, so that a slow reader is ended rather than waited for."""

    async def get(self) -> tuple[str, tuple[int, JsonDataSet]] | None:
        """Wait for the next event: its workitem's UID, type and attributes; None ends the connection."""
        ...


class Worklist(Protocol):
    """The worklist as one caller sees it (PS3.18 chapter 11); `dicomweb.worklist.transitions` has the rules.

    Every method raises NotFound, Gone, BadRequest or `dicomweb.worklist.states.Told`. Texts that are returned go into a
    Warning header, empty ones do not.
    """

    async def create(self, uid: str, item: JsonDataSet) -> tuple[str, str]:
        """Add a workitem; return the UID under which it is kept, and a warning. Raise Conflict if it exists."""
        ...

    async def get(self, uid: str) -> JsonDataSet:
        """A workitem without its Transaction UID."""
        ...

    async def update(self, uid: str, changes: JsonDataSet, transaction_uid: str) -> str:
        """Set attributes; return a warning."""
        ...

    async def change_state(self, uid: str, information: JsonDataSet, transaction_uid: str) -> str:
        """Set the state that `information` names; return a warning."""
        ...

    async def request_cancel(self, uid: str, information: JsonDataSet, requester: str) -> str:
        """Ask that a workitem be canceled; return a warning."""
        ...

    async def search(self, query: Query) -> SearchPage:
        """Find workitems by attributes of `dicomweb.worklist.search.KEYS`."""
        ...

    async def subscribe(self, uid: str, title: str, *, locked: bool, pairs: Sequence[tuple[str, str]]) -> bool:
        """Subscribe an application entity to a workitem, to all or to those that match; whether the lock is granted."""
        ...

    async def unsubscribe(self, uid: str, title: str) -> None:
        """Remove a subscription."""
        ...

    async def suspend(self, uid: str, title: str) -> None:
        """Subscribe to no further workitems."""
        ...

    def listen(self, title: str | None) -> AbstractAsyncContextManager[EventQueue]:
        """The events from now on for one application entity, or for all that the caller has subscribed."""
        ...


#: Reads frame `number` (from 1): array of (rows, columns[, samples]) and its photometric interpretation.
FrameSource = Callable[[int], Awaitable[tuple[np.ndarray, str]]]


@dataclass(frozen=True, slots=True)
class AnonymousCopy:
    """An instance without identity.

    Attributes
    ----------
    header : de-identified, with new UIDs and file meta information.
    clean : blanks what is written on a frame, given it decoded and its photometric interpretation; pure CPU.
    """

    header: Dataset
    clean: Callable[[np.ndarray, str], np.ndarray]


class Anonymizer(Protocol):
    """Makes copies as PS3.15 Annex E has it: Basic Profile with the Clean Pixel Data Option."""

    async def copy(self, instance: StoredInstance, header: Dataset, read: FrameSource) -> AnonymousCopy:
        """De-identify a copy of a header, and look through the frames for what must be blanked; `header` stays.

        Raises Refused where that cannot be done safely.
        """
        ...


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance as a commitment request names it; study and series are empty where it does not say them."""

    sop_class_uid: str
    instance_uid: str
    study_uid: str = ""
    series_uid: str = ""


@dataclass(frozen=True, slots=True)
class Commitment:
    """What was asked, and which of it, by position, is not committed for which Failure Reason (PS3.3 C.14.1.1)."""

    references: Sequence[Reference]
    failures: Mapping[int, int]


class Commitments(Protocol):
    """Storage commitment as the caller of a request sees it: UIDs are as this caller sends them."""

    async def request(
        self, request: web.Request, transaction_uid: str, references: Sequence[Reference]
    ) -> Commitment | None:
        """Begin to check; None where that takes longer. Raise Conflict if the transaction UID is in use."""
        ...

    async def result(self, request: web.Request, transaction_uid: str) -> Commitment | None:
        """The result; None while it is worked on. Raise NotFound, or Gone if it is kept no longer."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What `dicomweb.routes.add_routes` binds its handlers to.

    Attributes
    ----------
    archive : gives the archive as the caller of a request sees it.
    run : runs a blocking function in a bounded pool.
    public_base : absolute URL of the DICOMweb root as the caller reaches it, without a trailing slash.
    limits : bounds on what one request may take.
    search_keys : all that the archive can be searched by, once it is built.
    spool : where bulk data that arrives before it can be used waits.
    uploads : bounds on the uploads of the process.
    commitments : storage commitment, if the archive offers it.
    worklist : gives the worklist as the caller of a request sees it; without one there is no such service.
    anonymizer : makes de-identified copies of what is stored; without one nobody can ask for them.
    """

    archive: Callable[[web.Request], Archive]
    run: Runner
    public_base: Callable[[web.Request], str]
    limits: Limits = field(default_factory=lambda: Limits())
    search_keys: Mapping[TagPath, Key] = field(default_factory=lambda: STANDARD_KEYS)
    spool: SpoolFolder = field(default_factory=lambda: SpoolFolder(Path(tempfile.gettempdir())))
    uploads: Uploads = field(default_factory=lambda: Uploads())
    commitments: Commitments | None = None
    worklist: Callable[[web.Request], Worklist] | None = None
    anonymizer: Anonymizer | None = None


class Runner(Protocol):
    """Runs `function(*args)` in a bounded pool of threads."""

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        """Await the result."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request: parts of a STOW body, bytes of one part, items of a search page, pixels of a rendering,
    bytes of the voxels of a rendered volume; of these a worker also keeps no more than that between requests.

    `read_timeout_s` is how long a STOW body may pause; all its pauses together may last as long, and a second more for
    every `min_bytes_per_s` that have come. `max_metadata_bytes` bounds the JSON or XML of a request in memory.
    """

    max_parts: int = 100_000
    max_part_bytes: int = 8 << 30
    max_results: int = 10_000
    default_results: int = 1_000
    max_pixels: int = 1 << 26
    max_volume_bytes: int = 1 << 30
    read_timeout_s: float = 60.0
    min_bytes_per_s: float = 1024.0
    max_metadata_bytes: int = 32 << 20
