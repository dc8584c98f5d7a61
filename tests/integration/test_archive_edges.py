"""Edges of taking in: uploads that lose their file, rows too large, encodings that differ, instances that move."""

import asyncio
import base64
import os
import tracemalloc
import zlib

from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from dicomweb.query import Query
from dicomweb.resource import Level
from gateway.archive import Source
from gateway.intake.source import ByteSource
from tests.samples import ct, part10, stream

SOURCE = Source("import")


async def test_padded_deflated_data_ends() -> None:
    """PS3.5 A.5: a deflated stream of odd length is padded by one zero byte."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = engine.compress(bytes(3 << 20)) + engine.flush() + b"\0"

    async def chunks():
        yield packed

    source = ByteSource(chunks(), max_bytes=1 << 30)
    source.inflate()
    await source.fill(4 << 20)
    assert source.held == 3 << 20


def with_reference(ds: Dataset, *, undefined_length: bool) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.ReferencedSOPInstanceUID = "1.2.3.4"
    item.is_undefined_length_sequence_item = undefined_length
    ds.ReferencedImageSequence = Sequence([item])
    ds["ReferencedImageSequence"].is_undefined_length = undefined_length
    return ds


async def test_lengths_of_sequences_are_no_content(core, open_archive) -> None:
    for archive in (core.archive, (await open_archive()).archive):
        ds = ct()
        first, second = (part10(with_reference(ds, undefined_length=flag)) for flag in (True, False))
        assert first != second
        assert (await archive.ingest(stream(first), SOURCE)).failure is None
        assert (await archive.ingest(stream(second), SOURCE)).duplicate


async def test_replacing_moves_an_instance_out_of_its_old_series(open_archive) -> None:
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_STORAGE__REPLACE="true")
    ds = ct()
    await core.archive.ingest(stream(part10(ds)), SOURCE)
    await core.archive.search(Query(Level.STUDY))
    old = ds.StudyInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    await core.archive.ingest(stream(part10(ds)), SOURCE)
    page = await core.archive.search(Query(Level.STUDY))
    assert old not in [item["0020000D"]["Value"][0] for item in page.items]


async def test_a_document_too_large_harms_no_other(core) -> None:
    big = ct()
    big.TextValue = base64.b64encode(os.urandom(20 << 20)).decode()
    small = [ct() for _ in range(3)]
    for ds in [big, *small]:
        ds.SOPInstanceUID = generate_uid()
    contents = [part10(ds) for ds in [big, *small]]
    results = await asyncio.gather(*(core.archive.ingest(stream(content, 1 << 20), SOURCE) for content in contents))
    assert [one.failure is None for one in results] == [False, True, True, True]
    assert results[0].status == 413


async def test_a_bomb_of_items_is_refused_at_once(core) -> None:
    ds = ct()
    items = b"\xfe\xff\x00\xe0\0\0\0\0" * 300_000
    content = part10(ds)
    start = content.index(b"\x08\x00\x20\x00DA")
    for length in (b"\xff\xff\xff\xff", len(items).to_bytes(4, "little")):
        end = b"\xfe\xff\xdd\xe0\0\0\0\0" if length[0] == 0xFF and length[3] == 0xFF else b""
        bomb = content[:start] + b"\x08\x00\x1f\x00SQ\0\0" + length + items + end + content[start:]
        outcome = await core.archive.ingest(stream(bomb), SOURCE)
        assert outcome.status == 413


async def test_a_deflate_bomb_takes_little_memory(core) -> None:
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = engine.compress(bytes(200 << 20)) + engine.flush()

    async def chunks():
        yield packed

    source = ByteSource(chunks(), max_bytes=1 << 30)
    source.inflate()
    tracemalloc.start()
    taken = 0
    while await source.fill(1):
        taken += len(source.piece())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken == 200 << 20
    assert peak < 16 << 20
