"""`isthmus serve`: the parent process, which owns sockets, private mongod and children, and ends them together."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import logging
import os
import pickle
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

from gateway import demo, logs
from gateway.auth.tokens import Tokens
from gateway.config import Address, Settings
from gateway.deid.keys import check_value, load_or_create_key
from gateway.errors import CatalogueUnavailable, ConfigurationError
from gateway.process import Assignment, Role
from gateway.store import driver
from gateway.store.embedded import EmbeddedMongo
from gateway.wiring import Core, open_core

logger = logging.getLogger(__name__)
_READY_TIMEOUT_S = 60.0
#: Children drain for up to 8 s; with mongod's end all is over within 15 s.
_DRAIN_TIMEOUT_S = 10.0
_RESTART_DELAY_S = 1.0
_LINK_VALID = timedelta(hours=12)
_BACKLOG = 512


async def serve(settings: Settings, *, with_demo: bool) -> None:
    """Run a gateway until SIGTERM or SIGINT; print its address once it serves."""
    logs.configure(settings.log.level, "serve")
    logs.keep_texts_out(asyncio.get_running_loop())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    data = settings.data.dir
    await asyncio.to_thread(_private_folder, data)
    key = await asyncio.to_thread(load_or_create_key, settings.deid, data)
    async with AsyncExitStack() as stack:
        http = stack.enter_context(contextlib.closing(_listen(settings.http.bind, "http.bind")))
        dicom = stack.enter_context(contextlib.closing(_listen(settings.dicom.bind, "dicom.bind")))
        settings = _with_ports(settings, http, dicom)
        uri = settings.mongodb.uri or (await stack.enter_async_context(EmbeddedMongo(settings.mongodb, data))).uri
        async with open_core(settings, uri, key) as core:
            core.catalogue.generations.settle()
            await check_key(core, key)
            link = await _sign_in_link(core)
            if with_demo:
                await demo.load(core.archive)
        children = await stack.enter_async_context(_children(settings, uri, key, http, dicom, with_demo))
        if await _until(stop, children):
            _say(settings, link)
            await stop.wait()
        logger.info("stopping")


def _say(settings: Settings, link: str) -> None:
    """Tell the person, or the script, where to go."""
    if link:
        print(f"open {link}")  # noqa: T201 - the interface of the command
    print(f"ready {base_url(settings)}/ dicom {settings.dicom.ae_title}@{settings.dicom.bind}", flush=True)  # noqa: T201


def base_url(settings: Settings) -> str:
    """The address of the web server on this machine, without a trailing slash."""
    return f"{'https' if settings.http.tls_cert else 'http'}://{settings.http.bind}"


async def check_key(core: Core, key: bytes) -> None:
    """Refuse a key that is not the one this catalogue was filled under: pseudonyms would no longer agree."""
    value = check_value(key)
    async with driver.wrapped():
        await core.catalogue.db.keys.update_one({"_id": "deid"}, {"$setOnInsert": {"check": value}}, upsert=True)
        known = await core.catalogue.db.keys.find_one({"_id": "deid"})
    if not hmac.compare_digest(known["check"], value):
        raise ConfigurationError(
            "The de-identification key is not the one this archive was filled under; restore secrets/deid.key from its "
            "backup, or set deid.key."
        )


async def _sign_in_link(core: Core) -> str:
    """Register the token in the data folder and make a one-time link; nothing with auth.mode none."""
    settings = core.settings
    if settings.auth.mode != "token":
        return ""
    tokens = Tokens(core.catalogue.db)
    await tokens.start()
    await tokens.adopt(await asyncio.to_thread(local_token, settings.data.dir), "admin")
    code = await tokens.create("once", "admin", _LINK_VALID)
    base = settings.http.public_url.rstrip("/") or base_url(settings)
    return f"{base}/login?once={code}"


def local_token(data_dir: Path) -> str:
    """The bearer token for scripts on this machine: `secrets/token` below the data folder, made at first start."""
    path = data_dir / "secrets" / "token"
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="ascii").strip()
    secret = secrets.token_urlsafe(32)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret + "\n")
    return secret


def _private_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
        (path / "secrets").mkdir(exist_ok=True, mode=0o700)
        metrics = path / "metrics"
        metrics.mkdir(exist_ok=True, mode=0o700)
        for old in metrics.glob("*.db"):
            old.unlink()
    except OSError as exc:
        raise ConfigurationError(f"The data folder {path} cannot be used: {exc.strerror}.") from exc


def _listen(address: Address, setting: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)
    except OSError as exc:
        listener.close()
        raise ConfigurationError(
            f"Cannot listen on {address} ({setting}): {exc.strerror}. Is another gateway running, or the port taken?"
        ) from exc
    listener.setblocking(False)
    return listener


def _with_ports(settings: Settings, http: socket.socket, dicom: socket.socket) -> Settings:
    """The settings with the ports that the system chose for port 0."""
    return dataclasses.replace(
        settings,
        http=dataclasses.replace(settings.http, bind=Address(settings.http.bind.host, http.getsockname()[1])),
        dicom=dataclasses.replace(settings.dicom, bind=Address(settings.dicom.bind.host, dicom.getsockname()[1])),
    )


class _Child:
    """A child process that is started again whenever it ends by itself."""

    def __init__(self, assignment: Assignment) -> None:
        self.ready = asyncio.Event()
        self._assignment = assignment
        self._process: asyncio.subprocess.Process | None = None

    async def supervise(self) -> None:
        """Run until cancelled."""
        while True:
            await self._start()
            process = self._process
            if process is not None:
                code = await process.wait()
                logger.error("the %s process ended with exit code %d; starting it again", self._assignment.role, code)
            await asyncio.sleep(_RESTART_DELAY_S)

    async def _start(self) -> None:
        read, write = os.pipe()
        assignment = dataclasses.replace(self._assignment, ready=write)
        metrics = str(assignment.settings.data.dir.absolute() / "metrics")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.process",
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(assignment.listener, write),
            env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": metrics, "RAY_DEDUP_LOGS": "0"},
        )  # fmt: skip
        os.close(write)
        if self._process.stdin is not None:
            self._process.stdin.write(pickle.dumps(assignment))
            self._process.stdin.close()
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb")
        )
        if await reader.read(1):
            self.ready.set()
        transport.close()

    async def end(self) -> None:
        """Let it drain, then make sure."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _DRAIN_TIMEOUT_S)
        except TimeoutError:
            logger.warning("the %s process did not drain in time", self._assignment.role)
            process.kill()
            await process.wait()


@asynccontextmanager
async def _children(
    settings: Settings, uri: str, key: bytes, http: socket.socket, dicom: socket.socket, with_demo: bool
) -> AsyncIterator[list[_Child]]:
    roles: list[tuple[Role, int]] = [("http", http.fileno())] * settings.http.workers
    roles += [("dicom", dicom.fileno()), ("jobs", dicom.fileno())]
    address = str(settings.dicom.bind)
    children = [
        _Child(Assignment(role, settings, uri, key, listener, -1, address, with_demo)) for role, listener in roles
    ]
    tasks = [asyncio.create_task(child.supervise()) for child in children]
    try:
        yield children
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(child.end() for child in children))


async def _until(stop: asyncio.Event, children: list[_Child]) -> bool:
    """Whether all children became ready before a signal came; raise if they take too long."""

    async def all_ready() -> None:
        for child in children:
            await child.ready.wait()

    stopped, ready = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(all_ready())
    try:
        await asyncio.wait((stopped, ready), timeout=_READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done() and not ready.done():
            raise CatalogueUnavailable("The gateway did not become ready; its log says why.")
        return ready.done()
    finally:
        stopped.cancel()
        ready.cancel()


__all__ = ["base_url", "check_key", "local_token", "serve"]
