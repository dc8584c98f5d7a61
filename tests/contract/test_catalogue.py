"""The catalogue contract, on a real mongod, with each driver that can be selected."""

import asyncio
import gc
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import motor.motor_asyncio  # noqa: F401 - a first import reads files, which must not happen on the loop
import pytest
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from dicomweb.errors import Gone, NotFound
from dicomweb.query import AnyOf, Query
from dicomweb.resource import Level, Resource
from gateway.config import MongoSettings
from gateway.errors import CatalogueUnavailable
from gateway.store import changes, driver
from gateway.store.arrivals import Position
from gateway.store.catalogue import Catalogue
from gateway.store.generations import Generations
from gateway.store.search import search
from gateway.store.turn import Turn
from tests.conftest import Databases
from tests.contract.catalogues import opened, row


@pytest.fixture(params=["pymongo", "motor"])
async def catalogue(request: pytest.FixtureRequest, mongod_uri: str, databases: Databases) -> AsyncIterator[Catalogue]:
    async with opened(mongod_uri, databases, request.param) as catalogue:
        yield catalogue


async def test_row_comes_back(catalogue: Catalogue) -> None:
    given = row()
    assert (await catalogue.add(given)).status == "new"
    (found,) = await catalogue.instances(Resource(given.study_uid))
    assert found.resource == Resource(given.study_uid, given.series_uid, given.instance_uid)
    assert (found.key, found.size, found.frames, found.pixel_offset) == (given.key, 10, given.frames, 988)
    raw = await catalogue.db.instances.find_one({"_id": given.instance_uid})
    assert raw["digest"] == b"d"
    assert raw["at"] <= datetime.now(UTC)


@pytest.mark.parametrize(("digest", "status"), [(b"d", "same"), (b"sd", "same"), (b"x", "conflict")])
async def test_second_row_of_a_uid(catalogue: Catalogue, digest: bytes, status: str) -> None:
    await catalogue.add(row())
    assert (await catalogue.add(row(digest=digest))).status == status
    assert await catalogue.count() == 1


async def test_another_encoding_that_is_stored_alike_is_the_same(catalogue: Catalogue) -> None:
    await catalogue.add(row())
    assert (await catalogue.add(replace(row(digest=b"y"), stored_digest=b"sd"))).status == "same"


async def test_one_of_many_at_once_wins(catalogue: Catalogue) -> None:
    added = await asyncio.gather(*(catalogue.add(row(digest=bytes([number]))) for number in range(20)))
    assert [one.status for one in added].count("new") == 1
    assert await catalogue.count() == 1


async def test_instances_by_number(catalogue: Catalogue) -> None:
    await asyncio.gather(*(catalogue.add(row(number)) for number in (10, 2, 33, 1)))
    found = await catalogue.instances(Resource("1.2.1", "1.2.1.1"))
    assert [instance.size for instance in found] == [10, 20, 100, 330]


async def test_derived_rows_follow(catalogue: Catalogue) -> None:
    for number in (1, 2):
        await catalogue.add(row(number))
        (study,) = (await search(catalogue, Query(Level.STUDY))).items
        assert study["00201208"]["Value"] == [number]
    await catalogue.add(row(1, series="1.2.1.2"))
    (study,) = (await search(catalogue, Query(Level.STUDY, matches=((("00100020",), AnyOf(("P1",))),)))).items
    assert study["00201206"]["Value"] == [2]
    await catalogue.delete(Resource("1.2.1", "1.2.1.1"))
    (study,) = (await search(catalogue, Query(Level.STUDY))).items
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([1], [1])
    await catalogue.delete(Resource("1.2.1"))
    assert (await search(catalogue, Query(Level.STUDY))).items == []


async def test_pages_are_whole_and_disjoint(catalogue: Catalogue) -> None:
    await asyncio.gather(*(catalogue.add(row(study=f"1.2.{number}", series=f"1.2.{number}.1")) for number in range(25)))
    seen: list[str] = []
    for offset in range(0, 25, 10):
        page = await search(catalogue, Query(Level.STUDY, limit=10, offset=offset))
        assert page.remaining == 25 - offset - len(page.items)
        seen += [item["0020000D"]["Value"][0] for item in page.items]
    assert len(set(seen)) == 25


async def test_changes_are_numbered_in_commit_order(catalogue: Catalogue) -> None:
    await asyncio.gather(*(catalogue.add(row(number)) for number in range(1, 31)))
    await catalogue.delete(Resource("1.2.1", "1.2.1.1", "1.2.1.1.7"))
    found = await changes.read(catalogue.db, 0, 100)
    assert [change.seq for change in found] == list(range(1, 32))
    assert (found[-1].action, found[-1].instance_uid) == ("deleted", "1.2.1.1.7")
    for since in range(31):
        assert await changes.read(catalogue.db, since, 3) == found[since : since + 3]


async def test_two_catalogues_share_one_order(catalogue: Catalogue) -> None:
    """Two processes' worth of writers: all rows, all numbers, no gap."""
    other = Catalogue(catalogue.connection, catalogue.db.name)
    await asyncio.gather(
        *((catalogue, other)[number % 2].add(row(number, series=f"1.2.1.{number % 3}")) for number in range(60))
    )
    assert await catalogue.count() == 60
    await asyncio.gather(*(one.complete() for one in (catalogue, other, catalogue, other)))
    found = await changes.read(catalogue.db, 0, 100)
    assert [change.seq for change in found] == list(range(1, 61))
    assert len({change.instance_uid for change in found}) == 60
    assert (await catalogue.db.counters.find_one({"_id": "changes"}))["value"] == 60
    await other.close()


async def test_tombstones(catalogue: Catalogue) -> None:
    where = Resource("1.2.1", "1.2.1.1", "1.2.1.1.1")
    with pytest.raises(NotFound):
        await catalogue.delete(where)
    await catalogue.add(row())
    assert len(await catalogue.delete(where)) == 1
    with pytest.raises(Gone):
        await catalogue.instances(where)
    await catalogue.add(row())
    assert len(await catalogue.instances(where)) == 1


async def test_large_deletion_is_complete(catalogue: Catalogue) -> None:
    await asyncio.gather(*(catalogue.add(row(number)) for number in range(1100)))
    assert len(await catalogue.delete(Resource("1.2.1"))) == 1100
    assert await catalogue.count() == 0


async def test_referenced_keys(catalogue: Catalogue) -> None:
    given = row()
    await catalogue.add(given)
    assert await catalogue.referenced([given.key, "20260101/0000/other.dcm"]) == {given.key}


async def test_change_stream(catalogue: Catalogue) -> None:
    async with driver.watch(catalogue.db.changes, [{"$match": {"operationType": "insert"}}]) as stream:
        await catalogue.add(row())
        await catalogue.complete()
        change = await asyncio.wait_for(stream.next(), 10)
    (told,) = changes.unpack(change["fullDocument"])
    assert told.instance_uid == "1.2.1.1.1"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Motor leaves a refused socket behind
@pytest.mark.parametrize("name", ["pymongo", "motor"])
async def test_unreachable_is_one_retryable_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(driver._OPTIONS, "serverSelectionTimeoutMS", 300)
    connection = driver.connect(MongoSettings(driver=name), "mongodb://127.0.0.1:1/")
    catalogue = Catalogue(connection, "nowhere")
    try:
        for attempt in (catalogue.count(), catalogue.instances(Resource("1.2")), catalogue.add(row())):
            with pytest.raises(CatalogueUnavailable) as caught:
                await attempt
            assert caught.value.retryable
    finally:
        await driver.close(connection)
        del connection, catalogue
        gc.collect()


async def test_replacing_catalogue(catalogue: Catalogue) -> None:
    replacing = Catalogue(catalogue.connection, catalogue.db.name, replace=True)
    first = row()
    await replacing.add(first)
    added = await replacing.add(replace(row(digest=b"x"), size=7))
    assert added.superseded == first.key
    (found,) = await replacing.instances(Resource("1.2.1"))
    assert found.size == 7
    await replacing.close()


async def test_without_a_turn_nobody_waits_for_ever(catalogue: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stuck = Catalogue(catalogue.connection, catalogue.db.name, turn=Turn(tmp_path / "file" / "lock"))
    for number in (1, 2):
        await stuck.add(row(number, f"1.2.{number}"))  # for which nobody has to have it
    for _ in range(2):
        deletions = asyncio.gather(
            *(stuck.delete(Resource(study)) for study in ("1.2.1", "1.2.2")), return_exceptions=True
        )
        assert all(isinstance(outcome, OSError) for outcome in await asyncio.wait_for(deletions, 10))
    assert await stuck.count() == 2


async def test_who_failed_to_store_and_stores_no_more_settles_what_is_remembered(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process remembers again what the failed write may have changed, which it cannot do before."""
    own, other = [await asyncio.to_thread(Generations, tmp_path / "generations") for _ in range(2)]
    failing = Catalogue(catalogue.connection, catalogue.db.name, generations=own)

    def lost(*_: object, **__: object) -> None:
        raise AutoReconnect("lost")

    monkeypatch.setattr(Collection, "insert_many", lost)
    with pytest.raises(CatalogueUnavailable):
        await failing.add(row())
    monkeypatch.undo()
    with other.writing(["1.2.9"]):
        pass
    assert (other.of(None), other.of("1.2.1")) == (None, None)
    await failing.settle()
    assert None not in (other.of(None), other.of("1.2.1"))
    other.close()
    own.close()


@pytest.fixture
async def replacing(mongod_uri: str, databases: Databases) -> AsyncIterator[Catalogue]:
    async with opened(mongod_uri, databases, replace=True) as catalogue:
        yield catalogue


async def test_more_changes_at_once_than_asyncio_has_threads(replacing: Catalogue) -> None:
    """The one whose turn it is may need such a thread while all others wait."""
    first = [row(number, f"1.2.{number}", f"1.2.{number}.1") for number in range(48)]
    await asyncio.gather(*map(replacing.add, first))
    others = [replace(one, digest=b"x", stored_digest=b"x", key=row().key) for one in first]
    added = await asyncio.gather(*map(replacing.add, others))
    assert [one.superseded for one in added] == [one.key for one in first]
    await asyncio.gather(*(replacing.delete(Resource(one.study_uid)) for one in first))
    assert await replacing.count() == 0


async def test_who_replaces_what_was_just_replaced_takes_the_place_of_that(
    replacing: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await replacing.add(row())
    second, third = row(study="1.2.2", digest=b"2"), row(study="1.2.3", digest=b"3")
    read = Position.read

    async def after_another(db: object) -> Position:
        monkeypatch.undo()
        await replacing.add(second)
        return await read(db)

    monkeypatch.setattr(Position, "read", after_another)
    assert (await replacing.add(third)).superseded == second.key
    (study,) = (await search(replacing, Query(Level.STUDY))).items
    assert study["0020000D"]["Value"] == ["1.2.3"]
