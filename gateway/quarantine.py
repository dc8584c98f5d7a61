"""What an operator does with the quarantine: look into it, take out, throw away, try again; each audited before."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

from dicomweb.ports import StoreOutcome
from gateway.archive import Source
from gateway.audit import Caller
from gateway.deid.quarantine import Entry, Quarantine
from gateway.deid.sealed_file import SealedReader
from gateway.errors import ConfigurationError, VaultError
from gateway.wiring import Core

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def quarantine_of(core: Core) -> Quarantine:
    """The quarantine of an archive; raise ConfigurationError if it has none."""
    quarantine = core.archive.quarantine
    if quarantine is None:
        raise ConfigurationError("There is no quarantine: quarantine.dir is not set.")
    return quarantine


async def entries(core: Core) -> Sequence[Entry]:
    """What is there, the oldest first."""
    return await asyncio.to_thread(quarantine_of(core).entries)


async def export(core: Core, entry_id: str, to: Path, caller: Caller) -> int:
    """Write an object, as it was received, to a new file that its owner alone may read; return its size in bytes.

    Raises
    ------
    NotFound, VaultError : there is none of this id, or it cannot be opened; no file is left.
    OSError : the file cannot be written.
    """
    reader = await asyncio.to_thread(quarantine_of(core).open, entry_id)
    with reader:
        await core.audit.record("quarantine export", "begun", caller, {"entry": entry_id})
        return await asyncio.to_thread(_write, reader, to)


async def remove(core: Core, entry_id: str, caller: Caller) -> None:
    """Remove an object for good; raise NotFound."""
    await core.audit.record("quarantine remove", "begun", caller, {"entry": entry_id})
    await asyncio.to_thread(quarantine_of(core).remove, entry_id)


async def retry(core: Core, entry_id: str, caller: Caller) -> StoreOutcome:
    """Take an object in as if its source sent it again, and remove it from here if that succeeds; raise NotFound."""
    quarantine = quarantine_of(core)
    try:
        reader = await asyncio.to_thread(quarantine.open, entry_id)
    except VaultError as exc:
        return StoreOutcome(failure=exc.dimse_status, reason=exc.message, status=int(exc.status))
    with reader:
        await core.audit.record("quarantine retry", "begun", caller, {"entry": entry_id})
        kind, _, name = reader.description["source"].partition(":")
        async with aclosing(_pieces(reader)) as part:
            outcome = await core.archive.retry(part, Source(kind, name))
    if outcome.stored is not None:
        await asyncio.to_thread(quarantine.remove, entry_id)
    return outcome


def _write(reader: SealedReader, to: Path) -> int:
    written = 0
    with os.fdopen(os.open(to, _NEW, 0o600), "wb") as file:
        try:
            for piece in reader.pieces():
                written += file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            to.unlink()
            raise
    return written


async def _pieces(reader: SealedReader) -> AsyncGenerator[bytes]:
    pieces = reader.pieces()
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece
