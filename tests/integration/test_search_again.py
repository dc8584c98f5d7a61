"""Search pages that are remembered: the same bytes again, and never behind what another worker wrote."""

import gzip
import json

import pytest
from aiohttp.test_utils import TestClient
from multidict import CIMultiDict
from pydicom import Dataset

from gateway import archive
from gateway.wiring import open_core
from tests.conftest import KEYS
from tests.dicomweb_support import store
from tests.samples import ct

STUDIES, INSTANCES = "/dicomweb/studies", "/dicomweb/instances?limit=50"


@pytest.fixture
async def workers(open_archive, serve, mongod_uri) -> tuple[TestClient, TestClient]:
    """Clients of two servers over one data folder, as two HTTP workers are."""
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none")
    async with open_core(core.settings, mongod_uri, KEYS) as other:
        yield await serve(core), await serve(other)


@pytest.fixture
def searches(monkeypatch) -> list[str]:
    """One entry for each search that the catalogue was asked."""
    asked: list[str] = []
    search = archive.search

    async def noted(*args, **kwargs):
        asked.append("search")
        return await search(*args, **kwargs)

    monkeypatch.setattr(archive, "search", noted)
    return asked


async def get(client: TestClient, path: str, **headers: str) -> tuple[int, CIMultiDict[str], bytes]:
    headers = {"Accept-Encoding": "identity"} | headers
    async with client.get(path, headers=headers, auto_decompress=False) as response:
        return response.status, response.headers.copy(), await response.read()


def study_of(ds: Dataset) -> str:
    return f"{STUDIES}/{ds.StudyInstanceUID}"


def studies_in(body: bytes) -> set[str]:
    return {item["0020000D"]["Value"][0] for item in json.loads(body)}


async def test_a_page_with_another_count_of_further_results_is_another(client):
    """Who asks for the number alone gets the same body each time."""
    first = ct()
    await store(client, first)
    _, before, body = await get(client, f"{STUDIES}?limit=0")
    await store(client, ct())
    status, after, same = await get(client, f"{STUDIES}?limit=0", **{"If-None-Match": before["ETag"]})
    assert (status, same) == (200, body)
    assert after["Warning"] != before["Warning"]


async def test_the_same_again_is_searched_once(client, searches):
    ds = ct()
    await store(client, ds)
    for path in (STUDIES, INSTANCES, f"{study_of(ds)}/series?includefield=all&limit=3"):
        before = len(searches)
        first, again = [await get(client, path) for _ in range(2)]
        for _, headers, _ in (first, again):
            headers.pop("Date"), headers.pop("X-Request-ID")
        assert first == again
        assert first[0] == 200
        assert len(searches) == before + 1
        status, headers, body = await get(client, path, **{"If-None-Match": first[1]["ETag"]})
        assert (status, body) == (304, b"")
        assert headers["ETag"] == first[1]["ETag"]
        assert len(searches) == before + 1


async def test_every_representation_has_its_own(client):
    for _ in range(12):
        await store(client, ct())
    plain = await get(client, STUDIES)
    packed = await get(client, STUDIES, **{"Accept-Encoding": "gzip"})
    xml = await get(client, STUDIES, Accept="multipart/related; type=application/dicom+xml")
    named = await get(client, STUDIES, Accept="application/json")
    limited = await get(client, STUDIES + "?limit=2")
    elsewhere = await get(client, STUDIES, Host="127.0.0.1:1")
    assert packed[1]["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed[2]) == plain[2]
    assert xml[1]["Content-Type"].startswith("multipart/related")
    assert named[1]["Content-Type"] == "application/json"
    assert len(json.loads(limited[2])) == 2
    assert "10 additional" in limited[1]["Warning"]
    assert b"http://127.0.0.1:1/dicomweb/studies" in elsewhere[2]
    assert b"http://127.0.0.1:1/dicomweb/studies" not in plain[2]
    assert len({answer[1]["ETag"] for answer in (plain, packed, xml, limited, elsewhere)}) == 5


async def test_what_another_worker_wrote_is_seen_at_once(workers):
    one, other = workers
    stored = [ct() for _ in range(3)]
    for number, ds in enumerate(stored, 1):
        await store(one, ds)
        for _ in range(2):
            assert studies_in((await get(other, STUDIES))[2]) == {each.StudyInstanceUID for each in stored[:number]}
    for _ in range(2):
        assert len(json.loads((await get(other, study_of(stored[0]) + "/instances"))[2])) == 1
    assert (await one.delete(study_of(stored[0]))).status == 204
    for _ in range(2):
        assert studies_in((await get(other, STUDIES))[2]) == {each.StudyInstanceUID for each in stored[1:]}
        assert json.loads((await get(other, study_of(stored[0]) + "/instances"))[2]) == []
