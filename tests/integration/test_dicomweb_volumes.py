"""Rendered volumes over HTTP, from real series: planes that are the images, orientations, refusals, bounds."""

import asyncio
import gc
import io
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image

from dicomweb import routes, wado_volumetric
from dicomweb.ports import Limits, Services
from dicomweb.volumetric.volumes import Loaded
from gateway.archive import Source
from gateway.middleware import answer_errors
from tests.dicomweb_support import parts, path_of, store
from tests.samples import ct

PNG = "image/png"
JSON = "application/dicom+json"


async def put_series(client, folder) -> str:
    files = sorted(folder.glob("*.dcm"))
    for start in range(0, len(files), 25):
        response = await store(client, *[file.read_bytes() for file in files[start : start + 25]])
        assert response.status == 200, await response.text()
    return path_of(pydicom.dcmread(files[0], stop_before_pixels=True)).split("/instances")[0]


def stack(count=6, **changes) -> list:
    """A small series along z, 2 mm apart; one voxel in a corner is bright in each slice."""
    first = ct()
    shared = {
        keyword: first[keyword].value for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    }
    found = []
    for number in range(count):
        pixels = np.full((16, 16), 24, np.int16)
        pixels[2, 3 + number] = 2024
        position = {"ImagePositionPatient": [0, 0, 2 * number], "InstanceNumber": number + 1}
        found.append(ct(**(shared | position | changes), PixelData=pixels.tobytes()))
    return found


async def picture(client, path, **headers) -> np.ndarray:
    response = await client.get(path, headers={"Accept": PNG, **headers})
    assert response.status == 200, await response.text()
    return np.asarray(Image.open(io.BytesIO(await response.read()))).astype(int)


async def status(client, path, accept=PNG) -> tuple[int, str]:
    response = await client.get(path, headers={"Accept": accept})
    return response.status, "" if response.status == 200 else (await response.json())["error"]


class TestRealSeries:
    async def test_a_plane_of_a_ct_is_its_image(self, client, data_folder):
        series = await put_series(client, data_folder / "ct-abdomen-labelled")
        window = "window=40,400,linear"
        for number in (1, 10, 20):
            ds = pydicom.dcmread(data_folder / "ct-abdomen-labelled" / f"{number:03}.dcm", stop_before_pixels=True)
            x, y, z = ds.ImagePositionPatient
            x, y = x + 100, y + 100
            camera = f"viewpointlookat={x},{y},{z}&viewpointposition={x},{y},{z - 50}"
            plane = await picture(client, f"{series}/renderedmpr?{camera}&{window}")
            image = await picture(client, f"{path_of(ds)}/rendered?{window}")
            assert plane.shape == image.shape
            assert np.abs(plane - image).max() <= 1

    async def test_bones_of_a_ct_are_at_their_places(self, client, data_folder):
        """The spine of a patient who lies on the back: behind, and in the middle between left and right."""
        series = await put_series(client, data_folder / "ct-bone")
        path = f"{series}/rendered3d?renderingmethod=maximum_ip&window=1000,1000,linear&viewport=256,256&orientation="

        def middle(pixels) -> np.ndarray:
            return np.argwhere(pixels > 128).mean(axis=0) / pixels.shape

        from_above, from_left = await picture(client, path + "h"), await picture(client, path + "l")
        assert middle(from_above)[0] > 0.5
        assert abs(middle(from_above)[1] - 0.5) < 0.1
        assert middle(from_left)[1] > 0.5  # seen from the left, the back is at the right
        front = await client.get(f"{series}/rendered3d", headers={"Accept": PNG})
        colors = np.asarray(Image.open(io.BytesIO(await front.read()))).astype(int)
        assert colors.shape[2] == 3
        assert (colors.max(axis=2) > 150).mean() > 0.05

    @pytest.mark.parametrize(
        ("folder", "expected", "words"),
        [
            ("gantry-tilt", 200, ""),
            ("shuffled-instance-numbers", 200, ""),
            ("missing-slices", 400, "not evenly spaced"),
        ],
    )
    async def test_series_traps(self, client, data_folder, folder, expected, words):
        series = await put_series(client, data_folder / "series-traps" / folder)
        for kind in ("renderedmpr", "rendered3d"):
            found, reason = await status(client, f"{series}/{kind}")
            assert found == expected, reason
            assert words in reason

    async def test_enhanced_images(self, client, data_folder):
        file = data_folder / "enhanced-mf" / "emr-philips-64f.dcm"
        await store(client, file.read_bytes())
        path = path_of(pydicom.dcmread(file, stop_before_pixels=True))
        assert "several echoes" in (await status(client, f"{path}/renderedmpr"))[1]
        reference = f"volumeinputreference={path.rsplit('/', 1)[1]},1"
        whole = await picture(client, f"{path}/renderedmpr?viewport=128,128&{reference}")
        assert max(whole.shape[:2]) == 128
        assert (await status(client, f"{path}/frames/1/rendered3d"))[0] == 400

    async def test_a_dose_is_a_volume(self, client, data_folder):
        file = data_folder / "derived" / "rt-sr-ecg" / "rtdose.dcm"
        response = await store(client, file.read_bytes())
        assert response.status == 200
        ds = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        assert (await picture(client, f"{path_of(ds)}/renderedmpr")).max() > 0


class TestResources:
    async def test_every_level_and_spelling(self, client):
        images = stack()
        await store(client, *images)
        series = path_of(images[0]).split("/instances")[0]
        study = series.split("/series")[0]
        expected = await picture(client, f"{series}/rendered3d")
        for below in ("/rendered3d", "/series/rendered3d", "/rendered3D"):
            assert np.array_equal(await picture(client, study + below), expected)
        assert np.array_equal(await picture(client, f"{series}/rendered3D"), expected)
        for path in (f"{study}/renderedmpr", f"{series}/renderedMPR"):
            assert (await picture(client, path)).shape == (11, 16)
        found, reason = await status(client, f"{path_of(images[0])}/renderedmpr")
        assert found == 400
        assert "two parallel images" in reason

    async def test_media_types_validators_and_head(self, client):
        images = stack()
        await store(client, *images)
        path = path_of(images[0]).split("/instances")[0] + "/renderedmpr"
        for accept, kind in (("*/*", "JPEG"), (PNG, "PNG"), ("image/gif", "GIF"), ("image/jp2", "JPEG2000")):
            response = await client.get(path, headers={"Accept": accept})
            assert Image.open(io.BytesIO(await response.read())).format == kind
        multiple = await client.get(path, headers={"Accept": f'multipart/related; type="{PNG}"'})
        ((content_type, location, data),) = await parts(multiple)
        assert (content_type, location.endswith(path)) == (PNG, True)
        head = await client.head(path, headers={"Accept": PNG})
        assert head.headers["Content-Length"] == str(len(data))
        known = await client.get(path, headers={"Accept": PNG, "If-None-Match": head.headers["ETag"]})
        assert known.status == 304
        assert known.status == 304
        same = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
        shared = {keyword: images[0][keyword].value for keyword in same}
        await store(client, ct(**shared, ImagePositionPatient=[0, 0, 12]))
        assert (await picture(client, path, **{"If-None-Match": head.headers["ETag"]})).shape == (13, 16)
        assert (await client.get(path, headers={"Accept": "text/html"})).status == 406

    async def test_the_diagonal_is_seen_as_one(self, client):
        """One bright voxel a slice, one column further each: from the front a line that rises to the right."""
        images = stack()
        await store(client, *images)
        series = path_of(images[0]).split("/instances")[0]
        query = "renderingmethod=maximum_ip&window=500,1000,linear-exact"
        from_front = await picture(client, f"{series}/renderedmpr?orientation=a&mprslab=20&{query}")
        for number in range(6):
            assert from_front[10 - 2 * number].argmax() == 3 + number
        from_back = await picture(client, f"{series}/renderedmpr?orientation=p&mprslab=20&{query}")
        assert np.array_equal(from_back, from_front[:, ::-1])
        thin = await picture(client, f"{series}/renderedmpr?orientation=a&{query}")
        assert thin.max() == 0  # the plane through the middle passes them by
        camera = "viewpointlookat=0,2,0&viewpointposition=0,-9,0"
        assert np.array_equal(await picture(client, f"{series}/renderedmpr?{camera}&{query}"), from_front)

    async def test_movement(self, client):
        images = stack()
        await store(client, *images)
        series = path_of(images[0]).split("/instances")[0]
        swivel = await client.get(f"{series}/rendered3d?swivelrange=90&animationstepsize=15", headers={"Accept": "*/*"})
        movie = Image.open(io.BytesIO(await swivel.read()))
        assert (movie.n_frames, movie.info["duration"]) == (6, 100)
        curve = "volumetriccurvepoint=7,7,0&volumetriccurvepoint=7,7,10&animationstepsize=2&animationrate=5"
        along = await client.get(f"{series}/renderedmpr?{curve}", headers={"Accept": "image/gif"})
        movie = Image.open(io.BytesIO(await along.read()))
        assert (movie.n_frames, movie.info["duration"], movie.size) == (5, 200, (16, 16))
        assert (await status(client, f"{series}/renderedmpr?{curve}", "image/jpeg"))[0] == 406

    async def test_what_was_used_is_told(self, client):
        images = stack()
        await store(client, *images)
        path = path_of(images[0]).split("/instances")[0] + "/renderedmpr?orientation=h&mprslab=4"
        response = await client.get(f"{path}&renderedvolumetricmetadata=yes", headers={"Accept": JSON})
        module = await response.json(content_type=None)
        assert list(module) == sorted(module)
        assert module["00720510"]["Value"] == ["MPR"]
        assert module["00701605"]["Value"] == [0, -1, 0]
        tags = {"viewpointposition": "00701603", "viewpointlookat": "00701604", "viewpointup": "00701605"}
        camera = "&".join(f"{name}={','.join(map(str, module[tag]['Value']))}" for name, tag in tags.items())
        asked = await picture(client, path)
        again = await picture(client, path.replace("orientation=h", camera))
        assert np.array_equal(asked, again)

    async def test_several_sets_need_a_choice(self, client):
        first = stack(TemporalPositionIdentifier=1)
        shared = {k: first[0][k].value for k in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
        second = stack(TemporalPositionIdentifier=2, **shared)
        await store(client, *first, *second)
        series = path_of(first[0]).split("/instances")[0]
        found, reason = await status(client, f"{series}/renderedmpr")
        assert (found, "temporal positions" in reason) == (400, True)
        for query in (f"volumeinputreference={second[3].SOPInstanceUID}", "TemporalPositionIdentifier=2"):
            assert (await status(client, f"{series}/renderedmpr?{query}"))[0] == 200
        both = f"volumeinputreference={second[3].SOPInstanceUID}&TemporalPositionIdentifier=2"
        assert (await status(client, f"{series}/renderedmpr?{both}"))[0] == 400

    async def test_no_identity_in_reasons(self, client):
        images = stack()
        await store(client, *images)
        study = path_of(images[0]).split("/series")[0]
        queries = ("PatientName=Quixote*x", "volumeinputreference=1.2.3.4711", "orientation=MRN-4711", "PatientID=4711")
        for query in queries:
            found, reason = await status(client, f"{study}/renderedmpr?{query}")
            assert found == 400
            assert not any(word in reason for word in ("Quixote", "4711"))


async def test_volumes_are_bounded(core):
    """A volume beyond the limit is refused before any of it is read, and no more than the limit is kept."""
    services = Services(
        archive=lambda request: core.archive.for_source(Source("test", "")),
        run=core.workers.run,
        public_base=lambda request: "http://127.0.0.1/dicomweb",
        limits=replace(Limits(), max_volume_bytes=6 * 512),
    )
    app = web.Application(middlewares=[answer_errors])
    routes.add_routes(app, services)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        small, large = stack(6), stack(7)
        await store(client, *small)
        await store(client, *large)
        assert (await status(client, path_of(small[0]).split("/instances")[0] + "/renderedmpr"))[0] == 200
        found, reason = await status(client, path_of(large[0]).split("/instances")[0] + "/renderedmpr")
        assert (found, "too large" in reason) == (413, True)


async def test_who_waits_for_a_turn_holds_no_volume(client, monkeypatch):
    stacks = [stack(6) for _ in range(6)]
    for images in stacks:
        await store(client, *images)
    held = []

    def counted(*given):
        gc.collect()
        held.append(sum(isinstance(one, Loaded) for one in gc.get_objects()))
        return picture_of(*given)

    picture_of = wado_volumetric.picture
    monkeypatch.setattr(wado_volumetric, "picture", counted)
    paths = [path_of(images[0]).split("/instances")[0] + "/renderedmpr" for images in stacks]
    gc.freeze()  # other tests' servers keep volumes, too: what was there before is neither looked through nor counted
    try:
        answers = await asyncio.gather(*[status(client, path) for path in paths])
    finally:
        gc.unfreeze()
    assert [found for found, _ in answers] == [200] * 6
    assert len(held) == 6
    assert 1 <= min(held) <= max(held) <= 3  # those that are kept, and one more while it is being let go
