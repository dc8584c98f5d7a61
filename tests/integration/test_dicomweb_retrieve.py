"""WADO-RS over HTTP, on a real archive: bytes out are bytes in, and decoded pixels are pydicom's."""

import io

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from yarl import URL

from tests.dicomweb_support import bodies, parts, path_of, store
from tests.samples import ct, part10

FRAMES_STORED = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
SINGLE_STORED = "application/dicom; transfer-syntax=*"


async def get(client, path, accept="*/*", **headers):
    return await client.get(path, headers={"Accept": accept} | headers)


async def put(client, file):
    """Store a real file; return its data set and its path."""
    response = await store(client, file.read_bytes())
    assert response.status == 200, await response.text()
    ds = pydicom.dcmread(file)
    return ds, path_of(ds)


@pytest.fixture
async def image(client):
    ds = ct()
    assert (await store(client, ds)).status == 200
    return ds


class TestInstances:
    async def test_single_part(self, client, image):
        response = await get(client, path_of(image), "application/dicom")
        assert response.headers["Content-Type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
        stored = pydicom.dcmread(io.BytesIO(await response.read()))
        assert stored.PixelData == image.PixelData
        assert stored.PatientName == image.PatientName

    async def test_series_and_study_are_multipart(self, client, image):
        other = ct(StudyInstanceUID=image.StudyInstanceUID)
        await store(client, other)
        study = f"/dicomweb/studies/{image.StudyInstanceUID}"
        response = await get(client, study, 'multipart/related; type="application/dicom"')
        assert response.headers["Content-Type"].startswith('multipart/related; type="application/dicom"; boundary=')
        found = await parts(response)
        assert {pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID for _, _, data in found} == {
            image.SOPInstanceUID,
            other.SOPInstanceUID,
        }
        assert {location for _, location, _ in found} == {str(client.make_url(path_of(ds))) for ds in (image, other)}
        response = await get(client, f"{study}/series/{image.SeriesInstanceUID}")
        assert len(await parts(response)) == 1

    async def test_a_study_cannot_be_a_single_part(self, client, image):
        response = await get(client, f"/dicomweb/studies/{image.StudyInstanceUID}", "application/dicom")
        assert response.status == 406

    async def test_ranges_and_validators(self, client, image):
        whole = await get(client, path_of(image), SINGLE_STORED)
        body, etag = await whole.read(), whole.headers["ETag"]
        assert whole.headers["Accept-Ranges"] == "bytes"
        part = await get(client, path_of(image), SINGLE_STORED, Range="bytes=128-131")
        assert (part.status, await part.read()) == (206, b"DICM")
        assert part.headers["Content-Range"] == f"bytes 128-131/{len(body)}"
        tail = await get(client, path_of(image), SINGLE_STORED, Range="bytes=-10")
        assert await tail.read() == body[-10:]
        beyond = await get(client, path_of(image), SINGLE_STORED, Range=f"bytes={len(body)}-")
        assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{len(body)}")
        assert (await get(client, path_of(image), SINGLE_STORED, **{"If-None-Match": etag})).status == 304
        stale = await get(client, path_of(image), SINGLE_STORED, Range="bytes=0-1", **{"If-Range": '"other"'})
        assert await stale.read() == body

    async def test_a_range_of_a_multipart_body(self, client, image):
        path = path_of(image)
        body = await (await get(client, path)).read()
        response = await get(client, path, Range="bytes=40-700")
        assert await response.read() == body[40:701]

    async def test_head(self, client, image):
        response = await client.head(path_of(image), headers={"Accept": "application/dicom"})
        assert response.status == 200
        assert int(response.headers["Content-Length"]) > 512
        assert await response.read() == b""

    async def test_missing_deleted_malformed(self, client, image):
        assert (await get(client, "/dicomweb/studies/1.2.3")).status == 404
        assert (await get(client, "/dicomweb/studies/1.2.x")).status == 400
        assert (await client.delete(path_of(image))).status == 204
        for path in ("", "/metadata", "/frames/1", "/rendered", "/bulkdata/7FE00010"):
            assert (await get(client, path_of(image) + path)).status == 410
        assert (await client.delete(path_of(image))).status == 410
        assert (await store(client, image)).status == 200
        assert (await get(client, path_of(image))).status == 200


class TestTransferSyntaxes:
    """One slice in every transfer syntax: as it is stored, and as Explicit VR Little Endian."""

    @pytest.mark.parametrize(
        "name",
        [
            "ct-jpeg2000",
            "ct-jpeg2000losslessonly",
            "ct-jpeglslossless",
            "ct-jpeglslossy",
            "ct-jpegprocess1",
            "ct-jpegprocess14",
            "ct-jpegprocess14sv1",
            "ct-jpegprocess2_4",
            "ct-rlelossless",
            "gdcmj2k_textgbr",
            "sc_rgb_jpeg_gdcm",
            "examples_palette",
            "mr_small_rle",
            "jpgextended",
        ],
    )
    async def test_decoded_and_as_stored(self, client, data_folder, name):
        ds, path = await put(client, data_folder / "transfer-syntaxes" / f"{name}.dcm")
        syntax = ds.file_meta.TransferSyntaxUID
        native = pydicom.dcmread(io.BytesIO(await (await get(client, path, "application/dicom")).read()))
        assert native.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert np.array_equal(native.pixel_array, ds.pixel_array)
        stored = pydicom.dcmread(io.BytesIO(await (await get(client, path, SINGLE_STORED)).read()))
        assert stored.file_meta.TransferSyntaxUID == syntax
        assert np.array_equal(stored.pixel_array, ds.pixel_array)
        ((content_type, location, frame),) = await parts(await get(client, f"{path}/frames/1", FRAMES_STORED))
        assert content_type == f"application/octet-stream; transfer-syntax={syntax}"
        assert location.endswith("/frames/1")
        if syntax.is_encapsulated:
            assert frame == next(generate_frames(ds.PixelData, number_of_frames=1))
        response = await get(client, f"{path}/frames/1", "application/octet-stream")
        pixels = np.frombuffer(await response.read(), native.pixel_array.dtype)
        assert np.array_equal(pixels, native.pixel_array.ravel())

    @pytest.mark.parametrize(
        "name", ["ct-littleendianimplicit", "ct-bigendianexplicit", "ct-deflatedexplicitvrlittleendian"]
    )
    async def test_what_is_never_sent(self, client, data_folder, name):
        ds, path = await put(client, data_folder / "transfer-syntaxes" / f"{name}.dcm")
        sent = pydicom.dcmread(io.BytesIO(await (await get(client, path, SINGLE_STORED)).read()))
        assert sent.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert np.array_equal(sent.pixel_array, ds.pixel_array)

    async def test_only_what_is_asked_for(self, client, data_folder):
        _, path = await put(client, data_folder / "transfer-syntaxes" / "ct-jpeg2000losslessonly.dcm")
        j2k, part2 = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.92"
        assert (await get(client, path, f"application/dicom; transfer-syntax={j2k}")).status == 200
        response = await get(client, path, f"application/dicom; transfer-syntax={part2}")
        assert response.status == 406
        assert "application/dicom" in (await response.json())["error"]
        response = await get(client, f"{path}/frames/1", "image/jp2")
        assert response.headers["Content-Type"] == f"image/jp2; transfer-syntax={j2k}"

    async def test_a_study_whose_parts_are_decoded(self, client, data_folder, image):
        compressed, path = await put(client, data_folder / "ct-bone" / "001.dcm")
        response = await get(client, path.split("/series")[0])
        ((content_type, _, data),) = await parts(response)
        assert content_type == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
        assert np.array_equal(pydicom.dcmread(io.BytesIO(data)).pixel_array, compressed.pixel_array)

    async def test_a_study_of_which_one_is_too_large_to_be_decoded(self, client, image):
        """It has more than an element can hold; the others are sent all the same, wherever it stands."""
        large = ct(StudyInstanceUID=image.StudyInstanceUID, NumberOfFrames=2100, Rows=1024, Columns=1024)
        frame = bytes(imagecodecs.jpegls_encode(np.zeros((1024, 1024), "u2")))
        large.PixelData = encapsulate([frame] * large.NumberOfFrames)
        large["PixelData"].is_undefined_length = True
        syntax = "1.2.840.10008.1.2.4.80"
        assert (await store(client, part10(large, syntax))).status == 200
        response = await get(
            client, f"/dicomweb/studies/{image.StudyInstanceUID}", 'multipart/related; type="application/dicom"'
        )
        assert response.status == 200
        types = {content_type for content_type, _, _ in await parts(response)}
        assert types == {f"application/dicom; transfer-syntax={uid}" for uid in (syntax, "1.2.840.10008.1.2.1")}


class TestFrames:
    async def test_lists(self, client, data_folder):
        ds, path = await put(client, data_folder / "enhanced-mf" / "emri_small_rle.dcm")
        frames = list(generate_frames(ds.PixelData, number_of_frames=10))
        response = await get(client, f"{path}/frames/10,1,3", FRAMES_STORED)
        assert [data for _, _, data in await parts(response)] == [frames[9], frames[0], frames[2]]
        response = await get(client, f"{path}/frames/10,1,3")
        decoded = [data for _, _, data in await parts(response)]
        assert decoded == [ds.pixel_array[number].astype("<u2").tobytes() for number in (9, 0, 2)]
        assert (await get(client, f"{path}/frames/1,2", "application/octet-stream")).status == 406

    @pytest.mark.parametrize(
        ("frames", "status"), [("0", 400), ("a", 400), ("1,", 400), ("1,2,3,11", 404), ("-1", 400), ("1,2,1", 400)]
    )
    async def test_wrong_numbers(self, client, data_folder, frames, status):
        _, path = await put(client, data_folder / "enhanced-mf" / "emri_small.dcm")
        assert (await get(client, f"{path}/frames/{frames}")).status == status

    async def test_frames_of_single_bits_start_at_a_byte(self, client):
        bits = np.arange(3 * 5 * 5) % 3 == 0
        ds = ct(BitsAllocated=1, BitsStored=1, HighBit=0, PixelRepresentation=0, Rows=5, Columns=5, NumberOfFrames=3)
        ds.PixelData = np.packbits(bits, bitorder="little").tobytes() + b"\0" * 0
        ds.PixelData += b"\0" * (len(ds.PixelData) % 2)
        assert (await store(client, ds)).status == 200
        response = await get(client, f"{path_of(ds)}/frames/1,2,3", FRAMES_STORED)
        for number, (_, _, data) in enumerate(await parts(response)):
            expected = bits[25 * number : 25 * (number + 1)]
            assert data == np.packbits(expected, bitorder="little").tobytes()

    async def test_what_cannot_be_decoded_can_be_had_as_stored(self, client, data_folder):
        file = data_folder / "enhanced-mf" / "emri_small_jpeg_2k_lossless.dcm"
        ds = pydicom.dcmread(file)
        ds.PixelData = ds.PixelData.replace(b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x00")
        await store(client, part10(ds, ds.file_meta.TransferSyntaxUID))
        path = path_of(ds)
        assert (await get(client, f"{path}/frames/1")).status == 406
        assert (await get(client, path, "application/dicom")).status == 406
        assert (await get(client, f"{path}/rendered")).status == 406
        assert (await get(client, f"{path}/frames/1", FRAMES_STORED)).status == 200
        assert len(await parts(await get(client, path.split("/series")[0]))) == 1


class TestMetadata:
    async def test_compressed_or_not(self, client, image):
        path = path_of(image) + "/metadata"
        packed = await get(client, path, "application/dicom+json", **{"Accept-Encoding": "gzip"})
        plain = await get(client, path, "application/dicom+json", **{"Accept-Encoding": "identity"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert await packed.json(content_type=None) == await plain.json(content_type=None)
        assert packed.headers["ETag"] != plain.headers["ETag"]
        again = await get(client, path, **{"If-None-Match": packed.headers["ETag"], "Accept-Encoding": "gzip"})
        assert again.status == 304

    async def test_bulk_data_can_be_followed(self, client, image):
        (item,) = await bodies(client, path_of(image) + "/metadata")
        assert list(item) == sorted(item)
        assert "00020010" not in item
        response = await get(client, item["7FE00010"]["BulkDataURI"], "application/octet-stream")
        assert await response.read() == image.PixelData

    async def test_documents(self, client, data_folder):
        ds, path = await put(client, data_folder / "derived" / "encapsulated" / "report-pdf.dcm")
        (item,) = await bodies(client, f"{path}/metadata")
        ohif = 'multipart/related; type="application/pdf", multipart/related; type="application/octet-stream"'
        ((content_type, _, document),) = await parts(await get(client, item["00420011"]["BulkDataURI"], ohif))
        assert content_type == "application/pdf"
        assert document == ds.EncapsulatedDocument
        response = await get(client, f"{path}/rendered", "application/pdf")
        assert (await response.read()).startswith(b"%PDF")

    async def test_all_bulk_data_of_real_objects(self, client, data_folder):
        seen = 0
        for file in sorted((data_folder / "derived").rglob("*.dcm")):
            response = await store(client, file.read_bytes())
            if response.status != 200:
                continue
            (stored,) = (await response.json(content_type=None))["00081199"]["Value"]
            (item,) = await bodies(client, URL(stored["00081190"]["Value"][0]).path + "/metadata")
            for uri in _bulk_data(item):
                response = await get(client, uri)
                assert response.status == 200
                assert len(await response.read()) > 0
                seen += 1
        assert seen > 20

    async def test_no_such_bulk_data(self, client, image):
        for path in ("00420011", "7FE00011", "x", "00280010", "00400275/0/00080050"):
            assert (await get(client, f"{path_of(image)}/bulkdata/{path}")).status == 404

    @pytest.mark.parametrize(
        "accept", ["application/dicom+json", "application/json", "*/*", "text/plain;q=1,*/*;q=0.1"]
    )
    async def test_accepted(self, client, image, accept):
        response = await get(client, path_of(image) + "/metadata", accept)
        assert response.status == 200

    async def test_series_and_study(self, client, image):
        await store(client, ct(StudyInstanceUID=image.StudyInstanceUID))
        study = f"/dicomweb/studies/{image.StudyInstanceUID}"
        assert len(await bodies(client, f"{study}/metadata")) == 2
        assert len(await bodies(client, f"{study}/series/{image.SeriesInstanceUID}/metadata")) == 1


def _bulk_data(item):
    for element in item.values():
        if "BulkDataURI" in element:
            yield element["BulkDataURI"]
        for inner in element.get("Value", []) if element["vr"] == "SQ" else []:
            yield from _bulk_data(inner)


class TestRendered:
    @pytest.mark.parametrize(
        ("accept", "kind"), [("image/jpeg", "JPEG"), ("image/png", "PNG"), ("image/gif", "GIF"), ("*/*", "JPEG")]
    )
    async def test_media_types(self, client, image, accept, kind):
        response = await get(client, path_of(image) + "/rendered", accept)
        picture = Image.open(io.BytesIO(await response.read()))
        assert (picture.format, picture.size) == (kind, (16, 16))

    async def test_window_and_viewport(self, client, image):
        # Rows 4 to 7 hold -960..-897; the window -896/128 makes -960 black and -832 white.
        query = "?window=-896,128,linear-exact&viewport=32,8,0,4,16,4&accept=image/png"
        response = await get(client, path_of(image) + "/rendered" + query)
        picture = np.asarray(Image.open(io.BytesIO(await response.read())))
        assert picture.shape == (8, 32)
        assert picture[0, 0] == 0
        assert picture[-1, -1] == 126

    @pytest.mark.parametrize(
        "query",
        ["window=1,2", "window=1,0,linear", "viewport=0,0", "viewport=1", "quality=0", "viewport=9999999,9999999"],
    )
    async def test_wrong_parameters(self, client, image, query):
        assert (await get(client, f"{path_of(image)}/rendered?{query}")).status == 400

    async def test_thumbnails_at_every_level(self, client, data_folder):
        _, path = await put(client, data_folder / "us" / "cine-grey-27f-burnedin.dcm")
        study = path.split("/series")[0]
        for resource in (study, path.split("/instances")[0], path, f"{path}/frames/3"):
            response = await get(client, f"{resource}/thumbnail?accept=image/jpeg")
            picture = Image.open(io.BytesIO(await response.read()))
            assert picture.format == "JPEG"
            assert max(picture.size) == 256
        small = await get(client, f"{study}/thumbnail?viewport=64,64", "image/png")
        assert max(Image.open(io.BytesIO(await small.read())).size) == 64

    async def test_a_segmentation_does_not_stand_for_a_study(self, client, image):
        mask = ct(
            SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4",
            StudyInstanceUID=image.StudyInstanceUID,
            NumberOfFrames=4,
            Modality="SEG",
        )
        mask.PixelData = bytes(4 * 512)
        await store(client, mask)
        response = await get(client, f"/dicomweb/studies/{image.StudyInstanceUID}/thumbnail", "image/png")
        assert np.asarray(Image.open(io.BytesIO(await response.read()))).max() > 200

    async def test_no_picture(self, client, data_folder):
        _, path = await put(client, data_folder / "derived" / "dcmqi-sr" / "sr.dcm")
        for resource in (path, path.split("/series")[0]):
            response = await get(client, f"{resource}/thumbnail")
            assert response.status == 404
            assert "no picture" in (await response.json())["error"]


async def test_capabilities(client):
    response = await client.options("/dicomweb/", headers={"Accept": "application/vnd.sun.wadl+xml"})
    assert response.status == 200
    assert f'base="{client.make_url("/dicomweb")}/"' in await response.text()
    described = await (await client.options("/dicomweb/", headers={"Accept": "application/json"})).json()
    resources = described["application"]["resources"]["resource"]
    names = {method["doc"][0]["@title"] for one in resources for method in one["method"]}
    assert {"Search for Studies", "Retrieve Frames", "Store Instances"} <= names


async def test_a_long_file_is_sent_whole_and_in_ranges(client, data_folder):
    """Long files go by another way (sendfile), alone and as a part among others."""
    file = data_folder / "us" / "cine-echo-120f.dcm"
    ds, path = await put(client, file)
    body = await (await get(client, path, SINGLE_STORED)).read()
    assert len(body) > 4 << 20
    assert pydicom.dcmread(io.BytesIO(body)).PixelData == ds.PixelData
    part = await get(client, path, SINGLE_STORED, Range="bytes=1000-5000000")
    assert await part.read() == body[1000:5_000_001]
    multi = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    await store(client, ct(StudyInstanceUID=ds.StudyInstanceUID))
    whole = await (await get(client, path.split("/series")[0], multi)).read()
    assert whole.count(body) == 1
    assert whole.endswith(b"--\r\n")


async def test_whatever_was_stored_is_answered(client, data_folder):
    """Every malformed file is refused or can be asked for in every form, without a failure of ours."""
    accepts = ["application/dicom", SINGLE_STORED, FRAMES_STORED, "application/octet-stream", "image/png", "*/*"]
    stored = 0
    for file in sorted((data_folder / "malformed").iterdir()):
        response = await store(client, file.read_bytes())
        assert response.status < 500, file.name
        answered = await response.json(content_type=None)
        for item in answered.get("00081199", {"Value": []})["Value"]:
            path = URL(item["00081190"]["Value"][0]).path
            stored += 1
            for below in ("", "/metadata", "/frames/1", "/rendered", "/thumbnail", "/bulkdata/7FE00010", "/pixeldata"):
                for accept in accepts:
                    response = await get(client, path + below, accept)
                    assert response.status < 500, (file.name, below, accept)
                    await response.read()
    assert stored > 5
