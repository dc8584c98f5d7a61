"""The thread pools: who stores keeps nobody from reading, and is waited for."""

import asyncio
import threading

import pytest

from gateway.workers import Workers


async def test_any_number_of_calls_that_store_keep_nobody_from_reading() -> None:
    workers, may_end = Workers(io_threads=2), threading.Event()
    storing = [asyncio.create_task(workers.run_store(may_end.wait)) for _ in range(8)]
    try:
        assert await asyncio.wait_for(workers.run_io(lambda: "read"), 20) == "read"
    finally:
        may_end.set()
    assert all(await asyncio.gather(*storing))
    await workers.close()


async def test_a_cancelled_task_waits_for_what_it_stores() -> None:
    workers, began, may_end, done = Workers(), asyncio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()

    def store() -> None:
        loop.call_soon_threadsafe(began.set)
        may_end.wait()
        done.append("stored")

    task = asyncio.create_task(workers.run_store(store))
    await began.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done
    await workers.close()
