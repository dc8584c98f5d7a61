"""`isthmus serve`: the parent process, which owns sockets, private mongod and children, and ends them together.

It stays small: what needs the archive is done by children.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from gateway import logs
from gateway.assignment import Assignment
from gateway.config import Address, Settings
from gateway.deid.keys import load_keys
from gateway.errors import CatalogueUnavailable, ConfigurationError
from gateway.nursery import LOST, Child, Nursery
from gateway.store.embedded import EmbeddedMongo

logger = logging.getLogger(__name__)
_READY_TIMEOUT_S = 60.0
#: Children drain for up to 8 s; with mongod's end all is over within 15 s.
_DRAIN_TIMEOUT_S = 10.0
_RESTART_DELAY_S = 1.0
_BACKLOG = 4096


async def serve(settings: Settings, nursery: Nursery, *, with_demo: bool) -> None:
    """Run a gateway until SIGTERM or SIGINT; print its address once it serves. The nursery ends with it."""
    logs.configure(settings.log.level, "serve")
    loop = asyncio.get_running_loop()
    logs.keep_texts_out(loop)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    data = settings.data.dir
    async with AsyncExitStack() as stack:
        stack.push_async_callback(nursery.close)
        keys = await asyncio.to_thread(load_keys, settings, data)
        http = stack.enter_context(contextlib.closing(_listen(settings.http.bind, "http.bind")))
        dicom = stack.enter_context(contextlib.closing(_listen(settings.dicom.bind, "dicom.bind")))
        settings = _with_ports(settings, http, dicom)
        uri = settings.mongodb.uri or (await stack.enter_async_context(EmbeddedMongo(settings.mongodb, data))).uri
        setup = Assignment("setup", settings, uri, keys, str(settings.dicom.bind), with_demo)
        link = await _set_up(nursery, setup)
        children = await stack.enter_async_context(_children(nursery, setup, http, dicom))
        if await _until(stop, children):
            _say(settings, link)
            await _either(stop, nursery.lost)
        logger.info("stopping")
        if nursery.lost.is_set():
            raise CatalogueUnavailable(LOST)


def _say(settings: Settings, link: str) -> None:
    """Tell the person, or the script, where to go."""
    if link:
        print(f"open {link}")  # noqa: T201 - the interface of the command
    scheme = "https" if settings.http.tls_cert else "http"
    print(f"ready {scheme}://{settings.http.bind}/ dicom {settings.dicom.ae_title}@{settings.dicom.bind}", flush=True)  # noqa: T201


async def _set_up(nursery: Nursery, assignment: Assignment) -> str:
    """Have a child do what is done once and takes the archive, which the parent does without; return the link."""
    reader, child = await _born(nursery, assignment)
    told = json.loads(await reader.read() or "{}")
    code = await child.ended
    if "error" in told:
        raise ConfigurationError(told["error"])
    if "link" not in told:
        raise CatalogueUnavailable(f"The gateway could not be set up (exit code {code}); its log says why.")
    link: str = told["link"]
    return link


async def _born(nursery: Nursery, assignment: Assignment) -> tuple[asyncio.StreamReader, Child]:
    """A child, and what it writes to `ready`, which ends with it."""
    read, write = os.pipe()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb")
    )
    try:
        return reader, await nursery.bear(assignment, write)
    finally:
        os.close(write)


def prepare(path: Path) -> None:
    """Make the data folder, for its owner alone, and forget the metrics of an earlier run."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
        secrets, metrics = path / "secrets", path / "metrics"
        secrets.mkdir(exist_ok=True, mode=0o700)
        secrets.chmod(0o700)
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


class _Supervised:
    """A child process that is started again whenever it ends by itself."""

    def __init__(self, nursery: Nursery, assignment: Assignment) -> None:
        self.ready = asyncio.Event()
        self._nursery = nursery
        self._assignment = assignment
        self._child: Child | None = None

    async def supervise(self) -> None:
        """Run until cancelled."""
        while True:
            reader, self._child = await _born(self._nursery, self._assignment)
            if await reader.read(1):
                self.ready.set()
            code = await asyncio.shield(self._child.ended)
            if self._nursery.lost.is_set():
                return
            logger.error("the %s process ended with exit code %d; starting it again", self._assignment.role, code)
            await asyncio.sleep(_RESTART_DELAY_S)

    async def end(self) -> None:
        """Let it drain, then make sure."""
        child = self._child
        if child is None or self._nursery.lost.is_set():
            return
        child.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(child.ended), _DRAIN_TIMEOUT_S)
        except TimeoutError:
            logger.warning("the %s process did not drain in time", self._assignment.role)
            child.signal(signal.SIGKILL)
            await child.ended


@asynccontextmanager
async def _children(
    nursery: Nursery, setup: Assignment, http: socket.socket, dicom: socket.socket
) -> AsyncIterator[list[_Supervised]]:
    assignments = [
        dataclasses.replace(setup, role="http", listener=http.fileno()),
        dataclasses.replace(setup, role="dicom", listener=dicom.fileno()),
    ] * setup.settings.http.workers
    assignments.append(dataclasses.replace(setup, role="jobs"))
    children = [_Supervised(nursery, assignment) for assignment in assignments]
    tasks = [asyncio.create_task(child.supervise()) for child in children]
    try:
        yield children
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(child.end() for child in children))


async def _until(stop: asyncio.Event, children: list[_Supervised]) -> bool:
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


async def _either(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()
