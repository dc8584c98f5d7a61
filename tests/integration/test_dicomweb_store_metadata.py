"""STOW-RS of metadata with bulk data parts: JSON and XML, native and compressed pixels, whatever order they come in."""

import base64
import io
import json

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from dicomweb.dicom_xml import to_xml
from tests.dicomweb_support import bodies, path_of
from tests.samples import ct

FAILED, REFERENCED, OTHER = "00081198", "00081199", "0008119A"
JSON_BODY = 'multipart/related; type="application/dicom+json"; boundary=XX'
XML_BODY = 'multipart/related; type="application/dicom+xml"; boundary=XX'


def part(payload: bytes, media_type: str, location: str = "", *, length: bool = False) -> bytes:
    head = f"--XX\r\nContent-Type: {media_type}\r\n"
    head += f"Content-Location: {location}\r\n" if location else ""
    head += f"Content-Length: {len(payload)}\r\n" if length else ""
    return head.encode() + b"\r\n" + payload + b"\r\n"


def metadata(*objects: Dataset, uri: str = "bulk/{}", **without: str) -> list[dict]:
    """DICOM JSON of objects as pydicom writes it, pixels by reference, some attributes left out."""
    items = []
    for number, ds in enumerate(objects):
        item = ds.to_json_dict()
        item["7FE00010"] = {"vr": "OW", "BulkDataURI": uri.format(number)}
        items.append({tag: value for tag, value in item.items() if tag not in without.values()})
    return items


def request(items: list[dict], *parts: bytes) -> bytes:
    return part(json.dumps(items).encode(), "application/dicom+json") + b"".join(parts) + b"--XX--\r\n"


async def post(client, body, content_type=JSON_BODY, path="/dicomweb/studies", **headers):
    return await client.post(path, data=io.BytesIO(body), headers={"Content-Type": content_type} | headers)


async def answer(response):
    return await response.json(content_type=None)


def without_pixels(ds: Dataset) -> dict:
    return {tag: value for tag, value in ds.to_json_dict().items() if tag not in ("00080005", "7FE00010")}


async def retrieved(client, ds: Dataset, syntax: str = "*") -> Dataset:
    accept = {"Accept": f'application/dicom; transfer-syntax="{syntax}"'}
    response = await client.get(path_of(ds), headers=accept)
    assert response.status == 200, await response.text()
    return pydicom.dcmread(io.BytesIO(await response.read()))


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
async def test_json_with_bulk_data_in_any_order(client, order, length):
    objects = [ct(InstanceNumber=n, PixelData=np.full(256, n, "<i2").tobytes()) for n in range(3)]
    bulk = [part(ds.PixelData, "application/octet-stream", f"bulk/{n}", length=length) for n, ds in enumerate(objects)]
    response = await post(client, request(metadata(*objects), *(bulk[n] for n in order)))
    assert response.status == 200, await response.text()
    assert len((await answer(response))[REFERENCED]["Value"]) == 3
    for ds in objects:
        stored = await retrieved(client, ds)
        assert stored.SpecificCharacterSet == "ISO_IR 192"
        assert stored.PixelData == ds.PixelData
        assert without_pixels(stored) == without_pixels(ds)


async def test_xml_with_bulk_data(client):
    objects = [ct(), ct(PatientName="Björk^Ærø=山田^太郎")]
    parts = [part(to_xml(item), "application/dicom+xml") for item in metadata(*objects)]
    parts += [part(ds.PixelData, "application/octet-stream", f"bulk/{n}") for n, ds in enumerate(objects)]
    response = await post(client, b"".join(parts) + b"--XX--", XML_BODY, Accept="application/dicom+xml")
    assert response.status == 200, await response.text()
    assert response.content_type == "application/dicom+xml"
    assert (await response.text()).count('tag="00081155"') == 2
    assert [(await retrieved(client, ds)).PatientName for ds in objects] == [ds.PatientName for ds in objects]
    assert (await retrieved(client, objects[0])).PixelData == objects[0].PixelData


async def test_what_we_answer_is_what_we_take(client, data_folder):
    """Metadata and bulk data of this server, sent back under new UIDs, make the same objects."""
    for name in ("ct-bone/001.dcm", "us/us-rgb-palette-expb.dcm", "enhanced-mf/emri_small_rle.dcm"):
        path = data_folder / name
        original = pydicom.dcmread(path)
        body = path.read_bytes()
        assert (await post(client, body, "application/dicom")).status == 200
        (item,) = await bodies(client, path_of(original) + "/metadata")
        parts = []
        for tag, element in item.items():
            if "BulkDataURI" in element:
                accept = {"Accept": 'multipart/related; type="application/octet-stream"'}
                uri = element["BulkDataURI"]
                fetched = await client.get(uri, headers=accept)
                inner = (await fetched.read()).split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
                if tag == "7FE00010":
                    inner = original.pixel_array.tobytes()
                parts.append(part(inner, "application/octet-stream", uri))
        item["00080018"]["Value"] = [uid := pydicom.uid.generate_uid(None)]
        response = await post(client, request([item], *parts))
        assert response.status == 200, await response.text()
        copy = Dataset()
        copy.update({"StudyInstanceUID": original.StudyInstanceUID, "SeriesInstanceUID": original.SeriesInstanceUID})
        copy.SOPInstanceUID = uid
        stored = await retrieved(client, copy)
        assert (stored.pixel_array == original.pixel_array).all()
        assert stored.Rows == original.Rows


async def test_nested_inline_and_large_bulk_data(client):
    """A palette inline, a document in a sequence by reference, an odd length."""
    ds = ct()
    (item,) = metadata(ds)
    item["00420011"] = {"vr": "OB", "BulkDataURI": "document"}
    item["0040A730"] = {"vr": "SQ", "Value": [{"00700022": {"vr": "FL", "BulkDataURI": "points"}}, {}]}
    item["00281201"] = {"vr": "OW", "InlineBinary": "AAECAw=="}
    points = np.arange(40_000, dtype="<f4").tobytes()
    response = await post(
        client,
        request(
            [item],
            part(ds.PixelData, "application/octet-stream", "/dicomweb/bulk/0"),  # early: waits in the spool
            part(points, "application/octet-stream", "/dicomweb/points"),
            part(b"%PDF-odd.", "application/pdf", "/dicomweb/document"),
        ),
    )
    assert response.status == 200, await response.text()
    stored = await retrieved(client, ds)
    assert stored.EncapsulatedDocument == b"%PDF-odd.\0"
    assert stored.RedPaletteColorLookupTableData == b"\0\1\2\3"
    content = stored[0x0040A730].value
    assert content[0][0x00700022].VR == "UN" or len(content[0][0x00700022].value) == 40_000
    assert stored.PixelData == ds.PixelData


@pytest.mark.parametrize("described", [True, False])
async def test_one_compressed_frame(client, described):
    """A JPEG file is encapsulated as it is; what the metadata leaves out is read from it."""
    picture = io.BytesIO()
    pixels = np.add.outer(np.arange(24), np.arange(32)).astype("u1")
    Image.fromarray(pixels).save(picture, "JPEG")
    tags = ("00280002", "00280004", "00280010", "00280011", "00280100", "00280101", "00280102", "00280103")
    changes = {"Rows": 24, "Columns": 32, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    ds = ct(**changes)
    items = metadata(ds, **({} if described else {tag: tag for tag in tags}))
    response = await post(client, request(items, part(picture.getvalue(), "image/jpeg", "bulk/0")))
    assert response.status == 200, await response.text()
    stored = await retrieved(client, ds)
    assert stored.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
    assert (stored.Rows, stored.Columns, stored.BitsStored, stored.SamplesPerPixel) == (24, 32, 8, 1)
    assert [frame.rstrip(b"\0") for frame in generate_frames(stored.PixelData)] == [picture.getvalue().rstrip(b"\0")]


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
async def test_frames_in_parts_of_their_own(client, data_folder, numbered, reverse):
    source = pydicom.dcmread(data_folder / "enhanced-mf" / "emri_small_rle.dcm")
    frames = list(generate_frames(source.PixelData, number_of_frames=int(source.NumberOfFrames)))
    source.SOPInstanceUID = pydicom.uid.generate_uid(None)
    names = [f"bulk/0/frames/{n}" if numbered else "bulk/0" for n in range(1, len(frames) + 1)]
    parts = [part(frame, "image/dicom-rle", name) for frame, name in zip(frames, names, strict=True)]
    response = await post(client, request(metadata(source), *(parts[::-1] if reverse and numbered else parts)))
    assert response.status == 200, await response.text()
    stored = await retrieved(client, source)
    assert list(generate_frames(stored.PixelData, number_of_frames=len(frames))) == frames
    one = await client.get(path_of(source) + "/frames/3", headers={"Accept": "image/dicom-rle"})
    assert one.status == 200
    assert await one.read() == frames[2]


async def test_pictures_become_native_pixels(client):
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), "u1")
    picture = io.BytesIO()
    Image.fromarray(pixels).save(picture, "PNG")
    ds = ct()
    items = metadata(ds)
    for tag in ("00280010", "00280011"):
        del items[0][tag]
    response = await post(client, request(items, part(picture.getvalue(), "image/png", "bulk/0")))
    assert response.status == 200, await response.text()
    stored = await retrieved(client, ds)
    assert stored.PhotometricInterpretation == "RGB"
    assert (stored.pixel_array == pixels).all()


async def test_an_instance_without_bulk_data_needs_no_multipart(client):
    ds = ct()
    del ds.PixelData
    response = await post(client, json.dumps([ds.to_json_dict()]).encode(), "application/dicom+json")
    assert response.status == 200, await response.text()
    assert (await retrieved(client, ds)).PatientID == ds.PatientID


async def test_one_value_for_two_instances(client):
    objects = [ct(), ct()]
    items = metadata(*objects, uri="shared")
    response = await post(client, request(items, part(objects[0].PixelData, "application/octet-stream", "shared")))
    assert response.status == 200, await response.text()
    assert [(await retrieved(client, ds)).PixelData for ds in objects] == [objects[0].PixelData] * 2


class TestFailures:
    """What is wrong with one instance is said of that instance, and the others are stored."""

    async def test_missing_bulk_data(self, client):
        objects = [ct(), ct()]
        response = await post(
            client, request(metadata(*objects), part(objects[1].PixelData, "application/octet-stream", "bulk/1"))
        )
        assert response.status == 202
        answered = await answer(response)
        (failed,) = answered[FAILED]["Value"]
        assert failed["00081155"]["Value"] == [objects[0].SOPInstanceUID]
        assert failed["00081197"]["Value"] == [0xC000]
        assert len(answered[REFERENCED]["Value"]) == 1
        assert (
            "Bulk data that the metadata of an instance refers to is not in the request." in response.headers["Warning"]
        )

    @pytest.mark.parametrize(
        "uri",
        ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "/dicomweb/studies", "//x\\[", "ftp://["],
    )
    async def test_what_lies_elsewhere_is_never_fetched(self, client, uri):
        response = await post(client, request(metadata(ct(), uri=uri)))
        assert response.status == 400
        assert list(await answer(response)) == ["00081190", FAILED]
        assert uri not in str(response.headers)

    async def test_parts_that_nothing_refers_to(self, client):
        ds = ct()
        good = part(ds.PixelData, "application/octet-stream", "bulk/0")
        stray = part(b"x", "application/octet-stream", "elsewhere")
        response = await post(client, request(metadata(ds), stray, good, good))
        assert response.status == 202
        answered = await answer(response)
        assert len(answered[REFERENCED]["Value"]) == 1
        assert len(answered[OTHER]["Value"]) == 2

    @pytest.mark.parametrize("change", [-2, 2])
    @pytest.mark.parametrize("straight", [True, False])
    async def test_a_value_of_another_length(self, client, change, straight):
        ds = ct()
        value = ds.PixelData + b"xx" if change > 0 else ds.PixelData[:change]
        other = ct()
        parts = [part(value, "application/octet-stream", "bulk/0"), part(other.PixelData, "image/x", "bulk/1")]
        items = metadata(ds, other)
        if not straight:
            parts.reverse()
        response = await post(client, request(items, *parts))
        assert response.status in (400, 409)
        assert len((await answer(response))[FAILED]["Value"]) == 2
        assert (await client.get(path_of(ds))).status == 404

    @pytest.mark.parametrize(
        ("media_type", "payload"),
        [("image/jpeg", b"no jpeg"), ("image/jp2", b""), ("image/png", b"\x89PNG"), ("text/x", b"x")],
    )
    async def test_frames_that_are_not_what_they_say(self, client, media_type, payload):
        ds = ct()
        response = await post(client, request(metadata(ds), part(payload, media_type, "bulk/0")))
        assert response.status in (400, 415), await response.text()
        (failed,) = (await answer(response))[FAILED]["Value"]
        assert failed["00081155"]["Value"] == [ds.SOPInstanceUID]

    async def test_frames_of_another_size_than_the_metadata_says(self, client):
        picture = io.BytesIO()
        Image.new("L", (30, 30)).save(picture, "JPEG")
        response = await post(client, request(metadata(ct()), part(picture.getvalue(), "image/jpeg", "bulk/0")))
        assert response.status == 400
        assert "Rows or Columns" in response.headers["Warning"]

    @pytest.mark.parametrize(
        "document",
        [
            b"", b"{", b"[]", b"[1]", b"null", b'"x"', b"[" * 100_000, b'[{"0008":{}}]', b'[{"00080016":1}]',
            b'[{"00080016":{"vr":"XX","Value":["1"]}}]', b'[{"00100010":{"vr":"PN","BulkDataURI":"x"}}]',
            b'[{"00280010":{"vr":"US","Value":["CANARY"]}}]', b'[{"0040A730":{"vr":"SQ","Value":["CANARY"]}}]',
            b'[{"00281201":{"vr":"OW","InlineBinary":7}}]', b'[{"00080018":{"vr":"UI","Value":["1.2"]}}]', b"\xff\xfe",
        ],
    )  # fmt: skip
    async def test_metadata_that_is_none(self, client, document):
        response = await post(client, part(document, "application/dicom+json") + b"--XX--")
        assert response.status in (400, 409), await response.text()
        assert "CANARY" not in str(response.headers) + await response.text()

    @pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.94", "x"])
    async def test_pixels_that_are_not_native(self, client, syntax):
        """Nothing is stored under the label of little endian pixels that is something else."""
        ds = ct()
        pixels = part(ds.PixelData, f"application/octet-stream; transfer-syntax={syntax}", "bulk/0")
        response = await post(client, request(metadata(ds), pixels))
        assert response.status == 415, await response.text()

    async def test_frames_that_are_too_wide_for_dicom(self, client):
        picture = io.BytesIO()
        Image.new("L", (70_000, 1)).save(picture, "PNG")
        items = metadata(ct())
        for tag in ("00280010", "00280011"):
            del items[0][tag]
        response = await post(client, request(items, part(picture.getvalue(), "image/png", "bulk/0")))
        assert response.status == 400, await response.text()

    async def test_an_icon_that_is_compressed(self, client):
        ds = ct()
        del ds.PixelData
        item = ds.to_json_dict()
        icon = {"7FE00010": {"vr": "OB", "BulkDataURI": "icon"}}
        item["00880200"] = {"vr": "SQ", "Value": [icon]}
        response = await post(client, request([item], part(b"\xff\xd8", "image/jpeg", "icon")))
        assert response.status == 415, await response.text()
        response = await post(client, request([item], part(b"1234", "application/octet-stream", "icon")))
        assert response.status == 200, await response.text()
        assert (await retrieved(client, ds)).IconImageSequence[0].PixelData == b"1234"

    async def test_offset_tables_of_another_encapsulation(self, client):
        """They would lead readers astray: the fragments are made anew."""
        ds = ct(NumberOfFrames=2, BitsAllocated=8, BitsStored=8, HighBit=7)
        items = metadata(ds)
        items[0]["7FE00001"] = {"vr": "OV", "InlineBinary": base64.b64encode(bytes(16)).decode()}
        items[0]["7FE00002"] = {"vr": "OV", "InlineBinary": base64.b64encode(bytes(16)).decode()}
        frames = [io.BytesIO(), io.BytesIO()]
        for frame in frames:
            Image.new("L", (ds.Columns, ds.Rows)).save(frame, "JPEG")
        named = [part(one.getvalue(), "image/jpeg", f"bulk/0/frames/{n}") for n, one in enumerate(frames, start=1)]
        response = await post(client, request(items, *named))
        assert response.status == 200, await response.text()
        stored = await retrieved(client, ds)
        assert "ExtendedOffsetTable" not in stored
        assert stored.pixel_array.shape == (2, ds.Rows, ds.Columns)

    async def test_one_of_two_in_an_array(self, client):
        good = ct()
        del good.PixelData
        bad = {"00080018": {"vr": "UI", "Value": ["1.2.3"]}, "00280010": {"vr": "US", "Value": ["x"]}}
        response = await post(client, request([bad, good.to_json_dict()]))
        assert response.status == 202
        answered = await answer(response)
        assert answered[FAILED]["Value"][0]["00081155"]["Value"] == ["1.2.3"]
        assert len(answered[REFERENCED]["Value"]) == 1

    async def test_metadata_of_another_study(self, client):
        ds = ct()
        body = request(metadata(ds), part(ds.PixelData, "application/octet-stream", "bulk/0"))
        response = await post(client, body, path="/dicomweb/studies/1.2.3")
        assert response.status == 409
        assert (await answer(response))[FAILED]["Value"][0]["00081155"]["Value"] == [ds.SOPInstanceUID]

    async def test_a_caller_who_cannot_take_the_answer_stores_nothing(self, client):
        ds = ct()
        del ds.PixelData
        body = json.dumps([ds.to_json_dict()]).encode()
        response = await post(client, body, "application/dicom+json", Accept="image/png")
        assert response.status == 406
        assert (await client.get(path_of(ds))).status == 404


async def test_metadata_passes_the_profile(open_archive, serve):
    """What comes as metadata and bulk data is de-identified as a DICOM file is."""
    client = await serve(await open_archive(ISTHMUS_INGEST__PROFILE="research"))
    ds = ct()
    body = request(metadata(ds), part(ds.PixelData, "application/octet-stream", "bulk/0"))
    response = await post(client, body)
    assert response.status == 200, await response.text()
    (item,) = (await answer(response))[REFERENCED]["Value"]
    assert item["00081155"]["Value"] == [ds.SOPInstanceUID]
    (found,) = await bodies(client, "/dicomweb/instances?includefield=00100010")
    assert found["00080018"]["Value"] != [ds.SOPInstanceUID]
    assert "Quixote" not in json.dumps(found)
