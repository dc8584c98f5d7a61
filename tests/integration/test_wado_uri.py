"""WADO-URI over HTTP on a real archive (PS3.18 chapter 9)."""

import io
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomweb.rendering.options import Options, Window
from dicomweb.rendering.render import display, render
from tests.dicomweb_support import path_of, store
from tests.samples import ct

EXPLICIT = "1.2.840.10008.1.2.1"
JPEG_LS = "1.2.840.10008.1.2.4.80"


async def wado(client, ds: Dataset, accept: str = "*/*", **parameters: str):
    query = {
        "requestType": "WADO",
        "studyUID": ds.StudyInstanceUID,
        "seriesUID": ds.SeriesInstanceUID,
        "objectUID": ds.SOPInstanceUID,
    }
    return await client.get(f"/wado?{urlencode(query | parameters)}", headers={"Accept": accept})


async def dicom(response) -> Dataset:
    assert response.status == 200, await response.text()
    assert response.headers["Content-Type"] == "application/dicom"
    return pydicom.dcmread(io.BytesIO(await response.read()))


async def picture(response) -> Image.Image:
    assert response.status == 200, await response.text()
    return Image.open(io.BytesIO(await response.read()))


async def put(client, file: Path) -> Dataset:
    response = await store(client, file.read_bytes())
    assert response.status == 200, await response.text()
    return pydicom.dcmread(file)


@pytest.fixture
async def image(client) -> Dataset:
    ds = ct()
    assert (await store(client, ds)).status == 200
    return ds


@pytest.fixture
async def cine(client, data_folder: Path) -> Dataset:
    return await put(client, data_folder / "enhanced-mf" / "emri_small_jpeg_ls_lossless.dcm")


class TestDicom:
    async def test_file(self, client, image) -> None:
        found = await dicom(await wado(client, image, contentType="application/dicom"))
        assert found.PixelData == image.PixelData
        assert found.PatientName == image.PatientName
        assert (await dicom(await wado(client, image, "application/dicom"))).SOPInstanceUID == image.SOPInstanceUID

    async def test_without_a_transfer_syntax_it_is_decoded(self, client, cine) -> None:
        found = await dicom(await wado(client, cine, contentType="application/dicom"))
        assert found.file_meta.TransferSyntaxUID == EXPLICIT
        assert np.array_equal(found.pixel_array, cine.pixel_array)

    @pytest.mark.parametrize("syntax", [EXPLICIT, JPEG_LS, "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"])
    async def test_in_the_transfer_syntax_asked_for(self, client, cine, syntax: str) -> None:
        response = await wado(client, cine, contentType="application/dicom", transferSyntax=syntax)
        found = await dicom(response)
        assert found.file_meta.TransferSyntaxUID == syntax
        assert np.array_equal(found.pixel_array, cine.pixel_array)

    @pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.3"])
    async def test_others_are_406_naming_what_there_is(self, client, image, syntax: str) -> None:
        response = await wado(client, image, contentType="application/dicom", transferSyntax=syntax)
        assert response.status == 406
        assert EXPLICIT in (await response.json())["error"]

    async def test_a_window_is_400_and_what_does_not_apply_is_named(self, client, image) -> None:
        parameters = {"contentType": "application/dicom", "windowCenter": "40", "windowWidth": "400"}
        assert (await wado(client, image, **parameters)).status == 400
        response = await wado(client, image, contentType="application/dicom", rows="8")
        assert "rows" in response.headers["Warning"]


class TestRendered:
    async def test_the_default_is_jpeg(self, client, image) -> None:
        response = await wado(client, image)
        assert response.headers["Content-Type"] == "image/jpeg"
        shown = await picture(response)
        assert (shown.format, shown.size) == ("JPEG", (16, 16))

    async def test_content_type_wins_over_accept(self, client, image) -> None:
        response = await wado(client, image, "image/gif", contentType="image/bmp,image/png")
        assert response.headers["Content-Type"] == "image/png"
        response = await wado(client, image, "image/gif", contentType="image/bmp")
        assert response.headers["Content-Type"] == "image/gif"
        assert (await wado(client, image, "image/bmp", contentType="image/bmp")).status == 406
        assert (await wado(client, image, "application/dicom, image/jpeg")).status == 400

    async def test_window(self, client, image) -> None:
        response = await wado(client, image, contentType="image/png", windowCenter="-900", windowWidth="100")
        options = Options(window=Window(-900, 100))
        pixels = np.frombuffer(image.PixelData, "<i2").reshape(16, 16)
        expected = render(display(pixels, "MONOCHROME2", image, 1, options.window), image, 1, options, "image/png")
        assert np.array_equal(np.asarray(await picture(response)), np.asarray(Image.open(io.BytesIO(expected))))

    async def test_region_is_cut_from_the_image(self, client, image) -> None:
        window = {"windowCenter": "-900", "windowWidth": "100"}
        whole = np.asarray(await picture(await wado(client, image, contentType="image/png", **window)))
        response = await wado(client, image, contentType="image/png", region="0.25,0.5,0.75,1", **window)
        assert np.array_equal(np.asarray(await picture(response)), whole[8:16, 4:12])

    @pytest.mark.parametrize(
        ("parameters", "size"),
        [
            ({"rows": "32"}, (32, 32)),
            ({"columns": "8"}, (8, 8)),
            ({"rows": "64", "columns": "32"}, (32, 32)),
            ({"columns": "32", "region": "0,0,1,0.5"}, (32, 16)),
        ],
    )
    async def test_size(self, client, image, parameters: dict[str, str], size: tuple[int, int]) -> None:
        assert (await picture(await wado(client, image, **parameters))).size == size

    async def test_quality_and_annotation_show(self, client, data_folder) -> None:
        image = await put(client, data_folder / "transfer-syntaxes" / "ct-littleendianexplicit.dcm")
        sizes = [len(await (await wado(client, image, imageQuality=quality)).read()) for quality in ("10", "90")]
        assert sizes[0] < sizes[1] / 2
        plain = np.asarray(await picture(await wado(client, image, contentType="image/png")))
        written = np.asarray(await picture(await wado(client, image, contentType="image/png", annotation="technique")))
        assert not np.array_equal(plain, written)

    async def test_frames(self, client, cine, image) -> None:
        second = np.asarray(await picture(await wado(client, cine, contentType="image/png", frameNumber="2")))
        shown = display(cine.pixel_array[1], "MONOCHROME2", cine, 2, None)
        expected = render(shown, cine, 2, Options(), "image/png")
        assert np.array_equal(second, np.asarray(Image.open(io.BytesIO(expected))))
        assert (await wado(client, cine, frameNumber="11")).status == 400
        assert (await wado(client, image, frameNumber="1")).status == 400

    async def test_validators(self, client, image) -> None:
        response = await wado(client, image)
        again = await client.get(response.url.path_qs, headers={"If-None-Match": response.headers["ETag"]})
        assert again.status == 304


def report() -> Dataset:
    """A report of one sentence."""
    text = Dataset()
    text.RelationshipType, text.ValueType, text.TextValue = "CONTAINS", "TEXT", "No <acute> finding."
    ds = ct(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR", ContentSequence=Sequence([text]))
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        del ds[keyword]
    return ds


async def test_reports_are_text(client) -> None:
    ds = report()
    await store(client, ds)
    response = await wado(client, ds)
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "No &lt;acute&gt; finding." in await response.text()
    assert "No <acute> finding." in await (await wado(client, ds, contentType="text/plain")).text()
    assert (await wado(client, ds, contentType="image/jpeg", accept="image/jpeg")).status == 406


async def test_documents_are_what_they_were(client) -> None:
    ds = report()
    ds.SOPClassUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.104.1", "DOC"
    ds.MIMETypeOfEncapsulatedDocument, ds.EncapsulatedDocument = "application/pdf", b"%PDF-1.4 %%EOF"
    await store(client, ds)
    response = await wado(client, ds, contentType="application/pdf")
    assert response.headers["Content-Type"] == "application/pdf"
    assert await response.read() == b"%PDF-1.4 %%EOF"


async def test_no_script_of_a_document_runs(client) -> None:
    ds = report()
    ds.SOPClassUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.104.2", "DOC"
    ds.EncapsulatedDocument = b'<a xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script></a> '
    await store(client, ds)
    rendered = await client.get(f"{path_of(ds)}/rendered", headers={"Accept": "text/xml"})
    for response in (rendered, await wado(client, ds, contentType="text/xml")):
        assert response.status == 200
        assert response.headers["Content-Security-Policy"].startswith("sandbox;")


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"requestType": "QIDO"}, 400),
        ({"studyUID": ""}, 400),
        ({"objectUID": "1.2.3.4"}, 404),
        ({"seriesUID": "1.2.3.4"}, 404),
        ({"anonymize": "no"}, 400),
    ],
)
async def test_status_codes(client, image, parameters: dict[str, str], status: int) -> None:
    assert (await wado(client, image, **parameters)).status == status


async def test_gone(client, image) -> None:
    assert (await client.delete(f"/dicomweb/studies/{image.StudyInstanceUID}")).status in (200, 204)
    assert (await wado(client, image)).status == 410


async def test_needs_the_same_rights_as_all_else(open_archive, serve) -> None:
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_AUTH__MODE="token")
    assert (await wado(await serve(core), ct())).status == 401


class TestPresentationStates:
    def state(self, image: Dataset, **attributes: object) -> Dataset:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        series = Dataset()
        series.SeriesInstanceUID, series.ReferencedImageSequence = image.SeriesInstanceUID, Sequence([reference])
        voi = Dataset()
        voi.WindowCenter, voi.WindowWidth = -900, 100
        ds = ct(StudyInstanceUID=image.StudyInstanceUID, SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1", Modality="PR")
        for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"):
            del ds[keyword]
        ds.ReferencedSeriesSequence, ds.SoftcopyVOILUTSequence = Sequence([series]), Sequence([voi])
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
        return ds

    async def shown(self, client, image: Dataset, state: Dataset, **parameters: str) -> np.ndarray:
        await store(client, state)
        names = {"presentationSeriesUID": state.SeriesInstanceUID, "presentationUID": state.SOPInstanceUID}
        return np.asarray(await picture(await wado(client, image, contentType="image/png", **names, **parameters)))

    async def windowed(self, client, image: Dataset) -> np.ndarray:
        window = {"windowCenter": "-900", "windowWidth": "100"}
        return np.asarray(await picture(await wado(client, image, contentType="image/png", **window)))

    async def test_window_and_polarity(self, client, image) -> None:
        expected = await self.windowed(client, image)
        assert len(np.unique(expected)) > 10
        assert np.array_equal(await self.shown(client, image, self.state(image)), expected)
        inverse = self.state(image, PresentationLUTShape="INVERSE")
        assert np.array_equal(await self.shown(client, image, inverse), 255 - expected)

    async def test_area_rotation_and_flip_then_region(self, client, image) -> None:
        area = Dataset()
        area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = [3, 1], [10, 16]
        state = self.state(
            image, DisplayedAreaSelectionSequence=Sequence([area]), ImageRotation=90, ImageHorizontalFlip="Y"
        )
        cut = (await self.windowed(client, image))[0:16, 2:10]
        expected = np.fliplr(np.rot90(cut, -1))
        assert np.array_equal(await self.shown(client, image, state), expected)
        upper = await self.shown(client, image, state, region="0,0,1,0.5")
        assert np.array_equal(upper, expected[:4])

    async def test_those_that_are_not_there_or_of_another_image_are_400(self, client, image) -> None:
        names = {"presentationSeriesUID": "1.2.3", "presentationUID": "1.2.4"}
        assert (await wado(client, image, **names)).status == 400
        other = self.state(ct(StudyInstanceUID=image.StudyInstanceUID))
        await store(client, other)
        names = {"presentationSeriesUID": other.SeriesInstanceUID, "presentationUID": other.SOPInstanceUID}
        assert (await wado(client, image, **names)).status == 400
