"""The command `isthmus`: parses, has `gateway.commands` do it, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import argparse
import os
import resource
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from dicomweb.errors import IsthmusError
from gateway import __version__, logs
from gateway.commands import FAILED, WRONG_USAGE, complain
from gateway.config import Settings, forget_secrets, load
from gateway.errors import ConfigurationError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; exit codes are 0 done, 1 failed, 2 wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        settings = load(options.config, os.environ, _overrides(options))
    except ConfigurationError as exc:
        return complain(exc.message, WRONG_USAGE)
    _keep_to_ourselves()
    try:
        result: int = options.run(settings, options)
    except KeyboardInterrupt:
        return FAILED
    except BrokenPipeError:  # whoever read what is printed has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except IsthmusError as exc:
        return complain(exc.message, FAILED)
    except BaseExceptionGroup as group:
        known = group.subgroup(IsthmusError)
        if known is None:
            raise
        return complain(_first(known).message, FAILED)
    return result


def _keep_to_ourselves() -> None:
    """Leave nothing in memory to files and programs that are not ours: no core dumps, no secrets in the environment."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    forget_secrets(os.environ)
    logs.configure("warning", "isthmus")


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

    def command(name: str, where: str, help_text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[common], help=help_text, description=help_text)
        made.set_defaults(run=_lazily(*where.split(".")))
        return made

    serve = command("serve", "others.serve", "run the gateway until it is told to stop")
    serve.add_argument("--http", metavar="HOST:PORT", help="address of the web server (default: 127.0.0.1:8042)")
    serve.add_argument("--dicom", metavar="HOST:PORT", help="address of the DICOM listener (default: 127.0.0.1:11112)")
    serve.add_argument("--workers", type=int, metavar="N", help="processes for HTTP, as many for DICOM (default: 2)")
    serve.add_argument("--auth", choices=["token", "none", "oidc"], help="who may use it (default: token)")
    serve.add_argument("--demo", action="store_true", help="load studies to look at")
    bring = command("import", "objects.bring", "store DICOM files and folders")
    bring.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    bring.add_argument("--source", default="", help="name whose policy in ingest.sources applies")
    export = command("export", "objects.export", "write a study or series as files")
    export.add_argument("study", metavar="STUDY_UID")
    export.add_argument("--series", metavar="SERIES_UID")
    export.add_argument("--to", type=Path, required=True, metavar="DIR")
    command("verify", "objects.verify", "re-hash every stored object against the catalogue")
    command("doctor", "others.doctor", "say what works on this machine and what is missing")
    token = command(
        "token", "access.token", "make a bearer token for scripts, or end all tokens and sessions of a user"
    )
    token.add_argument("action", choices=["create", "revoke"])
    token.add_argument("--user", metavar="NAME", help="who it stands for (default of create: admin)")
    token.add_argument("--right", action="append", default=[], choices=["reidentify"], help="what else it allows")
    audit = command(
        "audit", "access.audit", "list who asked for identity, or verify that no record was changed or removed"
    )
    audit.add_argument("action", choices=["list", "verify"])
    vault = command("vault", "access.vault", "seal anew what is sealed with keys of vault.previous_key_files")
    vault.add_argument("action", choices=["rekey"])
    quarantine = command(
        "quarantine", "quarantine.run", "list, export, remove or try again what was refused and is kept"
    )
    quarantine.add_argument("action", choices=["list", "export", "remove", "retry"])
    quarantine.add_argument("id", nargs="?", help="of one object; without it retry takes all")
    quarantine.add_argument("--to", type=Path, metavar="FILE", help="where export writes the object")
    quarantine.add_argument("--all", action="store_true", help="remove everything")
    remotes = command("remotes", "others.remotes", "ask a remote of the settings whether it answers")
    remotes.add_argument("action", choices=["echo"])
    remotes.add_argument("name", metavar="NAME")
    plugins = command("plugins", "others.plugins", "list, describe, run, test or begin plugins")
    plugins.add_argument("action", choices=["list", "describe", "run", "test", "new"])
    plugins.add_argument("name", nargs="?", help="of the plugin")
    plugins.add_argument("--series", type=Path, metavar="DIR", help="folder of DICOM files to run it on")
    plugins.add_argument("--to", type=Path, default=Path("out"), metavar="DIR", help="where results go (default: out)")
    plugins.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    deid = command("deid", "others.deid", "show what de-identification does to a file")
    deid.add_argument("action", choices=["preview"])
    deid.add_argument("file", type=Path, metavar="FILE")
    deid.add_argument("--profile", metavar="NAME", help="profile to apply (default: ingest.profile)")
    return parser


def _lazily(module: str, name: str) -> Callable[[Settings, argparse.Namespace], int]:
    """A command, which is imported when it is run: others start without what it needs."""

    def run(settings: Settings, options: argparse.Namespace) -> int:
        result: int = getattr(import_module(f"gateway.commands.{module}"), name)(settings, options)
        return result

    return run


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    names = {
        "data": "data.dir",
        "http": "http.bind",
        "dicom": "dicom.bind",
        "workers": "http.workers",
        "auth": "auth.mode",
    }
    return {key: getattr(options, name, None) for name, key in names.items()}


if __name__ == "__main__":
    sys.exit(main())
