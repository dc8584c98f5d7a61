"""WADO-RS: all bulk data and pixel data at every level, metadata as XML, studies as zip, ranges of what is sent."""

import asyncio
import io
import shutil
import zipfile
from asyncio.subprocess import DEVNULL

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames
from yarl import URL

from dicomweb.dicom_xml import from_xml
from tests.dicomweb_support import bodies, parts, path_of, store
from tests.samples import ct, part10

OCTETS = 'multipart/related; type="application/octet-stream"'
STORED = OCTETS + "; transfer-syntax=*"
NATIVE = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"


async def get(client, path, accept="*/*", **headers):
    return await client.get(path, headers={"Accept": accept} | headers)


def uris(item):
    """Every BulkDataURI of a data set."""
    for element in item.values():
        if "BulkDataURI" in element:
            yield element["BulkDataURI"]
        for value in element.get("Value", ()):
            if element["vr"] == "SQ":
                yield from uris(value)


@pytest.fixture
async def study(client, data_folder):
    """A native CT slice, ten compressed MR frames and a document in one study; gives its path and the data sets."""
    image = ct()
    frames = pydicom.dcmread(data_folder / "enhanced-mf" / "emri_small_rle.dcm")
    document = pydicom.dcmread(data_folder / "derived" / "encapsulated" / "report-pdf.dcm")
    for ds in (frames, document):
        ds.StudyInstanceUID = image.StudyInstanceUID
    files = [part10(image), part10(frames, frames.file_meta.TransferSyntaxUID), part10(document)]
    assert (await store(client, *files)).status == 200
    return f"/dicomweb/studies/{image.StudyInstanceUID}", image, frames, document


class TestBulkData:
    async def test_all_of_a_study_under_the_urls_of_its_metadata(self, client, study):
        path, *_ = study
        response = await get(client, f"{path}/bulkdata", OCTETS)
        assert response.status == 200
        found = {URL(location).path: data for _, location, data in await parts(response)}
        expected = [uri for item in await bodies(client, f"{path}/metadata") for uri in uris(item)]
        assert sorted(found) == sorted(expected)
        assert len(expected) >= 3
        for uri in expected:
            assert found[uri] == await (await get(client, uri, "application/octet-stream")).read()

    async def test_octet_streams_of_a_study_are_its_bulk_data(self, client, study):
        """Note 2 of Table 10.4.4-1."""
        path, image, frames, _ = study
        for below in ("", f"/series/{image.SeriesInstanceUID}", path_of(frames).removeprefix(path)):
            wanted = await get(client, f"{path}{below}/bulkdata", OCTETS)
            same = await get(client, path + below, OCTETS)
            assert await parts(same) == await parts(wanted)

    async def test_of_a_nested_item(self, client, data_folder):
        ds = ct()
        item = pydicom.Dataset()
        item.add_new(0x00700022, "FL", [float(number) for number in range(8)])
        item.add_new(0x00091001, "OB", bytes(range(256)) * 100)
        ds.GraphicAnnotationSequence = [pydicom.Dataset(), item]
        assert (await store(client, ds)).status == 200
        found = {
            URL(location).path: data for _, location, data in await parts(await get(client, f"{path_of(ds)}/bulkdata"))
        }
        nested = f"{path_of(ds)}/bulkdata/00700001/1/00091001"
        assert found[nested] == bytes(range(256)) * 100
        assert await (await get(client, nested, "application/octet-stream")).read() == found[nested]

    async def test_what_is_not_acceptable_is_left_out(self, client, study):
        path, _, frames, _ = study
        response = await get(client, f"{path}/bulkdata", "multipart/related; type=image/dicom-rle")
        assert response.status == 206
        assert "1 value" in response.headers["Warning"]
        found = await parts(response)
        assert {content_type for content_type, _, _ in found} == {
            "image/dicom-rle; transfer-syntax=1.2.840.10008.1.2.5"
        }
        assert len(found) == 11
        stored = list(generate_frames(frames.PixelData, number_of_frames=10))
        assert [data for _, location, data in found if path_of(frames) in location] == stored
        assert (await get(client, f"{path}/bulkdata", "application/octet-stream")).status == 406

    async def test_nothing_there(self, client, data_folder):
        report = next((data_folder / "derived").rglob("*sr*.dcm"))
        ds = pydicom.dcmread(report)
        assert (await store(client, report.read_bytes())).status == 200
        for what in ("bulkdata", "pixeldata"):
            assert (await get(client, f"{path_of(ds)}/{what}", OCTETS)).status == 404
            assert (await get(client, f"/dicomweb/studies/1.2.3/{what}", OCTETS)).status == 404


class TestPixelData:
    @pytest.mark.parametrize("level", ["study", "series"])
    async def test_at_every_level(self, client, study, level):
        path, image, frames, _ = study
        if level == "series":
            path = path_of(frames).split("/instances")[0]
        found = await parts(await get(client, f"{path}/pixeldata", OCTETS))
        by_url = {URL(location).path: data for _, location, data in found}
        decoded = by_url.pop(f"{path_of(frames)}/bulkdata/7FE00010")
        assert np.array_equal(np.frombuffer(decoded, "<u2"), frames.pixel_array.ravel())
        assert by_url == ({f"{path_of(image)}/bulkdata/7FE00010": image.PixelData} if level == "study" else {})
        as_stored = await get(client, f"{path}/pixeldata", STORED)
        assert len(await parts(as_stored)) == (11 if level == "study" else 10)

    async def test_uncompressed_frames_are_one_value(self, client, study):
        _, _, frames, _ = study
        path = f"{path_of(frames)}/pixeldata"
        for accept in (OCTETS, "application/octet-stream"):
            response = await get(client, path, accept)
            assert response.status == 200
            data = await response.read() if accept == "application/octet-stream" else (await parts(response))[0][2]
            assert np.array_equal(np.frombuffer(data, "<u2"), frames.pixel_array.ravel())

    async def test_encoded_frames_are_a_part_each(self, client, study):
        _, _, frames, _ = study
        found = await parts(await get(client, f"{path_of(frames)}/pixeldata", "multipart/related; type=image/jp2"))
        assert [location.rsplit("/", 2)[1:] for _, location, _ in found] == [["frames", str(n)] for n in range(1, 11)]
        assert all(data.startswith(b"\xff\x4f\xff\x51") for _, _, data in found)


class TestRanges:
    async def test_of_pixel_data_as_it_is_stored(self, client, study):
        path, image, frames, _ = study
        targets = [f"{path}/pixeldata", f"{path_of(frames)}/frames/2,3", f"{path_of(image)}/bulkdata/7FE00010", path]
        for target in targets:
            accept = 'multipart/related; type="application/dicom"; transfer-syntax=*' if target == path else STORED
            whole = await get(client, target, accept)
            body, etag = await whole.read(), whole.headers["ETag"]
            part = await get(client, target, accept, Range="bytes=100-299", **{"If-Range": etag})
            assert (part.status, await part.read()) == (206, body[100:300])
            assert part.headers["Content-Range"] == f"bytes 100-299/{len(body)}"
            assert part.headers["Content-Type"] == whole.headers["Content-Type"]
            assert await (await get(client, target, accept, Range="bytes=-7")).read() == body[-7:]
            assert await (await get(client, target, accept, Range=f"bytes=-{len(body) + 9}")).read() == body
            assert (await get(client, target, accept, Range=f"bytes={len(body)}-")).status == 416
            assert (await get(client, target, accept, Range="bytes=-0")).status == 416
            assert await (await get(client, target, accept, Range="bytes=0-1,5-6")).read() == body
            assert (await get(client, target, accept, **{"If-None-Match": etag})).status == 304
            head = await client.head(target, headers={"Accept": accept, "Range": "bytes=0-9"})
            assert (head.status, head.headers["Content-Length"]) == (200, str(len(body)))

    async def test_of_a_decoded_frame(self, client, study):
        _, _, frames, _ = study
        path = f"{path_of(frames)}/frames/4"
        body = await (await get(client, path, "application/octet-stream")).read()
        part = await get(client, path, "application/octet-stream", Range="bytes=10-19")
        assert (part.status, await part.read()) == (206, body[10:20])

    async def test_never_of_metadata(self, client, study):
        response = await get(client, f"{study[0]}/metadata", "application/dicom+json", Range="bytes=0-9")
        assert response.status == 200
        assert len(await response.json(content_type=None)) == 3


class TestMetadataAsXml:
    ACCEPT = 'multipart/related; type="application/dicom+xml"'

    @pytest.mark.parametrize("level", ["study", "series", "instance"])
    async def test_is_the_same_as_in_json(self, client, study, level):
        path, _, frames, _ = study
        path = {"study": path, "series": path_of(frames).split("/instances")[0], "instance": path_of(frames)}[level]
        response = await get(client, f"{path}/metadata", self.ACCEPT, **{"Accept-Encoding": "identity"})
        assert response.status == 200
        found = await parts(response)
        items = await bodies(client, f"{path}/metadata")
        assert [from_xml(document) for _, _, document in found] == items
        assert {content_type for content_type, _, _ in found} == {"application/dicom+xml"}
        assert all(location.endswith("/metadata") for _, location, _ in found)
        etag = response.headers["ETag"]
        again = await get(
            client, f"{path}/metadata", self.ACCEPT, **{"If-None-Match": etag, "Accept-Encoding": "identity"}
        )
        assert again.status == 304
        assert etag != (await get(client, f"{path}/metadata", "application/dicom+json")).headers["ETag"]

    async def test_compressed(self, client, study):
        response = await get(client, f"{study[0]}/metadata", self.ACCEPT, **{"Accept-Encoding": "gzip"})
        assert response.headers["Content-Encoding"] == "gzip"  # the client has undone it
        assert len(await parts(response)) == 3

    async def test_head(self, client, study):
        response = await client.head(f"{study[0]}/metadata", headers={"Accept": self.ACCEPT})
        assert (response.status, await response.read()) == (200, b"")


class TestZip:
    @pytest.mark.parametrize("ask", [{"accept": "application/zip"}, {"query": "?accept=application/zip"}])
    async def test_holds_the_files_as_they_are_stored(self, client, study, tmp_path, ask):
        path, image, frames, document = study
        response = await get(client, path + ask.get("query", ""), ask.get("accept", "*/*"))
        assert response.headers["Content-Type"] == "application/zip"
        assert response.headers["Content-Disposition"] == 'attachment; filename="dicom.zip"'
        data = await response.read()
        archive = zipfile.ZipFile(io.BytesIO(data))
        assert archive.testzip() is None
        assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}
        held = {pydicom.dcmread(archive.open(name)).SOPInstanceUID for name in archive.namelist()}
        assert held == {ds.SOPInstanceUID for ds in (image, frames, document)}
        assert all(name.translate(str.maketrans("", "", "0123456789")) == "/.dcm" for name in archive.namelist())
        if unzip := shutil.which("unzip"):
            (tmp_path / "study.zip").write_bytes(data)
            process = await asyncio.create_subprocess_exec(unzip, "-tq", tmp_path / "study.zip", stdout=DEVNULL)
            assert await process.wait() == 0

    async def test_is_the_same_every_time(self, client, study):
        path, *_ = study
        first, second = [await get(client, path, "application/zip") for _ in range(2)]
        assert await first.read() == await second.read()
        again = await get(client, path, "application/zip", **{"If-None-Match": first.headers["ETag"]})
        assert again.status == 304
        assert (await get(client, path_of(study[1]), "application/zip")).status == 200
