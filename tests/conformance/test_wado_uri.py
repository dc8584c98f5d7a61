"""WADO-URI: PS3.18 chapter 9."""

from urllib.parse import quote

import numpy as np
import pytest

from tests.conformance import objects
from tests.conformance.caller import Answer, Caller, keep
from tests.conformance.objects import uid
from tests.conformance.test_rendered import is_jpeg_baseline, opened
from tests.conformance.test_wado_rs import JPEG_LS, RLE, grey, read


def uri(server: Caller, name: str = "grey", query: str = "", **changes: str | None) -> str:
    """The URL of an instance of the study CONF-PIXELS; a change to None leaves a parameter out."""
    parameters: dict[str, str | None] = {
        "requestType": "WADO",
        "studyUID": uid("CONF-PIXELS"),
        "seriesUID": uid(f"pixels {name}"),
        "objectUID": uid(name),
    }
    parameters |= changes
    pairs = [f"{key}={quote(value, safe=',')}" for key, value in parameters.items() if value is not None]
    return f"{server.origin}/wado?{'&'.join(pairs)}{query}"


async def fetch(server: Caller, name: str = "grey", query: str = "", accept: str = "*/*") -> Answer:
    """The answer for an instance."""
    return await server.get(uri(server, name, query), accept)


async def shown(server: Caller, name: str, query: str) -> np.ndarray:
    """The pixels of a rendering as PNG."""
    answer = await fetch(server, name, "&contentType=image/png" + query)
    assert (answer.status, answer.media_type) == (200, "image/png"), answer.body
    return np.asarray(opened(answer.body).convert("RGB")).astype(int)


DICOM = "&contentType=application/dicom"


@pytest.mark.parametrize("value", [None, "", "WADI", "wado"])
async def test_uri_01_the_request_type(server, value):
    assert (await server.get(uri(server))).status == 200
    assert (await server.get(uri(server, requestType=value))).status == 400


@pytest.mark.parametrize("name", ["studyUID", "seriesUID", "objectUID"])
async def test_uri_02_the_three_uids_are_mandatory(server, name):
    assert (await server.get(uri(server, **{name: None}))).status == 400
    assert (await server.get(uri(server, **{name: "no-uid"}))).status == 400


async def test_uri_03_parameters_in_any_order(server):
    base, _, query = uri(server).partition("?")
    turned = "&".join(reversed(query.split("&")))
    assert (await server.get(f"{base}?{turned}")).status == 200


async def test_uri_04_a_jpeg_unless_asked_otherwise(server):
    answer = await fetch(server)
    assert (answer.status, answer.media_type) == (200, "image/jpeg")
    assert is_jpeg_baseline(answer.body)


async def test_uri_05_the_dicom_object(server):
    for answer in (await fetch(server, "grey", DICOM), await fetch(server, "grey", "", "application/dicom")):
        assert (answer.status, answer.media_type) == (200, "application/dicom")
        assert read(answer.body).SOPInstanceUID == uid("grey")


@pytest.mark.parametrize("name", ["implicit", "big", "rle", "jls"])
async def test_uri_06_explicit_little_endian_unless_asked_otherwise(server, name):
    ds = read((await fetch(server, name, DICOM)).body)
    assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert ds.PixelData == grey(name, 3 if name == "rle" else 1).tobytes()


@pytest.mark.parametrize("syntax", [RLE, JPEG_LS, "1.2.840.10008.1.2.4.90"])
async def test_uri_07_the_transfer_syntax_asked_for(server, syntax):
    ds = read((await fetch(server, "grey", f"{DICOM}&transferSyntax={syntax}")).body)
    assert ds.file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (f"&transferSyntax={RLE},{JPEG_LS}", 400),
        ("&transferSyntax=explicit", 400),
        ("&transferSyntax=", 400),
        ("&transferSyntax=1.2.840.10008.1.2.4.999", 406),
        ("&transferSyntax=1.2.840.10008.1.2", 406),
        ("&transferSyntax=1.2.840.10008.1.2.2", 406),
    ],
)
async def test_uri_08_transfer_syntaxes_that_cannot_be(server, query, status):
    assert (await fetch(server, "grey", DICOM + query)).status == status


@pytest.mark.parametrize("extra", [";transfer-syntax=1.2.840.10008.1.2.1", ";charset=utf-8"])
async def test_uri_09_no_parameters_on_the_content_type(server, extra):
    assert (await fetch(server, "grey", DICOM + extra)).status == 400
    assert (await fetch(server, "grey", DICOM + quote(extra))).status == 400


async def test_uri_10_dicom_and_rendered_types_do_not_mix(server):
    assert (await fetch(server, "grey", "&contentType=application/dicom,image/jpeg")).status == 400


async def test_uri_11_the_first_content_type_that_can_be_made(server):
    assert (await fetch(server, "grey", "&contentType=image/png")).media_type == "image/png"
    assert (await fetch(server, "grey", "&contentType=image/x-unknown,image/gif")).media_type == "image/gif"


@pytest.mark.parametrize("frame", [1, 3, 5])
async def test_uri_12_one_frame(server, frame):
    values = await shown(server, "frames", f"&frameNumber={frame}&windowCenter=2048&windowWidth=4096")
    expected = grey("frames", 5)[frame - 1].astype(float) / 4095 * 255
    assert np.abs(values[..., 0] - expected).max() <= 1


@pytest.mark.parametrize(
    ("name", "frame"), [("frames", "0"), ("frames", "6"), ("frames", "1,2"), ("frames", "x"), ("grey", "1")]
)
async def test_uri_13_frames_that_cannot_be(server, name, frame):
    assert (await fetch(server, name, f"&frameNumber={frame}")).status == 400


async def test_uri_14_rows_and_columns_are_bounds(server):
    assert (await shown(server, "grey", "&rows=64&columns=400")).shape[:2] == (64, 80)
    assert (await shown(server, "grey", "&rows=640&columns=80")).shape[:2] == (64, 80)
    assert (await shown(server, "grey", "&rows=16")).shape[:2] == (16, 20)
    assert (await shown(server, "grey", "&columns=20")).shape[:2] == (16, 20)
    assert (await shown(server, "grey", "")).shape[:2] == (32, 40)


@pytest.mark.parametrize("query", ["&rows=0", "&rows=x", "&columns=-1", "&rows=10&columns=", "&rows=1.5"])
async def test_uri_15_rows_and_columns_are_positive(server, query):
    assert (await fetch(server, "grey", query)).status == 400


async def test_uri_16_a_region_of_the_image(server):
    colours = objects.colours()
    assert np.array_equal(await shown(server, "rgb", "&region=0,0.5,0.5,1"), colours[8:, :12])
    assert np.array_equal(await shown(server, "rgb", "&region=0.5,0,1.0,0.5"), colours[:8, 12:])
    assert (await shown(server, "rgb", "&region=0,0,0.5,0.5&columns=24&rows=24")).shape[:2] == (16, 24)


@pytest.mark.parametrize(
    "region", ["0,0,1", "0,0,1,1,1", "0.5,0,0.5,1", "0,0.6,1,0.5", "0,0,1.1,1", "-0.1,0,1,1", "a,b,c,d", ""]
)
async def test_uri_17_regions_that_cannot_be(server, region):
    assert (await fetch(server, "rgb", f"&region={region}")).status == 400


async def test_uri_18_windows(server):
    values = await shown(server, "grey", "&windowCenter=2000&windowWidth=1000")
    stored = grey("grey")[0].astype(float)
    assert (values[..., 0][stored < 1499] == 0).all()
    assert (values[..., 0][stored > 2500] == 255).all()


@pytest.mark.parametrize(
    "query",
    [
        "&windowCenter=40",
        "&windowWidth=400",
        "&windowCenter=x&windowWidth=400",
        "&windowCenter=40&windowWidth=",
        f"{DICOM}&windowCenter=40&windowWidth=400",
        f"&windowCenter=40&windowWidth=400&presentationSeriesUID={uid('docs state')}&presentationUID={uid('state')}",
    ],
)
async def test_uri_19_windows_that_cannot_be(server, query):
    assert (await fetch(server, "grey", query)).status == 400


async def test_uri_20_a_presentation_state(server):
    image = {"studyUID": uid("CONF-A"), "seriesUID": uid("A axial"), "objectUID": uid("axial 1")}
    state = f"&presentationSeriesUID={uid('docs state')}&presentationUID={uid('state')}"
    answer = await server.get(uri(server, "grey", "&contentType=image/png" + state, **image))
    assert answer.status == 200, answer.body
    values = np.asarray(opened(answer.body).convert("L"))
    stored = np.arange(256).reshape(16, 16)
    assert (values[stored < 127] == 0).all()
    assert (values[stored > 129] == 255).all()


@pytest.mark.parametrize(
    "query",
    [
        f"&presentationUID={uid('state')}",
        f"&presentationSeriesUID={uid('docs state')}",
        f"&presentationSeriesUID={uid('docs state')}&presentationUID=1.2.3",
        f"&presentationSeriesUID=1.2.3&presentationUID={uid('state')}",
    ],
)
async def test_uri_21_presentation_states_that_cannot_be(server, query):
    image = {"studyUID": uid("CONF-A"), "seriesUID": uid("A axial"), "objectUID": uid("axial 1")}
    assert (await server.get(uri(server, "grey", query, **image))).status == 400


async def test_uri_22_image_quality(server):
    low, high = [await fetch(server, "grey", f"&imageQuality={one}") for one in (5, 100)]
    assert len(low.body) < len(high.body)
    for value in ("0", "101", "x", ""):
        assert (await fetch(server, "grey", f"&imageQuality={value}")).status == 400


@pytest.mark.parametrize("parameter", ["annotation", "imageAnnotation"])
async def test_uri_23_annotations(server, parameter):
    plain = await shown(server, "grey", "&rows=320&columns=400")
    for value in ("patient", "technique", "patient,technique"):
        assert not np.array_equal(await shown(server, "grey", f"&rows=320&columns=400&{parameter}={value}"), plain)


async def test_uri_24_an_anonymized_object(server, fresh):
    ds = objects.image(fresh, fresh, fresh, PatientName="Dulcinea^del^Toboso", InstitutionName="Toboso")
    await keep(server, objects.file_of(ds))
    uids = {"studyUID": uid(fresh), "seriesUID": uid(fresh), "objectUID": uid(fresh)}
    answer = await server.get(uri(server, "grey", f"{DICOM}&anonymize=yes", **uids))
    assert (answer.status, answer.media_type) == (200, "application/dicom"), answer.body
    copy = read(answer.body)
    assert copy.SOPInstanceUID != ds.SOPInstanceUID
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID
    assert copy.PatientIdentityRemoved == "YES"
    assert "113100" in {item.CodeValue for item in copy.DeidentificationMethodCodeSequence}
    assert "113101" in {item.CodeValue for item in copy.DeidentificationMethodCodeSequence}
    for text in (b"Dulcinea", b"Toboso", fresh.encode(), ds.StudyInstanceUID.encode(), ds.SOPInstanceUID.encode()):
        assert text not in answer.body
    assert copy.PixelData == ds.PixelData
    again = await server.get(uri(server, "grey", DICOM, **uids))
    assert read(again.body).PatientName == "Dulcinea^del^Toboso", "the archive keeps its own"


@pytest.mark.parametrize("value", ["no", "", "yes,yes", "YES"])
async def test_uri_25_anonymize_is_yes_or_absent(server, value):
    assert (await fetch(server, "grey", f"{DICOM}&anonymize={value}")).status == 400


async def test_uri_26_what_is_not_there(server):
    for name in ("studyUID", "seriesUID", "objectUID"):
        assert (await server.get(uri(server, **{name: "1.2.3"}))).status == 404


async def test_uri_27_what_was_deleted(server, fresh):
    await keep(server, objects.file_of(objects.image(fresh, fresh, fresh)))
    uids = {"studyUID": uid(fresh), "seriesUID": uid(fresh), "objectUID": uid(fresh)}
    assert (await server.get(uri(server, **uids))).status == 200
    assert (await server.send("DELETE", f"/studies/{uid(fresh)}")).status in {200, 204}
    assert (await server.get(uri(server, **uids))).status == 410


async def test_uri_28_header_fields(server):
    for query in ("", DICOM):
        answer = await fetch(server, "grey", query)
        assert "Content-Length" in answer.headers or "Transfer-Encoding" in answer.headers
        assert answer.headers["Content-Location"]
        assert "transfer-syntax" not in answer.headers["Content-Type"]


async def test_uri_29_names_are_case_sensitive(server):
    assert (await server.get(uri(server, studyUID=None) + f"&StudyUID={uid('CONF-PIXELS')}")).status == 400


async def test_uri_30_unknown_parameters_are_ignored(server):
    assert (await fetch(server, "grey", "&weather=fine")).status == 200


@pytest.mark.parametrize(("accept", "media"), [("*/*", "text/html"), ("text/plain", "text/plain")])
async def test_uri_31_reports_as_text(server, accept, media):
    uids = {"studyUID": uid("CONF-DOCS"), "seriesUID": uid("docs report"), "objectUID": uid("report")}
    answer = await server.get(uri(server, "grey", "&contentType=" + media, **uids), accept)
    assert (answer.status, answer.media_type) == (200, media)
    assert "Windmills, not giants" in answer.body.decode("utf-8")


async def test_uri_32_character_sets(server):
    for query in ("&charset=utf-8", "&charset=x-unknown,utf-8", "&charset=utf-8;q=0.5,iso-8859-1"):
        assert (await fetch(server, "grey", query)).status == 200
    answer = await server.get(uri(server), "*/*", Accept_Charset="utf-8")
    assert answer.status == 200


async def test_uri_33_the_instance_must_be_in_its_series(server):
    assert (await server.get(uri(server, seriesUID=uid("pixels rgb")))).status == 404


async def test_uri_34_the_accept_header_asks_too(server):
    assert (await fetch(server, "grey", "", "image/png")).media_type == "image/png"
    assert (await fetch(server, "grey", "", "audio/mpeg")).status == 406
