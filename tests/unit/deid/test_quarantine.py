"""The quarantine as a folder: bounded, private, and honest about what it cannot open."""

import os
import resource
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicomweb.errors import NotFound
from gateway.config import QuarantineSettings
from gateway.deid.quarantine import Quarantine, QuarantineFull
from gateway.deid.sealed_file import SealedReader
from gateway.deid.vault import Vault
from gateway.errors import ConfigurationError, VaultError

VAULT = Vault(bytes(range(32)))
MB = 1 << 20


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    return made(QuarantineSettings(tmp_path / "quarantine", max_mb=4, keep_days=30))


def made(settings: QuarantineSettings) -> Quarantine:
    quarantine = Quarantine.of(settings, VAULT)
    assert quarantine is not None
    quarantine.prepare()
    return quarantine


def keep(quarantine, content, reason="refused"):
    draft = quarantine.begin()
    try:
        draft.write([content])
        draft.finish("dimse:CT1", reason)
    except BaseException:
        draft.discard()
        raise


def content_of(quarantine, entry):
    with quarantine.open(entry.id) as reader:
        return b"".join(reader.pieces())


def size_of(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


def test_what_is_kept(quarantine, tmp_path):
    keep(quarantine, b"content", "Encapsulated documents cannot be de-identified.")
    (entry,) = quarantine.entries()
    assert (entry.source, entry.size) == ("dimse:CT1", 7)
    assert entry.reason == "Encapsulated documents cannot be de-identified."
    assert content_of(quarantine, entry) == b"content"
    folder = tmp_path / "quarantine"
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"CT1" not in file.read_bytes()
    quarantine.remove(entry.id)
    assert quarantine.entries() == []
    assert list(folder.iterdir()) == []


def test_a_folder_that_others_may_read_is_refused(tmp_path):
    folder = tmp_path / "quarantine"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(ConfigurationError, match="chmod 700"):
        made(QuarantineSettings(folder))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="Cannot use"):
        made(QuarantineSettings(tmp_path / "file" / "folder"))
    assert Quarantine.of(QuarantineSettings(), VAULT) is None


def test_the_oldest_stay_when_it_is_full(quarantine, tmp_path):
    for _ in range(3):
        keep(quarantine, os.urandom(MB))
    before = quarantine.entries()
    for size in (MB, 2 * MB):
        with pytest.raises(QuarantineFull):
            keep(quarantine, os.urandom(size))
    keep(quarantine, os.urandom(MB // 2))
    assert quarantine.entries()[:3] == before
    assert size_of(tmp_path / "quarantine") <= 4 * MB
    quarantine.remove(before[0].id)
    keep(quarantine, os.urandom(MB))
    assert len(quarantine.entries()) == 4


def test_one_that_never_ends_does_not_fill_the_disk(quarantine, tmp_path):
    draft, largest = quarantine.begin(), 0

    def without_end():
        nonlocal largest
        for _ in range(100):
            draft.write([bytes(MB)])
            largest = max(largest, size_of(tmp_path / "quarantine"))

    with pytest.raises(QuarantineFull):
        without_end()
    draft.discard()
    assert 4 * MB < largest < 20 * MB
    assert list((tmp_path / "quarantine").iterdir()) == []


def test_of_many_writers_at_once_no_more_is_kept_than_may_be(tmp_path):
    settings = QuarantineSettings(tmp_path / "quarantine", max_mb=4)
    quarantines = [made(settings) for _ in range(2)]  # as two processes have it

    def attempt(number):
        try:
            keep(quarantines[number % 2], os.urandom(MB))
        except QuarantineFull:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        kept = sum(pool.map(attempt, range(24)))
    assert kept == len(quarantines[0].entries())
    assert 0 < kept <= 3
    assert size_of(tmp_path / "quarantine") <= 4 * MB


def test_what_is_old_goes_and_what_is_being_written_stays(quarantine, tmp_path):
    keep(quarantine, b"old")
    keep(quarantine, b"new")
    old, _ = quarantine.entries()
    folder = tmp_path / "quarantine"
    long_ago = time.time() - 31 * 86_400
    os.utime(folder / f"{old.id}.sealed", (long_ago, long_ago))
    live, dead = quarantine.begin(), quarantine.begin()
    for draft in (live, dead):
        draft.write([b"x"])
    (first, second) = folder.glob("*.part")
    os.utime(first, (long_ago, long_ago))
    (folder / "notes.txt").write_text("of somebody else")
    os.utime(folder / "notes.txt", (long_ago, long_ago))
    assert quarantine.prune() == 2
    assert not first.exists()
    assert second.exists()
    assert (folder / "notes.txt").exists()
    assert [content_of(quarantine, one) for one in quarantine.entries()] == [b"new"]
    for draft in (live, dead):
        draft.discard()


def test_with_no_limit_of_age_all_stays(tmp_path):
    quarantine = made(QuarantineSettings(tmp_path / "quarantine", keep_days=0))
    keep(quarantine, b"old")
    (file,) = (tmp_path / "quarantine").iterdir()
    os.utime(file, (0, 0))
    assert quarantine.prune() == 0
    assert len(quarantine.entries()) == 1


def test_what_cannot_be_opened_is_listed_as_such(quarantine, tmp_path):
    keep(quarantine, b"content")
    (file,) = (tmp_path / "quarantine").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    (entry,) = quarantine.entries()
    assert "cannot be opened" in entry.reason
    with pytest.raises(VaultError):
        quarantine.open(entry.id)
    quarantine.remove(entry.id)
    assert quarantine.entries() == []


@pytest.mark.parametrize("name", ["", "../secrets/token", "0" * 32, "0" * 31 + "g"])
def test_ids_are_no_paths(quarantine, name):
    for call in (quarantine.open, quarantine.remove):
        with pytest.raises(NotFound):
            call(name)


def test_what_is_removed_while_it_is_listed_is_left_out(quarantine, monkeypatch):
    keep(quarantine, b"content")

    def gone(path, vault):
        path.unlink()
        return SealedReader(path, vault)

    monkeypatch.setattr("gateway.deid.quarantine.SealedReader", gone)
    assert quarantine.entries() == []


def test_a_full_disk_leaves_no_draft(quarantine, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            quarantine.begin()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "quarantine").iterdir()) == []
