"""The command `isthmus`: thin subcommands that parse, call, and turn errors into one sentence and an exit code."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import platform
import resource
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from dicomweb.errors import IsthmusError
from gateway import __version__, logs
from gateway.config import Settings, forget_secrets, load
from gateway.errors import ConfigurationError

DONE, FAILED, WRONG_USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; exit codes are 0 done, 1 failed, 2 wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        settings = load(options.config, os.environ, _overrides(options))
    except ConfigurationError as exc:
        return _complain(exc.message, WRONG_USAGE)
    _keep_to_ourselves()
    try:
        result: int = options.run(settings, options)
    except KeyboardInterrupt:
        return FAILED
    except IsthmusError as exc:
        return _complain(exc.message, FAILED)
    except BaseExceptionGroup as group:
        known = group.subgroup(IsthmusError)
        if known is None:
            raise
        return _complain(_first(known).message, FAILED)
    return result


def _keep_to_ourselves() -> None:
    """Leave nothing in memory to files and programs that are not ours: no core dumps, no secrets in the environment."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    forget_secrets(os.environ)
    logs.configure("warning", "isthmus")


def _complain(sentence: str, code: int) -> int:
    print(f"isthmus: {sentence}", file=sys.stderr)
    return code


def _first(group: BaseExceptionGroup[IsthmusError]) -> IsthmusError:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="isthmus", description="A DICOMweb-native, de-identifying PACS gateway.")
    parser.add_argument("--version", action="version", version=f"isthmus {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML; conf/isthmus.toml lists all")
    common.add_argument("--data", metavar="DIR", help="folder for catalogue, objects and secrets (default: data)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[Settings, argparse.Namespace], int], help_text: str
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[common], help=help_text, description=help_text)
        made.set_defaults(run=run)
        return made

    serve = command("serve", _serve, "run the gateway until it is told to stop")
    serve.add_argument("--http", metavar="HOST:PORT", help="address of the web server (default: 127.0.0.1:8042)")
    serve.add_argument("--dicom", metavar="HOST:PORT", help="address of the DICOM listener (default: 127.0.0.1:11112)")
    serve.add_argument("--workers", type=int, metavar="N", help="processes for HTTP, as many for DICOM (default: 2)")
    serve.add_argument("--auth", choices=["token", "none", "oidc"], help="who may use it (default: token)")
    serve.add_argument("--demo", action="store_true", help="load studies to look at")
    bring = command("import", _import, "store DICOM files and folders")
    bring.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    bring.add_argument("--source", default="", help="name whose policy in ingest.sources applies")
    export = command("export", _export, "write a study or series as files")
    export.add_argument("study", metavar="STUDY_UID")
    export.add_argument("--series", metavar="SERIES_UID")
    export.add_argument("--to", type=Path, required=True, metavar="DIR")
    command("verify", _verify, "re-hash every stored object against the catalogue")
    command("doctor", _doctor, "say what works on this machine and what is missing")
    token = command("token", _token, "make a bearer token for scripts")
    token.add_argument("action", choices=["create"])
    token.add_argument("--user", default="admin", help="who it stands for (default: admin)")
    token.add_argument("--right", action="append", default=[], choices=["reidentify"], help="what else it allows")
    audit = command("audit", _audit, "list who asked for identity, or verify that no record was changed or removed")
    audit.add_argument("action", choices=["list", "verify"])
    vault = command("vault", _vault, "seal anew what is sealed with keys of vault.previous_key_files")
    vault.add_argument("action", choices=["rekey"])
    quarantine = command("quarantine", _quarantine, "list, export, remove or try again what was refused and is kept")
    quarantine.add_argument("action", choices=["list", "export", "remove", "retry"])
    quarantine.add_argument("id", nargs="?", help="of one object; without it retry takes all")
    quarantine.add_argument("--to", type=Path, metavar="FILE", help="where export writes the object")
    quarantine.add_argument("--all", action="store_true", help="remove everything")
    remotes = command("remotes", _remotes, "ask a remote of the settings whether it answers")
    remotes.add_argument("action", choices=["echo"])
    remotes.add_argument("name", metavar="NAME")
    plugins = command("plugins", _plugins, "list, describe, run, test or begin plugins")
    plugins.add_argument("action", choices=["list", "describe", "run", "test", "new"])
    plugins.add_argument("name", nargs="?", help="of the plugin")
    plugins.add_argument("--series", type=Path, metavar="DIR", help="folder of DICOM files to run it on")
    plugins.add_argument("--to", type=Path, default=Path("out"), metavar="DIR", help="where results go (default: out)")
    plugins.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    deid = command("deid", _deid, "show what de-identification does to a file")
    deid.add_argument("action", choices=["preview"])
    deid.add_argument("file", type=Path, metavar="FILE")
    deid.add_argument("--profile", metavar="NAME", help="profile to apply (default: ingest.profile)")
    return parser


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    names = {
        "data": "data.dir",
        "http": "http.bind",
        "dicom": "dicom.bind",
        "workers": "http.workers",
        "auth": "auth.mode",
    }
    return {key: getattr(options, name, None) for name, key in names.items()}


def _serve(settings: Settings, options: argparse.Namespace) -> int:
    from gateway import nursery, serve

    serve.prepare(settings.data.dir)
    children = nursery.begin(settings.data.dir)
    if children is not None:
        asyncio.run(serve.serve(settings, children, with_demo=options.demo))
    return DONE


def _import(settings: Settings, options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from gateway.archive import Source
    from gateway.importer import files_below, import_files

    files = list(files_below(options.paths))
    if not files:
        return _complain("There is no file to import.", FAILED)

    async def work() -> int:
        async with _core(settings) as core:
            with tqdm(total=len(files), unit="file") as bar:
                source = Source("import", options.source)
                report = await import_files(core.archive, files, source, lambda: bar.update(1))
        for path, reason in report.failed:
            print(f"{path}: {reason}", file=sys.stderr)
        print(f"{report.stored} stored, {report.present} already there, {len(report.failed)} not taken")
        return FAILED if report.failed else DONE

    return asyncio.run(work())


def _export(settings: Settings, options: argparse.Namespace) -> int:
    from dicomweb.resource import Resource
    from gateway.importer import export

    async def work() -> int:
        async with _core(settings) as core:
            count = await export(core.archive, Resource.parse(options.study, options.series), options.to)
        print(f"{count} instances written to {options.to}")
        return DONE

    return asyncio.run(work())


def _verify(settings: Settings, _: argparse.Namespace) -> int:
    async def work() -> int:
        found = 0
        async with _core(settings) as core:
            async for difference in core.archive.verify():
                found += 1
                where = difference.resource.path if difference.resource else ""
                print(f"{difference.kind} {difference.key} {where}".strip())
            count = await core.catalogue.count()
        print(f"{count} instances verified, {found} differences")
        return FAILED if found else DONE

    return asyncio.run(work())


def _token(settings: Settings, options: argparse.Namespace) -> int:
    from gateway.auth.tokens import Tokens

    async def work() -> int:
        async with _core(settings) as core:
            if options.right:
                await core.audit.record("grant", "done", _operator(), {"user": options.user, "rights": options.right})
            print(await Tokens(core.catalogue.db).create("bearer", options.user, rights=options.right))
        return DONE

    return asyncio.run(work())


def _operator() -> Any:
    """Who runs a command, as the audit names them."""
    from gateway.audit import Caller

    return Caller(f"uid:{os.getuid()}", "command line")


def _audit(settings: Settings, options: argparse.Namespace) -> int:
    async def listed(core: Any) -> int:
        async for entry in core.audit.entries():
            print(json.dumps(dataclasses.asdict(entry) | {"at": entry.at.isoformat()}))
        return DONE

    async def verified(core: Any) -> int:
        flaws = [flaw async for flaw in core.audit.verify()]
        for flaw in flaws:
            print(f"{flaw.kind} {flaw.number}")
        print(f"{len(flaws)} flaws in the audit")
        return FAILED if flaws else DONE

    async def work() -> int:
        async with _core(settings) as core:
            return await (listed(core) if options.action == "list" else verified(core))

    return asyncio.run(work())


def _vault(settings: Settings, _: argparse.Namespace) -> int:
    from gateway.opening import forget_former_keys

    async def work() -> int:
        async with _core(settings) as core:
            await core.audit.record("rekey", "begun", _operator())
            done = await core.identities.reseal()
            if not done.unreadable:
                await forget_former_keys(core)
        print(f"{done.renewed} rows sealed anew, {done.unreadable} that no key opens")
        return FAILED if done.unreadable else DONE

    return asyncio.run(work())


def _quarantine(settings: Settings, options: argparse.Namespace) -> int:
    from gateway import quarantine

    if options.action == "export" and not (options.id and options.to):
        return _complain("quarantine export takes an ID and --to FILE.", WRONG_USAGE)
    if options.action == "remove" and bool(options.id) == options.all:
        return _complain("quarantine remove takes an ID, or --all.", WRONG_USAGE)

    async def listed(core: Any) -> int:
        for entry in await quarantine.entries(core):
            at = entry.at.isoformat(timespec="seconds")
            print(entry.id, at, entry.source or "-", f"{entry.size} bytes", entry.reason, sep="  ")
        return DONE

    async def exported(core: Any) -> int:
        try:
            size = await quarantine.export(core, options.id, options.to, _operator())
        except OSError as exc:
            return _complain(f"Cannot write the file: {exc.strerror}.", FAILED)
        print(f"{size} bytes written; they name the patient")
        return DONE

    async def removed(core: Any, ids: list[str]) -> int:
        for one in ids:
            await quarantine.remove(core, one, _operator())
        print(f"{len(ids)} removed")
        return DONE

    async def retried(core: Any, ids: list[str]) -> int:
        failed = 0
        for one in ids:
            outcome = await quarantine.retry(core, one, _operator())
            failed += outcome.stored is None
            print(one, outcome.reason if outcome.stored is None else "stored", sep="  ")
        return FAILED if failed else DONE

    async def work() -> int:
        async with _core(settings) as core:
            if options.action == "list":
                return await listed(core)
            if options.action == "export":
                return await exported(core)
            ids = [options.id] if options.id else [entry.id for entry in await quarantine.entries(core)]
            return await (removed if options.action == "remove" else retried)(core, ids)

    return asyncio.run(work())


def _remotes(settings: Settings, options: argparse.Namespace) -> int:
    from gateway.dimse.scu import ECHO, associated
    from gateway.workers import Workers

    remote = settings.remotes.get(options.name)
    if remote is None:
        return _complain("There is no remote of this name; the setting remotes names them.", WRONG_USAGE)

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


def _plugins(settings: Settings, options: argparse.Namespace) -> int:
    del settings
    from ray_plugins import commands

    return commands.run(options.action, options.name, options.series, options.to, options.set)


def _deid(settings: Settings, options: argparse.Namespace) -> int:
    from gateway.deid.keys import load_or_create_key
    from gateway.deid.preview import preview
    from gateway.intake.rewrite import quiet_pydicom

    quiet_pydicom()
    key = load_or_create_key(settings.deid, settings.data.dir)
    rows = preview(options.file, options.profile or settings.ingest.profile, key, settings.deid.profiles_dir)
    width = shutil.get_terminal_size((140, 24)).columns
    column = max(16, (width - 60) // 2)
    for row in rows:
        before, after = (str(value)[:column] for value in (row.before, row.after))
        print(f"{row.path:<22} {row.keyword[:28]:<28} {row.action:<8} {before:<{column}} {after}")
    return DONE


def _doctor(settings: Settings, _: argparse.Namespace) -> int:
    from gateway.doctor import checks

    print(f"Isthmus {__version__}, Python {platform.python_version()} on {platform.platform()}")
    failed = 0
    for check in checks(settings):
        print(f"{'ok     ' if check.works else 'MISSING'} {check.name}: {check.text}")
        failed += not check.works and check.needed
    return FAILED if failed else DONE


@asynccontextmanager
async def _core(settings: Settings) -> AsyncIterator[Any]:
    """The archive, by the catalogue of the gateway that runs on this data folder, else started for the command."""
    from gateway.deid.keys import load_keys
    from gateway.opening import check_keys
    from gateway.store.embedded import EmbeddedMongo, running_uri
    from gateway.wiring import open_core

    keys = load_keys(settings, settings.data.dir)
    async with AsyncExitStack() as stack:
        uri: str | None = settings.mongodb.uri or await asyncio.to_thread(running_uri, settings.data.dir)
        if not uri:
            uri = (await stack.enter_async_context(EmbeddedMongo(settings.mongodb, settings.data.dir))).uri
        core = await stack.enter_async_context(open_core(settings, uri, keys))
        await check_keys(core, keys)
        yield core


if __name__ == "__main__":
    sys.exit(main())
