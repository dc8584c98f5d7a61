"""Stored instances as one zip file, made on the way: nothing is compressed, no name tells whose they are."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator, Sequence

from dicomweb.ports import StoredInstance, StoredObject

# The smallest that the format knows: the same instances are always the same bytes.
_DATE_TIME = (1980, 1, 1, 0, 0, 0)


def names(instances: Sequence[StoredInstance]) -> list[str]:
    """A name for each file: its series and itself by number, since UIDs may lead to a patient."""
    series = {uid: number for number, uid in enumerate(dict.fromkeys(one.series_uid for one in instances), start=1)}
    return [f"{series[one.series_uid]:03d}/{number:06d}.dcm" for number, one in enumerate(instances, start=1)]


async def stream(files: Sequence[str], objects: Sequence[StoredObject]) -> AsyncIterator[bytes]:
    """The bytes of a ZIP64 file, in chunks of the size that the object store gives."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, strict_timestamps=True) as archive:
        for name, stored in zip(files, objects, strict=True):
            entry = zipfile.ZipInfo(name, _DATE_TIME)
            entry.file_size = stored.size
            with archive.open(entry, "w", force_zip64=True) as member:
                async for chunk in stored.stream():
                    member.write(chunk)
                    yield sink.drain()
            yield sink.drain()
    yield sink.drain()


class _Sink(io.RawIOBase):
    """What `zipfile` writes to; it cannot seek, so that lengths and checksums follow each file."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        """Files can be written to it."""
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        """Keep the bytes until they are drained."""
        self._pieces.append(bytes(data))
        return len(data)

    def drain(self) -> bytes:
        """What was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
