"""dicomweb-client for Python, as scripts use it, against a listening server: search, retrieve, store, delete.

The client blocks: each of its calls runs in a thread beside the server's loop. Pixels are compared with pydicom's.
"""

import asyncio
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from urllib.parse import urljoin

import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRLittleEndian
from requests import HTTPError

from ray_plugins.testing import Phantom
from tests.derived import ct_series, document, measurements, segmentation
from tests.samples import ct, part10

OCTETS = "application/octet-stream"
EXPLICIT_FRAMES = ((OCTETS, str(ExplicitVRLittleEndian)),)
AS_STORED = (("application/dicom", "*"),)
AS_EXPLICIT = (("application/dicom", str(ExplicitVRLittleEndian)),)
BOOK = [
    {"PatientName": "Quixote^Alonso", "PatientID": "MRN-1", "StudyDate": "20210304", "StudyDescription": "CT ABDOMEN"},
    {"PatientName": "Panza^Sancho", "PatientID": "MRN-2", "StudyDate": "20210401", "StudyDescription": "CT CHEST"},
    {"PatientName": "Perez^Lope", "PatientID": "MRN-3", "StudyDate": "20220101", "StudyDescription": "CT HEAD"},
]
#: Multi-frame and single-frame images that pydicom ships, native and in what PACS compress with.
SHIPPED = (
    "examples_palette.dcm",
    "liver_1frame.dcm",
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_RLE.dcm",
    "rtdose.dcm",
    "rtdose_rle.dcm",
    "SC_rgb_rle_2frame.dcm",
)
#: The same of the folder of real studies.
REAL = (
    "ct-bone/001.dcm",
    "ct-chest/001.dcm",
    "enhanced-mf/emr-philips-64f.dcm",
    "enhanced-mf/emri_small_jpeg_2k_lossless.dcm",
    "transfer-syntaxes/ct-jpeglslossless.dcm",
    "transfer-syntaxes/ct-jpegprocess14sv1.dcm",
    "derived/dcmqi-liver/seg_partial_overlaps.dcm",
    "derived/highdicom/sm_image_jpegls_nobot.dcm",
)


class Server:
    """Calls of the client, each in a thread."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = DICOMwebClient(url, timeout=60)

    async def __call__(self, method: str, *arguments, **options):
        return await asyncio.to_thread(self._call, method, arguments, options)

    def _call(self, method, arguments, options):
        answer = getattr(self.client, method)(*arguments, **options)
        return list(answer) if method.startswith("iter_") else answer

    async def store(self, *objects: Dataset) -> Dataset:
        answer = await self("store_instances", datasets=[as_file(ds) for ds in objects])
        assert "FailedSOPSequence" not in answer
        assert len(answer.ReferencedSOPSequence) == len(objects)
        return answer


@pytest.fixture
def server(client) -> Server:
    return Server(str(client.make_url("/dicomweb")))


def uids(ds: Dataset) -> tuple[str, str, str]:
    return ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID


def values(found: Sequence[dict], tag: str) -> list:
    return [item[tag]["Value"][0] for item in found]


class TestSearch:
    @pytest.fixture
    async def book(self, server) -> list[Dataset]:
        made = [ct(**entry) for entry in BOOK]
        made.append(ct(**BOOK[2], StudyInstanceUID=made[2].StudyInstanceUID, Modality="MR", SeriesNumber=3))
        await server.store(*made)
        return made

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({}, {"MRN-1", "MRN-2", "MRN-3"}),
            ({"PatientName": "P*"}, {"MRN-2", "MRN-3"}),
            ({"PatientID": "MRN-?", "StudyDate": "20210401-"}, {"MRN-2", "MRN-3"}),
            ({"StudyDate": "20210101-20211231"}, {"MRN-1", "MRN-2"}),
            ({"00081030": "*CHEST*"}, {"MRN-2"}),
            ({"ModalitiesInStudy": "MR"}, {"MRN-3"}),
            ({"PatientID": "MRN-4"}, set()),
        ],
    )
    async def test_filters_of_studies(self, server, book, filters, expected):
        found = await server("search_for_studies", search_filters=filters)
        assert set(values(found, "00100020")) == expected

    async def test_fuzzy_names(self, server, book):
        found = await server("search_for_studies", fuzzymatching=True, search_filters={"PatientName": "sancho"})
        assert values(found, "00100020") == ["MRN-2"]

    async def test_pages_and_what_remains(self, server, book):
        whole = values(await server("search_for_studies"), "0020000D")
        pages = [values(await server("search_for_studies", limit=1, offset=start), "0020000D") for start in range(3)]
        assert [uid for page in pages for uid in page] == whole
        remaining = await server("search_for_studies", limit=2, get_remaining=True)
        assert values(remaining, "0020000D") == whole

    async def test_fields(self, server, book):
        (found,) = await server(
            "search_for_studies", fields=["StudyDescription", "00080061"], search_filters={"PatientID": "MRN-3"}
        )
        assert found["00081030"]["Value"] == ["CT HEAD"]
        assert sorted(found["00080061"]["Value"]) == ["CT", "MR"]

    async def test_series(self, server, book):
        study = book[2].StudyInstanceUID
        found = await server("search_for_series", study)
        assert set(values(found, "0020000E")) == {book[2].SeriesInstanceUID, book[3].SeriesInstanceUID}
        (found,) = await server("search_for_series", study, search_filters={"Modality": "MR"})
        assert found["0020000E"]["Value"] == [book[3].SeriesInstanceUID]
        assert found["00201209"]["Value"] == [1]
        everywhere = await server("search_for_series", search_filters={"Modality": "CT"})
        assert set(values(everywhere, "0020000E")) == {ds.SeriesInstanceUID for ds in book[:3]}

    async def test_instances(self, server, book):
        study, series, instance = uids(book[0])
        (found,) = await server("search_for_instances", study, series)
        assert found["00080018"]["Value"] == [instance]
        assert (found["00280010"]["Value"], found["00280011"]["Value"]) == ([16], [16])
        assert len(await server("search_for_instances", book[2].StudyInstanceUID)) == 2
        everywhere = await server("search_for_instances", search_filters={"SOPInstanceUID": instance})
        assert values(everywhere, "00080018") == [instance]

    async def test_results_are_data_sets(self, server, book):
        (found,) = await server("search_for_studies", search_filters={"PatientID": "MRN-1"})
        ds = Dataset.from_json(found)
        assert (ds.PatientName, ds.StudyDate, ds.StudyTime) == ("Quixote^Alonso", "20210304", "101112")


class TestRetrieve:
    @pytest.fixture
    async def series(self, server, tmp_path) -> list[Dataset]:
        slices = ct_series(tmp_path / "ct", Phantom(shape=(6, 32, 32)))
        await server.store(*slices)
        return slices

    @pytest.mark.parametrize("how", ["retrieve_", "iter_"])
    async def test_study_series_instance(self, server, series, how):
        study, uid, instance = uids(series[0])
        for method, arguments in (("study", (study,)), ("series", (study, uid))):
            found = await server(how + method, *arguments)
            assert {ds.SOPInstanceUID: ds for ds in found} == {ds.SOPInstanceUID: ds for ds in series}
        assert await server("retrieve_instance", study, uid, instance) == series[0]

    async def test_instance_as_stored(self, server):
        original = shipped("MR_small_RLE.dcm")
        await server.store(original)
        found = await server("retrieve_instance", *uids(original), media_types=AS_STORED)
        assert found.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
        assert found.PixelData == original.PixelData
        plain = await server("retrieve_instance", *uids(original), media_types=AS_EXPLICIT)
        assert plain.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        np.testing.assert_array_equal(plain.pixel_array, original.pixel_array)

    async def test_metadata(self, server, series):
        study, uid, instance = uids(series[2])
        one = await server("retrieve_instance_metadata", study, uid, instance)
        assert Dataset.from_json(one, lambda *_: b"").ImagePositionPatient == series[2].ImagePositionPatient
        for method, arguments in (("study", (study,)), ("series", (study, uid))):
            found = await server(f"retrieve_{method}_metadata", *arguments)
            assert set(values(found, "00080018")) == {ds.SOPInstanceUID for ds in series}

    @pytest.mark.parametrize("name", SHIPPED)
    async def test_frames_decode_to_pixels_of_pydicom(self, server, name):
        await frames_are_those_of(server, shipped(name))

    @pytest.mark.parametrize("name", REAL)
    async def test_frames_of_real_images(self, server, data_folder, name):
        await frames_are_those_of(server, dcmread(data_folder / name))

    async def test_frames_in_compressed_media_types(self, server):
        original = shipped("MR_small_jp2klossless.dcm")
        await server.store(original)
        (stored,) = generate_frames(original.PixelData, number_of_frames=1)
        for media_type in ("image/jp2", ("image/jp2", "1.2.840.10008.1.2.4.90"), ("*/*", "*")):
            found = await server("retrieve_instance_frames", *uids(original), [1], media_types=(media_type,))
            assert found == [stored]

    async def test_rendered(self, server, series):
        for media_type, form in (("image/jpeg", "JPEG"), ("image/png", "PNG")):
            instance = await server("retrieve_instance_rendered", *uids(series[2]), media_types=(media_type,))
            frame = await server(
                "retrieve_instance_frames_rendered",
                *uids(series[2]),
                [1],
                media_types=(media_type,),
                params={"viewport": "16,16", "window": "40,400,linear"},
            )
            whole, small = (Image.open(BytesIO(content)) for content in (instance, frame))
            assert (whole.format, whole.size, small.size) == (form, (32, 32), (16, 16))
            assert whole.convert("L").getextrema()[1] > 128

    async def test_a_rendered_series_is_no_single_picture(self, server, series):
        """The client asks for a single part only, which the standard wants refused (PS3.18 section 10.4.4 note 3)."""
        with pytest.raises(HTTPError) as refused:
            await server("retrieve_series_rendered", *uids(series[0])[:2], media_types=("image/jpeg",))
        assert refused.value.response.status_code == 406

    async def test_bulk_data(self, server, series):
        letter = document(series[0], "Dear Sancho")
        await server.store(letter)
        metadata = await server("retrieve_instance_metadata", *uids(letter))
        address = urljoin(server.url, metadata["00420011"]["BulkDataURI"])
        content = letter.EncapsulatedDocument
        for media_types in (None, (OCTETS,)):
            (found,) = await server("retrieve_bulkdata", address, media_types=media_types)
            assert found == content
        assert b"".join(await server("iter_bulkdata", address)) == content

    async def test_results_of_highdicom(self, server, series):
        mask, report = (dcmread(BytesIO(part10(made))) for made in (segmentation(series), measurements(series)))
        await frames_are_those_of(server, mask)
        await server.store(report)
        for made in (mask, report):
            assert await server("retrieve_instance", *uids(made)) == made


class TestStoreAndDelete:
    async def test_what_is_deleted_is_gone(self, server):
        study = ct()
        other = ct(StudyInstanceUID=study.StudyInstanceUID)
        third = ct(StudyInstanceUID=study.StudyInstanceUID, SeriesInstanceUID=other.SeriesInstanceUID)
        await server.store(study, other, third)
        await server("delete_instance", *uids(third))
        assert set(values(await server("search_for_instances"), "00080018")) == {
            study.SOPInstanceUID,
            other.SOPInstanceUID,
        }
        await server("delete_series", *uids(other)[:2])
        assert values(await server("search_for_series"), "0020000E") == [study.SeriesInstanceUID]
        await server("delete_study", study.StudyInstanceUID)
        assert await server("search_for_studies") == []
        with pytest.raises(HTTPError) as refused:
            await server("retrieve_instance", *uids(study))
        assert refused.value.response.status_code == 410

    async def test_another_study_than_the_address_names(self, server):
        with pytest.raises(HTTPError) as refused:
            await server("store_instances", [as_file(ct())], study_instance_uid="1.2.3")
        assert refused.value.response.status_code == 409

    async def test_large_series_in_one_request(self, server, tmp_path):
        slices = ct_series(tmp_path / "ct", Phantom(shape=(60, 64, 64)))
        answer = await server.store(*slices)
        assert answer.RetrieveURL.endswith(f"/studies/{slices[0].StudyInstanceUID}")
        assert len(await server("search_for_instances", get_remaining=True, limit=25)) == 60


async def frames_are_those_of(server: Server, original: Dataset) -> None:
    """Store an image; its first, last and both frames are, decoded by the server, what pydicom decodes."""
    await server.store(original)
    count = int(original.get("NumberOfFrames", 1))
    numbers = sorted({1, count})
    frames = await server("retrieve_instance_frames", *uids(original), numbers, media_types=EXPLICIT_FRAMES)
    streamed = await server("iter_instance_frames", *uids(original), numbers, media_types=EXPLICIT_FRAMES)
    assert frames == streamed
    pixels = original.pixel_array.reshape(count, *original.pixel_array.shape[-2 if grey(original) else -3 :])
    for number, frame in zip(numbers, frames, strict=True):
        expected = pixels[number - 1]
        if original.BitsAllocated == 1:
            found = np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little")[: expected.size]
        else:
            found = np.frombuffer(frame, expected.dtype.newbyteorder("<"))[: expected.size]
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def grey(ds: Dataset) -> bool:
    return int(ds.SamplesPerPixel) == 1


def shipped(name: str) -> Dataset:
    return dcmread(Path(str(get_testdata_file(name, download=False))))


def as_file(ds: Dataset) -> Dataset:
    """The data set as the client can write it: with file meta information and a preamble."""
    if getattr(ds, "preamble", None):
        return ds
    syntax = ds.file_meta.TransferSyntaxUID if hasattr(ds, "file_meta") else ExplicitVRLittleEndian
    return dcmread(BytesIO(part10(ds, syntax)))
