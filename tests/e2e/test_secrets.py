"""Secrets stay where they are kept: nobody else may read them, and nothing that a gateway says or starts holds them."""

import os
import secrets
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gateway.assignment import Assignment, Keys
from gateway.config import Settings, forget_secrets, load
from tests import leaks
from tests.conftest import Gateway, running
from tests.planting import ISTHMUS

pytestmark = pytest.mark.e2e
KEY = secrets.token_hex(32)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that is started by somebody whose files everybody may read, with a key in the environment."""
    before = os.umask(0)
    try:
        settings = {"ISTHMUS_LOG__LEVEL": "debug", "ISTHMUS_RAY__ENABLED": "false", "ISTHMUS_DEID__KEY": KEY}
        with running(tmp_path_factory.mktemp("secrets"), **settings) as gateway:
            yield gateway
    finally:
        os.umask(before)


def kept(gateway: Gateway) -> dict[str, str]:
    """All secrets of a gateway, by the names of their files."""
    files = [file for file in (gateway.data / "secrets").rglob("*") if file.is_file()]
    return {file.name: file.read_text("ascii").strip() for file in files} | {"deid.key": KEY}


def test_nobody_else_may_read(gateway: Gateway) -> None:
    for folder in (gateway.data, *(path for path in gateway.data.iterdir() if path.is_dir())):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    for file in (gateway.data / "secrets").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_nothing_that_is_said_or_started_holds_a_secret(gateway: Gateway) -> None:
    found = kept(gateway)
    assert {"deid.key", "mongod.key", "token", "vault.key"} <= set(found)
    needles = leaks.Needles(found.values())
    places = [leaks.Place("log", "log", gateway.log.read_bytes()), *leaks.database(leaks.internal_user(gateway.data))]
    headers = {"Authorization": f"Bearer {gateway.token}"}
    with httpx.Client(base_url=gateway.base_url, headers=headers, trust_env=False) as client:
        for path in ("/api/openapi.json", "/api/v1/info", "/metrics", "/health/ready", "/api/v1/changes", "/"):
            answer = client.get(path)
            places.append(leaks.Place("answers", path, repr(answer.headers).encode() + answer.content))
    command = [*ISTHMUS, "doctor", "--data", str(gateway.data)]
    done = subprocess.run(command, capture_output=True, check=False, env=os.environ | {"ISTHMUS_DEID__KEY": KEY})
    places.append(leaks.Place("doctor", "doctor", done.stdout + done.stderr))
    places += [place for place in leaks.processes(gateway.process.pid) if "environ" not in place.name]
    places += [place for place in leaks.folder(gateway.data, "files") if not place.name.startswith("secrets/")]
    assert not needles.leaks(places)


def test_a_program_that_is_started_inherits_no_secret(gateway: Gateway) -> None:
    """Its own environment is the caller's doing; mongod's is ours."""
    (mongod,) = [one for one in psutil.Process(gateway.process.pid).children() if one.name().startswith("mongod")]
    environ = Path(f"/proc/{mongod.pid}/environ").read_bytes()
    assert b"PATH=" in environ
    assert KEY.encode() not in environ


def test_no_process_leaves_a_core_dump(gateway: Gateway) -> None:
    parent = psutil.Process(gateway.process.pid)
    for process in [parent, *parent.children(recursive=True)]:
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
        assert line.split()[4] == "0", process


def test_a_command_that_fails_quotes_nothing(tmp_path: Path) -> None:
    """What a library raises may quote the file: the terminal is told where it failed, not of what."""
    (tmp_path / "file").write_bytes(b"")
    failing = """
import sys, gateway.cli, gateway.deid.preview

def fail(*_):
    raise ValueError("Quibblethwaite^Zaphodine")

gateway.deid.preview.preview = fail
sys.exit(gateway.cli.main(sys.argv[1:]))
"""
    command = [
        sys.executable,
        "-c",
        failing,
        "deid",
        "preview",
        str(tmp_path / "file"),
        "--data",
        str(tmp_path / "data"),
    ]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 1
    assert "ValueError" in done.stderr
    assert "raise ValueError" not in done.stdout
    assert "Quibblethwaite" not in done.stdout + done.stderr


def hidden(section: Any, prefix: str = "") -> Iterator[str]:
    """The settings that are not shown."""
    for item in fields(section):
        value = getattr(section, item.name)
        if is_dataclass(value):
            yield from hidden(value, f"{prefix}{item.name}.")
        elif not item.repr:
            yield prefix + item.name


def test_settings_and_keys_do_not_show_themselves() -> None:
    names = set(hidden(Settings()))
    assert {"deid.key", "vault.key", "mongodb.uri", "storage.s3.secret_access_key"} <= names
    environ = {f"ISTHMUS_{name.upper().replace('.', '__')}": f"hush-{name}" for name in names}
    settings = load(None, environ)
    keys = Keys(b"hush" * 8, b"hist" * 8)
    shown = f"{settings!r}{settings!s}{keys!r}{Assignment('http', settings, 'hush', keys, '', demo=False)!r}"
    assert "hush" not in shown
    assert "hist" not in shown
    environ["ISTHMUS_LOG__LEVEL"] = "debug"
    forget_secrets(environ)
    assert environ == {"ISTHMUS_LOG__LEVEL": "debug"}
