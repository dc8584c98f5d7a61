"""DELETE of studies, series and instances, which PS3.18 leaves open, and 410 afterwards (section 8.5)."""

import pytest

from tests.conformance import objects
from tests.conformance.caller import JSON, Caller, keep
from tests.conformance.objects import uid


async def family(server: Caller, name: str) -> list[str]:
    """Store a study of two series of two instances; the paths of study, series and instance."""
    images = [objects.image(f"{name} {one}", name, f"{name} {one // 2}", InstanceNumber=one) for one in range(4)]
    await keep(server, *(objects.file_of(image) for image in images))
    study = f"/studies/{uid(name)}"
    series = f"{study}/series/{uid(f'{name} 0')}"
    return [study, series, f"{series}/instances/{uid(f'{name} 0')}"]


async def count(server: Caller, name: str) -> int:
    """How many instances of a patient are found."""
    return len(await server.items(f"/instances?PatientID={name}"))


@pytest.mark.parametrize(("level", "left"), [(0, 0), (1, 2), (2, 3)])
async def test_del_01_each_level(server, fresh, level, left):
    path = (await family(server, fresh))[level]
    assert await count(server, fresh) == 4
    answer = await server.send("DELETE", path)
    assert answer.status in {200, 204}
    assert await count(server, fresh) == left


@pytest.mark.parametrize("below", ["", "/metadata", "/rendered", "/thumbnail"])
async def test_del_02_gone_afterwards(server, fresh, below):
    for path in reversed(await family(server, fresh)):
        assert (await server.send("DELETE", path)).status in {200, 204}
        assert (await server.get(path + below)).status == 410
        assert (await server.send("DELETE", path)).status == 410


async def test_del_03_what_never_was_is_not_found(server):
    for path in ("/studies/1.2.3", "/studies/1.2.3/series/1.2.4", "/studies/1.2.3/series/1.2.4/instances/1.2.5"):
        assert (await server.send("DELETE", path)).status == 404


async def test_del_04_counts_and_lists_follow_at_once(server, fresh):
    study, series, _ = await family(server, fresh)
    await server.send("DELETE", series)
    (item,) = await server.items(f"/studies?PatientID={fresh}")
    assert [int(item[tag]["Value"][0]) for tag in ("00201206", "00201208")] == [1, 2]
    assert len((await server.get(study + "/metadata", JSON)).json()) == 2


async def test_del_05_what_is_deleted_may_come_back(server, fresh):
    study, *_ = await family(server, fresh)
    assert (await server.send("DELETE", study)).status in {200, 204}
    await family(server, fresh)
    assert (await server.get(study + "/metadata", JSON)).status == 200
    assert await count(server, fresh) == 4


async def test_del_06_other_resources_have_no_delete(server):
    for path in ("/studies", "/series", "/instances", f"/studies/{uid('CONF-A')}/metadata"):
        answer = await server.send("DELETE", path)
        assert answer.status == 405
        assert "GET" in answer.headers["Allow"]
