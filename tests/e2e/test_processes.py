"""The processes of `isthmus serve`: one that dies is replaced, and none outlives the one that it belongs to."""

import contextlib
import os
import signal
import time
from collections.abc import Callable

import httpx
import psutil
import pytest

from tests.conftest import running

pytestmark = pytest.mark.e2e
_QUIET = {"ISTHMUS_RAY__ENABLED": "false"}


def family(process: psutil.Process) -> dict[str, list[psutil.Process]]:
    """The processes below one, by what the kernel calls them."""
    found: dict[str, list[psutil.Process]] = {}
    for one in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.setdefault(one.name(), []).append(one)
    return found


def eventually(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.05)
    return False


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_a_process_that_dies_is_replaced(tmp_path):
    with running(tmp_path, "--workers", "1", "--auth", "none", **_QUIET) as gateway:
        parent = psutil.Process(gateway.process.pid)
        before = family(parent)
        assert {name: len(found) for name, found in before.items() if name.startswith("isthmus ")} == {
            "isthmus http": 1, "isthmus dicom": 1, "isthmus jobs": 1,
        }  # fmt: skip
        killed = [before[name][0] for name in ("isthmus http", "isthmus jobs")]
        for one in killed:
            one.kill()
        assert eventually(lambda: not living(killed) and family(parent).keys() == before.keys())
        assert httpx.get(f"{gateway.base_url}/dicomweb/studies", timeout=20, trust_env=False).status_code == 200
        assert "the http process ended with exit code -9; starting it again" in gateway.log.read_text()
    assert gateway.process.returncode == 0


@pytest.mark.parametrize("victim", ["parent", "nursery"])
def test_nobody_outlives_the_one_it_belongs_to(tmp_path, victim):
    with running(tmp_path, "--auth", "none", **_QUIET) as gateway:
        parent = psutil.Process(gateway.process.pid)
        everybody = parent.children(recursive=True)
        (nursery,) = {one.parent().pid for one in everybody if one.parent() != parent}
        os.kill(gateway.process.pid if victim == "parent" else nursery, signal.SIGKILL)
        assert gateway.process.wait(timeout=30) == (-9 if victim == "parent" else 1)
        assert eventually(lambda: not living(everybody)), living(everybody)
