"""One child process of a running gateway: an HTTP worker, a DICOM listener or the dispatcher of plugin runs.

The parent (serve.py) has the nursery fork it. What is imported here is imported before that, once for all children.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial

from dicomweb.errors import IsthmusError
from gateway import logs, opening
from gateway.accepting import Acceptor
from gateway.app import SHUTDOWN_TIMEOUT_S, create_app
from gateway.archive import Source
from gateway.assignment import Assignment, Role
from gateway.config import Settings
from gateway.dimse import scp
from gateway.errors import CatalogueUnavailable
from gateway.jobs import dispatcher
from gateway.jobs.deletions import Deletions
from gateway.jobs.lease import Lease
from gateway.jobs.meshes import MeshStore
from gateway.jobs.queue import RunQueue
from gateway.jobs.search_keys import keep_built
from gateway.protocol import Runner
from gateway.shares import Shares
from gateway.store.rederive import Rederivation
from gateway.wiring import Core, open_core
from ray_plugins.registry import Registry
from ray_plugins.runner import RayRunner

logger = logging.getLogger(__name__)
#: Parameters of glibc's malloc (malloc.h). Left to itself it takes each buffer of 128 KiB and more from the system anew
#: and gives it back at once: of 1.0 ms for storing 0.5 MB over HTTP, the archive apart, 0.3 ms were page faults.
_MALLOC = {-1: 8 << 20, -3: 4 << 20, -8: 4}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX
#: After SIGTERM; the parent kills a little earlier.
_END_WITHIN_S = 12
_SWEEP_EVERY_S = 3600.0
_DELETIONS_EVERY_S = 10.0
#: Series and studies are derived soon after they changed, so that few searches have to.
_DERIVE_EVERY_S = 1.0
#: It is found out soon how writes ended that failed here, or whose process was killed.
_SETTLE_EVERY_S = 1.0


def perform(assignment: Assignment) -> None:
    """Do an assignment until SIGTERM."""
    _keep_freed_memory()
    logs.configure(assignment.settings.log.level, assignment.role)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_run(assignment))


def _keep_freed_memory() -> None:
    """Have malloc use again what was freed, up to some MB an arena, and keep few arenas; other libcs have no such."""
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _MALLOC.items():
            mallopt(parameter, value)


async def _run(assignment: Assignment) -> None:
    logs.keep_texts_out(asyncio.get_running_loop())
    work = asyncio.ensure_future(_work(assignment))

    def end() -> None:
        signal.alarm(_END_WITHIN_S)  # whose parent was killed has nobody else to end it if it hangs
        work.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    await work


async def _work(assignment: Assignment) -> None:
    try:
        async with open_core(assignment.settings, assignment.uri, assignment.keys) as core:
            settling = asyncio.create_task(_regularly(_SETTLE_EVERY_S, core.catalogue.settle, "settling"))
            try:
                await _ROLES[assignment.role](assignment, core)
            finally:
                settling.cancel()
    except IsthmusError as exc:
        if assignment.role != "setup":
            raise
        os.write(assignment.ready, json.dumps({"error": exc.message}).encode())


async def _set_up(assignment: Assignment, core: Core) -> None:
    """Do once what the others rely on, and tell the parent what came of it."""
    link = await opening.open_archive(core, assignment.keys, with_demo=assignment.demo)
    os.write(assignment.ready, json.dumps({"link": link}).encode())


async def _serve_http(assignment: Assignment, core: Core) -> None:
    settings = assignment.settings
    app = await create_app(core, dicom_address=assignment.dicom_address, demo=assignment.demo)
    runner = Runner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    with contextlib.closing(Shares(settings.data.dir / "http.connections", settings.http.workers)) as shares:
        try:
            listener = socket.socket(fileno=assignment.listener)
            acceptor = Acceptor(listener, runner.connections, shares, _tls(settings))
            _announce(assignment)
            await acceptor.run()
        finally:
            await runner.cleanup()


async def _serve_dicom(assignment: Assignment, core: Core) -> None:
    listener = socket.socket(fileno=assignment.listener)
    _announce(assignment)
    archive = core.archive
    await scp.run(
        listener,
        assignment.settings,
        lambda title: archive.for_source(Source("dimse", title)),
        lambda: archive.is_looking,
    )


async def _dispatch(assignment: Assignment, core: Core) -> None:
    """Run plugins, if they are to run, and keep the archive in order."""
    _announce(assignment)
    async with asyncio.TaskGroup() as group:
        group.create_task(_sweep(core))
        if core.archive.quarantine is not None:
            prune = partial(core.workers.run_io, core.archive.quarantine.prune)
            group.create_task(_regularly(_SWEEP_EVERY_S, prune, "pruning the quarantine"))
        group.create_task(_regularly(_DERIVE_EVERY_S, core.catalogue.complete, "deriving"))
        group.create_task(_build_keys(core))
        group.create_task(_run_plugins(core) if core.settings.ray.enabled else _follow_deletions(core))


async def _run_plugins(core: Core) -> None:
    settings = core.settings
    runner = RayRunner(
        settings.data.dir.absolute() / "ray",
        address=settings.ray.address,
        cpus=settings.ray.cpus,
        object_store_bytes=settings.ray.object_store_mb << 20,
        environment=_aws_environment(settings),
    )
    await dispatcher.run(
        settings,
        core.catalogue.db,
        lambda kind: core.archive.for_source(Source(kind)),
        core.objects,
        runner,
        Registry(),
    )


async def _sweep(core: Core) -> None:
    """Remove what crashes left, now and then."""
    while True:
        await asyncio.sleep(_SWEEP_EVERY_S)
        try:
            await core.archive.sweep()
        except Exception:
            logger.exception("sweeping failed")


async def _regularly(every_s: float, step: Callable[[], Awaitable[object]], name: str) -> None:
    """Take a step now and then, whether or not the catalogue can be reached: the next may succeed."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await step()
        except CatalogueUnavailable:
            continue
        except Exception:  # whatever else the process does goes on
            logger.exception("%s failed", name)


async def _build_keys(core: Core) -> None:
    """Build the search keys that stored instances lack."""
    rederivation = Rederivation(core.catalogue, core.workers.run)
    await keep_built(rederivation, Lease(core.catalogue.db, name="search-keys"))


async def _follow_deletions(core: Core) -> None:
    """Remove what plugins made of deleted studies, where no dispatcher does it."""
    db = core.catalogue.db
    deletions = Deletions(db, RunQueue(db), MeshStore(db, core.objects))
    while True:
        await asyncio.sleep(_DELETIONS_EVERY_S)
        with contextlib.suppress(CatalogueUnavailable):
            await deletions.follow()


def _aws_environment(settings: Settings) -> dict[str, str]:
    """How plugin workers of a local Ray reach S3; never in the arguments of a task."""
    if settings.storage.backend != "s3":
        return {}
    s3 = settings.storage.s3
    values = {
        "AWS_ENDPOINT_URL_S3": s3.endpoint_url,
        "AWS_DEFAULT_REGION": s3.region,
        "AWS_ACCESS_KEY_ID": s3.access_key_id,
        "AWS_SECRET_ACCESS_KEY": s3.secret_access_key,
    }
    return {name: value for name, value in values.items() if value}


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer (PS3.15 B.12), if a certificate is set."""
    if settings.http.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.http.tls_cert, settings.http.tls_key)
    return context


def _announce(assignment: Assignment) -> None:
    os.write(assignment.ready, b"1")
    os.close(assignment.ready)


_ROLES: dict[Role, Callable[[Assignment, Core], Awaitable[None]]] = {
    "setup": _set_up,
    "http": _serve_http,
    "dicom": _serve_dicom,
    "jobs": _dispatch,
}
