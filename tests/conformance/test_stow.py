"""STOW-RS: PS3.18 section 10.5 and Annex I."""

import io
import json
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import generate_frames

from tests.conformance import native, objects
from tests.conformance.caller import JSON, Answer, Caller, value_of
from tests.conformance.objects import uid
from tests.conformance.test_wado_rs import JPEG_BASELINE, read
from tests.dicomweb_support import multipart

RETRIEVE_URL, FAILED, REFERENCED, OTHER = "00081190", "00081198", "00081199", "0008119A"
INSTANCE, REASON, WARNING = "00081155", "00081197", "00081196"
DICOM_FILE = "application/dicom"
Payload = tuple[str, str | None, bytes]


def body_of(parts: Sequence[Payload]) -> bytes:
    """A multipart body of (media type, location, payload)."""
    written = b""
    for media_type, location, payload in parts:
        where = f"Content-Location: {location}\r\n" if location else ""
        written += f"--XX\r\nContent-Type: {media_type}\r\n{where}\r\n".encode() + payload + b"\r\n"
    return written + b"--XX--\r\n"


async def post(
    server: Caller, body: Any, root: str = "application/dicom", path: str = "/studies", **more: Any
) -> Answer:
    """Send a multipart body whose parts are of the type `root`."""
    headers = {"Content-Type": f'multipart/related; type="{root}"; boundary=XX'}
    return await server.send("POST", path, data=body, headers=headers, **more)


async def store(server: Caller, *images: pydicom.Dataset, path: str = "/studies", **more: Any) -> Answer:
    """Store objects as files."""
    return await post(server, multipart(*(objects.file_of(one) for one in images)), path=path, **more)


def uids(answer: Answer, sequence: str) -> list[str]:
    """The SOP Instance UIDs of a sequence of the response."""
    return [value_of(item, INSTANCE) for item in answer.json().get(sequence, {}).get("Value", [])]


def pair(name: str) -> list[pydicom.Dataset]:
    """Two images of two studies."""
    return [objects.image(f"{name} {one}", f"{name} {one}", f"{name} {one}") for one in (1, 2)]


def metadata(ds: pydicom.Dataset, uri: str | None = "bulk/1", tag: str = "7FE00010") -> dict[str, Any]:
    """A data set as DICOM JSON; a value replaced by a BulkDataURI."""
    item: dict[str, Any] = ds.to_json_dict(bulk_data_threshold=1 << 30)
    if uri is None:
        item.pop(tag, None)
    else:
        item[tag] = {"vr": "OW" if ds.get("BitsAllocated", 8) > 8 else "OB", "BulkDataURI": uri}
    return dict(sorted(item.items()))


def sent(ds: pydicom.Dataset) -> dict[str, Any]:
    """A data set as DICOM JSON, as it would be read from its file."""
    item: dict[str, Any] = read(objects.file_of(ds)).to_json_dict(bulk_data_threshold=1 << 30)
    return item


def as_json(*items: dict[str, Any]) -> Payload:
    """The part with all metadata."""
    return JSON, None, json.dumps(items).encode()


def as_xml(item: dict[str, Any]) -> Payload:
    """The part with the metadata of one instance."""
    root = ET.Element("NativeDicomModel", xmlns=native.NAMESPACE.strip("{}"))
    _fill(root, item)
    return "application/dicom+xml", None, ET.tostring(root, encoding="utf-8", xml_declaration=True)


def _fill(parent: ET.Element, item: dict[str, Any]) -> None:
    for tag, one in item.items():
        attribute = ET.SubElement(parent, "DicomAttribute", tag=tag, vr=one["vr"])
        if "BulkDataURI" in one:
            ET.SubElement(attribute, "BulkData", uri=one["BulkDataURI"])
        if "InlineBinary" in one:
            ET.SubElement(attribute, "InlineBinary").text = one["InlineBinary"]
        for number, value in enumerate(one.get("Value", []), 1):
            _value(attribute, one["vr"], str(number), value)


def _value(attribute: ET.Element, vr: str, number: str, value: Any) -> None:
    if vr == "SQ":
        _fill(ET.SubElement(attribute, "Item", number=number), value)
    elif vr == "PN":
        name = ET.SubElement(attribute, "PersonName", number=number)
        for group, text in value.items():
            parts = ET.SubElement(name, group)
            for kind, part in zip(("FamilyName", "GivenName"), text.split("^"), strict=False):
                ET.SubElement(parts, kind).text = part
    else:
        ET.SubElement(attribute, "Value", number=number).text = str(value)


async def stored(server: Caller, ds: pydicom.Dataset, accept: str = "application/dicom; transfer-syntax=*") -> Any:
    """What the archive holds of an object."""
    path = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    answer = await server.get(path, accept)
    assert answer.status == 200, (answer.status, answer.body)
    return read(answer.body)


async def test_stow_01_instances_of_several_studies(server, fresh):
    images = pair(fresh)
    answer = await store(server, *images)
    assert answer.status == 200
    assert uids(answer, REFERENCED) == [one.SOPInstanceUID for one in images]


async def test_stow_02_the_study_of_the_path(server, fresh):
    inside, outside = pair(fresh)
    path = f"/studies/{inside.StudyInstanceUID}"
    assert (await store(server, inside, path=path)).status == 200
    answer = await store(server, outside, path=path)
    assert answer.status == 409
    assert uids(answer, FAILED) == [outside.SOPInstanceUID]


async def test_stow_03_what_was_stored_can_be_read_at_once(server, fresh):
    for image in pair(fresh):
        await store(server, image)
        assert (await stored(server, image)).PixelData == image.PixelData
        assert len(await server.items(f"/instances?SOPInstanceUID={image.SOPInstanceUID}")) == 1


async def test_stow_04_all_stored_is_200(server, fresh):
    answer = await store(server, *pair(fresh))
    assert answer.status == 200
    assert not {FAILED, OTHER} & set(answer.json())


async def test_stow_05_some_stored_is_202(server, fresh):
    inside, outside = pair(fresh)
    answer = await store(server, inside, outside, path=f"/studies/{inside.StudyInstanceUID}")
    assert answer.status == 202
    assert (uids(answer, REFERENCED), uids(answer, FAILED)) == ([inside.SOPInstanceUID], [outside.SOPInstanceUID])


async def test_stow_06_none_stored_is_409(server, fresh):
    answer = await store(server, *pair(fresh), path="/studies/1.2.3")
    assert answer.status == 409
    assert REFERENCED not in answer.json()
    assert len(uids(answer, FAILED)) == 2


@pytest.mark.parametrize("body", [b"", b"--XX--\r\n", b"nothing", multipart(b"no DICOM")[:-8]])
async def test_stow_07_bad_syntax_is_400(server, body):
    assert (await post(server, body)).status == 400


async def test_stow_39_a_part_that_is_no_dicom_is_a_failure_of_its_own(server):
    answer = await post(server, multipart(b"no DICOM"))
    assert answer.status == 409
    assert "0008119A" in answer.json()


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=XX", "application/octet-stream"])
async def test_stow_08_other_media_types_are_415(server, fresh, content_type):
    body = multipart(objects.file_of(pair(fresh)[0]))
    assert (await server.send("POST", "/studies", data=body, headers={"Content-Type": content_type})).status == 415


async def test_stow_09_the_retrieve_url_of_the_study(server, fresh):
    image = pair(fresh)[0]
    answer = await store(server, image)
    url = f"{server.base}/studies/{image.StudyInstanceUID}"
    assert answer.json()[RETRIEVE_URL] == {"vr": "UR", "Value": [url]}
    several = await store(server, *pair(fresh + "x"))
    assert several.json()[RETRIEVE_URL] == {"vr": "UR"}, "present, and empty where there is no single study"


async def test_stow_10_the_referenced_sop_sequence(server, fresh):
    image = pair(fresh)[0]
    ((item,)) = (await store(server, image)).json()[REFERENCED]["Value"]
    assert value_of(item, "00081150") == image.SOPClassUID
    assert value_of(item, INSTANCE) == image.SOPInstanceUID
    assert (await server.get(value_of(item, RETRIEVE_URL), "application/dicom")).status == 200


async def test_stow_11_the_failed_sop_sequence(server, fresh):
    inside, outside = pair(fresh)
    answer = await store(server, inside, outside, path=f"/studies/{inside.StudyInstanceUID}")
    (item,) = answer.json()[FAILED]["Value"]
    assert value_of(item, "00081150") == outside.SOPClassUID
    assert item[REASON]["vr"] == "US"
    reason = value_of(item, REASON)
    assert isinstance(reason, int)
    assert reason in {0x0110, 0x0122} or 0xA700 <= reason <= 0xA7FF or 0xA900 <= reason <= 0xA9FF or reason >> 12 == 0xC


async def test_stow_12_other_failures(server, fresh):
    answer = await post(server, multipart(objects.file_of(pair(fresh)[0]), b"no DICOM at all"))
    assert answer.status == 202
    (item,) = answer.json()[OTHER]["Value"]
    assert isinstance(value_of(item, REASON), int)


async def test_stow_13_locations(server, fresh):
    image = pair(fresh)[0]
    answer = await store(server, image)
    for field in ("Location", "Content-Location"):
        assert answer.headers[field].startswith(f"{server.base}/studies/{image.StudyInstanceUID}")


async def test_stow_14_the_warning_names_a_status(server, fresh):
    answer = await store(server, *pair(fresh), path="/studies/1.2.3")
    assert answer.headers["Warning"][:4] == f"{value_of(answer.json()[FAILED]['Value'][0], REASON):04X}"
    assert server.base in answer.headers["Warning"]


async def test_stow_15_the_response_as_json_or_xml(server, fresh):
    first, second = pair(fresh)
    for accept in ("*/*", JSON, None):
        assert (await store(server, first, accept=accept)).media_type == JSON
    answer = await store(server, second, accept="application/dicom+xml")
    assert (answer.status, answer.media_type) == (200, "application/dicom+xml")
    model = native.read(answer.body)
    assert model[REFERENCED][1][0][INSTANCE] == ("UI", [second.SOPInstanceUID])


async def test_stow_16_nothing_is_coerced(server, fresh):
    image = pair(fresh)[0]
    assert WARNING not in (await store(server, image)).json()[REFERENCED]["Value"][0]
    kept = await stored(server, image)
    assert kept.to_json_dict(bulk_data_threshold=1 << 30) == sent(image)
    assert "OriginalAttributesSequence" not in kept


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/related; type=application/dicom; boundary=XX",
        'multipart/related; type="application/dicom"; boundary="XX"',
        "MULTIPART/RELATED; BOUNDARY=XX; TYPE=Application/DICOM",
        "multipart/related;boundary=XX;type=application/dicom;start=a",
    ],
)
async def test_stow_17_quotes_and_case_make_no_difference(server, fresh, content_type):
    body = multipart(objects.file_of(pair(fresh)[0]))
    assert (await server.send("POST", "/studies", data=body, headers={"Content-Type": content_type})).status == 200


async def test_stow_18_transfer_encodings(server, fresh):
    body = multipart(*(objects.file_of(one) for one in pair(fresh)))

    async def chunks():
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    assert (await post(server, chunks())).status == 200


async def test_stow_19_metadata_as_json_with_bulk_data(server, fresh):
    images = pair(fresh)
    parts = [as_json(*(metadata(one, f"bulk/{number}") for number, one in enumerate(images)))]
    parts += [("application/octet-stream", f"bulk/{number}", one.PixelData) for number, one in enumerate(images)]
    answer = await post(server, body_of(parts), JSON)
    assert answer.status == 200, answer.body
    for image in images:
        kept = (await stored(server, image)).to_json_dict(bulk_data_threshold=1 << 30)
        assert kept.pop("00080005") == {"vr": "CS", "Value": ["ISO_IR 192"]}, "JSON and XML are Unicode"
        assert kept == sent(image)


async def test_stow_20_metadata_as_xml_with_bulk_data(server, fresh):
    images = pair(fresh)
    parts = [as_xml(metadata(one, f"bulk/{number}")) for number, one in enumerate(images)]
    parts += [("application/octet-stream", f"bulk/{number}", one.PixelData) for number, one in enumerate(images)]
    answer = await post(server, body_of(parts), "application/dicom+xml")
    assert answer.status == 200, answer.body
    for image in images:
        kept = (await stored(server, image)).to_json_dict(bulk_data_threshold=1 << 30)
        assert kept.pop("00080005") == {"vr": "CS", "Value": ["ISO_IR 192"]}, "JSON and XML are Unicode"
        assert kept == sent(image)


async def test_stow_21_metadata_without_bulk_data(server, fresh):
    note = objects.report()
    note.StudyInstanceUID, note.SOPInstanceUID, note.SeriesInstanceUID = uid(fresh), uid(fresh), uid(fresh)
    answer = await post(server, body_of([as_json(metadata(note, None))]), JSON)
    assert answer.status == 200, answer.body
    assert (await stored(server, note)).ContentSequence[0].TextValue == "Windmills, not giants"


async def test_stow_22_bulk_data_that_is_missing(server, fresh):
    whole, torn = pair(fresh)
    parts = [as_json(metadata(whole, "bulk/1"), metadata(torn, "bulk/none"))]
    parts += [("application/octet-stream", "bulk/1", whole.PixelData)]
    answer = await post(server, body_of(parts), JSON)
    assert answer.status == 202
    assert (uids(answer, REFERENCED), uids(answer, FAILED)) == ([whole.SOPInstanceUID], [torn.SOPInstanceUID])


async def test_stow_23_jpeg_bulk_data_stays_as_it_is(server, fresh):
    image = objects.eight_bits(fresh, objects.colours(), "YBR_FULL_422")
    coded = objects.jpeg_of(objects.colours())
    parts = [as_json(metadata(image)), ("image/jpeg", "bulk/1", coded)]
    answer = await post(server, body_of(parts), JSON)
    assert answer.status == 200, answer.body
    kept = await stored(server, image)
    assert kept.file_meta.TransferSyntaxUID == JPEG_BASELINE
    (frame,) = generate_frames(kept.PixelData, number_of_frames=1)
    assert frame.rstrip(b"\0") == coded.rstrip(b"\0")


@pytest.mark.parametrize("form", ["PNG", "GIF"])
async def test_stow_24_png_and_gif_bulk_data_are_transformed_without_loss(server, fresh, form):
    image = objects.eight_bits(fresh, objects.colours(), "RGB")
    out = io.BytesIO()
    Image.fromarray(objects.colours()).save(out, form)
    parts = [as_json(metadata(image)), (f"image/{form.lower()}", "bulk/1", out.getvalue())]
    answer = await post(server, body_of(parts), JSON)
    assert answer.status == 200, answer.body
    kept = await stored(server, image, "application/dicom")
    assert kept.PhotometricInterpretation in {"RGB", "PALETTE COLOR"}
    pixels = pydicom.pixels.pixel_array(kept)
    if kept.PhotometricInterpretation == "PALETTE COLOR":
        pixels = pydicom.pixels.apply_color_lut(pixels, kept) >> 8
    assert np.array_equal(pixels, objects.colours())


async def test_stow_25_the_pixel_description_may_be_left_out(server, fresh):
    image = objects.eight_bits(fresh, objects.colours(), "YBR_FULL_422")
    for element in [one for one in image if one.tag.group == 0x0028]:
        del image[element.tag]
    parts = [as_json(metadata(image)), ("image/jpeg", "bulk/1", objects.jpeg_of(objects.colours()))]
    answer = await post(server, body_of(parts), JSON)
    assert answer.status == 200, answer.body
    kept = await stored(server, image)
    assert (kept.Rows, kept.Columns, kept.SamplesPerPixel, kept.BitsAllocated) == (16, 24, 3, 8)
    assert (kept.BitsStored, kept.HighBit, kept.PixelRepresentation) == (8, 7, 0)


async def test_stow_26_frames_of_a_multi_frame_image_one_part_each(server, fresh):
    image = objects.grey(fresh, 3)
    frames = np.frombuffer(image.PixelData, "<u2").reshape(3, objects.ROWS, objects.COLUMNS)
    coded = [imagecodecs.jpeg2k_encode(one, level=0, reversible=True, codecformat="j2k") for one in frames]
    parts = [as_json(metadata(image)), *(("image/jp2", "bulk/1", bytes(one)) for one in coded)]
    answer = await post(server, body_of(parts), JSON)
    assert answer.status == 200, answer.body
    kept = await stored(server, image, "application/dicom")
    assert np.array_equal(pydicom.pixels.pixel_array(kept), frames)


async def test_stow_27_videos_stay_as_they_are(server, fresh):
    image = objects.film()
    image.SOPInstanceUID, image.StudyInstanceUID, image.SeriesInstanceUID = uid(fresh), uid(fresh), uid(fresh)
    parts = [as_json(metadata(image)), ("video/mp4; transfer-syntax=1.2.840.10008.1.2.4.102", "bulk/1", objects.FILM)]
    answer = await post(server, body_of(parts), JSON)
    assert answer.status == 200, answer.body
    path = f"/studies/{uid(fresh)}/series/{uid(fresh)}/instances/{uid(fresh)}/rendered"
    assert (await server.get(path, "video/mp4")).body == objects.FILM


async def test_stow_28_encapsulated_documents_by_their_own_type(server, fresh):
    letter = objects.pdf()
    letter.SOPInstanceUID, letter.StudyInstanceUID, letter.SeriesInstanceUID = uid(fresh), uid(fresh), uid(fresh)
    parts = [as_json(metadata(letter, "bulk/1", "00420011")), ("application/pdf", "bulk/1", objects.PDF)]
    answer = await post(server, body_of(parts), JSON)
    assert answer.status == 200, answer.body
    assert (await stored(server, letter)).EncapsulatedDocument.rstrip(b"\0") == objects.PDF.rstrip(b"\0")


async def test_stow_29_a_single_instance_as_a_single_part(server, fresh):
    body = objects.file_of(pair(fresh)[0])
    answer = await server.send("POST", "/studies", data=body, headers={"Content-Type": "application/dicom"})
    assert answer.status == 200


async def test_stow_30_the_same_again_changes_nothing(server, fresh):
    image = pair(fresh)[0]
    assert (await store(server, image)).status == 200
    assert (await store(server, image)).status == 200
    assert len(await server.items(f"/instances?SOPInstanceUID={image.SOPInstanceUID}")) == 1


async def test_stow_31_other_content_with_the_same_uid_conflicts(server, fresh):
    image = pair(fresh)[0]
    await store(server, image)
    image.PatientName = "Somebody^Else"
    answer = await store(server, image)
    assert answer.status == 409
    assert uids(answer, FAILED) == [image.SOPInstanceUID]
    assert (await stored(server, image)).PatientName == "Quixote^Alonso"


@pytest.mark.parametrize("name", ["implicit", "big", "deflated", "rle", "jls", "j2k", "lossy"])
async def test_stow_32_every_transfer_syntax(server, fresh, name):
    # All were stored by the fixture; what counts here is that each was kept whole.
    content = objects.pixels()[name]
    answer = await post(server, multipart(content))
    assert (answer.status, uids(answer, REFERENCED)) == (200, [read(content).SOPInstanceUID])


async def test_stow_33_group_2_in_metadata_is_not_taken(server, fresh):
    image = pair(fresh)[0]
    item = {"00020010": {"vr": "UI", "Value": ["1.2.840.10008.1.2.4.90"]}} | metadata(image)
    answer = await post(server, body_of([as_json(item), ("application/octet-stream", "bulk/1", image.PixelData)]), JSON)
    if answer.status == 200:
        assert (await stored(server, image)).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    else:
        assert answer.status in {400, 409}


async def test_stow_34_an_unacceptable_answer_stores_nothing(server, fresh):
    image = pair(fresh)[0]
    answer = await store(server, image, accept="image/jpeg")
    assert answer.status == 406
    assert await server.items(f"/instances?SOPInstanceUID={image.SOPInstanceUID}") == []


async def test_stow_35_inline_binary(server, fresh):
    image = pair(fresh)[0]
    answer = await post(server, body_of([as_json(sent(image))]), JSON)
    assert answer.status == 200, answer.body
    assert (await stored(server, image)).PixelData == image.PixelData


@pytest.mark.parametrize(
    "text", [b"{", b"[]", b"[1]", b'[{"00080018": 5}]', b'[{"00080018": {"vr": "UI"}}]', b"\xff\xfe"]
)
async def test_stow_36_metadata_that_cannot_be(server, text):
    answer = await post(server, body_of([(JSON, None, text)]), JSON)
    assert answer.status in {400, 409}


@pytest.mark.parametrize(
    "text",
    [
        b"<",
        b"<NativeDicomModel/>",
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><NativeDicomModel>&b;</NativeDicomModel>',
        b"<a/>",
    ],
)
async def test_stow_37_xml_that_cannot_be(server, text):
    answer = await post(server, body_of([("application/dicom+xml", None, text)]), "application/dicom+xml")
    assert answer.status in {400, 409}
    assert b"root:" not in answer.body


@pytest.mark.parametrize("form", ["jp2", "jph", "jxl"])
async def test_stow_38_jpeg_2000_and_jpeg_xl_stay_as_they_are(server, fresh, form):
    image = objects.grey(fresh)
    pixels = np.frombuffer(image.PixelData, "<u2").reshape(objects.ROWS, objects.COLUMNS)
    coded = {
        "jp2": lambda: imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="jp2"),
        "jph": lambda: imagecodecs.htj2k_encode(pixels, reversible=True),
        "jxl": lambda: imagecodecs.jpegxl_encode(pixels, lossless=True),
    }[form]()
    answer = await post(server, body_of([as_json(metadata(image)), (f"image/{form}", "bulk/1", bytes(coded))]), JSON)
    assert answer.status == 200, answer.body
    kept = await stored(server, image)
    expected = {"jp2": {"90"}, "jph": {"201"}, "jxl": {"110", "112"}}[form]
    assert kept.file_meta.TransferSyntaxUID.rpartition(".")[2] in expected
    (frame,) = generate_frames(kept.PixelData, number_of_frames=1)
    if form != "jxl":
        assert frame.startswith(b"\xff\x4f\xff\x51"), "a JP2 box does not belong into DICOM"
        assert frame.rstrip(b"\0") in bytes(coded)
    read_back = imagecodecs.jpegxl_decode(frame) if form == "jxl" else imagecodecs.jpeg2k_decode(frame)
    assert np.array_equal(read_back, pixels)
