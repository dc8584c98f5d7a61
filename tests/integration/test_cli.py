"""The command line as users type it: exit codes, one sentence for a fault, and commands that work without a server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread

from ray_plugins.testing import Phantom
from tests.conftest import ROOT
from tests.samples import ct, part10


def isthmus(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    for number in range(3):
        (made / f"{number}.dcm").write_bytes(part10(ct()))
    return made


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage"),
        (["fly"], "invalid choice"),
        (["serve", "--workers", "0"], "http.workers must be at least 1."),
        (["serve", "--auth", "none", "--http", "0.0.0.0:1"], "loopback"),
        (["serve", "--config", "/nowhere.toml"], "Cannot read"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    done = isthmus(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_import_verify_export(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = isthmus("import", folder, "--data", data)
    assert (first.returncode, first.stdout) == (0, "3 stored, 0 already there, 0 not taken\n"), first.stderr
    (folder / "broken.dcm").write_bytes(b"not DICOM")
    again = isthmus("import", folder, "--data", data)
    assert (again.returncode, again.stdout) == (1, "0 stored, 3 already there, 1 not taken\n")
    assert "broken.dcm: This is not a DICOM file" in again.stderr
    verified = isthmus("verify", "--data", data)
    assert (verified.returncode, verified.stdout) == (0, "3 instances verified, 0 differences\n")
    stored = next((data / "objects").rglob("*.dcm"))
    study = str(dcmread(stored).StudyInstanceUID)
    exported = isthmus("export", study, "--to", tmp_path / "out", "--data", data)
    assert exported.returncode == 0
    (copy,) = (tmp_path / "out").rglob("*.dcm")
    assert dcmread(copy).PatientIdentityRemoved == "YES"
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    damaged = isthmus("verify", "--data", data)
    assert damaged.returncode == 1
    assert damaged.stdout.startswith("altered ")


def test_another_key_is_refused(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert isthmus("import", folder, "--data", data).returncode == 0
    (data / "secrets" / "deid.key").unlink()
    refused = isthmus("import", folder, "--data", data)
    assert refused.returncode == 1
    assert "not the one this archive was filled under" in refused.stderr


def test_deid_preview(folder: Path, tmp_path: Path) -> None:
    done = isthmus("deid", "preview", folder / "0.dcm", "--data", tmp_path / "data", COLUMNS="160")
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if "PatientName" in line)
    assert "Quixote" in line
    assert line.count("Quixote") == 1


def test_doctor(tmp_path: Path) -> None:
    done = isthmus("doctor", "--data", tmp_path)
    assert "mongod" in done.stdout
    assert done.returncode == 0


def test_plugins_without_a_server(tmp_path: Path) -> None:
    assert "ct-bone" in isthmus("plugins", "list").stdout
    series = tmp_path / "series"
    series.mkdir()
    Phantom().write(series)
    done = isthmus("plugins", "run", "ct-bone", "--series", series, "--to", tmp_path / "out", "--set", "low=200")
    assert done.returncode == 0, done.stderr
    assert {path.suffix for path in (tmp_path / "out").iterdir()} >= {".dcm", ".x3d", ".glb", ".stl"}
    wrong = isthmus("plugins", "run", "ct-bone", "--series", series, "--set", "low=99999")
    assert wrong.returncode == 2
    assert "low" in wrong.stderr


def test_a_vault_key_is_rotated(folder: Path, tmp_path: Path) -> None:
    data, former = tmp_path / "data", tmp_path / "former.key"
    assert isthmus("import", folder, "--data", data).returncode == 0
    (data / "secrets" / "vault.key").rename(former)
    refused = isthmus("verify", "--data", data)
    assert refused.returncode == 1
    assert "vault.previous_key_files" in refused.stderr
    named = {"ISTHMUS_VAULT__PREVIOUS_KEY_FILES": str(former)}
    assert isthmus("verify", "--data", data, **named).returncode == 0
    assert isthmus("verify", "--data", data).returncode == 1  # still sealed with the former one
    done = isthmus("vault", "rekey", "--data", data, **named)
    assert (done.returncode, done.stdout) == (0, "3 rows sealed anew, 0 that no key opens\n"), done.stderr
    again = isthmus("vault", "rekey", "--data", data)
    assert (again.returncode, again.stdout) == (0, "0 rows sealed anew, 0 that no key opens\n"), again.stderr
    assert isthmus("verify", "--data", data).returncode == 0


def test_a_right_is_granted_and_recorded(tmp_path: Path) -> None:
    data = tmp_path / "data"
    given = isthmus("token", "create", "--user", "doctor", "--right", "reidentify", "--data", data)
    assert given.returncode == 0, given.stderr
    assert isthmus("token", "create", "--user", "doctor", "--right", "everything", "--data", data).returncode == 2
    listed = isthmus("audit", "list", "--data", data)
    (entry,) = map(json.loads, listed.stdout.splitlines())
    assert (entry["number"], entry["action"], entry["outcome"]) == (1, "grant", "done")
    assert entry["what"] == {"rights": ["reidentify"], "user": "doctor"}
    assert given.stdout.strip() not in listed.stdout
    verified = isthmus("audit", "verify", "--data", data)
    assert (verified.returncode, verified.stdout) == (0, "0 flaws in the audit\n")


def test_tokens_of_a_user_are_revoked(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for user in ("doctor", "doctor", "nurse"):
        assert isthmus("token", "create", "--user", user, "--data", data).returncode == 0
    done = isthmus("token", "revoke", "--user", "doctor", "--data", data)
    assert (done.returncode, done.stdout) == (0, "2 tokens and sessions ended\n"), done.stderr
    assert isthmus("token", "revoke", "--data", data).returncode == 2
    (entry,) = map(json.loads, isthmus("audit", "list", "--data", data).stdout.splitlines())
    assert (entry["action"], entry["what"]) == ("revoke", {"user": "doctor"})
