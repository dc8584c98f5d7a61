"""`isthmus quarantine` and `isthmus remotes` as operators type them."""

import asyncio
import re
import stat
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.derived import document
from tests.integration.dimse_support import storescp
from tests.integration.test_cli import isthmus
from tests.samples import ct, part10


@pytest.fixture
def place(tmp_path: Path):
    """How to call isthmus on a data folder with a quarantine, after two letters were refused."""
    data, folder = tmp_path / "data", tmp_path / "in"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.dcm").write_bytes(part10(document(ct(), f"Confidential finding {number}")))

    def call(*arguments, **environment):
        return isthmus(*arguments, "--data", data, ISTHMUS_QUARANTINE__DIR=str(tmp_path / "quarantine"), **environment)

    done = call("import", folder, "--source", "SCANNER")
    assert done.returncode == 1, done.stderr
    return call, tmp_path


def ids(listed: str) -> list[str]:
    return re.findall(r"^[0-9a-f]{32}", listed, re.MULTILINE)


def test_list_export_remove(place):
    call, folder = place
    listed = call("quarantine", "list")
    assert listed.returncode == 0, listed.stderr
    first, second = ids(listed.stdout)
    assert listed.stdout.count("import:SCANNER") == 2
    assert listed.stdout.count("Encapsulated documents cannot be de-identified.") == 2
    assert "Quixote" not in listed.stdout
    target = folder / "out.dcm"
    exported = call("quarantine", "export", first, "--to", target)
    assert exported.returncode == 0, exported.stderr
    assert dcmread(target).PatientName == "Quixote^Alonso"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    again = call("quarantine", "export", first, "--to", target)
    assert (again.returncode, again.stderr) == (1, "isthmus: Cannot write the file: File exists.\n")
    assert call("quarantine", "remove", first).returncode == 0
    gone = call("quarantine", "export", first, "--to", folder / "other.dcm")
    assert gone.returncode == 1
    assert "holds nothing of this id" in gone.stderr
    assert not (folder / "other.dcm").exists()
    assert ids(call("quarantine", "list").stdout) == [second]
    assert call("quarantine", "remove", "--all").stdout == "1 removed\n"
    assert list((folder / "quarantine").iterdir()) == []
    audited = call("audit", "list").stdout
    assert audited.count('"quarantine export", "outcome": "begun"') == 2
    assert audited.count('"quarantine remove", "outcome": "begun"') == 2
    assert first in audited
    assert "Quixote" not in audited


def test_retry_takes_in_what_a_rule_now_allows(place):
    call, _ = place
    refused = call("quarantine", "retry")
    assert refused.returncode == 1
    assert refused.stdout.count("cannot be de-identified") == 2
    first, second = ids(call("quarantine", "list").stdout)
    allowed = {"ISTHMUS_INGEST__SOURCES": '{"SCANNER": "none"}'}
    stored = call("quarantine", "retry", first, **allowed)
    assert (stored.returncode, stored.stdout) == (0, f"{first}  stored\n"), stored.stderr
    assert ids(call("quarantine", "list").stdout) == [second]
    assert call("quarantine", "retry", **allowed).returncode == 0
    assert ids(call("quarantine", "list").stdout) == []


def test_what_was_changed_is_not_let_out(place):
    call, folder = place
    first = ids(call("quarantine", "list").stdout)[0]
    file = folder / "quarantine" / f"{first}.sealed"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    done = call("quarantine", "export", first, "--to", folder / "out.dcm")
    assert done.returncode == 1
    assert "cannot be opened" in done.stderr
    assert not (folder / "out.dcm").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quarantine", "export", "0" * 32], "takes an ID and --to FILE"),
        (["quarantine", "remove"], "takes an ID, or --all"),
        (["remotes", "echo", "nobody"], "no remote of this name"),
    ],
)
def test_wrong_usage(tmp_path, arguments, said):
    done = isthmus(*arguments, "--data", tmp_path / "data")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_without_a_quarantine(tmp_path):
    done = isthmus("quarantine", "list", "--data", tmp_path / "data")
    assert done.returncode == 1
    assert "quarantine.dir is not set" in done.stderr


async def test_echo(tmp_path):
    def echo(port):
        return isthmus(
            "remotes", "echo", "pacs", "--data", tmp_path / "data", ISTHMUS_REMOTES__PACS=f"PACS@127.0.0.1:{port}"
        )

    async with storescp(tmp_path) as port:
        done = await asyncio.to_thread(echo, port)
        assert (done.returncode, done.stdout) == (0, f"PACS@127.0.0.1:{port} answered with status 0000\n"), done.stderr
    done = await asyncio.to_thread(echo, port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "isthmus: The remote cannot be reached, or takes nothing of what is to be sent.\n"
