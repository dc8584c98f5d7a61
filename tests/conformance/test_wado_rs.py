"""WADO-RS but for renderings: PS3.18 sections 8.6, 8.7, 10.4 and Annex F."""

import base64
import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.encaps import generate_frames

from tests.conformance import native, objects
from tests.conformance.caller import DICOM, JSON, OCTETS, XML, Caller, keep, value_of
from tests.conformance.objects import catalogue, documents, pixels, uid

EXPLICIT = "1.2.840.10008.1.2.1"
JPEG_LOSSLESS, JPEG_BASELINE, JPEG_LS = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80"
J2K_LOSSLESS, RLE, HTJ2K = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.201"
STUDY = f"/studies/{uid('CONF-A')}"
SERIES = f"{STUDY}/series/{uid('A axial')}"
INSTANCE = f"{SERIES}/instances/{uid('axial 1')}"
PIXELS = f"/studies/{uid('CONF-PIXELS')}"
DOCS = f"/studies/{uid('CONF-DOCS')}"
LEVELS = [(STUDY, 5), (SERIES, 3), (INSTANCE, 1)]


def picture(name: str) -> str:
    """The path of an instance of the study CONF-PIXELS."""
    return f"{PIXELS}/series/{uid(f'pixels {name}')}/instances/{uid(name)}"


def document(name: str) -> str:
    """The path of an instance of the study CONF-DOCS."""
    series = "pixels film" if name == "film" else f"docs {name}"
    return f"{DOCS}/series/{uid(series)}/instances/{uid(name)}"


def read(content: bytes) -> pydicom.FileDataset:
    """A Part 10 file."""
    return pydicom.dcmread(io.BytesIO(content))


def grey(name: str, frames: int = 1) -> np.ndarray:
    """The pixels of a grey image: frames x rows x columns."""
    raw = objects.grey(name, frames).PixelData
    return np.frombuffer(raw, "<u2").reshape(frames, objects.ROWS, objects.COLUMNS)


def of_syntax(uid_: str, media_type: str = "application/dicom") -> str:
    """A media range for a multipart payload in a transfer syntax."""
    return f'multipart/related; type="{media_type}"; transfer-syntax={uid_}'


@pytest.mark.parametrize(("path", "count"), LEVELS)
async def test_wado_01_instances_of_each_level(server, path, count):
    answer = await server.get(path, DICOM)
    assert answer.status == 200
    parts = answer.parts()
    assert len(parts) == count
    assert {part.media_type for part in parts} == {"application/dicom"}
    assert len({read(part.body).SOPInstanceUID for part in parts}) == count


async def test_wado_02_multipart_dicom_is_the_default(server):
    for path, count in LEVELS:
        assert len((await server.get(path, "*/*")).parts()) == count
        assert (
            (await server.get(path, "*/*"))
            .headers["Content-Type"]
            .startswith('multipart/related; type="application/dicom"')
        )


async def test_wado_03_a_single_instance_as_a_single_part(server):
    answer = await server.get(INSTANCE, "application/dicom")
    assert (answer.status, answer.media_type) == (200, "application/dicom")
    assert read(answer.body).SOPInstanceUID == uid("axial 1")


async def test_wado_04_no_single_part_for_more_than_one_instance(server):
    assert (await server.get(SERIES, "application/dicom")).status == 406
    assert (await server.get(STUDY, "application/dicom")).status == 406


async def test_wado_05_octet_streams_of_instance_resources_are_their_bulk_data(server):
    for path in (SERIES, INSTANCE):
        answer = await server.get(path, OCTETS)
        assert answer.status == 200
        bulk = await server.get(path + "/bulkdata", OCTETS)
        assert [part.body for part in answer.parts()] == [part.body for part in bulk.parts()]
    assert catalogue()["axial 1"].PixelData in [part.body for part in answer.parts()]


@pytest.mark.parametrize("name", ["rle", "jls", "j2k"])
async def test_wado_06_explicit_little_endian_unless_asked_otherwise(server, name):
    (part,) = (await server.get(picture(name), DICOM)).parts()
    ds = read(part.body)
    assert ds.file_meta.TransferSyntaxUID == EXPLICIT
    expected = grey(name, 1 if name == "jls" else 3)
    assert np.array_equal(np.frombuffer(ds.PixelData, "<u2").reshape(expected.shape), expected)


@pytest.mark.parametrize(
    ("name", "syntax"),
    [("rle", RLE), ("jls", JPEG_LS), ("j2k", J2K_LOSSLESS), ("lossy", JPEG_BASELINE), ("grey", EXPLICIT)],
)
async def test_wado_07_any_transfer_syntax_is_as_stored(server, name, syntax):
    for wildcard in ("*", '"*"'):
        (part,) = (await server.get(picture(name), of_syntax(wildcard))).parts()
        assert read(part.body).file_meta.TransferSyntaxUID == syntax
        assert read(part.body).PixelData == read(pixels()[name]).PixelData


async def test_wado_08_what_is_only_held_lossy_is_sent_lossy_or_decoded(server):
    (part,) = (await server.get(picture("lossy"), DICOM)).parts()
    ds = read(part.body)
    assert part.transfer_syntax == ds.file_meta.TransferSyntaxUID
    assert ds.file_meta.TransferSyntaxUID in {EXPLICIT, JPEG_BASELINE}
    assert ds.LossyImageCompression == "01"
    assert np.abs(pydicom.pixels.pixel_array(ds).astype(int) - objects.colours()).mean() < 10


@pytest.mark.parametrize("name", ["implicit", "big", "deflated"])
@pytest.mark.parametrize("accept", [DICOM, of_syntax("*"), "application/dicom"])
async def test_wado_09_never_implicit_nor_big_endian(server, name, accept):
    answer = await server.get(picture(name), accept)
    body = answer.body if accept == "application/dicom" else answer.parts()[0].body
    assert read(body).file_meta.TransferSyntaxUID == EXPLICIT
    assert read(body).PixelData == grey(name).tobytes()


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
async def test_wado_10_implicit_and_big_endian_are_refused(server, syntax):
    assert (await server.get(INSTANCE, of_syntax(syntax))).status == 406
    answer = await server.get(INSTANCE, f"{of_syntax(syntax)}, {of_syntax(EXPLICIT)}; q=0.1")
    assert read(answer.parts()[0].body).file_meta.TransferSyntaxUID == EXPLICIT


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS, JPEG_LS, J2K_LOSSLESS, RLE, HTJ2K])
async def test_wado_11_instances_in_the_lossless_syntax_asked_for(server, syntax):
    for name, frames in (("grey", 1), ("frames", 5), ("rle", 3)):
        (part,) = (await server.get(picture(name), of_syntax(syntax))).parts()
        ds = read(part.body)
        assert ds.file_meta.TransferSyntaxUID == syntax
        coded = list(generate_frames(ds.PixelData, number_of_frames=frames))
        assert np.array_equal([decoded(one, syntax) for one in coded], grey(name, frames))


def decoded(frame: bytes, syntax: str) -> np.ndarray:
    """A frame of 16-bit pixels, read by libraries called directly."""
    if syntax == RLE:
        return run_lengths(frame)
    decoders = {JPEG_LOSSLESS: imagecodecs.ljpeg_decode, JPEG_LS: imagecodecs.jpegls_decode}
    return np.asarray(decoders.get(syntax, imagecodecs.jpeg2k_decode)(frame))


def run_lengths(frame: bytes) -> np.ndarray:
    """A frame of two segments, the high bytes first (PS3.5 Annex G)."""
    count, first, second = np.frombuffer(frame[:12], "<u4")
    assert count == 2
    size = objects.ROWS * objects.COLUMNS
    segments = (frame[first:second], frame[second:])
    high, low = (np.frombuffer(imagecodecs.packbits_decode(one)[:size], "u1") for one in segments)
    return (high.astype("<u2") * 256 + low).reshape(objects.ROWS, objects.COLUMNS)


async def test_wado_12_jpeg_baseline_of_eight_bits(server):
    (part,) = (await server.get(picture("rgb"), of_syntax(JPEG_BASELINE))).parts()
    ds = read(part.body)
    assert ds.file_meta.TransferSyntaxUID == JPEG_BASELINE
    assert ds.LossyImageCompression == "01"
    assert ds.PhotometricInterpretation == "YBR_FULL_422"
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    assert frame[:2] == b"\xff\xd8"
    assert np.abs(imagecodecs.jpeg8_decode(frame).astype(int) - objects.colours()).mean() < 20
    assert (await server.get(picture("grey"), of_syntax(JPEG_BASELINE))).status == 406, "12 bits do not fit"


async def test_wado_13_unknown_transfer_syntaxes_are_not_acceptable(server):
    assert (await server.get(INSTANCE, of_syntax("1.2.840.10008.1.2.4.999"))).status == 406
    answer = await server.get(INSTANCE, f"{of_syntax('1.2.840.10008.1.2.4.999')}, {DICOM};q=0.5")
    assert answer.status == 200


async def test_wado_14_alternatives_by_quality(server):
    accept = f"{of_syntax(RLE)};q=0.4, {of_syntax(JPEG_LS)};q=0.9"
    assert read((await server.get(picture("grey"), accept)).parts()[0].body).file_meta.TransferSyntaxUID == JPEG_LS
    accept = f"{of_syntax(RLE)};q=0.9, {of_syntax(JPEG_LS)};q=0.4"
    assert read((await server.get(picture("grey"), accept)).parts()[0].body).file_meta.TransferSyntaxUID == RLE


async def test_wado_15_parts_are_labelled_with_their_transfer_syntax(server):
    for accept, syntax in ((of_syntax("*"), RLE), (DICOM, EXPLICIT), (of_syntax(JPEG_LS), JPEG_LS)):
        (part,) = (await server.get(picture("rle"), accept)).parts()
        assert part.transfer_syntax == syntax == read(part.body).file_meta.TransferSyntaxUID


async def test_wado_16_parts_say_which_instance_they_are(server):
    for part in (await server.get(SERIES, DICOM)).parts():
        ds = read(part.body)
        assert part.headers["Content-Location"] == f"{server.base}{SERIES}/instances/{ds.SOPInstanceUID}"


async def test_wado_17_the_data_set_is_the_one_that_was_stored(server):
    for name, content in {**pixels(), **documents()}.items():
        path = f"/instances?SOPInstanceUID={read(content).SOPInstanceUID}"
        (item,) = await server.items(path)
        answer = await server.get(value_of(item, "00081190"), "application/dicom; transfer-syntax=*")
        assert same(read(answer.body), read(content)), name


def same(one: pydicom.Dataset, other: pydicom.Dataset) -> bool:
    """Whether two data sets have the same elements; the pixels of big endian files are compared as words."""
    left, right = one.to_json_dict(), other.to_json_dict()
    if getattr(other, "file_meta", None) and other.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.2":
        words = np.frombuffer(other.PixelData, ">u2").astype("<u2").tobytes()
        right["7FE00010"]["InlineBinary"] = base64.b64encode(words).decode()
    return left == right


@pytest.mark.parametrize(("path", "count"), LEVELS)
async def test_wado_20_metadata_of_each_level(server, path, count):
    answer = await server.get(path + "/metadata", JSON)
    assert (answer.status, answer.media_type, len(answer.json())) == (200, JSON, count)
    assert (await server.get(path + "/metadata", "*/*")).media_type == JSON


@pytest.mark.parametrize(("path", "count"), LEVELS)
async def test_wado_21_metadata_as_xml(server, path, count):
    answer = await server.get(path + "/metadata", XML)
    assert answer.status == 200
    parts = answer.parts()
    assert len(parts) == count
    assert {part.media_type for part in parts} == {"application/dicom+xml"}
    models = [native.read(part.body) for part in parts]
    assert models == [native.of_json(item) for item in await server.items(path + "/metadata")]


async def test_wado_22_no_file_meta_nor_group_lengths_and_names_ascend(server):
    for item in await server.items(PIXELS + "/metadata"):
        assert list(item) == sorted(item)
        assert all(re.fullmatch(r"[0-9A-F]{8}", tag) for tag in item)
        assert not [tag for tag in item if tag.startswith("0002") or tag.endswith("0000")]


async def test_wado_23_metadata_is_utf8(server):
    answer = await server.get(f"/studies/{uid('CONF-C')}/metadata", JSON)
    (item,) = answer.json()
    assert value_of(item, "00081030") == "Übersicht 頭部"
    assert value_of(item, "00080005") == "ISO_IR 192"


async def test_wado_24_names_are_objects_of_their_groups(server):
    (item,) = await server.items(f"/studies/{uid('CONF-C')}/metadata")
    expected = {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    assert item["00100010"] == {"vr": "PN", "Value": [expected]}
    assert item["00080090"] == {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jürgen"}]}


async def test_wado_25_empty_values(server, fresh):
    ds = objects.image(fresh, fresh, fresh, AccessionNumber="", ImageType=["ORIGINAL", "", "AXIAL"])
    full = pydicom.Dataset()
    full.ScheduledProcedureStepID = "1"
    ds.RequestAttributesSequence = pydicom.Sequence([full, pydicom.Dataset()])
    ds.ProcedureCodeSequence = pydicom.Sequence([])
    await keep(server, objects.file_of(ds))
    (item,) = await server.items(f"/studies/{uid(fresh)}/metadata")
    assert item["00080050"] == {"vr": "SH"}
    assert item["00080008"]["Value"] == ["ORIGINAL", None, "AXIAL"]
    assert item["00400275"]["Value"][1] == {}
    assert item["00081032"] == {"vr": "SQ"}


async def test_wado_26_binary_values_are_one_base64_string(server, fresh):
    ds = objects.image(fresh, fresh, fresh)
    block = ds.private_block(0x0019, objects.PRIVATE_CREATOR, create=True)
    content = {"OB": b"\1\2\3\4", "OW": b"\1\0\2\0", "OF": b"\0\0\x80?", "UN": b"what"}
    for element, (vr, value) in enumerate(content.items(), 1):
        block.add_new(element, vr, value)
    await keep(server, objects.file_of(ds))
    (item,) = await server.items(f"/studies/{uid(fresh)}/metadata")
    for element, (vr, value) in enumerate(content.items(), 1):
        assert item[f"0019100{element}"] == {"vr": vr, "InlineBinary": base64.b64encode(value).decode()}


async def test_wado_27_values_have_the_json_type_of_their_representation(server, fresh):
    ds = objects.image(fresh, fresh, fresh, FrameIncrementPointer=0x00181063)
    ds.RecommendedDisplayFrameRateInFloat, ds.SelectorFDValue = 1.5, [0.25, 0.5]
    ds.SelectorULValue, ds.SelectorSSValue = 4_000_000_000, -3
    await keep(server, objects.file_of(ds))
    (item,) = await server.items(f"/studies/{uid(fresh)}/metadata")
    assert item["00280009"] == {"vr": "AT", "Value": ["00181063"]}
    assert item["00089459"] == {"vr": "FL", "Value": [1.5]}
    assert item[f"{tag_for_keyword('SelectorFDValue'):08X}"] == {"vr": "FD", "Value": [0.25, 0.5]}
    assert item[f"{tag_for_keyword('SelectorULValue'):08X}"]["Value"] == [4_000_000_000]
    assert item[f"{tag_for_keyword('SelectorSSValue'):08X}"]["Value"] == [-3]
    assert item["00280030"]["Value"] in ([1, 1], ["1", "1"])
    assert item["00200013"]["Value"] in ([1], ["1"])


def references(item: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Every BulkDataURI in a data set: where, VR, URI."""
    for tag, one in item.items():
        if "BulkDataURI" in one:
            yield (*path, tag), one["vr"], one["BulkDataURI"]
        for number, inner in enumerate(one.get("Value", [])):
            if one["vr"] == "SQ":
                yield from references(inner, (*path, tag, str(number)))


def absolute(server: Caller, uri: str) -> str:
    """A BulkDataURI, which may be relative to the server, as a URL."""
    return uri if "://" in uri else server.origin + uri


BULK_VRS = set("DS FL FD IS LT OB OD OF OL OV OW SL SS ST SV UC UL UN US UT UV".split())


async def test_wado_28_bulk_data_uris_lead_to_the_value(server):
    found = {}
    for item in await server.items(DOCS + "/metadata"):
        for path, vr, uri in references(item):
            assert vr in BULK_VRS
            answer = await server.get(absolute(server, uri))
            assert answer.status == 200
            found[path[-1]] = answer.parts()[0].body if answer.media_type.startswith("multipart") else answer.body
    assert found["54001010"] == objects.ecg().WaveformSequence[0].WaveformData
    assert found["7FE00010"] == objects.FILM


async def test_wado_29_metadata_holds_every_attribute(server):
    for name, content in {**pixels(), **documents()}.items():
        ds = read(content)
        (item,) = await server.items(f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/metadata")
        missing = {f"{one.tag:08X}" for one in ds} - set(item)
        assert missing <= {"7FE00010", "00080005"}, name


async def test_wado_30_pixel_data_is_never_inline(server):
    for item in await server.items(PIXELS + "/metadata"):
        for tag in ("7FE00008", "7FE00009", "7FE00010"):
            assert "InlineBinary" not in item.get(tag, {})


async def test_wado_31_private_attributes_with_their_creators(server):
    (item,) = await server.items(INSTANCE + "/metadata")
    assert item["00190010"] == {"vr": "LO", "Value": ["ISTHMUS CONFORMANCE"]}
    assert item["00191001"] == {"vr": "LO", "Value": ["private value"]}


@pytest.mark.parametrize(("path", "count"), LEVELS)
async def test_wado_32_bulk_data_of_each_level(server, path, count):
    answer = await server.get(path + "/bulkdata", OCTETS)
    assert answer.status == 200
    images = count - 1 if path == STUDY else count
    assert [part.body for part in answer.parts()].count(catalogue()["axial 1"].PixelData) == images


async def test_wado_33_bulk_data_inside_sequences(server):
    (item,) = await server.items(document("ecg") + "/metadata")
    ((_, _, uri),) = references(item)
    (part,) = (await server.get(absolute(server, uri), OCTETS)).parts()
    assert part.body == objects.ecg().WaveformSequence[0].WaveformData
    assert absolute(server, part.headers["Content-Location"]) == absolute(server, uri)


@pytest.mark.parametrize(("path", "count"), LEVELS)
async def test_wado_34_pixel_data_of_each_level(server, path, count):
    answer = await server.get(path + "/pixeldata", OCTETS)
    assert answer.status == 200
    images = count - 1 if path == STUDY else count
    assert [part.body for part in answer.parts()] == [catalogue()["axial 1"].PixelData] * images


async def test_wado_35_parts_of_bulk_data_say_their_uri(server):
    (item,) = await server.items(INSTANCE + "/metadata")
    expected = {absolute(server, uri) for _, _, uri in references(item)}
    for path in ("/bulkdata", "/pixeldata"):
        parts = (await server.get(INSTANCE + path, OCTETS)).parts()
        assert {absolute(server, part.headers["Content-Location"]) for part in parts} <= expected


async def test_wado_36_bulk_data_by_range(server):
    path = INSTANCE + "/pixeldata"
    every = (await server.get(path, "application/octet-stream")).body
    assert every == catalogue()["axial 1"].PixelData
    for field, start, end in (("bytes=0-9", 0, 10), ("bytes=500-", 500, 512), ("bytes=-4", 508, 512)):
        answer = await server.get(path, "application/octet-stream", Range=field)
        assert (answer.status, answer.body) == (206, every[start:end])
        assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/512"


async def test_wado_37_frames_in_the_order_asked_for(server):
    frames = grey("frames", 5)
    answer = await server.get(picture("frames") + "/frames/1,3,5", OCTETS)
    assert answer.status == 200
    assert [part.body for part in answer.parts()] == [frames[one].tobytes() for one in (0, 2, 4)]
    assert {part.media_type for part in answer.parts()} == {"application/octet-stream"}


@pytest.mark.parametrize(("frames", "status"), [("6", 404), ("0", 400), ("x", 400), ("1,,2", 400), ("-1", 400)])
async def test_wado_38_frames_that_do_not_exist(server, frames, status):
    assert (await server.get(f"{picture('frames')}/frames/{frames}", OCTETS)).status == status


async def test_wado_39_one_frame_as_a_single_part(server):
    answer = await server.get(picture("frames") + "/frames/2", "application/octet-stream")
    assert (answer.status, answer.media_type) == (200, "application/octet-stream")
    assert answer.body == grey("frames", 5)[1].tobytes()
    assert (await server.get(picture("frames") + "/frames/1,2", "application/octet-stream")).status == 406


async def test_wado_40_frames_of_single_bits_start_at_a_byte(server):
    for number, frame in enumerate(objects.bits(), 1):
        (part,) = (await server.get(f"{picture('bits')}/frames/{number}", OCTETS)).parts()
        unpacked = np.unpackbits(np.frombuffer(part.body, "u1"), bitorder="little")
        assert np.array_equal(unpacked[: frame.size], frame.ravel())
        assert not unpacked[frame.size :].any()


async def test_wado_41_compressed_frames_are_bare_bit_streams(server):
    for name, media, syntax, start in (
        ("j2k", "image/jp2", J2K_LOSSLESS, b"\xff\x4f\xff\x51"),
        ("jls", "image/jls", JPEG_LS, b"\xff\xd8\xff"),
        ("lossy", "image/jpeg", JPEG_BASELINE, b"\xff\xd8\xff"),
    ):
        answer = await server.get(picture(name) + "/frames/1", of_syntax(syntax, media))
        (part,) = answer.parts()
        assert (part.media_type, part.transfer_syntax) == (media, syntax)
        assert part.body.startswith(start)
        stored = next(generate_frames(read(pixels()[name]).PixelData, number_of_frames=3 if name == "j2k" else 1))
        assert part.body.rstrip(b"\0") == stored.rstrip(b"\0")


@pytest.mark.parametrize(
    ("media", "syntax"),
    [
        ("image/jpeg", JPEG_LOSSLESS),
        ("image/jls", JPEG_LS),
        ("image/jp2", J2K_LOSSLESS),
        ("image/dicom-rle", RLE),
        ("image/jphc", HTJ2K),
    ],
)
async def test_wado_42_default_transfer_syntax_of_each_media_type(server, media, syntax):
    answer = await server.get(picture("frames") + "/frames/2", f'multipart/related; type="{media}"')
    (part,) = answer.parts()
    assert (part.media_type, part.transfer_syntax) == (media, syntax)
    assert np.array_equal(decoded(part.body, syntax), grey("frames", 5)[1])


async def test_wado_43_a_video_is_one_representation(server):
    path = document("film")
    for accept in ('multipart/related; type="video/mp4"', of_syntax("*", "video/mp4")):
        (part,) = (await server.get(path + "/pixeldata", accept)).parts()
        assert (part.media_type, part.body) == ("video/mp4", objects.FILM)
    single = await server.get(path + "/pixeldata", "video/mp4")
    assert (single.media_type, single.body) == ("video/mp4", objects.FILM)


@pytest.mark.parametrize("path", [SERIES + "/metadata", STUDY + "/metadata", INSTANCE, INSTANCE + "/frames/1"])
async def test_wado_44_conditional_retrieval(server, path):
    first = await server.get(path)
    assert first.headers["ETag"].startswith('"')
    again = await server.get(path, If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert (await server.get(path, If_None_Match='"other"')).status == 200


async def test_wado_45_frames_and_instances_by_range(server):
    for path, accept in (
        (picture("frames") + "/frames/2", OCTETS),
        (picture("frames") + "/frames/2", "application/octet-stream"),
        (INSTANCE, "application/dicom"),
        (INSTANCE, DICOM),
    ):
        every = await server.get(path, accept)
        answer = await server.get(path, accept, Range="bytes=10-29")
        assert (answer.status, answer.body) == (206, every.body[10:30]), (path, accept)
        assert answer.headers["Content-Range"] == f"bytes 10-29/{len(every.body)}"


async def test_wado_46_ranges_only_while_the_resource_is_the_same(server):
    path = INSTANCE + "/frames/1"
    tag = (await server.get(path, "application/octet-stream")).headers["ETag"]
    same_one = await server.get(path, "application/octet-stream", Range="bytes=0-9", If_Range=tag)
    assert (same_one.status, len(same_one.body)) == (206, 10)
    other = await server.get(path, "application/octet-stream", Range="bytes=0-9", If_Range='"other"')
    assert (other.status, len(other.body)) == (200, 512)


async def test_wado_47_ranges_outside_are_not_satisfiable(server):
    answer = await server.get(INSTANCE + "/frames/1", "application/octet-stream", Range="bytes=512-")
    assert answer.status == 416
    assert answer.headers["Content-Range"] == "bytes */512"


async def test_wado_48_the_payload_is_the_same_each_time(server):
    first, second = await server.get(SERIES, DICOM), await server.get(SERIES, DICOM)
    assert (first.headers["Content-Type"], first.body) == (second.headers["Content-Type"], second.body)


@pytest.mark.parametrize("below", ["", "/metadata", "/bulkdata", "/pixeldata", "/rendered", "/thumbnail"])
async def test_wado_49_what_is_not_there_is_not_found(server, below):
    for path in (
        "/studies/1.2.3",
        f"{STUDY}/series/1.2.3",
        f"{SERIES}/instances/1.2.3",
        f"/studies/1.2.3/series/{uid('A axial')}",
    ):
        assert (await server.get(path + below)).status == 404


async def test_wado_50_206_is_for_ranges_only(server):
    for path in (STUDY, SERIES, PIXELS, DOCS, SERIES + "/metadata", SERIES + "/pixeldata"):
        assert (await server.get(path)).status == 200


async def test_wado_51_the_accept_parameter(server):
    answer = await server.get(INSTANCE + "?accept=application/dicom", "*/*")
    assert answer.media_type == "application/dicom"
    answer = await server.get(INSTANCE + f"/metadata?accept={JSON.replace('+', '%2B')}", "*/*")
    assert answer.media_type == JSON
    path = picture("rle") + "?accept=application/dicom;transfer-syntax=1.2.840.10008.1.2.5"
    assert read((await server.get(path, "*/*")).body).file_meta.TransferSyntaxUID == RLE


async def test_wado_52_the_character_set_of_metadata(server):
    path = f"/studies/{uid('CONF-C')}/metadata"
    plain = await server.get(path, JSON)
    for answer in (
        await server.get(path + "?charset=utf-8", JSON),
        await server.get(path, f"{JSON}; charset=utf-8"),
        await server.get(path, JSON, Accept_Charset="utf-8, iso-8859-1;q=0.5"),
        await server.get(path + "?charset=x-unknown", JSON),
    ):
        assert (answer.status, answer.json()) == (200, plain.json())


async def test_wado_53_float_pixel_data(server):
    expected = objects.np.linspace(-1, 1, objects.ROWS * objects.COLUMNS, dtype="<f4").tobytes()
    (part,) = (await server.get(picture("floats") + "/pixeldata", OCTETS)).parts()
    assert part.body == expected
    (part,) = (await server.get(picture("floats") + "/frames/1", OCTETS)).parts()
    assert part.body == expected


async def test_wado_54_frames_of_compressed_images_as_octets(server):
    for name, frames in (("rle", 3), ("j2k", 3), ("jls", 1)):
        answer = await server.get(f"{picture(name)}/frames/{frames}", OCTETS)
        (part,) = answer.parts()
        assert part.transfer_syntax in {None, EXPLICIT}
        assert part.body == grey(name, frames)[-1].tobytes()


async def test_wado_55_frames_as_the_viewer_asks_for_them(server):
    accept = 'multipart/related; type="application/octet-stream"; transfer-syntax="*"'
    for name, syntax in (("rle", RLE), ("j2k", J2K_LOSSLESS), ("lossy", JPEG_BASELINE), ("grey", EXPLICIT)):
        (part,) = (await server.get(picture(name) + "/frames/1", accept)).parts()
        assert part.transfer_syntax == syntax


async def test_wado_56_the_pixel_data_of_several_frames_compressed(server):
    answer = await server.get(picture("j2k") + "/pixeldata", of_syntax("*", "image/jp2"))
    parts = answer.parts()
    assert [part.media_type for part in parts] == ["image/jp2"] * 3
    frames = [decoded(part.body, J2K_LOSSLESS) for part in parts]
    assert np.array_equal(frames, grey("j2k", 3))


async def test_wado_57_zip(server):
    answer = await server.get(SERIES, "application/zip")
    assert (answer.status, answer.media_type) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        uids = {read(archive.read(name)).SOPInstanceUID for name in archive.namelist() if "DICOMDIR" not in name}
    assert uids == {uid(f"axial {number}") for number in (1, 2, 3)}


async def test_wado_58_each_character_set(server, data_folder):
    for path in sorted((data_folder / "charsets").glob("chr*.dcm")):
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid(path.name)
        ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(path.stem), uid(path.suffix + path.stem)
        out = io.BytesIO()
        ds.save_as(out)
        await keep(server, out.getvalue())
        (item,) = await server.items(f"/instances?SOPInstanceUID={uid(path.name)}&includefield=PatientName")
        (full,) = await server.items(value_of(item, "00081190") + "/metadata")
        for one in (item, full):
            assert groups(one) == groups_of(ds), path.name


def groups(item: dict[str, Any]) -> dict[str, str]:
    """The groups of the patient's name."""
    return value_of(item, "00100010") or {}


def groups_of(ds: pydicom.Dataset) -> dict[str, str]:
    """The same as pydicom reads them."""
    name = ds.get("PatientName", "")
    every = {group: str(getattr(name, group.lower(), "")) for group in ("Alphabetic", "Ideographic", "Phonetic")}
    if "ISO 2022 IR 58" in ds.get("SpecificCharacterSet", ""):  # whose second escape sequences pydicom leaves in
        every["Ideographic"] = "张^小东"
    return {group: text for group, text in every.items() if text}


async def test_wado_59_old_names_of_media_types(server):
    for old, new, syntax in (("image/x-dicom-rle", "image/dicom-rle", RLE), ("image/x-jls", "image/jls", JPEG_LS)):
        answer = await server.get(picture("grey") + "/frames/1", f'multipart/related; type="{old}"')
        (part,) = answer.parts()
        assert part.media_type in {old, new}
        assert np.array_equal(decoded(part.body, syntax), grey("grey")[0])


async def test_wado_60_xml_holds_keywords_and_private_creators(server):
    (part,) = (await server.get(INSTANCE + "/metadata", XML)).parts()
    text = part.body.decode("utf-8")
    assert re.search(r'<DicomAttribute[^>]*keyword="PatientName"', text)
    assert re.search(r'<DicomAttribute[^>]*privateCreator="ISTHMUS CONFORMANCE"', text)


@pytest.mark.parametrize(
    ("media", "number", "error"), [("image/jls", "81", 16), ("image/jp2", "91", 400), ("image/jphc", "203", 400)]
)
async def test_wado_61_lossy_syntaxes_only_by_name(server, fresh, media, number, error):
    syntax = "1.2.840.10008.1.2.4." + number
    values = 100 + grey("grey")[0] % 3800  # none at the ends of 12 bits, where an error would turn black into white
    await keep(server, objects.file_of(objects.grey(fresh, PixelData=values.tobytes())))
    (part,) = (await server.get(picture(fresh), of_syntax(syntax))).parts()
    ds = read(part.body)
    assert (ds.file_meta.TransferSyntaxUID, ds.LossyImageCompression) == (syntax, "01")
    (part,) = (await server.get(picture(fresh) + "/frames/1", of_syntax(syntax, media))).parts()
    assert (part.media_type, part.transfer_syntax) == (media, syntax)
    read_back = decoded(part.body, JPEG_LS if media == "image/jls" else syntax).astype(int)
    assert np.abs(read_back - values).max() <= error
    (part,) = (await server.get(picture(fresh) + "/frames/1", f'multipart/related; type="{media}"')).parts()
    assert part.transfer_syntax != syntax


async def test_wado_62_htj2k_in_progressive_order(server):
    syntax = "1.2.840.10008.1.2.4.202"
    (part,) = (await server.get(picture("grey") + "/frames/1", of_syntax(syntax, "image/jphc"))).parts()
    assert part.transfer_syntax == syntax
    style = part.body.index(b"\xff\x52")  # COD: marker, length, style, progression order
    assert part.body[style + 5] == 2, "resolution, position, component, layer"
    assert np.array_equal(decoded(part.body, syntax), grey("grey")[0])
