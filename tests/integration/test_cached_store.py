"""The cache before a remote store: what is asked of the remote, what is kept, and what is never served again."""

import asyncio
import os
from contextlib import closing

import pytest

from gateway.errors import ObjectNotFound
from gateway.store.cached import CachedStore
from gateway.store.filesystem import FileSystemStore
from gateway.store.objects import new_key
from gateway.workers import Workers

MAX_BYTES = 160 << 20
SMALL, MEDIUM, LARGE = 500_000, 10 << 20, 21 << 20  # large: more than an eighth of the cache


class Remote(FileSystemStore):
    """A store that notes what is read from it."""

    def __init__(self, root, workers):
        super().__init__(root, workers)
        self.opened = []

    def open(self, key, size):
        reader = super().open(key, size)
        stream, read = reader.stream, reader.read
        reader.stream = lambda *range_: (self.opened.append(("stream", key, *range_)), stream(*range_))[1]
        reader.read = lambda *range_: (self.opened.append(("read", key, *range_)), read(*range_))[1]
        return reader


@pytest.fixture
async def workers():
    workers = Workers()
    yield workers
    await workers.close()


@pytest.fixture
async def remote(tmp_path, workers):
    return Remote(tmp_path / "remote", workers.io)


@pytest.fixture
async def open_cache(tmp_path, workers, remote):
    """Caches of as many workers as are asked for, on one folder."""
    opened = []

    async def make():
        store = CachedStore(remote, tmp_path / "cache", MAX_BYTES, workers)
        await store.start()
        opened.append(store)
        return store

    yield make
    for store in opened:
        await store.close()


async def until(condition):
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - what is waited for is in a thread
            await asyncio.sleep(0.01)


async def put(remote, size):
    key = new_key()
    await remote.put(key, bytes(size))
    return key


async def test_many_who_ask_at_once_share_one_fetch(open_cache, remote):
    store = await open_cache()
    key = await put(remote, SMALL)
    reads = [store.open(key, SMALL).read(at, 100) for at in range(50)]
    assert {len(data) for data in await asyncio.gather(*reads)} == {100}
    assert remote.opened == [("stream", key)]


async def test_workers_share_the_copies(open_cache, remote):
    one, two = await open_cache(), await open_cache()
    key = await put(remote, SMALL)
    await one.open(key, SMALL).read(0, 1)
    assert len(await two.open(key, SMALL).read()) == SMALL
    assert len(remote.opened) == 1


async def test_what_was_written_is_not_asked_for(open_cache, remote):
    store = await open_cache()
    key = new_key()
    await store.put(key, b"x" * SMALL)
    assert await store.open(key, SMALL).read(5, 5) == b"xxxxx"
    assert remote.opened == []


async def test_a_range_of_what_takes_long_to_fetch_is_read_at_once(open_cache, remote, tmp_path):
    store = await open_cache()
    key = await put(remote, MEDIUM)
    assert len(await store.open(key, MEDIUM).read(1000, 100)) == 100
    assert ("read", key, 1000, 100) in remote.opened
    await until((tmp_path / "cache" / key).exists)
    before = len(remote.opened)
    assert len(await store.open(key, MEDIUM).read()) == MEDIUM
    assert len(remote.opened) == before


async def test_what_is_too_large_is_not_kept(open_cache, remote, tmp_path):
    store = await open_cache()
    key = await put(remote, LARGE)
    assert await store.open(key, LARGE).file() is None
    assert len(await store.open(key, LARGE).read(0, 10)) == 10
    assert remote.opened == [("read", key, 0, 10)]
    assert not list((tmp_path / "cache").glob("[0-9]*"))


async def test_what_is_deleted_is_gone_from_every_worker_but_not_from_who_reads_it(open_cache, remote, tmp_path):
    one, two = await open_cache(), await open_cache()
    key = await put(remote, SMALL)
    await one.open(key, SMALL).read(0, 1)
    file = await one.open(key, SMALL).file()
    with closing(file):
        await two.delete(key)
        assert not (tmp_path / "cache" / key).exists()
        await file.load(0, SMALL)
    for store in (one, two):
        with pytest.raises(ObjectNotFound):
            await store.open(key, SMALL).read(0, 1)


async def test_what_is_shorter_than_the_catalogue_says_is_not_kept(open_cache, remote, tmp_path):
    store = await open_cache()
    key = await put(remote, SMALL)
    assert len(await store.open(key, SMALL + 1).read()) == SMALL
    assert not (tmp_path / "cache" / key).exists()
    assert not list((tmp_path / "cache" / "incoming").iterdir())


@pytest.mark.parametrize("how", ["read", "file", "stream"])
async def test_a_copy_that_a_crash_cut_short_is_made_again(open_cache, remote, tmp_path, how):
    store = await open_cache()
    key = await put(remote, SMALL)
    reader = store.open(key, SMALL)
    await reader.read()
    await asyncio.to_thread(os.truncate, tmp_path / "cache" / key, 100)
    if how == "read":
        assert len(await reader.read(50, 200)) == 200
    elif how == "stream":
        assert sum([len(chunk) async for chunk in reader.stream()]) == SMALL
    else:
        with closing(await reader.file()) as file:
            assert os.fstat(file.fileno()).st_size == SMALL
    assert (tmp_path / "cache" / key).stat().st_size == SMALL


async def test_a_copy_that_cannot_be_read_is_none(open_cache, remote, tmp_path):
    store = await open_cache()
    key = await put(remote, SMALL)
    (tmp_path / "cache" / key).mkdir(parents=True)
    assert len(await store.open(key, SMALL).read()) == SMALL
    assert len(await store.open(key, SMALL).read(7, 7)) == 7


async def test_without_room_for_copies_all_is_read_from_the_remote(open_cache, remote, tmp_path, caplog):
    store = await open_cache()
    (tmp_path / "cache" / "incoming").rmdir()
    (tmp_path / "cache" / "incoming").touch()  # no file can be made below it
    key = await put(remote, SMALL)
    assert len(await store.open(key, SMALL).read()) == SMALL
    await store.put(new_key(), b"data")
    assert "cache" in caplog.text
    (tmp_path / "cache" / "incoming").unlink()


async def test_who_verifies_reads_the_remote(open_cache, remote):
    store = await open_cache()
    key = await put(remote, SMALL)
    await store.open(key, SMALL).read()
    remote.opened.clear()
    await store.origin.open(key, SMALL).read()
    assert remote.opened == [("read", key)]
    assert remote.origin is remote
