"""The nursery: a process that imports what all children of a gateway need, once, and then forks them from itself.

A child of its own would take 0.8 s of CPU time to import the same, and 60 MB of memory that forked ones share. The
nursery is forked from the parent before that has a thread or an event loop, imports while the parent starts mongod, and
ends with the parent, however that ends; its children end with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import gc
import os
import pickle
import selectors
import signal
import socket
import struct
from collections import deque
from pathlib import Path

from gateway.assignment import Assignment
from gateway.errors import CatalogueUnavailable

#: An order is a pickled assignment of some kB, or a process and the signal for it.
_MAX_ORDER_BYTES = 128 << 10
_SIGNAL = struct.Struct("<qq")
#: A report is a process and its exit code, as `subprocess` has it, or this for one that begins.
_REPORT = struct.Struct("<qq")
_BORN = 1 << 32
LOST = "The nursery of the gateway's processes ended, and they with it; start it again."
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


class Nursery:
    """The parent's side: orders children and hears of their end."""

    def __init__(self, channel: socket.socket, pid: int) -> None:
        #: Set when the nursery has ended, and its children with it.
        self.lost = asyncio.Event()
        self._channel = channel
        self._pid = pid
        self._births: deque[asyncio.Future[Child]] = deque()
        self._living: dict[int, Child] = {}

    async def bear(self, assignment: Assignment, ready: int) -> Child:
        """Have a child begin its assignment; it gets duplicates of its listener and of `ready`.

        Raises CatalogueUnavailable if the nursery ended.
        """
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel, self._hear)
        future: asyncio.Future[Child] = loop.create_future()
        files = [ready] if assignment.listener < 0 else [ready, assignment.listener]
        try:
            socket.send_fds(self._channel, [pickle.dumps(assignment)], files)
        except ConnectionError as exc:
            raise CatalogueUnavailable(LOST) from exc
        self._births.append(future)
        return await future

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a child, if it lives: the nursery knows, as it is told of its end first."""
        self._channel.send(_SIGNAL.pack(pid, number))

    async def close(self) -> None:
        """End the nursery, and what still lives of its children."""
        asyncio.get_running_loop().remove_reader(self._channel)
        self._channel.close()
        await asyncio.to_thread(os.waitpid, self._pid, 0)

    def _hear(self) -> None:
        try:
            report = self._channel.recv(_REPORT.size)
        except ConnectionError:  # it has not read all orders
            report = b""
        if not report:
            self._lose()
            return
        pid, code = _REPORT.unpack(report)
        if code == _BORN:
            self._living[pid] = Child(self, pid)
            if not (future := self._births.popleft()).done():
                future.set_result(self._living[pid])
        else:
            self._living.pop(pid).ended.set_result(code)

    def _lose(self) -> None:
        """The nursery has ended: nobody will hear of its children again, who wait for them no longer do."""
        asyncio.get_running_loop().remove_reader(self._channel)
        self.lost.set()
        for future in self._births:
            if not future.done():
                future.set_exception(CatalogueUnavailable(LOST))
        for child in self._living.values():  # the kernel ends them
            child.ended.set_result(-signal.SIGTERM)
        self._births.clear()
        self._living.clear()


class Child:
    """A child that was forked; `ended` becomes its exit code, negative for the signal that ended it."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._nursery = nursery
        self._pid = pid

    def signal(self, number: int) -> None:
        """Send it a signal, if it lives."""
        if not self.ended.done():
            self._nursery.signal(self._pid, number)


def begin(data_dir: Path) -> Nursery | None:
    """Fork the nursery; None in a child whose work is done, and in the nursery at its end: they are to exit.

    Call it where nothing is open and no thread runs. The data folder has to be there.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gc.freeze()  # a collection writes to all that it looks at, and pages that are written to are no longer shared
    if pid := os.fork():
        theirs.close()
        ours.setblocking(False)
        return Nursery(ours, pid)
    ours.close()
    for number in (signal.SIGINT, signal.SIGTERM):  # what ends a whole group of processes is the parent's to act on
        signal.signal(number, signal.SIG_IGN)
    _import(data_dir)
    assignment = _bear(theirs)
    if assignment is not None:
        # Imported by the nursery; here to keep the parent small.
        from gateway.process import perform

        perform(assignment)
    return None


def _import(data_dir: Path) -> None:
    """Import what children need; what they are not certain to need, such as codecs and Ray, they import themselves."""
    # Both are read at import: where metrics of all processes come together, and how many threads BLAS starts, of which
    # a process that forks must have none.
    os.environ |= {"PROMETHEUS_MULTIPROC_DIR": str(data_dir.absolute() / "metrics"), "RAY_DEDUP_LOGS": "0"}
    threads = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import gateway.process  # noqa: F401 - see above: not before the environment is set, and not in the parent

    if threads is None:
        del os.environ["OPENBLAS_NUM_THREADS"]  # plugins may use as many as they like
    gc.collect()
    gc.freeze()


def _bear(channel: socket.socket) -> Assignment | None:
    """Fork children as they are ordered; return the assignment in each of them, None here when the parent is gone."""
    living: dict[int, int] = {}  # the descriptor of each child, readable at its end, and its process id
    with selectors.DefaultSelector() as selector, contextlib.suppress(ConnectionError):
        selector.register(channel, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd in living:
                    selector.unregister(key.fd)
                    _bury(channel, key.fd, living.pop(key.fd))
                    continue
                order, files, _, _ = socket.recv_fds(channel, _MAX_ORDER_BYTES, 2)
                if not order:
                    return None
                if not files:
                    _kill(living, *_SIGNAL.unpack(order))
                elif pid := _fork(channel, files, living):
                    descriptor = os.pidfd_open(pid)
                    selector.register(descriptor, selectors.EVENT_READ)
                    living[descriptor] = pid
                else:
                    return _assigned(order, files)
    return None


def _fork(channel: socket.socket, files: list[int], living: dict[int, int]) -> int:
    """Fork a child, which has the files that came with its order and none of the nursery's; 0 in it."""
    nursery, pid = os.getpid(), os.fork()
    if pid:
        for file in files:
            os.close(file)
        channel.send(_REPORT.pack(pid, _BORN))
        return pid
    channel.close()
    for descriptor in living:
        os.close(descriptor)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # however the nursery dies
    if os.getppid() != nursery:
        os._exit(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return 0


def _assigned(order: bytes, files: list[int]) -> Assignment:
    assignment: Assignment = pickle.loads(order)  # noqa: S301 - written by our parent, over a socket pair
    ctypes.CDLL(None).prctl(_PR_SET_NAME, f"isthmus {assignment.role}".encode())
    return dataclasses.replace(assignment, ready=files[0], listener=files[-1] if len(files) > 1 else -1)


def _kill(living: dict[int, int], pid: int, number: int) -> None:
    if pid in living.values():
        os.kill(pid, number)


def _bury(channel: socket.socket, descriptor: int, pid: int) -> None:
    """Report the end of a child."""
    os.close(descriptor)
    _, status = os.waitpid(pid, 0)
    channel.send(_REPORT.pack(pid, os.waitstatus_to_exitcode(status)))
