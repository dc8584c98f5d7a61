"""Runs the tools, each in a process of its own: files in, files out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.deid.isthmus import SAFE_PRIVATE

ROOT = Path(__file__).parents[2]
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
PEERS = ("dicognito", "dicom-anonymizer", "deid")
OURS = "Isthmus"
OURS_SAFE_PRIVATE = "Isthmus, safe private"
PROFILES = {OURS: "research", OURS_SAFE_PRIVATE: SAFE_PRIVATE}
#: What our results are told under in the tables, and theirs.
ALL = (*PROFILES, *PEERS)
#: Keys of the benchmark; what is made with them is worth nothing.
KEY, OTHER_KEY = bytes(range(50, 82)), bytes(range(150, 182))
_PEER = Path(__file__).parent / "peers.py"
_TIMEOUT_S = 3600


def run(tool: str, source: Path, target: Path, *, key: bytes = KEY) -> None:
    """Convert a folder of files; raise CalledProcessError if the tool as a whole fails."""
    target.mkdir(parents=True)
    if tool in PROFILES:
        command = [sys.executable, "-m", "benchmarks.deid.isthmus", str(source), str(target), key.hex()]
        command += ["--profile", PROFILES[tool]]
    else:
        command = peer("convert", tool, source, target)
    print(f"{tool}: {len(list(source.glob('*.dcm')))} files", file=sys.stderr, flush=True)
    said = None if tool in PROFILES else subprocess.DEVNULL
    subprocess.run(
        command, cwd=ROOT, env=environment(), check=True, stdout=subprocess.DEVNULL, stderr=said, timeout=_TIMEOUT_S
    )


def peer(what: str, tool: str, source: Path, target: Path) -> list[str]:
    """The command that converts, or measures, with another tool."""
    return [str(PEERS_PYTHON), str(_PEER), what, tool, str(source), str(target)]


def environment() -> dict[str, str]:
    """Without the many lines that `deid` would print."""
    return os.environ | {"MESSAGELEVEL": "QUIET", "PYTHONWARNINGS": "ignore"}


def there() -> Sequence[str]:
    """The tools that can be run here."""
    return ALL if PEERS_PYTHON.exists() else tuple(PROFILES)


def versions() -> dict[str, str]:
    """Versions of the other tools."""
    if not PEERS_PYTHON.exists():
        return {}
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    names = [*PEERS, "pydicom"]
    done = subprocess.run([str(PEERS_PYTHON), "-c", code, *names], check=True, capture_output=True, text=True)
    return dict(zip(names, done.stdout.split(), strict=True))
