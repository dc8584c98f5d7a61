"""The archive against a dict: random stores, repeats, conflicts and deletions; after each the answers agree."""

import random
from collections.abc import Iterable

import pytest
from pydicom.uid import generate_uid

from dicomweb.errors import Gone, NotFound
from dicomweb.query import Query
from dicomweb.resource import Level, Resource
from gateway.archive import Source
from tests.samples import ct, part10, stream

SOURCE = Source("import")


class Model:
    """What the archive should hold: instance -> description it was stored with; what was deleted."""

    def __init__(self) -> None:
        self.held: dict[Resource, str] = {}
        self.deleted: set[Resource] = set()

    def below(self, resource: Resource, among: Iterable[Resource] | None = None) -> list[Resource]:
        return [
            held
            for held in (self.held if among is None else among)
            if held.study_uid == resource.study_uid
            and resource.series_uid in (None, held.series_uid)
            and resource.instance_uid in (None, held.instance_uid)
        ]


@pytest.mark.parametrize("seed", range(4))
async def test_archive_behaves_like_a_dict(core, seed: int) -> None:
    choose = random.Random(seed)
    model = Model()
    studies = [generate_uid(None) for _ in range(3)]
    series = {study: [generate_uid(None) for _ in range(2)] for study in studies}
    pool = [Resource(study, one, generate_uid(None)) for study in studies for one in series[study] for _ in range(3)]
    for _ in range(60):
        target = choose.choice(pool)
        if choose.random() < 0.65:
            await store(core, model, target, choose.choice(["AXIAL", "CORONAL"]))
        else:
            upper = choose.choice([target, Resource(target.study_uid, target.series_uid), Resource(target.study_uid)])
            await delete(core, model, upper)
        await compare(core, model, choose.choice(pool))
    assert [difference async for difference in core.archive.verify()] == []
    assert len([info async for info in core.objects.list() if info.key.endswith(".dcm")]) == len(model.held)


async def store(core, model: Model, target: Resource, description: str) -> None:
    ds = ct(
        StudyInstanceUID=target.study_uid,
        SeriesInstanceUID=target.series_uid,
        SOPInstanceUID=target.instance_uid,
        FrameOfReferenceUID="1.2.3",
        SeriesDescription=description,
    )
    outcome = await core.archive.ingest(stream(part10(ds)), SOURCE)
    held = model.held.get(target)
    assert (outcome.failure is not None) is (held is not None and held != description)
    assert outcome.duplicate is (held == description)
    model.held.setdefault(target, description)
    model.deleted.discard(target)


async def delete(core, model: Model, target: Resource) -> None:
    below = model.below(target)
    if not below:
        with pytest.raises((NotFound, Gone)):
            await core.archive.delete(target)
        return
    assert await core.archive.delete(target) == len(below)
    for resource in below:
        del model.held[resource]
        model.deleted.add(resource)


async def compare(core, model: Model, probe: Resource) -> None:
    for level, part in ((Level.STUDY, 1), (Level.SERIES, 2), (Level.INSTANCE, 3)):
        page = await core.archive.search(Query(level))
        found = {
            tuple(item[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")[:part]) for item in page.items
        }
        expected = {(held.study_uid, held.series_uid, held.instance_uid)[:part] for held in model.held}
        assert found == expected
    for item in (await core.archive.search(Query(Level.STUDY))).items:
        assert item["00201208"]["Value"] == [len(model.below(Resource(item["0020000D"]["Value"][0])))]
    for resource in (probe, Resource(probe.study_uid)):
        if model.below(resource):
            assert len(await core.archive.instances(resource)) == len(model.below(resource))
        else:
            with pytest.raises(Gone if model.below(resource, model.deleted) else NotFound):
                await core.archive.instances(resource)
