"""The hand-over from a thread to the event loop: order, bounds, and either side giving up."""

import asyncio
import threading

import pytest

from gateway.dimse.bridge import Bridge, Feed


@pytest.fixture
async def feed():
    return Feed(Bridge(), max_bytes=1000, timeout_s=5.0)


async def in_thread(function, *arguments):
    return await asyncio.to_thread(function, *arguments)


async def test_all_arrives_in_order(feed):
    expected = [bytes([number % 256]) * (number % 300) for number in range(2000)]

    def write():
        for chunk in expected:
            feed.write(chunk)
        feed.end()

    writing = asyncio.create_task(in_thread(write))
    assert b"".join([chunk async for chunk in feed.read()]) == b"".join(expected)
    await writing


async def test_the_writer_waits_for_the_reader(feed):
    blocked = threading.Event()

    def write():
        feed.write(bytes(1000))
        blocked.set()
        feed.write(b"after")
        feed.end()

    writing = asyncio.create_task(in_thread(write))
    await in_thread(blocked.wait, 5)
    assert feed.unread == 1000
    assert not writing.done()
    assert sum([len(chunk) async for chunk in feed.read()]) == 1005
    await writing


async def test_a_reader_that_never_comes_is_not_waited_for_forever():
    feed = Feed(Bridge(), max_bytes=1, timeout_s=0.05)
    await in_thread(feed.write, b"full")
    with pytest.raises(TimeoutError):
        await in_thread(feed.write, b"more")


async def test_a_reader_that_gave_up_is_not_waited_for(feed):
    await in_thread(feed.write, bytes(1000))
    writing = asyncio.create_task(in_thread(feed.write, bytes(1000)))
    feed.abandon()
    await writing
    assert feed.unread == 0


async def test_an_error_comes_after_what_was_written(feed):
    await in_thread(feed.write, b"first")
    feed.end(ConnectionError("cut"))
    feed.end()
    reading = feed.read()
    assert await anext(reading) == b"first"
    with pytest.raises(ConnectionError, match="cut"):
        await anext(reading)


async def test_what_takes_too_long_is_cancelled():
    bridge = Bridge()
    cancelled = asyncio.Event()

    async def forever():
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        await in_thread(lambda: bridge.result(bridge.submit(forever()), 0.05))
    async with asyncio.timeout(5):
        await cancelled.wait()
