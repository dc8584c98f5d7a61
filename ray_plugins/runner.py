"""Runs tasks, here (LocalRunner) or on Ray (RayRunner). The only module that imports ray, and only once it is needed.

A runner executes and forgets: states, timeouts and retries are gateway/jobs'. Both runners do the same work,
`ray_plugins.execution.execute`, and differ in where it happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import secrets
import signal
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, cast

from ray_plugins.execution import Reporter, execute
from ray_plugins.registry import Registry
from ray_plugins.sdk import Cancelled, Context, Event, Log, Plugin, Progress
from ray_plugins.session import end_leftovers, is_whole, short_folder
from ray_plugins.task import DicomObject, MeshFiles, RunCancelled, RunFailed, Task, TaskResult

__all__ = [
    "DicomObject",
    "Event",
    "Handle",
    "LocalRunner",
    "Log",
    "MeshFiles",
    "Progress",
    "RayRunner",
    "RunCancelled",
    "RunFailed",
    "Runner",
    "RunnerUnavailable",
    "Task",
    "TaskResult",
    "end_leftovers",
]


class Handle:
    """A submitted run: iterate over its events while it runs, await its result, cancel it.

    One thread follows the run and hands events to the loop. Their number is bounded at the source, by
    `execution.Reporter`, so a consumer that is slow or absent costs little memory.
    """

    def __init__(self, work: Callable[[Callable[[Event], None]], TaskResult], cancel: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._outcome: Future[TaskResult] = Future()
        self._work = work
        self._cancel = cancel
        threading.Thread(target=self._follow, name="isthmus-run", daemon=True).start()

    def __aiter__(self) -> AsyncIterator[Event]:
        """Give events as they happen, until the run has ended."""
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event
        self._events.put_nowait(None)

    async def result(self) -> TaskResult:
        """Wait for the result.

        Raises
        ------
        RunFailed : with one sentence.
        RunCancelled : if `cancel` came before the end.
        """
        return await asyncio.shield(asyncio.wrap_future(self._outcome))

    async def cancel(self) -> None:
        """Ask the run to end; `result` raises RunCancelled once it has. Does nothing after the end."""
        if not self._outcome.done():
            await asyncio.to_thread(self._cancel)

    def _follow(self) -> None:
        try:
            self._outcome.set_result(self._work(self._tell))
        except Cancelled:
            self._outcome.set_exception(RunCancelled())
        except BaseException as exc:  # noqa: BLE001 - whatever happened belongs to who awaits the result
            self._outcome.set_exception(exc)
        self._tell(None)

    def _tell(self, event: Event | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


class Runner(ABC):
    """Where tasks run. An asynchronous context manager: `async with LocalRunner() as runner`."""

    async def start(self) -> None:  # noqa: B027 - most need nothing
        """Get ready."""

    async def close(self) -> None:  # noqa: B027
        """End what still runs and leave nothing behind."""

    async def is_healthy(self) -> bool:
        """Whether tasks can run; if not, close and start it again."""
        return True

    @abstractmethod
    async def submit(self, task: Task) -> Handle:
        """Start a task."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()


class LocalRunner(Runner):
    """Runs tasks in threads of this process: tests, and `isthmus plugins run`."""

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry or Registry()
        self._running: set[threading.Event] = set()

    async def submit(self, task: Task) -> Handle:
        """Start a task in a thread."""
        cancelled = threading.Event()

        def work(report: Callable[[Event], None]) -> TaskResult:
            self._running.add(cancelled)
            try:
                return execute(task, self._registry, Context(Reporter(report), cancelled.is_set))
            finally:
                self._running.discard(cancelled)

        return Handle(work, cancelled.set)

    async def close(self) -> None:
        """Cancel what runs; each ends at its next `check_cancelled`."""
        for cancelled in tuple(self._running):
            cancelled.set()


#: Seconds that a cancelled task has to notice before its worker is killed.
CANCEL_GRACE_S = 5.0

#: Environment of a local Ray: no reports to its makers, listeners on loopback only, none without the token.
LOCAL_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # "no cluster": Ray then takes 127.0.0.1 for the node's address
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class RayRunner(Runner):
    """Runs tasks on Ray: one that it starts on this machine, or a cluster by address.

    A task is a streaming generator: its events come through Ray as they happen, its result last, by the object store.
    There is one driver a process, so one RayRunner a process.

    Parameters
    ----------
    temp_dir : where a local Ray keeps sockets and logs. If its path is too long for sockets, a private folder under the
        system's temporary folder takes its place.
    address : of a cluster; empty to start a local Ray.
    cpus : that tasks may use together; 0 for all of the machine.
    object_store_bytes : shared memory for results.
    environment : variables for the workers of a local Ray, such as AWS_* to read from S3.
    """

    def __init__(
        self,
        temp_dir: Path,
        *,
        address: str = "",
        cpus: int = 0,
        object_store_bytes: int = 512 << 20,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.temp_dir = short_folder(temp_dir)
        self._address = address
        self._cpus = cpus
        self._object_store_bytes = object_store_bytes
        self._environment = dict(environment or {})
        self._registry = Registry()
        self._capacity: Mapping[str, float] = {}
        # The parent-death signal that ends Ray with its owner follows the thread that started it: it has to live on.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="isthmus-ray")

    async def start(self) -> None:
        """Start or join Ray; takes some seconds for a local one, after ending what an earlier one left.

        Raises
        ------
        RunnerUnavailable : with one sentence.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connect)
        # Ray's own handler prints a native stack and ends the process where it stands: give the signal back.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))

    async def close(self) -> None:
        """Leave Ray; a local one is ended with all its processes. It can be started again."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)

    async def is_healthy(self) -> bool:
        """Whether a local Ray has its processes.

        Ask every few seconds: a driver whose GCS has been gone for 60 s is aborted by Ray, the whole process with it.
        """
        return bool(self._address) or await asyncio.to_thread(is_whole, self.temp_dir)

    async def submit(self, task: Task) -> Handle:
        """Start a task, or queue it in Ray until its resources are free."""
        import ray

        generator = await asyncio.to_thread(self._start_task, task)
        cancelling = threading.Event()
        ended = threading.Event()

        def work(report: Callable[[Event], None]) -> TaskResult:
            try:
                return _follow(generator, report, cancelling)
            finally:
                ended.set()

        def cancel() -> None:
            cancelling.set()
            ray.cancel(generator)
            if not ended.wait(CANCEL_GRACE_S):
                ray.cancel(generator, force=True)

        return Handle(work, cancel)

    def _start_task(self, task: Task) -> Any:
        import ray

        options = self._options(self._registry.get(task.plugin), task)
        # max_calls=0: a worker with a GPU is kept, too, so that imports and CuPy's kernels stay warm
        return ray.remote(max_calls=0)(_remote).options(**options).remote(task)

    def _options(self, plugin: Plugin, task: Task) -> dict[str, Any]:
        """Resources of a task, never more than the cluster has: a task that can never start would wait for ever."""
        wanted, capacity = plugin.resources, self._capacity
        return {
            "name": f"{plugin.name} {task.run_id}",
            "num_returns": "streaming",
            "num_cpus": min(wanted.cpus, capacity.get("CPU", 0)),
            "num_gpus": min(wanted.gpus, capacity.get("GPU", 0)),
            "memory": min(wanted.memory_mb << 20, int(capacity.get("memory", 0))),
            "max_retries": 0,
        }

    def _connect(self) -> None:
        if not self._address:
            self._prepare_local()
        # Else whoever cancels or reads a run after Ray was left starts another one by that, unasked and elsewhere.
        os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # read once, by this import
        import ray

        options: dict[str, Any] = {"address": self._address}
        if not self._address:
            options = {
                "address": "local",
                "num_cpus": self._cpus or None,
                "object_store_memory": self._object_store_bytes,
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
                "_temp_dir": str(self.temp_dir),
            }
        try:
            ray.init(**options, log_to_driver=False, configure_logging=False, ignore_reinit_error=False)
            self._capacity = cast(Any, ray.cluster_resources)()
        except (ConnectionError, OSError, RuntimeError, ValueError) as exc:
            raise RunnerUnavailable(f"Ray could not be started: {str(exc).splitlines()[0]}") from exc
        finally:
            if not self._address:
                self.temp_dir.chmod(0o700)  # Ray opens it to every user, each time that it starts

    def _prepare_local(self) -> None:
        self.temp_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.temp_dir.chmod(0o700)
        end_leftovers(self.temp_dir)
        token = self.temp_dir / "token"
        if not token.exists():  # Ray remembers it in this process: a second start must find the same
            token.touch(mode=0o600)
            token.write_text(secrets.token_hex(32), encoding="ascii")
        os.environ.update(LOCAL_ENVIRONMENT | {"RAY_AUTH_TOKEN_PATH": str(token)} | self._environment)

    def _disconnect(self) -> None:
        import ray

        ray.shutdown()
        if not self._address:
            end_leftovers(self.temp_dir)


class RunnerUnavailable(Exception):
    """Ray cannot be started or reached."""


def _remote(task: Task) -> Iterator[Event | TaskResult | RunFailed | RunCancelled]:
    """Run a task in a Ray worker: its events, then its outcome. The plugin has a thread; this one feeds Ray."""
    _hush()
    events: queue.SimpleQueue[Event | TaskResult | RunFailed | RunCancelled] = queue.SimpleQueue()
    cancelled = threading.Event()

    def work() -> None:
        context = Context(Reporter(events.put), cancelled.is_set)
        try:
            events.put(execute(task, Registry(), context))
        except RunFailed as exc:
            events.put(exc)
        except Cancelled:
            events.put(RunCancelled())

    plugin = threading.Thread(target=work, name="plugin", daemon=True)
    plugin.start()
    try:
        item: Any = None
        while not isinstance(item, TaskResult | RunFailed | RunCancelled):
            with contextlib.suppress(queue.Empty):
                # Ray interrupts by setting a flag that only a running interpreter sees: never wait long.
                item = events.get(timeout=0.1)
                yield item
    except KeyboardInterrupt:
        cancelled.set()
        plugin.join()  # the owner kills this worker if it takes too long
        raise


def _hush() -> None:
    """Have libraries say nothing in this worker: what they warn of quotes values, and Ray keeps it in files."""
    warnings.showwarning = lambda *_, **__: None
    for name in ("pydicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _follow(generator: Any, report: Callable[[Event], None], cancelling: threading.Event) -> TaskResult:
    """Pass on what a remote run gives, and turn its end, of whatever kind, into a result or one exception."""
    import ray
    from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayError

    try:
        for reference in generator:
            item = ray.get(reference)
            if isinstance(item, TaskResult):
                return item
            if isinstance(item, RunFailed | RunCancelled):
                raise item
            report(item)
    except OutOfMemoryError as exc:
        raise RunFailed("The run was ended because its machine ran out of memory.") from exc
    except (RayError, GetTimeoutError) as exc:
        if cancelling.is_set():
            raise RunCancelled from exc
        report(Log(str(exc)))
        raise RunFailed("The worker process of the run died.", retryable=True) from exc
    if cancelling.is_set():
        raise RunCancelled
    raise RunFailed("The run ended without a result.", retryable=True)
