"""The command on what was refused and is kept: quarantine."""

from __future__ import annotations

import argparse
import asyncio

from gateway import quarantine
from gateway.commands import DONE, FAILED, WRONG_USAGE, complain
from gateway.commands.opened import opened, operator
from gateway.config import Settings
from gateway.wiring import Core


def run(settings: Settings, options: argparse.Namespace) -> int:
    """List, export, remove or try again."""
    if options.action == "export" and not (options.id and options.to):
        return complain("quarantine export takes an ID and --to FILE.", WRONG_USAGE)
    if options.action == "remove" and bool(options.id) == options.all:
        return complain("quarantine remove takes an ID, or --all.", WRONG_USAGE)

    async def work() -> int:
        async with opened(settings) as core:
            if options.action == "list":
                return await _listed(core)
            if options.action == "export":
                return await _exported(core, options)
            ids = [options.id] if options.id else [entry.id for entry in await quarantine.entries(core)]
            return await (_removed if options.action == "remove" else _retried)(core, ids)

    return asyncio.run(work())


async def _listed(core: Core) -> int:
    for entry in await quarantine.entries(core):
        at = entry.at.isoformat(timespec="seconds")
        print(entry.id, at, entry.source or "-", f"{entry.size} bytes", entry.reason, sep="  ")
    return DONE


async def _exported(core: Core, options: argparse.Namespace) -> int:
    try:
        size = await quarantine.export(core, options.id, options.to, operator())
    except OSError as exc:
        return complain(f"Cannot write the file: {exc.strerror}.", FAILED)
    print(f"{size} bytes written; they name the patient")
    return DONE


async def _removed(core: Core, ids: list[str]) -> int:
    for one in ids:
        await quarantine.remove(core, one, operator())
    print(f"{len(ids)} removed")
    return DONE


async def _retried(core: Core, ids: list[str]) -> int:
    failed = 0
    for one in ids:
        outcome = await quarantine.retry(core, one, operator())
        failed += outcome.stored is None
        print(one, outcome.reason if outcome.stored is None else "stored", sep="  ")
    return FAILED if failed else DONE
