"""Look-ups of instances: a crowd shares a question, a second instance of a series brings the others, all while true."""

import asyncio

import pytest
from pydicom.uid import generate_uid

from dicomweb.errors import Gone, NotFound
from dicomweb.resource import Resource
from gateway.archive import Archive, Source
from tests.samples import ct, part10, stream


async def stored(archive: Archive, count: int, study: str = "") -> list[Resource]:
    """Store a series and return its instances."""
    study, series = study or generate_uid(None), generate_uid(None)
    files = [part10(ct(StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=n)) for n in range(count)]
    return [(await archive.ingest(stream(file), Source("test"))).stored for file in files]


@pytest.fixture
def questions(core):
    """How many questions the database was asked so far: `before = await questions()`."""

    async def asked() -> int:
        status = await core.catalogue.client.admin.command("serverStatus")
        return status["opcounters"]["query"]

    return asked


async def test_further_instances_are_not_asked_for_again(core, questions):
    resources = await stored(core.archive, 4)
    for resource in resources[:2]:
        (instance,) = await core.archive.instances(resource)
        assert instance.resource == resource
    before = await questions()
    for resource in resources[2:]:
        (instance,) = await core.archive.instances(resource)
        assert instance.resource == resource
    assert await questions() == before
    await core.archive.delete(resources[3])
    with pytest.raises(Gone):
        await core.archive.instances(resources[3])
    (instance,) = await core.archive.instances(resources[2])
    assert instance.resource == resources[2]


async def test_one_instance_alone_brings_no_others(core, questions):
    resources = await stored(core.archive, 2)
    await core.archive.instances(resources[0])
    before = await questions()
    await core.archive.instances(resources[1])
    assert await questions() == before + 1


async def test_a_crowd_shares_a_few_questions(core, questions):
    wanted = [one for _ in range(10) for one in await stored(core.archive, 4)]
    before = await questions()
    found = await asyncio.gather(*(core.archive.instances(one) for one in 5 * wanted))
    assert [instance.resource for (instance,) in found] == 5 * wanted
    assert await questions() - before <= 4


async def test_in_a_crowd_each_is_told_of_its_own(core):
    here, deleted = await stored(core.archive, 3), (await stored(core.archive, 1))[0]
    await core.archive.delete(deleted)
    elsewhere = Resource(deleted.study_uid, here[0].series_uid, here[0].instance_uid)
    unknown = Resource("1.2", "1.2.3", "1.2.3.4")
    wanted = [here[0], deleted, here[1], elsewhere, unknown, here[2]]
    waiting = [asyncio.ensure_future(core.archive.instances(one)) for one in wanted]
    await asyncio.sleep(0)
    waiting[0].cancel()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert isinstance(found[1], Gone)
    assert isinstance(found[4], NotFound)
    assert [one[0].resource for one in (found[2], found[5])] == here[1:]
    assert isinstance(found[3], NotFound | Gone)


async def test_what_was_acknowledged_is_found_while_a_crowd_asks(core):
    """A question that began before a row was committed must not answer who asks after it was."""
    study = generate_uid(None)
    others = [one for _ in range(5) for one in await stored(core.archive, 20, study)]
    enough = asyncio.Event()

    async def ask(resources):
        while not enough.is_set():
            for one in resources:  # not remembered for long: the study changes
                await core.archive.instances(one)
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for start in range(20):
            group.create_task(ask(others[start::20]))
        for _ in range(20):
            for resource in await stored(core.archive, 2, study):
                (instance,) = await core.archive.instances(resource)
                assert instance.resource == resource
            await core.archive.delete(resource)
            with pytest.raises(Gone):
                await core.archive.instances(resource)
        enough.set()
