"""Turns: so many at a time, in the order in which they came, whoever is cancelled or comes again."""

import asyncio

from dicomweb.turns import Turns


async def passes(count: int) -> None:
    """Let the event loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_some_go_on_in_each_turn_of_the_loop_in_their_order():
    turns, gone = Turns(at_once=3), []

    async def go(number):
        await turns.take()
        gone.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(go(number))
        counts = []
        while len(gone) < 10:
            before = len(gone)
            await passes(1)
            counts.append(len(gone) - before)
    assert gone == list(range(10))
    assert max(counts) <= 3
    assert len(counts) < 10


async def test_who_comes_again_stands_behind_those_who_wait():
    turns, gone = Turns(at_once=2), []

    async def go(name, times):
        for _ in range(times):
            await turns.take()
            gone.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(go("again", 20))
        for number in range(10):
            group.create_task(go(number, 1))
    others = [index for index, name in enumerate(gone) if name != "again"]
    assert others[-1] <= 2 + 10 + 2  # the first found nobody waiting; after each turn it was the last in the line


async def test_who_is_cancelled_takes_no_turn():
    turns, gone = Turns(at_once=1), []

    async def go(number):
        await turns.take()
        gone.append(number)

    tasks = [asyncio.create_task(go(number)) for number in range(50)]
    await passes(1)
    for task in tasks[1:-1]:
        task.cancel()
    await passes(5)
    assert gone == [0, 49]


async def test_whoever_is_alone_goes_on_at_once():
    turns = Turns(at_once=4)
    waited = []
    asyncio.get_running_loop().call_soon(waited.append, None)
    for _ in range(4):
        await turns.take()
    assert not waited
    await turns.take()
    assert waited
    await passes(3)
    waited.clear()
    asyncio.get_running_loop().call_soon(waited.append, None)
    await turns.take()
    assert not waited
