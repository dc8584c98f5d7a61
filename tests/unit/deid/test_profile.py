"""Profiles of one's own: found beside those that ship, wherever a profile is named; a fault in one shows at start."""

from pathlib import Path

import pytest

from gateway import cli, commands
from gateway.assignment import Keys
from gateway.config import Settings, load
from gateway.deid.profile import DOCUMENTS, OPTIONS, SHIPPED, load_profile
from gateway.deid.workitems import WorkitemDeidentifier
from gateway.doctor import checks
from gateway.errors import ConfigurationError
from gateway.wiring import open_core
from tests.unit.deid.objects import KEY, bundled

KEYS = Keys(deid=KEY, vault=KEY[::-1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a profile that keeps station names."""
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    (profiles / "site.toml").write_text('title = "Ours"\n[rules]\nStationName = "keep"\n')
    return profiles


def settings(tmp_path: Path, folder: Path, profile: str, **sources: str) -> Settings:
    return load(
        environ={},
        overrides={
            "data.dir": str(tmp_path / "data"),
            "deid.profiles_dir": str(folder),
            "ingest.profile": profile,
            "ingest.sources": sources,
        },
    )


def test_every_option_of_annex_e_can_be_named(tmp_path: Path) -> None:
    """CID 7050: 113100 is the profile, 113101 to 113112 are its options."""
    assert sorted(code for code, _ in OPTIONS.values()) == [str(code) for code in range(113101, 113113)]
    names = [name for name in OPTIONS if name != "retain-full-dates"]
    (tmp_path / "all.toml").write_text(f"options = {names}\n")
    assert load_profile("all", tmp_path).options == set(names)


def test_documents_are_refused_unless_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('documents = "replace"\n')
    assert load_profile("x", tmp_path).documents == "replace"
    assert {load_profile(file.stem).documents for file in SHIPPED.glob("*.toml")} == {DOCUMENTS[0]}


def test_the_preview_finds_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    configuration = tmp_path / "isthmus.toml"
    configuration.write_text(f'[data]\ndir = "{tmp_path / "data"}"\n[deid]\nprofiles_dir = "{folder}"\n')
    arguments = ["deid", "preview", "--config", str(configuration), "--profile"]
    assert cli.main([*arguments, "site", str(bundled("CT_small.dcm"))]) == commands.DONE
    assert "Isthmus profile site" in capsys.readouterr().out
    assert cli.main([*arguments, "nowhere", str(bundled("CT_small.dcm"))]) == commands.FAILED
    assert "basic, none, research, site" in capsys.readouterr().err


def test_workitems_find_them(folder: Path) -> None:
    assert WorkitemDeidentifier.load("site", KEY, folder) is not None
    with pytest.raises(ConfigurationError):
        WorkitemDeidentifier.load("site", KEY)


def test_the_doctor_reads_them(folder: Path, tmp_path: Path) -> None:
    found = {check.name: check for check in checks(settings(tmp_path, folder, "site", other="basic"))}
    assert (found["profiles"].works, found["profiles"].text) == (True, "basic, site")
    found = {check.name: check for check in checks(settings(tmp_path, folder, "nowhere"))}
    assert not found["profiles"].works
    assert found["profiles"].needed


@pytest.mark.parametrize(
    ("profile", "sources", "says"),
    [("nowhere", {}, "'nowhere'"), ("site", {"dimse:CT1": "elsewhere"}, "'elsewhere'"), ("broken", {}, "broken.toml")],
)
async def test_a_profile_that_cannot_be_loaded_refuses_the_start(
    folder: Path, tmp_path: Path, profile: str, sources: dict[str, str], says: str
) -> None:
    (folder / "broken.toml").write_text("options = [")
    with pytest.raises(ConfigurationError) as failure:
        async with open_core(settings(tmp_path, folder, profile, **sources), "mongodb://127.0.0.1:9", KEYS):
            pass
    assert says in failure.value.message
