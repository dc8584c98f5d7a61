"""Runs on a real local Ray: events, results, cancellation, dead workers, and nothing left behind."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ray_plugins.runner import Log, Progress, RayRunner, RunCancelled, RunFailed, Task, end_leftovers
from ray_plugins.session import ray_processes, short_folder
from ray_plugins.testing import Phantom

PLUGINS = '''
import logging, os, sys, time, warnings
from ray_plugins.sdk import Accepts, PluginError, Result, plugin

@plugin(name="act", title="Acts as told", version="1.0.0", accepts=Accepts("CT"))
def act(volume, context, how: str = "well") -> Result:
    """Behaves as a plugin may."""
    context.log("pid %d", os.getpid())
    context.progress(0.5, "half-way")
    if how == "slowly":
        while True:
            context.check_cancelled()
            time.sleep(0.01)
    if how == "deaf":
        time.sleep(3600)
    if how == "sentence":
        raise PluginError("There is no bone in this series.")
    if how == "fault":
        raise KeyError("unforeseen")
    if how == "death":
        os.kill(os.getpid(), 9)
    if how == "quoting":
        logging.getLogger("pydicom").warning("Invalid value for VR DA: 'Quibblethwaite'")
        warnings.warn("The string 'Quibblethwaite' is unlikely to be a name", stacklevel=1)
        sys.stderr.write("said on purpose\\n")
    if how == "flood":
        for number in range(10_000):
            context.log("line %d", number)
            context.progress(number / 10_000)
    return Result().measure("voxels", volume.array.size, "1")
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin installed as a third party's is: a module and the entry point of its distribution."""
    site = tmp_path_factory.mktemp("site")
    (site / "acting.py").write_text(PLUGINS)
    info = site / "acting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[isthmus.plugins]\nact = acting:act\n")
    return site


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return Phantom().write(tmp_path_factory.mktemp("series"))


@pytest.fixture(scope="module")
def runner(installed: Path, ray_folder: Path) -> Iterator[RayRunner]:
    sys.path.insert(0, str(installed))
    importlib.invalidate_caches()
    made = RayRunner(
        ray_folder,
        cpus=2,
        object_store_bytes=96 << 20,
        environment={"PYTHONPATH": str(installed)},
    )
    asyncio.run(made.start())
    yield made
    asyncio.run(made.close())
    sys.path.remove(str(installed))
    assert list(ray_processes(made.temp_dir)) == []


def task(series: tuple[str, ...], how: str) -> Task:
    return Task("run", "act", {"how": how}, series, "seed")


async def pid_of(handle) -> int:
    async for event in handle:
        if isinstance(event, Log) and event.text.startswith("pid "):
            return int(event.text.removeprefix("pid "))
    raise AssertionError("the run ended without its first line")


async def test_events_stream_and_the_result_comes_back(runner: RayRunner, series) -> None:
    handle = await runner.submit(task(series, "well"))
    events = [event async for event in handle]
    result = await handle.result()
    assert result.measurements[0]["value"] == pytest.approx(64 * 64 * 40, rel=1e-3)
    assert Progress(1, "Done") in events
    assert any(isinstance(event, Log) and event.text.startswith("pid ") for event in events)


async def test_its_folder_is_private_though_ray_opens_it(runner: RayRunner, series) -> None:
    await (await runner.submit(task(series, "well"))).result()
    assert stat.S_IMODE(runner.temp_dir.stat().st_mode) == 0o700


async def test_workers_are_kept_warm(runner: RayRunner, series) -> None:
    pids = set()
    for _ in range(4):
        handle = await runner.submit(task(series, "well"))
        pids.add(await pid_of(handle))
        await handle.result()
    assert len(pids) <= 2


@pytest.mark.parametrize("how", ["slowly", "deaf"])
async def test_cancel_ends_a_run(runner: RayRunner, series, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_plugins.runner.CANCEL_GRACE_S", 1.0)
    handle = await runner.submit(task(series, how))
    pid = await pid_of(handle)
    await handle.cancel()
    with pytest.raises(RunCancelled):
        await asyncio.wait_for(handle.result(), 20)
    if how == "deaf":
        await until(lambda: not Path(f"/proc/{pid}").exists() or zombie(pid))
    assert (await (await runner.submit(task(series, "well"))).result()).measurements


async def test_a_plugins_own_sentence_is_the_error(runner: RayRunner, series) -> None:
    handle = await runner.submit(task(series, "sentence"))
    with pytest.raises(RunFailed, match=r"^There is no bone in this series\.$"):
        await handle.result()


async def test_a_fault_is_one_sentence_and_its_traceback_is_in_the_log_only(runner: RayRunner, series) -> None:
    handle = await runner.submit(task(series, "fault"))
    lines = [event.text async for event in handle if isinstance(event, Log)]
    with pytest.raises(RunFailed, match=r"^The plugin failed with KeyError; the run's log has the details\.$"):
        await handle.result()
    assert any("acting.py" in line for line in lines)
    assert lines[-1] == "KeyError: 'unforeseen'"


async def test_what_libraries_quote_is_in_no_file(runner: RayRunner, series) -> None:
    """Ray keeps what a worker writes: a plugin's own words, and not the warnings of what it reads with."""
    await (await runner.submit(task(series, "quoting"))).result()
    logs = runner.temp_dir / "session_latest" / "logs"

    def written(text: bytes) -> bool:
        return any(text in file.read_bytes() for file in logs.rglob("*") if file.is_file())

    await until(lambda: written(b"said on purpose"))
    assert not written(b"Quibblethwaite")


async def test_a_killed_worker_is_a_failure_that_may_be_tried_again(runner: RayRunner, series) -> None:
    handle = await runner.submit(task(series, "death"))
    with pytest.raises(RunFailed, match=r"^The worker process of the run died\.$") as failure:
        await asyncio.wait_for(handle.result(), 30)
    assert failure.value.retryable


async def test_a_flood_of_events_is_bounded(runner: RayRunner, series) -> None:
    handle = await runner.submit(task(series, "flood"))
    events = [event async for event in handle]
    await handle.result()
    assert 2000 < len(events) < 2300


def test_ray_listens_on_loopback_only(runner: RayRunner) -> None:
    listening = {
        line.split()[9]: line.split()[1].split(":")[0]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    }
    mine = set()
    for pid in [*ray_processes(runner.temp_dir), os.getpid()]:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(link) if link.is_symlink() else ""  # noqa: PTH115 - "socket:[1]" is no path
            mine.add(listening.get(target.removeprefix("socket:[").removesuffix("]")))
    assert mine - {None} <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert len(mine) > 1


async def test_a_killed_owner_leaves_nothing_that_the_next_start_does_not_end(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import asyncio, os
        from pathlib import Path
        from ray_plugins.runner import RayRunner
        async def main():
            await RayRunner(Path({str(tmp_path)!r}), cpus=1, object_store_bytes=80 << 20).start()
            print("started", flush=True)
            await asyncio.sleep(3600)
        asyncio.run(main())
    """)
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    folder = short_folder(tmp_path)
    try:
        assert await asyncio.to_thread(owner.stdout.readline) == "started\n"
        assert len(list(ray_processes(folder))) >= 3
    finally:
        owner.send_signal(signal.SIGKILL)
        await asyncio.to_thread(owner.communicate)
    await asyncio.to_thread(end_leftovers, folder)
    assert list(ray_processes(folder)) == []
    assert list(folder.glob("session_*")) == []
    shutil.rmtree(folder)


async def test_ray_that_died_is_noticed_and_can_be_started_again(runner: RayRunner, series) -> None:
    assert await runner.is_healthy()
    for pid in ray_processes(runner.temp_dir):
        if b"gcs_server" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    assert not await runner.is_healthy()
    await asyncio.wait_for(runner.close(), 30)
    await runner.start()
    assert await runner.is_healthy()
    assert (await (await runner.submit(task(series, "well"))).result()).measurements


def zombie(pid: int) -> bool:
    return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        await asyncio.sleep(0.02)
