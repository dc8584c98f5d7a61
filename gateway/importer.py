"""Brings files and folders into an archive, many at a time, and files out of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dicomweb.ports import StoreOutcome
from dicomweb.resource import Resource
from gateway.archive import Archive, Source

_CHUNK_BYTES = 1 << 20
_AT_ONCE = 16
_NOT_OBJECTS = frozenset({"DICOMDIR"})


@dataclass(slots=True)
class ImportReport:
    """What an import did: counts, and the reason for each file that was not taken."""

    stored: int = 0
    present: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)


def files_below(paths: Iterable[Path]) -> Iterator[Path]:
    """All files of these files and folders, in order, without hidden ones and DICOMDIRs, following no links."""
    for path in paths:
        if path.is_dir():
            inside = (item for item in sorted(path.rglob("*")) if item.is_file() and not item.is_symlink())
            yield from (item for item in inside if item.name not in _NOT_OBJECTS and not item.name.startswith("."))
        else:
            yield path


async def import_files(
    archive: Archive, paths: Iterable[Path], source: Source, progress: Callable[[], object] = lambda: None
) -> ImportReport:
    """Store files; a file that fails is reported and the rest goes on. `progress` is called after each."""
    report = ImportReport()
    waiting = iter(paths)

    async def work() -> None:
        for path in waiting:
            _note(report, path, await _store(archive, path, source))
            progress()

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(work())
    return report


async def _store(archive: Archive, path: Path, source: Source) -> StoreOutcome:
    try:
        return await archive.ingest(_read(path), source)
    except OSError as exc:
        return StoreOutcome(failure=0x0110, reason=f"The file cannot be read: {exc.strerror}.")


def _note(report: ImportReport, path: Path, outcome: StoreOutcome) -> None:
    if outcome.failure is not None:
        report.failed.append((path, outcome.reason))
    elif outcome.duplicate:
        report.present += 1
    else:
        report.stored += 1


async def _read(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        while data := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield data


async def export(archive: Archive, resource: Resource, folder: Path) -> int:
    """Write the instances of a resource as `STUDY/SERIES/INSTANCE.dcm` below `folder`; return how many."""
    instances = await archive.instances(resource)
    for instance in instances:
        target = folder / instance.study_uid / instance.series_uid / f"{instance.instance_uid}.dcm"
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        file = await asyncio.to_thread(target.open, "wb")
        with file:
            async for data in archive.open(instance).stream():
                await asyncio.to_thread(file.write, data)
    return len(instances)
