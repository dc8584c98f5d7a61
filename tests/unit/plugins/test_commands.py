"""`isthmus plugins`, the registry, and the guide's own example."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from ray_plugins.commands import DONE, FAILED, USAGE, run
from ray_plugins.registry import BrokenPlugin, Registry, UnknownPlugin
from ray_plugins.session import MAX_FOLDER_BYTES, short_folder
from ray_plugins.testing import Phantom

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "plugins.md"


def command(action: str, name: str | None = None, series=None, to=Path("out"), sets=()) -> tuple[int, str]:
    out = io.StringIO()
    return run(action, name, series, to, sets, out), out.getvalue()


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The first program of docs/plugins.md, as a file."""
    source = re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert len(source.strip().splitlines()) <= 15
    path = tmp_path / "fat.py"
    path.write_text(source, encoding="utf-8")
    return path


def test_the_guides_example_runs_and_keeps_the_contract(example: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    Phantom().write(folder)
    (folder / "notes.txt").write_text("not DICOM")
    code, text = command("run", str(example), folder, tmp_path / "out", ["limit=-30"])
    assert code == DONE
    assert "Fat: Volume:" in text
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"seg.dcm", "sr.dcm", "fat.x3d", "fat.glb", "fat.stl", "measurements.json"}
    assert "100% Done" in capsys.readouterr().err
    code, text = command("test", str(example))
    assert code == DONE
    assert text.count("ok ") == 7


def test_list_and_describe(capsys) -> None:
    assert "ct-bone" in command("list")[1]
    manifest = json.loads(command("describe", "ct-bone")[1])
    assert manifest["accepts"] == {"Modality": "CT", "instances": 10, "exclude": ["LOCALIZER"]}
    assert manifest["parameters"]["properties"]["low"]["x-unit"] == "HU"
    assert capsys.readouterr().err == ""


def test_a_new_plugin_works_at_once(tmp_path: Path) -> None:
    code, text = command("new", "dense-tissue", to=tmp_path)
    assert code == DONE
    made = tmp_path / "dense-tissue"
    assert {path.name for path in made.iterdir()} == {"dense_tissue.py", "test_dense_tissue.py", "pyproject.toml"}
    assert f"pip install -e {made}" in text
    assert command("test", str(made / "dense_tissue.py"))[0] == DONE


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("describe",), USAGE, "Say which plugin: isthmus plugins describe NAME."),
        (("describe", "nothing"), FAILED, "There is no plugin nothing; installed are:"),
        (("describe", "absent.py"), FAILED, "There is no file absent.py."),
        (("run", "ct-bone"), USAGE, "Say which series: --series DIR"),
        (("run", "ct-bone", Path("/nonexistent")), USAGE, "There are no DICOM files in /nonexistent."),
        (("run", "ct-bone", Path("/x"), Path("out"), ["low"]), USAGE, "Parameters are NAME=VALUE; 'low' is not."),
        (("run", "ct-bone", Path("/x"), Path("out"), ["low=x"]), USAGE, "low must be a whole number from 50 to 1000"),
        (("new", "Bad_Name"), USAGE, "A plugin's name is lower-case words joined by hyphens"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, code: int, sentence: str, capsys) -> None:
    assert command(*arguments) == (code, "")
    errors = capsys.readouterr().err
    assert errors.startswith(sentence)
    assert errors.count("\n") == 1


def test_the_registry_loads_late_and_lives_with_broken_plugins(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "broken_plugin.py").write_text("import nothing_of_this_name")
    (tmp_path / "no_plugin.py").write_text("value = 3")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry(
        [
            EntryPoint("ct-bone", "ray_plugins.builtin.ct_bone:ct_bone", "isthmus.plugins"),
            EntryPoint("other-name", "ray_plugins.builtin.ct_bone:ct_bone", "isthmus.plugins"),
            EntryPoint("broken", "broken_plugin:x", "isthmus.plugins"),
            EntryPoint("no-plugin", "no_plugin:value", "isthmus.plugins"),
        ]
    )
    assert registry.names() == ["broken", "ct-bone", "no-plugin", "other-name"]
    assert [plugin.name for plugin in registry] == ["ct-bone"]
    assert set(registry.broken()) == {"broken", "no-plugin", "other-name"}
    with pytest.raises(BrokenPlugin, match="nothing_of_this_name"):
        registry.get("broken")
    with pytest.raises(UnknownPlugin, match=r"^There is no plugin x; installed are: broken, ct-bone, no-plugin"):
        registry.get("x")


def test_manifests_need_no_heavy_import() -> None:
    script = (
        "import sys; from ray_plugins.registry import Registry; list(Registry()); import ray_plugins.runner;"
        "print([m for m in ('ray', 'scipy', 'skimage', 'highdicom', 'cupy', 'botocore') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_long_folder_gets_a_short_and_private_stand_in(tmp_path: Path) -> None:
    assert short_folder(Path("/short")) == Path("/short")
    long = tmp_path / ("x" * MAX_FOLDER_BYTES)
    folder = short_folder(long)
    try:
        assert folder == short_folder(long)
        assert len(str(folder)) <= MAX_FOLDER_BYTES
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        folder.rmdir()
