"""Zip files made on the way: whole, the same every time, and never more of one in memory than a chunk."""

import io
import tracemalloc
import zipfile
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from dicomweb import zips

CHUNK = 1 << 16


@dataclass
class Stored:
    """An object that is made while it is read."""

    size: int
    path = None

    async def stream(self, offset=0, length=None):
        for start in range(0, self.size, CHUNK):
            yield bytes(min(CHUNK, self.size - start))


@given(st.lists(st.integers(0, 3 * CHUNK), max_size=5))
async def test_any_files(sizes):
    files = [f"{number}.dcm" for number in range(len(sizes))]
    data = b"".join([chunk async for chunk in zips.stream(files, [Stored(size) for size in sizes])])
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None
    assert [(one.filename, one.file_size) for one in archive.infolist()] == list(zip(files, sizes, strict=True))


async def test_memory_is_bounded():
    tracemalloc.start()
    total = 0
    async for chunk in zips.stream(["a", "b"], [Stored(200 << 20), Stored(100 << 20)]):
        total += len(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 300 << 20
    assert peak < 4 << 20
