"""What all tests share: real data, a real mongod, an open archive, a served application, a whole running gateway."""

import asyncio
import gc
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymongo
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from blockbuster import blockbuster_ctx

from gateway.app import create_app
from gateway.assignment import Keys
from gateway.config import Settings, load
from gateway.intake.rewrite import quiet_pydicom
from gateway.wiring import Core, open_core
from ray_plugins.session import short_folder

ROOT = Path(__file__).resolve().parent.parent
#: Seconds that one callback may compute on the loop. High, for slow machines: decoding on the loop shows anyway.
SLOW_CALLBACK_S = 1.0
#: Where the code of tests and of what runs them lies.
OF_TESTS = (str(ROOT / "tests"), str(Path(pytest_asyncio.__file__).parent))
KEY = bytes(range(32))
KEYS = Keys(KEY, bytes(range(32, 64)))

quiet_pydicom()


@pytest.fixture(autouse=True)
def nothing_blocks() -> Iterator[None]:
    """Fail a test in which our code does blocking I/O on an event loop."""
    with blockbuster_ctx(scanned_modules=["gateway", "dicomweb", "viewer"]) as guard:
        # PyMongo looks once, when it first connects, whether it runs in a container.
        guard.functions["os.stat"].can_block_in("pymongo/pool_options.py", "get_container_env_info")
        # What it sends is in memory, and the connection does not wait.
        guard.functions["os.sendfile"].can_block_in("dicomweb/pieces.py", "_send_file")
        yield


@pytest.fixture(autouse=True)
def nothing_hogs_the_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test in which one callback computes on the loop for too long: parsing or decoding belongs in a thread."""
    slow, here = [], threading.local()
    run = asyncio.Handle._run  # where asyncio's debug mode measures, too, but by the clock: a busy machine stretches it

    def timed(handle: asyncio.Handle) -> None:
        here.collecting_s, before = 0.0, time.thread_time()
        run(handle)
        if (took := time.thread_time() - before - here.collecting_s) > SLOW_CALLBACK_S:
            task = getattr(handle._callback, "__self__", handle)
            if not (isinstance(task, asyncio.Task) and _is_of_a_test(task)):
                slow.append(f"{task} took {took:.1f} s")

    def collecting(phase: str, _: dict[str, int]) -> None:  # of what all tests before have left
        if hasattr(here, "collecting_s"):
            here.collecting_s += time.thread_time() if phase == "stop" else -time.thread_time()

    monkeypatch.setattr(asyncio.Handle, "_run", timed)
    gc.callbacks.append(collecting)
    yield
    gc.callbacks.remove(collecting)
    assert not slow


def _is_of_a_test(task: asyncio.Task[Any]) -> bool:
    """Whether a task runs a test or a fixture, which may take its time to make and to compare."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.startswith(OF_TESTS)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real DICOM; without it the test is skipped, except in CI, where it must be there."""
    folder = Path(os.environ.get("ISTHMUS_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.tsv").is_file():
        reason = f"no real DICOM: set ISTHMUS_TEST_DATA to a folder of it (looked in {folder})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def mongod_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a real mongod that lives as long as the test run."""
    folder = tmp_path_factory.mktemp("mongod")
    command = [sys.executable, "-m", "tests.mongod", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        uri = process.stdout.readline().strip()
        assert uri.startswith("mongodb://"), "mongod did not start"
        yield uri
        process.stdin.close()
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def ray_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where every local Ray of this process lives, which keeps the access token that it first read there."""
    folder = short_folder(tmp_path_factory.mktemp("ray"))
    yield folder
    shutil.rmtree(folder)


class Databases:
    """Databases that tests take in turn: an empty one with its 60 indexes costs 2 ms, to make and drop one 400."""

    def __init__(self, mongo: pymongo.MongoClient[Any]) -> None:
        self.mongo = mongo
        self._free: list[str] = []

    @contextmanager
    def one(self) -> Iterator[str]:
        """The name of a database in which there are no documents, for the length of a block."""
        name = self._free.pop() if self._free else f"test_{secrets.token_hex(6)}"
        yield name
        for collection in self.mongo[name].list_collection_names(filter={"type": "collection"}):
            self.mongo[name][collection].delete_many({})
        self._free.append(name)


@pytest.fixture(scope="session")
def databases(mongod_uri: str) -> Iterator[Databases]:
    """The databases of this test run's mongod."""
    with pymongo.MongoClient(mongod_uri) as mongo:
        yield Databases(mongo)


def settings_for(folder: Path, **environment: str) -> Settings:
    """Settings of a gateway below `folder`, with a database of its own if none is named."""
    values = {
        "ISTHMUS_DATA__DIR": str(folder),
        "ISTHMUS_MONGODB__DATABASE": f"test_{secrets.token_hex(6)}",
        "ISTHMUS_AUTH__MODE": "none",
        "ISTHMUS_HTTP__BIND": "127.0.0.1:0",
        "ISTHMUS_DICOM__BIND": "127.0.0.1:0",
    }
    return load(None, values | environment)


CoreFactory = Callable[..., "asyncio.Future[Core]"]


@pytest.fixture
async def open_archive(mongod_uri: str, databases: Databases, tmp_path: Path) -> AsyncIterator[CoreFactory]:
    """Open archives: `core = await open_archive(ISTHMUS_INGEST__PROFILE="none")`; each has a database for itself."""
    async with AsyncExitStack() as stack:

        async def make(**environment: str) -> Core:
            if "ISTHMUS_MONGODB__DATABASE" not in environment:
                environment["ISTHMUS_MONGODB__DATABASE"] = stack.enter_context(databases.one())
            settings = settings_for(tmp_path / secrets.token_hex(4), **environment)
            return await stack.enter_async_context(open_core(settings, mongod_uri, KEYS))

        yield make


@pytest.fixture
async def core(open_archive: CoreFactory) -> Core:
    """An archive that keeps objects as they come."""
    return await open_archive(ISTHMUS_INGEST__PROFILE="none")


@pytest.fixture
async def serve(open_archive: CoreFactory) -> AsyncIterator[Callable[[Core], "asyncio.Future[TestClient]"]]:
    """Serve an archive over HTTP in this process: `client = await serve(core)`."""
    async with AsyncExitStack() as stack:

        async def make(core: Core) -> TestClient:
            app = await create_app(core, dicom_address="127.0.0.1:11112")
            return await stack.enter_async_context(TestClient(TestServer(app, host="127.0.0.1")))

        yield make


@pytest.fixture
async def client(core: Core, serve) -> TestClient:
    """A client of a server over `core`."""
    return await serve(core)


@dataclass(frozen=True)
class Gateway:
    """A gateway that runs as `isthmus serve` in its own processes."""

    base_url: str
    login_url: str
    ae_title: str
    dicom_port: int
    token: str
    data: Path
    process: subprocess.Popen[str]
    log: Path


@contextmanager
def running(folder: Path, *arguments: str, **environment: str) -> Iterator[Gateway]:
    """Run `isthmus serve` on free ports until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "serve.log"
    command = [sys.executable, "-m", "gateway.cli", "serve", "--data", str(folder / "data")]
    command += ["--http", "127.0.0.1:0", "--dicom", "127.0.0.1:0", *arguments]
    with (
        log.open("a") as errors,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | environment
        ) as process,
    ):
        try:
            yield _ready(process, folder / "data", log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def _ready(process: subprocess.Popen[str], data: Path, log: Path) -> Gateway:
    assert process.stdout
    login = ""
    for line in process.stdout:
        if line.startswith("open "):
            login = line.split()[1]
        if found := re.match(r"ready (\S+)/ dicom (\w+)@\S+:(\d+)", line):
            token_file = data / "secrets" / "token"
            token = token_file.read_text().strip() if token_file.exists() else ""
            return Gateway(found[1], login, found[2], int(found[3]), token, data, process, log)
    pytest.fail(f"isthmus serve did not become ready:\n{log.read_text()[-4000:]}")


@pytest.fixture(scope="session")
def running_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway with demonstration studies for all end-to-end tests."""
    with running(tmp_path_factory.mktemp("gateway"), "--demo") as gateway:
        yield gateway
