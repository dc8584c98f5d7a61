"""Threads for blocking calls: all are made, in bounded threads; the event loop is told what they gave."""

import asyncio
import contextvars
import gc
import threading
import weakref
from contextlib import closing

import pytest

from gateway.threads import Threads

name = contextvars.ContextVar("name", default="")


@pytest.fixture
async def threads():
    threads = Threads(3, "test")
    yield threads
    await asyncio.to_thread(threads.close)


async def held(threads, count):
    """So many calls that go on until the event is set, and are in threads by now."""
    begun, may_end = threading.Semaphore(0), threading.Event()

    def hold():
        begun.release()
        assert may_end.wait(20)

    calls = [threads.run(hold) for _ in range(count)]
    for _ in range(count):
        assert await asyncio.to_thread(begun.acquire, timeout=20)
    return calls, may_end


async def test_results_and_errors_come_back(threads):
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)
    assert (await threads.run(lambda: threading.current_thread().name)).startswith("test_")


async def test_an_error_that_no_future_takes_is_told_as_another(threads):
    with pytest.raises(RuntimeError) as caught:
        await asyncio.wait_for(threads.run(next, iter(())), 10)
    assert isinstance(caught.value.__cause__, StopIteration)


async def test_where_the_system_starts_no_more_threads_the_others_do_it_all(threads, monkeypatch):
    calls, may_end = await held(threads, 1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _no_more)
        calls.append(threads.run(int, "7"))
    may_end.set()
    assert (await asyncio.wait_for(asyncio.gather(*calls), 10))[1] == 7


async def test_without_any_thread_a_call_fails(threads, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _no_more)
        with pytest.raises(RuntimeError, match="can't start"):
            threads.run(int, "7")


def _no_more(_):
    raise RuntimeError("can't start new thread")


async def test_the_context_of_the_caller_goes_along(threads):
    name.set("mine")
    assert await threads.run(name.get) == "mine"


async def test_as_many_calls_as_there_are_threads_are_made_at_once(threads):
    calls, may_end = await held(threads, 3)
    may_end.set()
    await asyncio.gather(*calls)


async def test_of_many_calls_all_are_made_by_few_threads(threads):
    found = await asyncio.gather(
        *(threads.run(lambda number=number: (number, threading.current_thread().name)) for number in range(500))
    )
    assert [number for number, _ in found] == list(range(500))
    assert {thread for _, thread in found} <= {"test_0", "test_1", "test_2"}


async def test_calls_that_wait_are_made_in_their_order():
    threads, order = Threads(1, "test"), []
    (call,), may_end = await held(threads, 1)
    later = [threads.run(order.append, number) for number in range(50)]
    await asyncio.sleep(0)
    assert not order
    may_end.set()
    await asyncio.gather(call, *later)
    assert order == list(range(50))
    await asyncio.to_thread(threads.close)


async def test_a_call_that_is_cancelled_while_it_waits_is_not_made(threads):
    calls, may_end = await held(threads, 3)
    made = []
    waiting, other = threads.run(made.append, "cancelled"), threads.run(made.append, "made")
    waiting.cancel()
    may_end.set()
    await asyncio.gather(*calls, other)
    assert made == ["made"]


async def test_a_call_that_is_cancelled_while_it_is_made_ends_quietly(threads):
    (call,), may_end = await held(threads, 1)
    call.cancel()
    may_end.set()
    assert await threads.run(str) == ""
    assert call.cancelled()


async def test_closing_waits_for_what_runs_and_cancels_what_waits():
    threads = Threads(1, "test")
    (running,), may_end = await held(threads, 1)
    waiting = threads.run(str)
    closing = asyncio.create_task(asyncio.to_thread(threads.close))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not closing.done()
    with pytest.raises(RuntimeError, match="ended"):
        threads.run(str)
    may_end.set()
    await asyncio.gather(running, closing)


def test_an_event_loop_that_has_ended_is_not_told():
    async def begin():
        return await held(threads, 1)

    with closing(Threads(1, "test")) as threads:
        _, may_end = asyncio.run(begin())
        may_end.set()


async def test_nothing_is_kept_of_a_call(threads):
    class Thing:
        pass

    async def use(*, fail):
        thing = Thing()
        references.append(weakref.ref(thing))
        result = await asyncio.gather(threads.run(_same, thing, fail), return_exceptions=True)
        assert isinstance(result[0], ValueError if fail else Thing)

    references = []
    gc.disable()  # what is part of a cycle would stay
    try:
        for fail in (False, True):
            await use(fail=fail)
        async with asyncio.timeout(20):  # the thread that told of a result may not have let go of the call yet
            while [one() for one in references] != [None, None]:
                await threads.run(str)
    finally:
        gc.enable()


def _same(thing, fail):
    if fail:
        raise ValueError
    return thing
