"""Commands on what is stored: import, export, verify."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tqdm import tqdm

from dicomweb.resource import Resource
from gateway import importer
from gateway.archive import Source
from gateway.commands import DONE, FAILED, complain
from gateway.commands.opened import opened
from gateway.config import Settings


def bring(settings: Settings, options: argparse.Namespace) -> int:
    """Store files and folders."""
    files = list(importer.files_below(options.paths))
    if not files:
        return complain("There is no file to import.", FAILED)

    async def work() -> int:
        async with opened(settings) as core:
            with tqdm(total=len(files), unit="file") as bar:
                source = Source("import", options.source)
                report = await importer.import_files(core.archive, files, source, lambda: bar.update(1))
        for path, reason in report.failed:
            print(f"{path}: {reason}", file=sys.stderr)
        print(f"{report.stored} stored, {report.present} already there, {len(report.failed)} not taken")
        return FAILED if report.failed else DONE

    return asyncio.run(work())


def export(settings: Settings, options: argparse.Namespace) -> int:
    """Write a study or series as files."""

    async def work() -> int:
        async with opened(settings) as core:
            count = await importer.export(core.archive, Resource.parse(options.study, options.series), options.to)
        print(f"{count} instances written to {options.to}")
        return DONE

    return asyncio.run(work())


def verify(settings: Settings, _: argparse.Namespace) -> int:
    """Hash every stored object again."""

    async def work() -> int:
        found = 0
        async with opened(settings) as core:
            async for difference in core.archive.verify():
                found += 1
                where = difference.resource.path if difference.resource else ""
                print(f"{difference.kind} {difference.key} {where}".strip())
            count = await core.catalogue.count()
        print(f"{count} instances verified, {found} differences")
        return FAILED if found else DONE

    return asyncio.run(work())
