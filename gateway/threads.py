"""Threads that call blocking functions for an event loop.

As a `ThreadPoolExecutor` does, but who is called is the thread that was idle last, alone, and it tells the event loop
itself. There each call wakes a second thread too, which finds that the first has taken it and contends for Python's
lock meanwhile; the threads take turns, so that their memory is in no cache of the processor; and two futures tell each
other of the result. Of a picture that is rendered for the first time all that was 0.13 of 1.5 ms of CPU time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """Up to so many threads, which are started when they are needed. Calls that find none idle wait, in their order."""

    def __init__(self, most: int, name: str) -> None:
        """Have `most` threads, called `name` and a number; `close` ends them."""
        self._most = most
        self._name = name
        self._lock = Lock()
        self._threads: list[Thread] = []
        self._idle: list[SimpleQueue[_Call | None]] = []
        self._waiting: deque[_Call] = deque()
        self._closed = False

    def run(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Call `function(*args)` in a thread, with the context variables of the caller, who awaits the result.

        A call that is cancelled before a thread takes it is not made; afterwards it goes on, and nobody is told.
        """
        call = _Call(function, args)
        with self._lock:
            if self._closed:
                raise RuntimeError("the threads have ended")
            if self._idle:
                self._idle.pop().put(call)
            elif len(self._threads) >= self._most or not self._start(call):
                self._waiting.append(call)
        return call.future

    def close(self) -> None:
        """Let running calls finish and cancel waiting ones; blocks until all threads have ended."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, deque()
            while self._idle:
                self._idle.pop().put(None)
        for call in waiting:
            call.tell(call.future.cancel)
        for thread in self._threads:
            thread.join()

    def _start(self, call: _Call) -> bool:
        """Start a thread with this call; False if the system gives no more, and others are there to make it."""
        calls: SimpleQueue[_Call | None] = SimpleQueue()
        calls.put(call)
        thread = Thread(target=self._work, args=(calls,), name=f"{self._name}_{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
            return False
        self._threads.append(thread)
        return True

    def _work(self, calls: SimpleQueue[_Call | None]) -> None:
        while call := calls.get():
            call.make()
            del call  # nothing of it is kept by a thread that waits
            self._next(calls)

    def _next(self, calls: SimpleQueue[_Call | None]) -> None:
        """Have a thread's next call in its queue, now or when there is one; None to end."""
        with self._lock:
            if self._waiting:
                calls.put(self._waiting.popleft())
            elif self._closed:
                calls.put(None)
            else:
                self._idle.append(calls)


class _Call:
    """A call and the future of its result, which belongs to the event loop."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()
        self._context = copy_context()
        self._function = function
        self._args = args

    def make(self) -> None:
        """Call the function, unless nobody waits any more."""
        if self.future.cancelled():
            return
        try:
            result = self._context.run(self._function, *self._args)
        except StopIteration as exc:  # which no future takes
            error = RuntimeError("a call raised StopIteration")
            error.__cause__ = exc
            self.tell(self.future.set_exception, error)
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is the caller's
            self.tell(self.future.set_exception, exc)
        else:
            self.tell(self.future.set_result, result)
        del self  # an error's traceback refers to this frame, and the future to the error

    def tell(self, settle: Callable[..., Any], *values: Any) -> None:
        """Settle the future in its event loop; if that has ended, there is nobody to be told."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_settle, self.future, settle, *values)


def _settle(future: asyncio.Future[Any], settle: Callable[..., Any], *values: Any) -> None:
    if not future.done():
        settle(*values)
