"""Renderings that are remembered: found by all that was asked for, and never behind what another worker wrote."""

import io

import numpy as np
import pytest
from aiohttp.test_utils import TestClient
from multidict import CIMultiDict
from PIL import Image

from dicomweb.stored import Reader
from gateway.wiring import open_core
from tests.conftest import KEYS
from tests.dicomweb_support import path_of, store
from tests.samples import ct, part10

RENDERINGS = ["rendered", "frames/1/rendered", "thumbnail"]
#: Each shows, says or encodes something else than the ones before.
OPTIONS = [
    "",
    "?window=100,50,linear",
    "?window=100,50,linear-exact",
    "?window=100,50,sigmoid",
    "?viewport=8,8",
    "?viewport=8,8,2,2,4,4",
    "?quality=20",
    "?annotation=patient",
    "?annotation=patient,technique",
    "?iccprofile=yes",
    "?iccprofile=adobergb",
    "?accept=image/png",
    "?accept=image/gif",
    "?nothing=1",
]


@pytest.fixture
async def workers(open_archive, serve, mongod_uri) -> tuple[TestClient, TestClient]:
    """Clients of two servers over one data folder, as two HTTP workers are."""
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_STORAGE__REPLACE="true")
    async with open_core(core.settings, mongod_uri, KEYS) as other:
        yield await serve(core), await serve(other)


@pytest.fixture
def readings(monkeypatch) -> list[str]:
    """The instances of which a frame was read."""
    seen: list[str] = []
    picture = Reader.picture

    async def noted(self, *args, **kwargs):
        seen.append(self.instance.instance_uid)
        return await picture(self, *args, **kwargs)

    monkeypatch.setattr(Reader, "picture", noted)
    return seen


async def get(client: TestClient, path: str, **headers: str) -> tuple[int, CIMultiDict[str], bytes]:
    async with client.get(path, headers={"Accept": "image/*"} | headers) as response:
        return response.status, response.headers.copy(), await response.read()


async def test_the_same_again_is_the_same_and_read_once(client, readings):
    ds = ct()
    await store(client, ds)
    for rendering in RENDERINGS:
        first, again = [await get(client, f"{path_of(ds)}/{rendering}") for _ in range(2)]
        for _, headers, _ in (first, again):
            headers.pop("Date"), headers.pop("X-Request-ID")
        assert first == again
        assert first[0] == 200
        known = await get(client, f"{path_of(ds)}/{rendering}", **{"If-None-Match": first[1]["ETag"]})
        assert (known[0], known[2]) == (304, b"")
        part = await get(client, f"{path_of(ds)}/{rendering}", Range="bytes=2-9")
        assert (part[0], part[2]) == (206, first[2][2:10])
    assert len(readings) == len(RENDERINGS)


async def test_every_option_has_its_own(client):
    ds = ct(Rows=64, Columns=64, PixelData=np.arange(64 * 64, dtype="<u2").tobytes(), PatientID="A1")
    await store(client, ds)
    for _ in range(2):
        answers = [await get(client, f"{path_of(ds)}/rendered{options}") for options in OPTIONS]
        assert [status for status, _, _ in answers] == [200] * len(OPTIONS)
        # what is asked for and unknown changes no picture, but there is a warning
        assert len({body + headers.get("Warning", "").encode() for _, headers, body in answers}) == len(OPTIONS)
    accepted = [await get(client, f"{path_of(ds)}/rendered", Accept=f"image/{name}") for name in ("png", "gif", "jpeg")]
    assert [headers["Content-Type"] for _, headers, _ in accepted] == ["image/png", "image/gif", "image/jpeg"]


@pytest.mark.parametrize("rendering", RENDERINGS)
async def test_what_another_worker_wrote_is_seen_at_once(workers, rendering):
    one, other = workers
    ds = ct(Rows=4, Columns=4, WindowCenter=100, WindowWidth=200, RescaleSlope=1, RescaleIntercept=0)
    url = f"{path_of(ds)}/{rendering}?accept=image/png"
    for level in (50, 150):
        ds.PixelData = np.full(16, level, "<u2").tobytes()
        await store(one, part10(ds))
        for _ in range(2):
            status, _, body = await get(other, url)
            assert status == 200
            shown = np.asarray(Image.open(io.BytesIO(body)))
            assert abs(int(shown[0, 0]) - 255 * level / 200) < 2
    assert (await one.delete(path_of(ds))).status == 204
    assert (await get(other, url))[0] == 410
    await store(one, part10(ds))
    assert (await get(other, url))[0] == 200


async def test_a_thumbnail_of_a_study_follows_what_is_added_to_it(workers):
    one, other = workers
    ds = ct(Rows=4, Columns=4, PixelData=bytes(32))
    await store(one, part10(ds))
    url = f"{path_of(ds).split('/series')[0]}/thumbnail"
    before = (await get(other, url))[1]["ETag"]
    shared = {keyword: ds[keyword].value for keyword in ("StudyInstanceUID", "SeriesInstanceUID")}
    later = [ct(**shared, InstanceNumber=number) for number in (5, 6)]
    await store(one, *later)
    assert (await get(other, url))[1]["ETag"] != before


async def test_slices_that_are_shown_alike_share_a_header_and_others_do_not(client):
    """The second slice differs in its window, the third in its slope: each is shown by its own."""
    pixels = np.full(16, 100, "<u2").tobytes()
    alike = {"Rows": 4, "Columns": 4, "PixelData": pixels, "WindowCenter": 100, "WindowWidth": 200}
    slices = [ct(**alike), ct(**alike | {"WindowCenter": 200}), ct(**alike), ct(**alike | {"RescaleSlope": 2})]
    for ds in slices:
        ds.setdefault("RescaleSlope", 1)
        ds.RescaleIntercept = 0
    await store(client, *slices)
    shown = [
        np.asarray(Image.open(io.BytesIO((await get(client, f"{path_of(ds)}/rendered?accept=image/png"))[2])))[0, 0]
        for ds in slices
    ]
    assert [int(one) for one in shown] == [128, 0, 128, 255]
