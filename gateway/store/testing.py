"""The contract of an object store as a pytest suite: a backend passes it or it is not one.

Derive a class, provide the fixture `store` (started, closed afterwards) and raw access that goes round it::

    class TestMyStore(ObjectStoreContract):
        @pytest.fixture
        async def store(self): ...
        async def raw_get(self, key): ...
        async def raw_set(self, key, data): ...
"""
# ruff: noqa: D102, S101 - the names of tests say what they check

from __future__ import annotations

import asyncio
import os
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from dicomweb.errors import Conflict
from dicomweb.ports import Bytes
from gateway.errors import ObjectNotFound
from gateway.store.objects import CHUNK_BYTES, ObjectStore, new_key

T = TypeVar("T")
SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 20_000_000)
HOSTILE_KEYS = (
    "",
    "/",
    "..",
    "../20260101/0000/" + 32 * "0" + ".dcm",
    "/etc/passwd",
    "20260101/../" + 32 * "0" + ".dcm",
    "20260101/0000/../../../etc/passwd",
    "20260101/0000/" + 32 * "0" + ".dcm/../../x",
    "20260101/0000/" + 32 * "0" + ".dcm\0",
    "20260101/0000/" + 32 * "0" + ".dcm\n",
    "20260101\\0000\\" + 32 * "0" + ".dcm",
    "٢٠٢٦٠١٠١/0000/" + 32 * "0" + ".dcm",
    "20260101/0000/1.2.840.10008.1.dcm",
    "20260101/0000/" + 32 * "0" + "." + 100 * "d",
)


async def _in_thread(function: Callable[..., T], *args: Any) -> T:
    return await asyncio.to_thread(function, *args)


class ObjectStoreContract:
    """Derive, and say how the backend differs by the attributes below."""

    #: Whether a used key is refused; False where the backend leaves it to the keys' randomness.
    refuses_used_keys = True
    #: What a writer or a reader may hold in memory, whatever the size of the object.
    max_memory_bytes = 8 << 20

    async def raw_get(self, key: str) -> bytes | None:
        """The bytes kept under a key, read without the store; None if there are none."""
        raise NotImplementedError

    async def raw_set(self, key: str, data: bytes) -> None:
        """Keep bytes under a key without the store."""
        raise NotImplementedError

    @pytest.mark.parametrize("size", SIZES)
    async def test_what_is_written_is_kept(self, store: ObjectStore, size: int) -> None:
        data, key = os.urandom(size), new_key()
        assert await store.put(key, data) == size
        assert await self.raw_get(key) == data

    @pytest.mark.parametrize("size", SIZES)
    async def test_what_is_kept_is_read(self, store: ObjectStore, size: int) -> None:
        data, key = os.urandom(size), new_key()
        await self.raw_set(key, data)
        reader = store.open(key, size)
        assert reader.size == size
        assert await reader.read() == data
        chunks = [chunk async for chunk in reader.stream()]
        assert b"".join(chunks) == data
        assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks)

    @pytest.mark.parametrize("step", [1, 1000, 300_000, 1 << 20, 9 << 20])
    async def test_writes_of_any_size_are_joined(self, store: ObjectStore, step: int) -> None:
        data, key = os.urandom(min(20_000_000, 5000 * step)), new_key()
        writer = await store.create(key)
        for offset in range(0, len(data), step):
            await writer.write(memoryview(data)[offset : offset + step])
        assert await writer.commit() == len(data)
        assert await self.raw_get(key) == data

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    async def test_a_caller_may_reuse_its_buffer(self, store: ObjectStore, kind: type) -> None:
        key, scratch = new_key(), bytearray(b"first")
        writer = await store.create(key)
        await writer.write(kind(scratch))
        scratch[:] = b"other"
        await writer.write(b" second")
        await writer.commit()
        assert await self.raw_get(key) == b"first second"

    @pytest.mark.parametrize(
        ("offset", "length"),
        [
            (0, 0),
            (0, 1),
            (5, 10),
            (0, None),
            (7, None),
            (999_999, 1),
            (999_990, 100),
            (1_000_000, 1),
            (1_000_000, None),
        ],
    )
    async def test_ranges(self, store: ObjectStore, offset: int, length: int | None) -> None:
        data, key = os.urandom(1_000_000), new_key()
        await self.raw_set(key, data)
        expected = data[offset:] if length is None else data[offset : offset + length]
        reader = store.open(key, len(data))
        assert await reader.read(offset, length) == expected
        assert b"".join([chunk async for chunk in reader.stream(offset, length)]) == expected

    async def test_a_range_is_used_in_a_thread(self, store: ObjectStore) -> None:
        data = os.urandom(1_000_000)
        used: list[Bytes] = []

        def use(content: Bytes) -> int:
            assert threading.current_thread() is not threading.main_thread()
            used.append(content)
            return len(content)

        for offset, length in ((7, 10), (0, len(data)), (4096, 8192), (999_990, 100), (1_000_000, 1), (0, 0)):
            key = new_key()
            await self.raw_set(key, data)
            reader, expected = store.open(key, len(data)), data[offset : offset + length]
            for _ in range(3):  # looked at first, again, and when it was read, by which it may be at hand
                assert await reader.use(use, offset, length, _in_thread) == len(expected)
                await reader.read()
            assert used == [expected] * 3, "what was used may be kept"
            used.clear()

    async def test_what_a_used_range_fails_with(self, store: ObjectStore) -> None:
        key = new_key()
        await self.raw_set(key, bytes(100))
        reader = store.open(key, 100)

        def fail(_: Bytes) -> None:
            raise Conflict("as the function says")

        for _ in range(2):
            with pytest.raises(Conflict, match="as the function says"):
                await reader.use(fail, 0, 10, _in_thread)
        await store.delete(key)
        with pytest.raises(ObjectNotFound):
            await reader.use(len, 0, 10, _in_thread)

    @pytest.mark.parametrize("pieces", [1, 3, 5000])
    async def test_writing_in_a_thread(self, store: ObjectStore, pieces: int) -> None:
        data, key = os.urandom(10_000), new_key()
        step = len(data) // pieces
        cut = [memoryview(data)[at : at + step] for at in range(0, len(data), step)]
        writer = await store.create(key)
        rest: list[bytes | memoryview] = [*cut[1:], b""]
        first: list[bytes | memoryview] = [*cut[:1]]
        for part, last in ((first, False), (rest, True)):
            if not await asyncio.to_thread(writer.write_now, part, last=last):
                for piece in part:
                    await writer.write(piece)
        assert await writer.commit() == len(data)
        assert await self.raw_get(key) == data

    async def test_abort_of_what_a_thread_wrote_leaves_nothing(self, store: ObjectStore) -> None:
        for last in (False, True):
            key = new_key()
            writer = await store.create(key)
            await asyncio.to_thread(writer.write_now, [bytes(1000)], last=last)
            await writer.abort()
            assert await self.raw_get(key) is None

    async def test_many_writers_at_once(self, store: ObjectStore) -> None:
        objects = {new_key(): os.urandom(100_000 + number) for number in range(24)}
        await asyncio.gather(*(store.put(key, data) for key, data in objects.items()))
        for key, data in objects.items():
            assert await self.raw_get(key) == data

    async def test_a_key_is_used_once(self, store: ObjectStore) -> None:
        key = new_key()
        await store.put(key, b"first")
        if self.refuses_used_keys:
            with pytest.raises(Conflict):
                await store.put(key, b"second")
            assert await self.raw_get(key) == b"first", "the loser's abort must not touch the winner's object"
        else:
            assert await store.put(key, b"second") == 6, "set refuses_used_keys: this backend does"

    async def test_of_two_writers_of_a_key_one_wins(self, store: ObjectStore) -> None:
        key, contents = new_key(), [bytes([number]) * 1000 for number in range(4)]
        results = await asyncio.gather(*(store.put(key, data) for data in contents), return_exceptions=True)
        winners = [data for data, result in zip(contents, results, strict=True) if result == len(data)]
        assert await self.raw_get(key) in winners
        assert len(winners) == (1 if self.refuses_used_keys else len(contents))
        assert all(isinstance(result, Conflict | int) for result in results)

    @pytest.mark.parametrize("size", [0, 10, 3 << 20, 20_000_000])
    async def test_abort_leaves_nothing(self, store: ObjectStore, size: int) -> None:
        key = new_key()
        writer = await store.create(key)
        await writer.write(bytes(size))
        await writer.abort()
        await writer.abort()
        assert await self.raw_get(key) is None

    async def test_abort_after_commit_changes_nothing(self, store: ObjectStore) -> None:
        key = new_key()
        writer = await store.create(key)
        await writer.write(b"kept")
        await writer.commit()
        await writer.abort()
        assert await self.raw_get(key) == b"kept"

    @pytest.mark.parametrize("size", [10, 20_000_000])
    async def test_a_cancelled_write_leaves_nothing(self, store: ObjectStore, size: int) -> None:
        for turns in (0, 1, 2, 5, 20):
            key = new_key()
            task = asyncio.create_task(store.put(key, bytes(size)))
            for _ in range(turns):
                await asyncio.sleep(0)
            if not task.cancel():
                continue  # it was done already
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await self.raw_get(key) is None

    async def test_delete(self, store: ObjectStore) -> None:
        key = new_key()
        await self.raw_set(key, b"data")
        await store.delete(key)
        assert await self.raw_get(key) is None
        await store.delete(key)

    async def test_not_found(self, store: ObjectStore) -> None:
        reader = store.open(new_key(), 10)
        with pytest.raises(ObjectNotFound):
            await reader.read()
        with pytest.raises(ObjectNotFound):
            await reader.read(0, 0)
        with pytest.raises(ObjectNotFound):
            await reader.use(len, 0, 10, _in_thread)
        with pytest.raises(ObjectNotFound):
            await anext(reader.stream())
        with pytest.raises(ObjectNotFound):
            await store.info(new_key())

    async def test_info(self, store: ObjectStore) -> None:
        key = new_key()
        await self.raw_set(key, b"12345")
        info = await store.info(key)
        assert (info.key, info.size) == (key, 5)
        assert info.modified.utcoffset() == timedelta(0)

    async def test_list(self, store: ObjectStore) -> None:
        expected = {new_key(): size for size in range(30)}
        for key, size in expected.items():
            await self.raw_set(key, bytes(size))
        now = timedelta(minutes=-1)  # a server's clock need not agree with ours to the second
        assert {info.key: info.size async for info in store.list(older_than=now)} == expected
        assert [info async for info in store.list(older_than=timedelta(hours=1))] == []

    async def test_list_of_nothing(self, store: ObjectStore) -> None:
        assert [info async for info in store.list()] == []

    async def test_memory_is_bounded(self, store: ObjectStore) -> None:
        block, count, key = os.urandom(1 << 20), 64, new_key()
        tracemalloc.start()
        try:
            writer = await store.create(key)
            for _ in range(count):
                await writer.write(block)
            await writer.commit()
            read = 0
            async for chunk in store.open(key, count * len(block)).stream():
                read += len(chunk)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert read == count * len(block)
        assert peak < self.max_memory_bytes

    async def test_a_reader_may_stop_early(self, store: ObjectStore) -> None:
        key = new_key()
        await self.raw_set(key, bytes(2_000_000))
        stream: AsyncIterator[bytes] = store.open(key, 2_000_000).stream()
        assert len(await anext(stream)) > 0
        await stream.aclose()  # type: ignore[attr-defined]
        assert len(await store.open(key, 2_000_000).read()) == 2_000_000

    @pytest.mark.parametrize("key", HOSTILE_KEYS)
    async def test_hostile_keys_are_refused(self, store: ObjectStore, key: str) -> None:
        with pytest.raises(ValueError, match="not a key"):
            await store.create(key)
        with pytest.raises(ValueError, match="not a key"):
            store.open(key, 1)
        with pytest.raises(ValueError, match="not a key"):
            await store.delete(key)
        with pytest.raises(ValueError, match="not a key"):
            await store.info(key)
        with pytest.raises(ValueError, match="not a key"):
            store.uri(key)

    async def test_uri(self, store: ObjectStore) -> None:
        key = new_key()
        scheme, _, rest = store.uri(key).partition("://")
        assert scheme == ("file" if store.supports_paths else "s3")
        assert rest.endswith(key)

    async def test_a_file_is_offered_where_supported(self, store: ObjectStore) -> None:
        key = new_key()
        await store.put(key, b"mapped")
        file = await store.open(key, 6).file()
        if not store.supports_paths:
            assert file is None
            return
        assert file is not None
        with closing(file):
            await file.load(0, 6)
            assert await asyncio.to_thread(os.pread, file.fileno(), 6, 0) == b"mapped"
        await store.delete(key)
        with pytest.raises(ObjectNotFound):
            await store.open(key, 6).file()
