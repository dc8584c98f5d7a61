"""The private mongod: a single-node replica set with authentication, for a gateway without a `mongodb.uri`.

It listens on a loopback port, restarts if it dies, and ends with the process that started it, however that ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import select
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from gateway.config import MongoSettings
from gateway.errors import CatalogueUnavailable, ConfigurationError
from gateway.store import mongod

logger = logging.getLogger(__name__)

_USER = "isthmus"
#: All data, no users: who holds the gateway's URI cannot make themselves another account.
_ROLES = ("readWriteAnyDatabase", "dbAdminAnyDatabase", "clusterMonitor")
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 10.0
_MAX_RESTART_DELAY_S = 30.0

#: Codes of mongod: the exit code EXIT_NET_ERROR, and two errors of commands.
_PORT_TAKEN = 48
_USER_NOT_FOUND = 11
_NOT_YET_INITIALIZED = 94

_ARGUMENTS = (f"--wiredTigerEngineConfigString={mongod.ENGINE}",)


class EmbeddedMongo:
    """A mongod of our own, as an asynchronous context manager; `uri` is valid inside it, even after mongod restarts.

    Below the data folder it keeps `mongo/` and `secrets/mongod.key`. The key signs in as mongod's internal user, so the
    localhost exception, which would let in whichever local user is first, stays off; the gateway's own password derives
    from it. mongod's warnings and errors are logged here, without anything that could quote a document.
    """

    def __init__(self, settings: MongoSettings, data_dir: Path, arguments: Sequence[str] = _ARGUMENTS) -> None:
        """Nothing is touched until the context is entered, in the thread whose end is to end mongod: the main one.

        `arguments` are further ones of mongod.
        """
        self._settings = settings
        self._arguments = arguments
        self._folder = data_dir.absolute() / "mongo"
        self._key_file = _key_file(data_dir)
        self._lock: int | None = None
        self._binary = Path()
        self._key = ""
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def uri(self) -> str:
        """Where to connect, with the password: not to be logged."""
        return _uri(self._key, self._port)

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._prepare)
            async with asyncio.timeout(_START_TIMEOUT_S):
                await self._start()
                await self._configure()
        except TimeoutError as exc:
            await self._stop()
            raise CatalogueUnavailable(f"The private mongod did not start within {_START_TIMEOUT_S:.0f} s.") from exc
        except PyMongoError as exc:
            await self._stop()
            raise CatalogueUnavailable("The private mongod started but could not be set up.") from exc
        except BaseException:
            await self._stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    def _prepare(self) -> None:
        """Everything that blocks, before mongod can start."""
        self._binary = mongod.find_binary(self._settings)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(self._folder)
        self._key = _load_or_create_key(self._key_file)
        self._port = _free_port(_remembered_port(self._folder))
        _end_leftover(self._folder)

    async def _start(self) -> None:
        """Start mongod and wait until it accepts connections; another process may take the port in between."""
        while (code := await self._spawn()) == _PORT_TAKEN:
            self._port = await asyncio.to_thread(_free_port, 0)
        if code is not None:
            raise CatalogueUnavailable(f"mongod ended at start with exit code {code}; the log says why.")
        await asyncio.to_thread(_remember, self._folder, self._port)

    async def _spawn(self) -> int | None:
        """Start mongod; None once it accepts connections, else its exit code."""
        cache_mb = self._settings.cache_mb
        self._process = await asyncio.create_subprocess_exec(
            *mongod.command(self._binary, self._folder, self._key_file, self._port, cache_mb),
            *self._arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the gateway, which drains before mongod may go
            limit=1 << 20,
        )
        tail: deque[str] = deque(maxlen=20)
        assert self._process.stdout is not None  # noqa: S101
        async for line in self._process.stdout:
            if mongod.report(line) == mongod.WAITING_FOR_CONNECTIONS:
                return None
            tail.append(line.decode(errors="replace"))
        code = await self._process.wait()
        if any("error while loading shared libraries" in line for line in tail):
            raise ConfigurationError(await asyncio.to_thread(mongod.missing_libraries, self._binary))
        return code

    async def _configure(self) -> None:
        """Make it a replica set of one at its present port, with our user. Finds a done job done."""
        password = "".join(self._key.split())
        client: AsyncMongoClient[Any] = AsyncMongoClient(
            *(mongod.HOST, self._port),
            username="__system",
            password=password,
            authSource="local",
            directConnection=True,
        )
        async with client:
            admin = client.admin
            await _configure_replica_set(client, f"{mongod.HOST}:{self._port}")
            while not (await admin.command("hello"))["isWritablePrimary"]:  # noqa: ASYNC110 - mongod sends no event
                await asyncio.sleep(0.01)
            account: dict[str, Any] = {"pwd": _password(self._key), "roles": list(_ROLES)}
            try:
                await admin.command("updateUser", _USER, **account)
            except OperationFailure as exc:
                if exc.code != _USER_NOT_FOUND:
                    raise
                await admin.command("createUser", _USER, **account)

    async def _supervise(self) -> None:
        """Pass on mongod's log; start it again on the same port whenever it ends."""
        delay_s = 0.0
        while True:
            if self._process is not None and self._process.stdout is not None:
                async for line in self._process.stdout:
                    mongod.report(line)
                logger.error("mongod ended with exit code %d; starting it again", await self._process.wait())
            await asyncio.sleep(delay_s)
            try:
                code = await self._spawn()
            except (ConfigurationError, OSError):
                code = -1
            delay_s = 0.0 if code is None else min(2 * delay_s + 0.5, _MAX_RESTART_DELAY_S)

    async def _stop(self) -> None:
        """End mongod and give the data folder free. Idempotent."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        if self._process is not None:
            await _end(self._process)
            self._process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def running_uri(data_dir: Path) -> str | None:
    """The URI of the mongod that a running gateway keeps in this data folder; None if none runs. Blocks briefly."""
    folder = data_dir.absolute() / "mongo"
    try:
        descriptor = os.open(folder / "isthmus.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _uri(_key_file(data_dir).read_text(encoding="ascii"), _remembered_port(folder))
    finally:
        os.close(descriptor)
    return None


def _uri(key: str, port: int) -> str:
    return f"mongodb://{_USER}:{_password(key)}@{mongod.HOST}:{port}/?replicaSet={mongod.REPLICA_SET}&authSource=admin"


def _password(key: str) -> str:
    return hmac.new(key.encode(), b"isthmus gateway", hashlib.sha256).hexdigest()


async def _configure_replica_set(client: AsyncMongoClient[Any], host: str) -> None:
    """Initiate the set at first start; name the new address if the port has changed."""
    admin = client.admin
    try:
        config = (await admin.command("replSetGetConfig"))["config"]
    except OperationFailure as exc:
        if exc.code != _NOT_YET_INITIALIZED:
            raise
        await admin.command("replSetInitiate", {"_id": mongod.REPLICA_SET, "members": [{"_id": 0, "host": host}]})
        return
    if config["members"][0]["host"] != host:
        config["members"][0]["host"] = host
        config["version"] += 1
        await admin.command("replSetReconfig", config, force=True)


def _lock(folder: Path) -> int:
    """Lock the folder against a second gateway, until the descriptor is closed or this process ends."""
    descriptor = os.open(folder / "isthmus.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(descriptor)
        raise ConfigurationError(
            f"The data folder {folder.parent} is in use by another running gateway: stop it, or give --data another."
        ) from exc
    return descriptor


def _key_file(data_dir: Path) -> Path:
    return data_dir.absolute() / "secrets" / "mongod.key"


def _load_or_create_key(path: Path) -> str:
    """The key file: 6 to 1024 base64 characters that only the owner may read. If lost, a new one serves as well."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(secrets.token_hex(32))
    return path.read_text(encoding="ascii")


def _remembered_port(folder: Path) -> int:
    try:
        return int((folder / "isthmus.port").read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0


def _remember(folder: Path, port: int) -> None:
    (folder / "isthmus.port").write_text(str(port), encoding="ascii")


def _free_port(wanted: int) -> int:
    """`wanted` if it is free, else one that is."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((mongod.HOST, wanted))
        except OSError:
            probe.bind((mongod.HOST, 0))
        return int(probe.getsockname()[1])


def _end_leftover(folder: Path) -> None:
    """End a mongod that a killed gateway left on this folder. We hold the lock, so no living gateway owns it."""
    try:
        pid = int((folder / "mongod.lock").read_text(encoding="ascii"))
        descriptor = os.pidfd_open(pid)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if f"--dbpath={folder}".encode() not in arguments:
            return  # the number was given to another process since
        logger.warning("ending the mongod (process %d) that an earlier gateway left running", pid)
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not _ended(descriptor, _STOP_TIMEOUT_S):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            _ended(descriptor, _STOP_TIMEOUT_S)
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended meanwhile
    finally:
        os.close(descriptor)


def _ended(pidfd: int, timeout_s: float) -> bool:
    """Wait for the end of a process: its descriptor becomes readable."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, and SIGKILL if that does not do; mongod's journal makes either safe."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await process.communicate()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
