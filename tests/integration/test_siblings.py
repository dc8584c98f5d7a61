"""The rows of a series come together once a second of its instances is asked for, and only as long as they are true."""

import pytest
from pydicom.uid import generate_uid

from dicomweb.errors import Gone
from dicomweb.resource import Resource
from gateway.archive import Archive, Source
from tests.samples import ct, part10, stream


async def stored(archive: Archive, count: int) -> list[Resource]:
    """Store a series and return its instances."""
    study, series = generate_uid(None), generate_uid(None)
    files = [part10(ct(StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=n)) for n in range(count)]
    return [(await archive.ingest(stream(file), Source("test"))).stored for file in files]


async def test_further_instances_are_not_asked_for_again(core, monkeypatch):
    resources = await stored(core.archive, 4)
    for resource in resources[:2]:
        (instance,) = await core.archive.instances(resource)
        assert instance.resource == resource
    with monkeypatch.context() as patch:
        patch.setattr(core.catalogue, "db", None)
        for resource in resources[2:]:
            (instance,) = await core.archive.instances(resource)
            assert instance.resource == resource
    await core.archive.delete(resources[3])
    with pytest.raises(Gone):
        await core.archive.instances(resources[3])
    (instance,) = await core.archive.instances(resources[2])
    assert instance.resource == resources[2]


async def test_one_instance_alone_brings_no_others(core, monkeypatch):
    resources = await stored(core.archive, 2)
    await core.archive.instances(resources[0])
    monkeypatch.setattr(core.catalogue, "db", None)
    with pytest.raises(AttributeError):
        await core.archive.instances(resources[1])
