"""Large headers share a bounded memory: they wait for one another, never for ever, and small ones never."""

import asyncio

import pytest

from dicomweb.errors import Unavailable
from gateway.intake.header_memory import LARGE_BYTES, HeaderMemory

MB = 1 << 20


async def is_waiting(task: asyncio.Task) -> bool:
    """Whether a task still waits once everything that can run has run."""
    for _ in range(10):
        await asyncio.sleep(0)
    return not task.done()


async def test_small_headers_are_not_counted():
    memory = HeaderMemory(max_bytes=1)
    for _ in range(100):
        await memory.lease().grow(LARGE_BYTES)
    async with memory.lease().parsing(), memory.lease().parsing():
        pass


async def test_the_oldest_grows_and_others_wait_for_room():
    memory = HeaderMemory(max_bytes=20 * MB)
    first, second = memory.lease(), memory.lease()
    await first.grow(10 * MB)
    await second.grow(10 * MB)
    await first.grow(500 * MB)
    growing = asyncio.ensure_future(second.grow(11 * MB))
    assert await is_waiting(growing)
    await first.close()
    await asyncio.wait_for(growing, 5)
    await second.grow(500 * MB)


async def test_all_that_wait_get_their_turn():
    """Twenty headers that each fill the memory: one after the other, each whole."""
    memory = HeaderMemory(max_bytes=20 * MB)
    inside = most = 0

    async def receive() -> None:
        nonlocal inside, most
        lease = memory.lease()
        for size in range(5, 20, 5):
            await lease.grow(size * MB)
            await asyncio.sleep(0)
        async with lease.parsing():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1
        await lease.close()

    await asyncio.wait_for(asyncio.gather(*(receive() for _ in range(20))), 20)
    assert most == 1
    await memory.lease().grow(500 * MB)


async def test_waiting_ends(monkeypatch):
    monkeypatch.setattr("gateway.intake.header_memory._WAIT_S", 0.05)
    memory = HeaderMemory(max_bytes=5 * MB)
    first, second = memory.lease(), memory.lease()
    await first.grow(5 * MB)
    with pytest.raises(Unavailable):
        await second.grow(5 * MB)
    await second.close()
    await first.close()
    await second.grow(5 * MB)
