"""Commands that need no open archive: serve, remotes, plugins, deid, doctor. Each imports what it alone needs."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import platform
import shutil
from collections.abc import Sequence

from gateway import __version__
from gateway.commands import DONE, FAILED, WRONG_USAGE, complain
from gateway.config import Settings


def serve(settings: Settings, options: argparse.Namespace) -> int:
    """Run the gateway until it is told to stop."""
    from gateway import nursery
    from gateway import serve as gateway

    gateway.prepare(settings.data.dir)
    children = nursery.begin(settings.data.dir)
    if children is not None:
        asyncio.run(gateway.serve(settings, children, with_demo=options.demo))
    return DONE


def remotes(settings: Settings, options: argparse.Namespace) -> int:
    """Ask a remote whether it answers."""
    from gateway.dimse.scu import ECHO, associated
    from gateway.workers import Workers

    remote = settings.remotes.get(options.name)
    if remote is None:
        return complain("There is no remote of this name; the setting remotes names them.", WRONG_USAGE)

    async def work() -> int:
        workers, timeout_s = Workers(), settings.dicom.network_timeout_s
        try:
            async with associated(remote, settings.dicom.ae_title, [ECHO], workers, timeout_s=timeout_s) as peer:
                status = await peer.echo()
        finally:
            await workers.close()
        print(f"{remote} answered with status {status:04X}")
        return FAILED if status else DONE

    return asyncio.run(work())


def plugins(_: Settings, options: argparse.Namespace) -> int:
    """List, describe, run, test or begin plugins."""
    from ray_plugins import commands

    return commands.run(options.action, options.name, options.series, options.to, options.set)


def deid(settings: Settings, options: argparse.Namespace) -> int:
    """Show what de-identification does to a file."""
    from gateway.deid.keys import load_or_create_key
    from gateway.deid.preview import preview
    from gateway.intake.rewrite import quiet_pydicom

    quiet_pydicom()
    key = load_or_create_key(settings.deid, settings.data.dir)
    rows = preview(options.file, options.profile or settings.ingest.profile, key, settings.deid.profiles_dir)
    _print_table([("tag", "attribute", "what is done", "before", "after"), *map(dataclasses.astuple, rows)])
    return DONE


def _print_table(rows: Sequence[tuple[str | None, ...]]) -> None:
    """Print rows of five texts; the last two columns share what the terminal has left, and are cut there."""
    widths = [min(most, max(len(row[column] or "") for row in rows)) for column, most in enumerate((28, 38, 19))]
    rest = max(16, (shutil.get_terminal_size((140, 24)).columns - sum(widths) - 4) // 2)
    for row in rows:
        places = [f"{text or '':<{width}}" for text, width in zip(row, widths, strict=False)]
        values = [f"{text or '':<{rest}.{rest}}" for text in row[3:]]
        print(" ".join([*places, *values]).rstrip())


def doctor(settings: Settings, _: argparse.Namespace) -> int:
    """Say what works on this machine and what is missing."""
    from gateway.doctor import checks

    print(f"Isthmus {__version__}, Python {platform.python_version()} on {platform.platform()}")
    failed = 0
    for check in checks(settings):
        print(f"{'ok     ' if check.works else 'MISSING'} {check.name}: {check.text}")
        failed += not check.works and check.needed
    return FAILED if failed else DONE
