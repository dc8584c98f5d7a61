"""The archive on a real mongod and real files: sameness, conflict, deletion, and what a crash leaves."""

import asyncio
import gzip
import json
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from dicomweb.errors import Gone, NotFound
from dicomweb.query import AnyOf, Between, Query, Wildcard
from dicomweb.resource import Level, Resource
from gateway import archive
from gateway.archive import Archive, Source
from gateway.store import changes, driver
from gateway.store.catalogue import Catalogue
from gateway.store.objects import new_key
from gateway.store.search import search
from tests.samples import content_of, ct, part10, stream

SOURCE = Source("import")


def resource_of(ds) -> Resource:
    return Resource(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)


def path_of(core, instance) -> Path:
    """Where the file of an instance lies."""
    return Path(core.objects.uri(instance.key).removeprefix("file://"))


async def keys(archive: Archive) -> set[str]:
    return {info.key async for info in archive.objects.list()}


async def test_stored_is_found_at_once(core) -> None:
    ds = ct()
    outcome = await core.archive.ingest(stream(part10(ds)), SOURCE)
    assert outcome.failure is None
    assert outcome.stored == resource_of(ds)
    page = await core.archive.search(Query(Level.STUDY, matches=((("00100020",), AnyOf(("MRN-4711",))),)))
    (study,) = page.items
    assert study["0020000D"]["Value"] == [ds.StudyInstanceUID]
    assert study["00201208"]["Value"] == [1]
    assert study["00080061"]["Value"] == ["CT"]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
async def test_stored_form_is_explicit_little_endian(core, syntax) -> None:
    ds = ct()
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = bytes(byte for pair in zip(ds.PixelData[1::2], ds.PixelData[::2], strict=True) for byte in pair)
    await core.archive.ingest(stream(part10(ds, syntax)), SOURCE)
    (instance,) = await core.archive.instances(resource_of(ds))
    assert instance.transfer_syntax_uid == ExplicitVRLittleEndian
    path = path_of(core, instance)
    back = await asyncio.to_thread(dcmread, path)
    assert back.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert back.PixelData == ct().PixelData
    assert back.pixel_array[0, 5] == 5
    assert back.PatientName == "Quixote^Alonso"
    ((offset, length),) = instance.frames.ranges(1)
    assert await core.archive.open(instance).read(offset, length) == ct().PixelData


async def test_same_again_changes_nothing(core) -> None:
    content = part10(ct())
    first = await core.archive.ingest(stream(content), SOURCE)
    before = await keys(core.archive)
    again = await core.archive.ingest(stream(content, 100), SOURCE)
    assert again.duplicate
    assert again.stored == first.stored
    assert await keys(core.archive) == before


async def test_what_was_retrieved_can_be_sent_back(core) -> None:
    ds = ct()
    await core.archive.ingest(stream(part10(ds, ImplicitVRLittleEndian)), SOURCE)
    (instance,) = await core.archive.instances(resource_of(ds))
    copy = await core.archive.open(instance).read()
    assert (await core.archive.ingest(stream(copy), SOURCE)).duplicate


async def test_other_content_under_a_known_uid_keeps_the_first(core) -> None:
    ds = ct()
    await core.archive.ingest(stream(part10(ds)), SOURCE)
    before = await keys(core.archive)
    ds.SeriesDescription = "CHANGED"
    outcome = await core.archive.ingest(stream(part10(ds)), SOURCE)
    assert outcome.failure is not None
    assert outcome.failure >> 8 == 0xC0
    assert outcome.status == 409
    assert await keys(core.archive) == before
    body = json.loads(gzip.decompress((await core.archive.metadata(resource_of(ds))).gzip_body))
    assert body[0]["0008103E"]["Value"] == ["AXIAL 5.0"]


async def test_uid_of_the_file_meta_is_mapped_too(open_archive) -> None:
    """An object may lack its SOP Instance UID where only the file meta has it: that is an identity like any other."""
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    ds = ct()
    content = part10(ds)
    instance = content.index(b"\x08\x00\x18\x00UI")
    length = int.from_bytes(content[instance + 6 : instance + 8], "little")
    outcome = await core.archive.ingest(stream(content[:instance] + content[instance + 8 + length :]), SOURCE)
    assert outcome.failure is None
    assert outcome.instance_uid == ds.SOPInstanceUID
    (stored,) = await core.archive.instances(outcome.stored)
    assert ds.SOPInstanceUID.encode() not in await core.archive.open(stored).read()


async def test_replace_takes_the_last(open_archive) -> None:
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_STORAGE__REPLACE="true")
    ds = ct()
    await core.archive.ingest(stream(part10(ds)), SOURCE)
    ds.SeriesDescription = "CHANGED"
    assert (await core.archive.ingest(stream(part10(ds)), SOURCE)).failure is None
    body = json.loads(gzip.decompress((await core.archive.metadata(resource_of(ds))).gzip_body))
    assert body[0]["0008103E"]["Value"] == ["CHANGED"]
    assert len(await keys(core.archive)) == 1


async def test_two_writers_of_one_uid(core) -> None:
    """Both attempts run at once; exactly one wins, and only its object stays."""
    ds = ct()
    contents = []
    for number in range(6):
        ds.SeriesDescription = f"VERSION {number}"
        contents.append(part10(ds))
    outcomes = await asyncio.gather(*(core.archive.ingest(stream(content, 300), SOURCE) for content in contents))
    assert sum(outcome.failure is None for outcome in outcomes) == 1
    assert len(await keys(core.archive)) == 1
    assert [difference async for difference in core.archive.verify()] == []


async def test_delete_is_gone_for_good_until_stored_again(core) -> None:
    ds = ct()
    content = part10(ds)
    where = resource_of(ds)
    await core.archive.ingest(stream(content), SOURCE)
    await core.archive.metadata(Resource(where.study_uid))
    assert await core.archive.delete(Resource(where.study_uid)) == 1
    assert await keys(core.archive) == set()
    for resource in (where, Resource(where.study_uid, where.series_uid), Resource(where.study_uid)):
        with pytest.raises(Gone):
            await core.archive.instances(resource)
        with pytest.raises(Gone):
            await core.archive.metadata(resource)
    assert (await core.archive.search(Query(Level.STUDY))).items == []
    assert (await core.archive.ingest(stream(content), SOURCE)).failure is None
    assert len(await core.archive.instances(where)) == 1
    with pytest.raises(NotFound):
        await core.archive.instances(Resource(generate_uid(None)))


async def test_two_workers_agree_at_once(core, mongod_uri) -> None:
    """A second process's view of the same catalogue shows each write and each deletion with its next answer."""
    ds = ct()
    other = driver.connect(core.settings.mongodb, mongod_uri)
    try:
        catalogue = Catalogue(other, core.settings.mongodb.database)
        for _ in range(3):
            await core.archive.ingest(stream(part10(ds)), SOURCE)
            assert len((await search(catalogue, Query(Level.INSTANCE))).items) == 1
            await core.archive.delete(Resource(ds.StudyInstanceUID))
            assert (await search(catalogue, Query(Level.INSTANCE))).items == []
    finally:
        await driver.close(other)


async def test_counts_follow_many_writers(core) -> None:
    study, series = generate_uid(None), generate_uid(None)
    contents = [
        part10(ct(StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=number)) for number in range(40)
    ]
    await asyncio.gather(*(core.archive.ingest(stream(content), SOURCE) for content in contents))
    (item,) = (await core.archive.search(Query(Level.SERIES, study_uid=study))).items
    assert item["00201209"]["Value"] == [40]
    instances = await core.archive.instances(Resource(study, series))
    assert len(instances) == 40
    body = json.loads(gzip.decompress((await core.archive.metadata(Resource(study, series))).gzip_body))
    assert [entry["00200013"]["Value"][0] for entry in body] == list(range(40))
    assert [change.seq for change in await changes.read(core.catalogue.db, 0, 100)] == list(range(1, 41))


async def test_refused_leaves_nothing(core) -> None:
    good = part10(ct())
    for content in (b"", b"a text file\n" * 100, good[:-10], good[:200]):
        outcome = await core.archive.ingest(stream(content), SOURCE)
        assert outcome.failure is not None
        assert outcome.reason.endswith(".")
    assert await keys(core.archive) == set()
    assert await core.catalogue.count() == 0


async def test_wrong_study_is_a_conflict(core) -> None:
    outcome = await core.archive.ingest(stream(part10(ct())), SOURCE, study_uid="1.2.3")
    assert outcome.status == 409
    assert await core.catalogue.count() == 0


async def test_verify_finds_damage(core) -> None:
    first, second = ct(), ct()
    for ds in (first, second):
        await core.archive.ingest(stream(part10(ds)), SOURCE)
    (instance,) = await core.archive.instances(resource_of(first))
    path = path_of(core, instance)
    damaged = bytearray(await asyncio.to_thread(path.read_bytes))
    damaged[-1] ^= 1
    await asyncio.to_thread(path.write_bytes, bytes(damaged))
    (other,) = await core.archive.instances(resource_of(second))
    await core.archive.objects.delete(other.key)
    found = {(difference.kind, difference.resource) async for difference in core.archive.verify()}
    assert found == {("altered", resource_of(first)), ("missing", resource_of(second))}


async def test_sweeper_spares_the_young_and_the_referenced(core, monkeypatch) -> None:
    await core.archive.ingest(stream(part10(ct())), SOURCE)
    orphan = new_key()
    await core.objects.put(orphan, b"left by a crash")
    assert await core.archive.sweep() == 0
    monkeypatch.setattr(archive, "_SWEEP_AGE", timedelta(0))
    assert await core.archive.sweep() == 1
    assert len(await keys(core.archive)) == 1


async def test_cancelled_store_leaves_no_row(core) -> None:
    ds = ct()

    async def endless():
        yield part10(ds)[:700]
        await asyncio.Event().wait()

    task = asyncio.create_task(core.archive.ingest(endless(), SOURCE))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await core.catalogue.count() == 0
    assert await keys(core.archive) == set()


@pytest.mark.parametrize(
    ("path", "match", "found"),
    [
        (("00100010",), Wildcard("quix*"), True),
        (("00100010",), Wildcard("QUIX?TE^*"), True),
        (("00100010",), Wildcard("x*"), False),
        (("00100010",), AnyOf(("Quixote^Alonso",)), True),
        (("00100020",), AnyOf(("mrn-4711",)), False),
        (("00080020",), Between("20210101", "20211231"), True),
        (("00080020",), Between(None, "20210303"), False),
        (("00080020",), Between("20210304", None), True),
        (("00080030",), Between("1200", "13"), False),
        (("00080030",), Between("10", "10"), True),
        (("00080061",), AnyOf(("MR", "CT")), True),
        (("00080061",), AnyOf(("MR",)), False),
        (("00081030",), Wildcard("*ABDO*"), True),
        (("00100020",), Wildcard("*.*"), False),
    ],
)  # fmt: skip
async def test_matching(core, path, match, found) -> None:
    await core.archive.ingest(stream(part10(ct())), SOURCE)
    for level in Level:
        page = await core.archive.search(Query(level, matches=((path, match),)))
        assert bool(page.items) is found


async def test_real_data_comes_back_bit_for_bit(core, data_folder: Path) -> None:
    """Under profile none a compressed file's data set is kept to the byte; its pixels decode to the same."""
    files = sorted((data_folder / "ct-chest").glob("*.dcm"))[:3] + sorted((data_folder / "xa").glob("*.dcm"))[:1]
    for path in files:
        outcome = await core.archive.ingest(content_of(path), SOURCE)
        assert outcome.failure is None, outcome.reason
        (instance,) = await core.archive.instances(outcome.stored)
        original = await asyncio.to_thread(dcmread, path)
        stored = await asyncio.to_thread(dcmread, path_of(core, instance))
        assert stored.PixelData == original.PixelData
        assert instance.frames.count == int(original.get("NumberOfFrames", 1))
        assert stored.to_json_dict().keys() == original.to_json_dict().keys()
