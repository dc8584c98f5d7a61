"""The documents keep up with the code."""

import configparser
import re
from pathlib import Path

import pytest

from gateway import cli

ROOT = Path(__file__).resolve().parents[3]


def names(section: str, option: str) -> list[str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return [re.split(r"[<>=\[ ]", line)[0] for line in parser[section][option].split()]


@pytest.mark.parametrize(
    "name",
    names("options", "install_requires")
    + names("options.extras_require", "embedded")
    + ["motor", "cupy", "rapidocr", "onnxruntime"],
)
def test_every_dependency_is_explained(name: str) -> None:
    assert re.search(rf"\b{re.escape(name)}\b", (ROOT / "docs" / "dependencies.md").read_text())


def test_every_command_is_documented() -> None:
    (commands,) = [action for action in cli._parser()._actions if hasattr(action, "choices") and action.choices]
    text = (ROOT / "docs" / "configuration.md").read_text()
    for name in commands.choices:
        assert f"`isthmus {name}" in text


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
