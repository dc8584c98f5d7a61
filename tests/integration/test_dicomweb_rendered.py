"""Rendered resources and thumbnails over HTTP, from real files; the pixels compared with DCMTK's renderer."""

import asyncio
import io
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from aiohttp import ClientPayloadError
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomweb.errors import Gone
from dicomweb.stored import Reader
from tests.dicomweb_support import parts, path_of, store
from tests.samples import ct, part10

JPEGS = 'multipart/related; type="image/jpeg"'
CINE = "us/cine-echo-30f.dcm"


async def put(client, file):
    response = await store(client, file.read_bytes())
    assert response.status == 200, await response.text()
    return path_of(pydicom.dcmread(file, stop_before_pixels=True))


async def get(client, path, accept="*/*", **headers):
    return await client.get(path, headers={"Accept": accept, **headers})


async def picture(client, path, accept="image/png") -> np.ndarray:
    response = await get(client, path, accept)
    assert response.status == 200, await response.text()
    return np.asarray(Image.open(io.BytesIO(await response.read()))).astype(int)


class TestLevels:
    async def test_studies_and_series_come_as_parts(self, client):
        first = ct()
        second = ct(StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID)
        await store(client, first, second)
        for path in (path_of(first).split("/series")[0], path_of(first).split("/instances")[0]):
            response = await get(client, f"{path}/rendered", JPEGS)
            assert response.status == 200
            found = await parts(response)
            assert {location.split("/dicomweb")[1] for _, location, _ in found} == {
                path_of(one).removeprefix("/dicomweb") + "/rendered" for one in (first, second)
            }
            assert all(Image.open(io.BytesIO(data)).size == (16, 16) for _, _, data in found)
            assert (await get(client, f"{path}/rendered")).content_type == "multipart/related"
            alone = await get(client, f"{path}/rendered", "image/jpeg")
            assert alone.status == 406
            assert "/thumbnail" in (await alone.json())["error"]

    async def test_what_a_study_holds_beside_pictures(self, client, data_folder):
        path = await put(client, data_folder / "derived" / "dcmqi-sr" / "sr.dcm")
        report = pydicom.dcmread(data_folder / "derived" / "dcmqi-sr" / "sr.dcm")
        await store(client, ct(StudyInstanceUID=report.StudyInstanceUID))
        study = path.split("/series")[0]
        everything = await get(client, f"{study}/rendered")
        assert everything.status == 200
        kinds = {content_type.split(";")[0] for content_type, _, _ in await parts(everything)}
        assert kinds == {"image/jpeg", "text/html"}
        pictures = await get(client, f"{study}/rendered", JPEGS)
        assert pictures.status == 206  # Table 10.4.3-1: some, but not all
        assert len(await parts(pictures)) == 1

    async def test_frames(self, client, data_folder):
        path = await put(client, data_folder / CINE)
        response = await get(client, f"{path}/frames/2,5,9/rendered", 'multipart/related; type="image/png"')
        found = await parts(response)
        assert [location.rsplit("/", 2)[1] for _, location, _ in found] == ["2", "5", "9"]
        alone = await get(client, f"{path}/frames/5/rendered", "image/png")
        assert await alone.read() == found[1][2]
        assert alone.headers["Content-Location"].endswith("/frames/5/rendered")
        assert (await get(client, f"{path}/frames/2,5/rendered", "image/png")).status == 406
        assert (await get(client, f"{path}/frames/2,31/rendered", JPEGS)).status == 404

    async def test_a_cine_moves_or_stands_still(self, client, data_folder):
        path = await put(client, data_folder / CINE)
        movie = Image.open(io.BytesIO(await (await get(client, f"{path}/rendered", "image/gif")).read()))
        assert (movie.n_frames, movie.size) == (30, (320, 240))
        still = await get(client, f"{path}/rendered", "image/jpeg")
        assert "One of several frames" in still.headers["Warning"]
        assert len(await parts(await get(client, f"{path}/rendered", JPEGS))) == 30
        few = await get(client, f"{path}/frames/1,2,3/rendered?viewport=40,40", "image/gif")
        assert Image.open(io.BytesIO(await few.read())).n_frames == 3

    async def test_head_and_validators(self, client):
        image = ct()
        await store(client, image)
        for below in ("rendered", "thumbnail", "frames/1/rendered"):
            path = f"{path_of(image)}/{below}"
            head = await client.head(path, headers={"Accept": "image/png"})
            full = await get(client, path, "image/png")
            assert head.headers["Content-Length"] == str(len(await full.read()))
            known = await get(client, path, "image/png", **{"If-None-Match": head.headers["ETag"]})
            assert (known.status, await known.read()) == (304, b"")
            other = await get(client, path + "?viewport=9,9", "image/png")
            assert other.headers["ETag"] != head.headers["ETag"]

    async def test_dicom_and_rendered_types_cannot_be_mixed(self, client):
        image = ct()
        await store(client, image)
        for below in ("rendered", "thumbnail"):
            mixed = await get(client, f"{path_of(image)}/{below}", "image/jpeg, application/dicom")
            assert mixed.status == 400
        # What a browser's DICOMweb client adds to each of its requests.
        merged = "image/jpeg, multipart/related; type=application/octet-stream; transfer-syntax=*"
        assert (await get(client, f"{path_of(image)}/rendered", merged)).content_type == "image/jpeg"


class TestTexts:
    async def test_reports(self, client, data_folder):
        path = await put(client, data_folder / "derived" / "dcmqi-sr" / "sr.dcm")
        html = await get(client, f"{path}/rendered", "text/html")
        assert html.headers["Content-Type"] == "text/html; charset=utf-8"
        assert (await html.text()).startswith("<!DOCTYPE html>")
        assert (await get(client, f"{path}/rendered", "text/plain")).status == 200
        xml = await get(client, f"{path}/rendered", "text/xml")
        assert "NativeDicomModel" in await xml.text()
        assert (await get(client, f"{path}/rendered", "image/png")).status == 406
        assert (await get(client, f"{path}/rendered")).content_type == "text/html"

    async def test_what_has_nothing_to_show(self, client):
        plan = ct(SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5", Modality="RTPLAN")
        del plan.PixelData
        await store(client, plan)
        response = await get(client, f"{path_of(plan)}/rendered")
        assert response.status == 404
        assert "rendered" in (await response.json())["error"]


class TestParameters:
    async def test_annotations_are_drawn_and_thumbnails_have_none(self, client):
        image = ct()
        await store(client, image)
        path = f"{path_of(image)}/rendered?viewport=400,400"
        plain = await picture(client, path)
        patient, technique = [await picture(client, f"{path}&annotation={one}") for one in ("patient", "technique")]
        assert (patient != plain)[:60, :150].any()
        assert not (patient != plain)[:, 200:].any()
        assert (technique != plain)[:60, 200:].any()
        response = await get(client, f"{path}&annotation=patient,mood", "image/png")
        assert "The following annotation values are not supported: mood" in response.headers["Warning"]
        thumbnail = await get(client, f"{path_of(image)}/thumbnail?annotation=patient&viewport=200,200", "image/png")
        plain = await get(client, f"{path_of(image)}/thumbnail?viewport=200,200", "image/png")
        assert await thumbnail.read() == await plain.read()
        assert "annotation" in thumbnail.headers["Warning"]

    async def test_profiles(self, client):
        image = ct()
        await store(client, image)
        response = await get(client, f"{path_of(image)}/rendered?iccprofile=srgb", "image/png")
        assert "icc_profile" in Image.open(io.BytesIO(await response.read())).info
        assert (await get(client, f"{path_of(image)}/rendered?iccprofile=srgb", "image/gif")).status == 400

    @pytest.mark.parametrize(
        "query",
        [
            "viewport=1000000000,1000000000",
            "viewport=99999,99999",
            "viewport=4,4,0,0,0,4",
            "window=1,2,linear&window=1,2,linear",
            "annotation=",
            "iccprofile=cmyk",
        ],
    )
    async def test_refused(self, client, query):
        image = ct()
        await store(client, image)
        response = await get(client, f"{path_of(image)}/rendered?{query}", "image/png")
        assert response.status == 400
        assert query.split("=")[0] in (await response.json())["error"]

    async def test_unknown_parameters_are_named(self, client):
        image = ct()
        await store(client, image)
        response = await get(client, f"{path_of(image)}/rendered?zoom=2", "image/png")
        assert response.status == 200
        assert response.headers["Warning"].endswith("have been ignored: zoom")


class TestThumbnails:
    async def test_burned_in_identity_cannot_be_read(self, client, data_folder):
        """Of letters a few pixels wide nothing is left; the picture as a whole is still told from others."""
        source = data_folder / "phi-canaries" / "us-burnedin.dcm"
        marked = await put(client, source)
        legible = pydicom.dcmread(source)
        legible.BurnedInAnnotation = "NO"
        legible.SOPInstanceUID += ".1"
        await store(client, part10(legible, legible.file_meta.TransferSyntaxUID))

        async def detail(path) -> float:
            pixels = await picture(client, f"{path}/thumbnail?viewport=256,256")
            gray = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
            return float(np.abs(np.diff(gray, axis=1)).max())

        assert await detail(marked) < 0.5 * await detail(path_of(legible))
        del legible.BurnedInAnnotation  # ultrasound that does not say
        legible.SOPInstanceUID += ".2"
        await store(client, part10(legible, legible.file_meta.TransferSyntaxUID))
        unsaid = await detail(path_of(legible))
        assert await detail(marked) < unsaid < 0.8 * await detail(path_of(legible).removesuffix(".2"))

    async def test_sizes_are_bounded(self, client):
        image = ct()
        await store(client, image)
        assert (await get(client, f"{path_of(image)}/thumbnail?viewport=2000,10")).status == 400
        assert (await picture(client, f"{path_of(image)}/thumbnail?viewport=1024,64")).shape == (64, 64)


class TestPresentationStates:
    async def test_it_shows_what_it_refers_to(self, client):
        image = ct()
        state = ct(StudyInstanceUID=image.StudyInstanceUID, SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1", Modality="PR")
        del state.PixelData
        shown, series, window = Dataset(), Dataset(), Dataset()
        shown.ReferencedSOPClassUID, shown.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        series.SeriesInstanceUID, series.ReferencedImageSequence = image.SeriesInstanceUID, Sequence([shown])
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = -1024 + 127.5, 255, "LINEAR_EXACT"
        state.ReferencedSeriesSequence, state.SoftcopyVOILUTSequence = Sequence([series]), Sequence([window])
        state.ImageRotation, state.ImageHorizontalFlip = 90, "Y"
        await store(client, image, state)
        pixels = await picture(client, f"{path_of(state)}/rendered")
        assert np.array_equal(pixels, np.rot90(np.arange(256).reshape(16, 16), -1)[:, ::-1])
        for query in ("window=1,2,linear", "viewport=4,4,0,0,2,2"):
            assert (await get(client, f"{path_of(state)}/rendered?{query}", "image/png")).status == 400
        assert len(await parts(await get(client, f"{path_of(state)}/rendered", JPEGS))) == 1
        await client.delete(path_of(image))
        assert (await get(client, f"{path_of(state)}/rendered", "image/png")).status == 404


async def test_whatever_is_stored_is_rendered_or_refused(client, data_folder):
    """Malformed, odd and derived objects: never a server error."""
    statuses = []
    for folder in ("malformed", "derived", "enhanced-mf", "transfer-syntaxes", "charsets"):
        for file in sorted((data_folder / folder).rglob("*")):
            if not file.is_file() or file.suffix in (".json", ".txt"):
                continue
            response = await store(client, file.read_bytes())
            if response.status != 200:
                continue
            stored = (await response.json(content_type=None))["00081199"]["Value"][0]["00081190"]["Value"][0]
            path = "/dicomweb" + stored.split("/dicomweb")[1]
            for below in ("rendered", "thumbnail", "renderedmpr"):
                answer = await get(client, f"{path}/{below}?viewport=64,64")
                assert answer.status in (200, 400, 404, 406, 413), (file.name, below, await answer.text())
                statuses.append(answer.status)
    assert statuses.count(200) > 80


@pytest.mark.skipif(not shutil.which("dcm2pnm"), reason="DCMTK is not installed")
class TestAgainstDcmtk:
    """Two renderers that know nothing of each other: 8-bit values differ by rounding alone."""

    @pytest.mark.parametrize(
        ("name", "tool", "window"),
        [
            ("ct-bone/050.dcm", None, None),
            ("us/cine-grey-27f-burnedin.dcm", "dcm2pnm", None),
            ("derived/dcmqi-liver/ct1.dcm", "dcm2pnm", (40.0, 400.0)),
            ("derived/dcmqi-liver/ct1.dcm", "dcm2pnm", (300.5, 1500.25)),
            ("pet/pt-slice.dcm", "dcm2pnm", (88.5, 172.0)),
            ("dental-panoramic/opg.dcm", "dcmj2pnm", (2048.0, 4000.0)),
            ("mammo/ffdm-rmlo.dcm", "dcmj2pnm", None),
            ("dental-cbct-sim/060.dcm", "dcm2pnm", (500.0, 3000.0)),
            ("enhanced-mf/emr-knee-19f.dcm", "dcm2pnm", (400.0, 800.0)),
        ],
    )
    async def test_the_same_pixels(self, client, data_folder, tmp_path, name, tool, window):
        file = data_folder / name
        if tool is None or "cine-grey" in name:  # compressed in ways that not every DCMTK decodes: compare it decoded
            ds = pydicom.dcmread(file)
            ds.decompress()
            file = tmp_path / "native.dcm"
            ds.save_as(file)
            tool = "dcm2pnm"
        path = await put(client, file)
        options = ["+Ww", *map(str, window)] if window else ["+Wi", "1"]
        expected = tmp_path / "expected.png"
        command = [tool, "+on", "+F", "1", *options, str(file), str(expected)]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
        query = f"?window={window[0]},{window[1]},linear" if window else ""
        ours = await picture(client, f"{path}/frames/1/rendered{query}")
        theirs = np.asarray(Image.open(expected).convert("L")).astype(int)
        assert np.abs(ours - theirs).max() <= 2
        assert np.abs(ours - theirs).mean() < 1


class TestMalformed:
    """What is stored with attributes that are none is refused as such, and keeps nothing else from being sent."""

    @pytest.mark.parametrize("accept", ["text/html", "text/plain"])
    @pytest.mark.parametrize(
        ("keyword", "vr", "value"), [("ContentSequence", "LO", "abc"), ("ConceptNameCodeSequence", "LO", "abc")]
    )
    async def test_reports(self, client, keyword, vr, value, accept):
        report = ct(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
        del report.PixelData
        report.add_new(keyword, vr, value)
        await store(client, report)
        assert (await get(client, f"{path_of(report)}/rendered", accept)).status == 406

    @pytest.mark.parametrize(
        ("keyword", "vr", "value"), [("ReferencedSeriesSequence", "LO", "abc"), ("ShutterShape", "FD", 1.0)]
    )
    async def test_presentation_states(self, client, keyword, vr, value):
        image = ct()
        state = ct(StudyInstanceUID=image.StudyInstanceUID, SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1", Modality="PR")
        del state.PixelData
        series, reference = Dataset(), Dataset()
        reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
        series.ReferencedImageSequence = Sequence([reference])
        state.ReferencedSeriesSequence = Sequence([series])
        state.add_new(keyword, vr, value)
        await store(client, image, state)
        assert (await get(client, f"{path_of(state)}/rendered", "image/png")).status == 406
        query = {"requestType": "WADO", "studyUID": image.StudyInstanceUID, "seriesUID": image.SeriesInstanceUID}
        query |= {"objectUID": image.SOPInstanceUID, "contentType": "image/png"}
        query |= {"presentationSeriesUID": state.SeriesInstanceUID, "presentationUID": state.SOPInstanceUID}
        assert (await client.get("/wado", params=query)).status == 406

    async def test_pictures(self, client):
        image = ct()
        image.add_new("Rows", "US", [16, 16])
        await store(client, image)
        for name in ("rendered", "thumbnail"):
            assert (await get(client, f"{path_of(image)}/{name}", "image/png")).status == 406
        query = {"requestType": "WADO", "studyUID": image.StudyInstanceUID, "seriesUID": image.SeriesInstanceUID}
        assert (await client.get("/wado", params=query | {"objectUID": image.SOPInstanceUID})).status == 406

    async def test_a_region_that_one_picture_does_not_have(self, client):
        large = ct(InstanceNumber=1)
        shared = {keyword: large[keyword].value for keyword in ("StudyInstanceUID", "SeriesInstanceUID")}
        small = ct(**shared, InstanceNumber=2, Rows=8, Columns=8, PixelData=bytes(128))
        await store(client, large, small)
        series = path_of(large).split("/instances")[0]
        found = await parts(await get(client, f"{series}/rendered?viewport=8,8,10,10,4,4", JPEGS))
        assert [large.SOPInstanceUID in location for _, location, _ in found] == [True]
        assert (await get(client, f"{series}/rendered?viewport=8,8,100,100,4,4", JPEGS)).status == 400

    async def test_what_fails_midway_ends_the_connection_and_adds_nothing_to_the_body(self, client, monkeypatch):
        first = ct(InstanceNumber=1)
        shared = {keyword: first[keyword].value for keyword in ("StudyInstanceUID", "SeriesInstanceUID")}
        await store(client, first, ct(**shared, InstanceNumber=2))
        readings = iter([True, False])

        async def deleted_meanwhile(self, *args, **kwargs):
            if not next(readings):
                raise Gone
            return await picture(self, *args, **kwargs)

        picture = Reader.picture
        monkeypatch.setattr(Reader, "picture", deleted_meanwhile)
        response = await get(client, f"{path_of(first).split('/instances')[0]}/rendered", JPEGS)
        with pytest.raises(ClientPayloadError, match="Not enough data"):
            await response.read()
