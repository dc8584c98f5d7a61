"""WADO-RS: what is asked for in another transfer syntax than it is stored in, over HTTP and on real files."""

import io

import jpeg_ls
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.pixels import pixel_array

from tests.dicomweb_support import parts, path_of, store
from tests.samples import ct, part10

PREFIX = "1.2.840.10008.1.2.4."
NATIVE, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
LOSSLESS = [PREFIX + "70", PREFIX + "80", PREFIX + "90", PREFIX + "201", PREFIX + "202", RLE]
LOSSY = [PREFIX + "50", PREFIX + "81", PREFIX + "91", PREFIX + "203"]


async def get(client, path, accept, **headers):
    return await client.get(path, headers={"Accept": accept} | headers)


async def put(client, file):
    response = await store(client, file.read_bytes())
    assert response.status == 200, await response.text()
    ds = pydicom.dcmread(file)
    return ds, path_of(ds)


class TestInstances:
    @pytest.mark.parametrize("syntax", LOSSLESS)
    @pytest.mark.parametrize("name", ["ct-jpeglslossless", "sc_rgb_jpeg_gdcm", "mr_small_rle", "examples_palette"])
    async def test_lossless(self, client, data_folder, name, syntax):
        ds, path = await put(client, data_folder / "transfer-syntaxes" / f"{name}.dcm")
        response = await get(client, path, f"application/dicom; transfer-syntax={syntax}")
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == f"application/dicom; transfer-syntax={syntax}"
        assert response.headers["Content-Location"].endswith(path)
        sent = pydicom.dcmread(io.BytesIO(await response.read()))
        assert sent.file_meta.TransferSyntaxUID == syntax
        assert np.array_equal(pixel_array(sent), pixel_array(ds))
        assert sent.get("LossyImageCompression") == ds.get("LossyImageCompression")
        stored = pydicom.dcmread(
            io.BytesIO(await (await get(client, path, "application/dicom; transfer-syntax=*")).read())
        )
        changed = {"PhotometricInterpretation", "PlanarConfiguration", "PixelData", "DataSetTrailingPadding"}
        expected = [element for element in stored if element.keyword not in changed]
        assert [element for element in sent if element.keyword not in changed] == expected

    @pytest.mark.parametrize("syntax", LOSSY)
    async def test_lossy_when_it_is_named(self, client, data_folder, syntax):
        ds, path = await put(client, data_folder / "transfer-syntaxes" / "sc_rgb_jpeg_gdcm.dcm")
        response = await get(client, path, f"application/dicom; transfer-syntax={syntax}")
        sent = pydicom.dcmread(io.BytesIO(await response.read()))
        assert sent.file_meta.TransferSyntaxUID == syntax
        assert (sent.LossyImageCompression, sent.SOPInstanceUID) == ("01", ds.SOPInstanceUID)
        assert float(sent.LossyImageCompressionRatio) > 1
        assert sent.LossyImageCompressionMethod.startswith("ISO_")
        error = np.abs(pixel_array(sent).astype(int) - pixel_array(ds))
        assert error.mean() < 4

    async def test_frames_of_a_file_are_encoded_one_by_one(self, client, data_folder):
        ds, path = await put(client, data_folder / "enhanced-mf" / "emri_small_jpeg_2k_lossless.dcm")
        response = await get(client, path, f"application/dicom; transfer-syntax={PREFIX}80")
        sent = pydicom.dcmread(io.BytesIO(await response.read()))
        assert len(list(generate_frames(sent.PixelData, number_of_frames=10))) == 10
        assert np.array_equal(pixel_array(sent), pixel_array(ds))

    async def test_a_study_in_which_not_everything_can_be_sent_so(self, client, data_folder):
        """A document has no pixels that could be JPEG: the rest is sent, and the answer tells (Table 10.4.3-1)."""
        image = ct()
        document = pydicom.dcmread(data_folder / "derived" / "encapsulated" / "report-pdf.dcm")
        document.StudyInstanceUID = image.StudyInstanceUID
        assert (await store(client, image, document)).status == 200
        study = path_of(image).split("/series")[0]
        response = await get(client, study, f'multipart/related; type="application/dicom"; transfer-syntax={PREFIX}80')
        assert response.status == 206
        assert response.headers["Warning"].startswith("299 http")
        assert "1 instance" in response.headers["Warning"]
        ((content_type, location, data),) = await parts(response)
        assert content_type == f"application/dicom; transfer-syntax={PREFIX}80"
        assert location.endswith(path_of(image))
        assert pydicom.dcmread(io.BytesIO(data)).file_meta.TransferSyntaxUID == PREFIX + "80"
        everything = await get(client, study, 'multipart/related; type="application/dicom"')
        assert (everything.status, len(await parts(everything))) == (200, 2)
        nothing = await get(client, path_of(document), f"application/dicom; transfer-syntax={PREFIX}80")
        assert nothing.status == 406

    async def test_the_next_best_where_the_pixels_do_not_fit(self, client):
        image = ct()  # of 16 bits
        assert (await store(client, image)).status == 200
        baseline = f"application/dicom; transfer-syntax={PREFIX}50"
        assert (await get(client, path_of(image), baseline)).status == 406
        response = await get(client, path_of(image), f"{baseline}, application/dicom; transfer-syntax={RLE}; q=0.5")
        assert response.headers["Content-Type"] == f"application/dicom; transfer-syntax={RLE}"


class TestFrames:
    @pytest.mark.parametrize(
        ("accept", "sent"),
        [
            ("image/jpeg", f"image/jpeg; transfer-syntax={PREFIX}70"),
            ("image/jls", f"image/jls; transfer-syntax={PREFIX}80"),
            ("image/x-jls", f"image/jls; transfer-syntax={PREFIX}80"),
            ("image/jp2", f"image/jp2; transfer-syntax={PREFIX}90"),
            ("image/jphc", f"image/jphc; transfer-syntax={PREFIX}201"),
            ("image/dicom-rle", f"image/dicom-rle; transfer-syntax={RLE}"),
            ("image/x-dicom-rle", f"image/dicom-rle; transfer-syntax={RLE}"),
            (f"image/jls; transfer-syntax={PREFIX}81", f"image/jls; transfer-syntax={PREFIX}81"),
            ("image/jp2; transfer-syntax=*", f"image/jp2; transfer-syntax={PREFIX}90"),
            (f"application/octet-stream; transfer-syntax={RLE}", f"application/octet-stream; transfer-syntax={RLE}"),
            ("application/octet-stream; transfer-syntax=*", f"application/octet-stream; transfer-syntax={NATIVE}"),
            ("application/octet-stream", f"application/octet-stream; transfer-syntax={NATIVE}"),
            ("image/jp2;q=0.2, image/jls;q=0.9", f"image/jls; transfer-syntax={PREFIX}80"),
            ("image/jp2;q=0.2, image/*;q=0.1", f"image/jp2; transfer-syntax={PREFIX}90"),
            ("image/jpx, image/jls", f"image/jls; transfer-syntax={PREFIX}80"),
        ],
    )
    async def test_media_types(self, client, accept, sent):
        image = ct()
        assert (await store(client, image)).status == 200
        for form in ("", "multipart/related; type="):
            ranges = [form + one.strip() for one in accept.split(",")]
            response = await get(client, f"{path_of(image)}/frames/1", ", ".join(ranges))
            assert response.status == 200, await response.text()
            if form:
                ((content_type, location, _),) = await parts(response)
                assert location.endswith("/frames/1")
            else:
                content_type = response.headers["Content-Type"]
                assert response.headers["Content-Location"].endswith("/frames/1")
            assert content_type == sent

    @pytest.mark.parametrize(
        "accept", ["image/jpx", f"image/jpeg; transfer-syntax={PREFIX}50", "image/jxl", "image/png"]
    )
    async def test_what_cannot_be_had(self, client, accept):
        image = ct()
        assert (await store(client, image)).status == 200
        response = await get(client, f"{path_of(image)}/frames/1", accept)
        assert response.status == 406
        assert "application/octet-stream" in (await response.json())["error"]

    async def test_a_lossy_frame_is_never_sent_to_who_did_not_name_it(self, client, data_folder):
        _, path = await put(client, data_folder / "transfer-syntaxes" / "sc_rgb_jpeg_gdcm.dcm")
        for accept in ("*/*", "image/*", "image/jpeg", "image/jls", "image/jp2; transfer-syntax=*", "image/jphc"):
            response = await get(client, f"{path}/frames/1", accept)
            syntax = response.headers["Content-Type"].split("transfer-syntax=")[-1]
            assert syntax.strip('"') not in LOSSY, accept

    async def test_what_is_held_as_lossy_only_is_what_its_media_type_means(self, client, data_folder):
        _, path = await put(client, data_folder / "transfer-syntaxes" / "ct-jpegprocess1.dcm")
        response = await get(client, f"{path}/frames/1", "image/jpeg")
        assert response.headers["Content-Type"] == f"image/jpeg; transfer-syntax={PREFIX}50"
        _, path = await put(client, data_folder / "transfer-syntaxes" / "ct-jpegprocess14.dcm")
        response = await get(client, f"{path}/frames/1", "image/jpeg")
        assert response.headers["Content-Type"] == f"image/jpeg; transfer-syntax={PREFIX}70"

    async def test_a_list_is_encoded_frame_by_frame(self, client, data_folder):
        ds, path = await put(client, data_folder / "enhanced-mf" / "emri_small_rle.dcm")
        response = await get(client, f"{path}/frames/3,1", "multipart/related; type=image/jls")
        found = await parts(response)
        assert [location.rsplit("/", 1)[1] for _, location, _ in found] == ["3", "1"]
        pixels = [jpeg_ls.decode(np.frombuffer(data, np.uint8)) for _, _, data in found]
        assert np.array_equal(np.array(pixels), ds.pixel_array[[2, 0]])

    async def test_frames_in_several_fragments_without_an_offset_table(self, client, data_folder):
        _, path = await put(client, data_folder / "transfer-syntaxes" / "ct-fragmented-no-bot-jpeg.dcm")
        response = await get(
            client, f"{path}/frames/1,2", 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
        )
        found = [data for _, _, data in await parts(response)]
        assert all(data.startswith(b"\xff\xd8") and data.rstrip(b"\0").endswith(b"\xff\xd9") for data in found)
        whole = pydicom.dcmread(io.BytesIO(await (await get(client, path, "application/dicom")).read()))
        assert whole.pixel_array.shape == (2, 512, 512)
        assert len({frame.tobytes() for frame in whole.pixel_array}) == 2


class TestRules:
    async def test_dicom_and_rendered_types_do_not_mix(self, client):
        image = ct()
        await store(client, image)
        for path in ("", "/metadata", "/frames/1", "/pixeldata"):
            response = await get(client, path_of(image) + path, "application/dicom, image/png")
            assert response.status == 400

    async def test_the_accept_parameter_goes_first_and_has_no_wildcards(self, client):
        image = ct()
        await store(client, image)
        path = f"{path_of(image)}/frames/1"
        response = await get(client, f"{path}?accept=image/jls", "*/*")
        assert response.headers["Content-Type"].startswith("image/jls")
        response = await get(client, f"{path}?accept=image/jpx", "image/jls")
        assert response.headers["Content-Type"].startswith("image/jls")
        assert (await get(client, f"{path}?accept=image/*", "*/*")).status == 400
        single = await get(client, f"{path}?accept=application/octet-stream;transfer-syntax=*", "*/*")
        assert single.headers["Content-Type"] == f"application/octet-stream; transfer-syntax={NATIVE}"


class TestOffsetTables:
    @pytest.mark.parametrize("table", ["absent", "wrong", "right"])
    async def test_frames_of_two_fragments_each(self, client, data_folder, table):
        ds = pydicom.dcmread(data_folder / "enhanced-mf" / "emri_small_jpeg_2k_lossless.dcm")
        frames = list(generate_frames(ds.PixelData, number_of_frames=10))
        ds.PixelData = encapsulate(frames, fragments_per_frame=2, has_bot=table != "absent")
        if table == "wrong":
            offsets = ds.PixelData[8:48]
            ds.PixelData = ds.PixelData.replace(offsets, offsets[:4] + b"\2\0\0\0" + offsets[8:], 1)
        assert (await store(client, part10(ds, ds.file_meta.TransferSyntaxUID))).status == 200
        accept = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
        found = await parts(await get(client, f"{path_of(ds)}/frames/{','.join(map(str, range(1, 11)))}", accept))
        assert [data.rstrip(b"\0") for _, _, data in found] == [frame.rstrip(b"\0") for frame in frames]

    async def test_the_extended_one(self, client, data_folder):
        ds = pydicom.dcmread(data_folder / "enhanced-mf" / "emri_small_rle.dcm")
        frames = list(generate_frames(ds.PixelData, number_of_frames=10))
        expected = ds.pixel_array[9].astype("<u2").tobytes()
        fragments = [*frames[:9], frames[9][:-64], frames[9][-64:]]  # RLE has no markers; the last is in two
        value, starts, lengths = encapsulate_extended(fragments)
        ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = value, starts[:80], lengths[:80]
        assert (await store(client, part10(ds, ds.file_meta.TransferSyntaxUID))).status == 200
        response = await get(client, f"{path_of(ds)}/frames/10", "application/octet-stream")
        assert await response.read() == expected
