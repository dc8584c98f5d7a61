"""Rows that were stored enter the change feed once each, in order, whatever happens to who stored or followed them."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from dicomweb.query import Query
from dicomweb.resource import Level, Resource
from gateway.errors import CatalogueUnavailable
from gateway.store import arrivals, changes
from gateway.store.arrivals import FEED, Position, Retirement
from gateway.store.catalogue import Catalogue
from gateway.store.search import search
from tests.conftest import Databases
from tests.contract.catalogues import opened, row


@pytest.fixture
async def catalogue(mongod_uri: str, databases: Databases) -> AsyncIterator[Catalogue]:
    async with opened(mongod_uri, databases) as catalogue:
        yield catalogue


async def feed(catalogue: Catalogue) -> list[changes.Change]:
    return await changes.read(catalogue.db, 0, 10_000)


async def counted(catalogue: Catalogue) -> int:
    page = await search(catalogue, Query(Level.STUDY))
    return sum(item["00201208"]["Value"][0] for item in page.items)


async def test_writers_readers_and_deleters_at_once_leave_a_feed_without_gaps(catalogue: Catalogue) -> None:
    """Whoever reads while four catalogues write sees each number once; in the end rows and feed say the same."""
    others = [Catalogue(catalogue.connection, catalogue.db.name) for _ in range(4)]
    seen: list[changes.Change] = []
    done = asyncio.Event()

    async def follow(reader: Catalogue) -> None:
        while not done.is_set() or await changes.read(reader.db, len(seen), 1):
            await reader.complete()
            seen.extend(await changes.read(reader.db, len(seen), 7))

    async def write(writer: Catalogue, study: str) -> None:
        for start in range(0, 60, 3):
            new = [row(start + one, study, f"{study}.{start % 2}") for one in range(3)]
            await asyncio.gather(*(writer.add(one) for one in new))
        await writer.delete(Resource(study, f"{study}.0"))

    following = asyncio.create_task(follow(catalogue))
    await asyncio.gather(*(write(one, f"1.2.{number}") for number, one in enumerate(others)))
    await asyncio.gather(*(one.complete() for one in others))
    done.set()
    await asyncio.wait_for(following, 60)
    assert [change.seq for change in seen] == list(range(1, len(seen) + 1))
    assert seen == await feed(catalogue)
    stored = [change.instance_uid for change in seen if change.action == "stored"]
    deleted = [change.instance_uid for change in seen if change.action == "deleted"]
    assert len(stored) == len(set(stored)) == 240
    left = {document["_id"] async for document in catalogue.db.instances.find({}, {"_id": 1})}
    assert set(stored) - set(deleted) == left
    assert await counted(catalogue) == len(left) == 240 - len(deleted)


async def test_what_arrives_although_its_writer_was_told_otherwise_is_followed(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost after the rows were written; later rows do not hide them."""
    await catalogue.add(row(1))
    insert_many = Collection.insert_many

    def cut_off(self, documents, **options):
        insert_many(self, documents[:1], **options)
        monkeypatch.undo()
        raise AutoReconnect("lost")

    monkeypatch.setattr(Collection, "insert_many", cut_off)
    with pytest.raises(CatalogueUnavailable):
        await catalogue.add(row(2))
    await catalogue.add(row(3))
    await catalogue.complete()
    assert {change.instance_uid for change in await feed(catalogue)} == {f"1.2.1.1.{number}" for number in (1, 2, 3)}
    assert (await catalogue.add(row(2))).status == "same"
    assert len((await Position.read(catalogue.db)).streams) == 2


async def test_who_follows_and_fails_leaves_all_to_the_next(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that ends before its commit has numbered and derived nothing."""
    await catalogue.add(row(1))

    async def fail(*_: object) -> None:
        raise AutoReconnect("lost")

    monkeypatch.setattr(arrivals.derived, "derive", fail)
    with pytest.raises(CatalogueUnavailable):
        await catalogue.complete()
    assert await feed(catalogue) == []
    monkeypatch.undo()
    assert await counted(catalogue) == 1
    assert [change.seq for change in await feed(catalogue)] == [1]


async def test_a_duplicate_among_new_rows_stops_none_of_them(catalogue: Catalogue) -> None:
    await catalogue.add(row(3))
    added = await asyncio.gather(*(catalogue.add(row(number)) for number in range(1, 6)))
    assert [one.status for one in added] == ["new", "new", "same", "new", "new"]
    await catalogue.complete()
    assert len({change.instance_uid for change in await feed(catalogue)}) == len(await feed(catalogue)) == 5


async def test_a_row_that_replaces_another_is_a_deletion_and_a_store(catalogue: Catalogue) -> None:
    replacing = Catalogue(catalogue.connection, catalogue.db.name, replace=True)
    await replacing.add(row(1, "1.2.1", "1.2.1.1"))
    moved = row(1, "1.2.2", "1.2.1.1", b"x")
    await replacing.add(moved)
    await catalogue.complete()
    assert [(change.action, change.study_uid) for change in await feed(catalogue)] == [
        ("stored", "1.2.1"),
        ("deleted", "1.2.1"),
        ("stored", "1.2.2"),
    ]
    (study,) = (await search(catalogue, Query(Level.STUDY))).items
    assert study["0020000D"]["Value"] == ["1.2.2"]


async def test_old_streams_are_retired_once_all_of_them_was_followed(catalogue: Catalogue) -> None:
    await catalogue.add(row(1))
    (name,) = (await Position.read(catalogue.db)).streams
    long_ago = datetime.now(UTC) - timedelta(days=2)
    await catalogue.db.counters.update_one(FEED, {"$set": {f"streams.{name}.opened": long_ago}})
    retirement = Retirement(catalogue.db)
    await retirement.step()
    await retirement.step()
    assert name in (await Position.read(catalogue.db)).streams, "a row of it is still to be followed"
    await catalogue.complete()
    await Retirement(catalogue.db).step()
    assert name in (await Position.read(catalogue.db)).streams, "it was not seen to be old for an hour"
    await retirement.step()
    assert (await Position.read(catalogue.db)).streams == {}
    catalogue._writer._stream.end()
    await catalogue.add(row(2))
    await catalogue.complete()
    assert [change.seq for change in await feed(catalogue)] == [1, 2]


async def test_a_stream_that_could_not_be_registered_is_not_used(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody follows it: its rows would be found by no search."""

    def cut_off(*_: object, **__: object) -> None:
        monkeypatch.undo()
        raise AutoReconnect("lost")

    monkeypatch.setattr(Collection, "update_one", cut_off)
    with pytest.raises(CatalogueUnavailable):
        await catalogue.add(row(1))
    await catalogue.add(row(2))
    assert await counted(catalogue) == 1


async def test_a_crowd_that_waits_while_others_store_is_served_at_once(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without numbers that tell whether anything was written, each sees what was before it asked all the same."""
    follow, times, everybody_waits = arrivals.catch_up, 0, asyncio.Event()

    async def counting(*args: object) -> None:
        nonlocal times
        times += 1
        await everybody_waits.wait()
        await follow(*args)

    monkeypatch.setattr(arrivals, "catch_up", counting)
    await catalogue.add(row(1))
    first = asyncio.create_task(catalogue.complete())
    await asyncio.sleep(0)
    await catalogue.add(row(2))
    crowd = [asyncio.create_task(catalogue.complete()) for _ in range(20)]
    await asyncio.sleep(0)
    everybody_waits.set()
    await asyncio.gather(*crowd)
    assert len(await feed(catalogue)) == 2
    await first
    assert times == 2


async def test_a_deletion_takes_what_is_followed_although_more_arrives(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others store to the study, some of its rows are always still to be followed."""
    await catalogue.add(row(1))
    await catalogue.complete()
    await catalogue.add(row(2))
    follow = arrivals.catch_up

    async def followed(*args: object) -> None:
        assert await catalogue.count() == 1, "the first is gone before the second is followed"
        await follow(*args)

    monkeypatch.setattr(arrivals, "catch_up", followed)
    assert len(await catalogue.delete(Resource("1.2.1"))) == 2


def nested(depth: int) -> dict[str, object]:
    """A sequence in so many others."""
    return {"vr": "SQ", "Value": [{"00081032": nested(depth - 1)}] if depth else []}


@pytest.mark.parametrize(
    "attributes",
    [
        {tag: {"vr": "LO", "Value": ["x" * (9 << 20)]} for tag in ("00080081", "00104000", "00081080")},
        {"00081032": nested(80)},
    ],
    ids=["large", "deep"],
)
async def test_an_instance_with_what_no_derived_row_takes_hinders_no_other(
    catalogue: Catalogue, attributes: dict[str, object]
) -> None:
    """MongoDB refuses documents of more than 16 MiB or 100 levels; the header of an instance is kept as one text."""
    whole = json.loads(gzip.decompress(row(1).json_gzip)) | attributes
    await catalogue.add(replace(row(1), json_gzip=gzip.compress(json.dumps(whole).encode())))
    await catalogue.add(row(2, "1.2.2", "1.2.2.1"))
    assert await counted(catalogue) == 2
