"""What all services have in common: PS3.18 chapter 8, and what HTTP and browsers ask beyond it."""

import asyncio
import gzip
import re

import pytest
from yarl import URL

from tests.conformance import objects
from tests.conformance.caller import DICOM, JSON, OCTETS, XML, Caller, parameter
from tests.conformance.test_wado_rs import INSTANCE, SERIES, STUDY, picture


async def raw(server: Caller, request: bytes) -> bytes:
    """Send bytes; the first line of the answer."""
    url = URL(server.origin)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(request)
        async with asyncio.timeout(20):
            return await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "request_line",
    [
        b"NONSENSE",
        b"GET /dicomweb/studies HTTP/9.9",
        b"GET  HTTP/1.1",
        b"BREW /dicomweb/studies HTTP/1.1",
        b"GET /\xff HTTP/1.1",
    ],
)
async def test_gen_01_there_is_always_an_answer(server, request_line):
    line = await raw(server, request_line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] [45]\d\d ", line), line
    assert not line.split()[1].startswith(b"500")


async def test_gen_02_unsupported_parameters_are_ignored(server):
    for path in (INSTANCE, SERIES + "/metadata", INSTANCE + "/rendered", INSTANCE + "/frames/1"):
        assert (await server.get(path + "?weather=fine")).status == 200


async def test_gen_03_invalid_values_are_errors(server):
    for path in ("/studies?limit=x", INSTANCE + "/rendered?quality=x", "/studies?fuzzymatching=1"):
        answer = await server.get(path)
        assert answer.status == 400
        assert answer.body


async def test_gen_04_the_accept_parameter_comes_first(server):
    answer = await server.get(INSTANCE + "/rendered?accept=image/png", "image/*")
    assert answer.media_type == "image/png"
    answer = await server.get(INSTANCE + "/rendered?accept=image/png", "image/jpeg, image/*;q=0.5")
    assert answer.media_type == "image/png"


@pytest.mark.parametrize("value", ["*/*", "image/*"])
async def test_gen_05_the_accept_parameter_has_no_wildcards(server, value):
    assert (await server.get(INSTANCE + f"/rendered?accept={value}", "*/*")).status == 400


async def test_gen_06_parameter_names_are_case_sensitive(server):
    answer = await server.get(INSTANCE + "/rendered?Accept=image/png", "*/*")
    assert (answer.status, answer.media_type) == (200, "image/jpeg")


async def test_gen_07_an_unsupported_accept_parameter_leaves_the_header(server):
    answer = await server.get(INSTANCE + "/rendered?accept=image/x-unknown", "image/png, */*;q=0.1")
    assert (answer.status, answer.media_type) == (200, "image/png")


async def test_gen_08_dicom_and_rendered_types_do_not_mix(server):
    for path in (INSTANCE, INSTANCE + "/rendered"):
        assert (await server.get(path, "application/dicom, image/png")).status == 400
        assert (await server.get(path + "?accept=application/dicom,image/png", "*/*")).status == 400


async def test_gen_09_no_accept_is_any(server):
    answer = await server.send("GET", "/studies?PatientID=CONF-A", accept=None)
    assert (answer.status, answer.media_type) == (200, JSON)


async def test_gen_10_anything_is_the_default_media_type(server):
    for path, media_type in (
        ("/studies?PatientID=CONF-A", JSON),
        (SERIES, "multipart/related"),
        (SERIES + "/metadata", JSON),
        (INSTANCE + "/frames/1", "multipart/related"),
        (INSTANCE + "/rendered", "image/jpeg"),
        (INSTANCE + "/thumbnail", "image/jpeg"),
    ):
        assert (await server.get(path, "*/*")).media_type == media_type


async def test_gen_11_ranges_of_types(server):
    assert (await server.get(SERIES + "/metadata", "application/*")).media_type == JSON
    assert (await server.get(INSTANCE + "/rendered", "image/*")).media_type == "image/jpeg"
    assert (await server.get(INSTANCE + "/rendered", "text/*")).status == 406


@pytest.mark.parametrize(
    "noise", ["garbage", "application/x-unknown;level=", "a/b;q=x", "*/html", ";;;", "application/dicom+json;;"]
)
async def test_gen_12_invalid_accept_entries_are_ignored(server, noise):
    answer = await server.get(SERIES + "/metadata", f"{noise}, {JSON}")
    assert (answer.status, answer.media_type) == (200, JSON)


async def test_gen_13_nothing_acceptable(server):
    for path in ("/studies", SERIES, SERIES + "/metadata", INSTANCE + "/frames/1", INSTANCE + "/rendered"):
        answer = await server.get(path, "audio/mpeg")
        assert answer.status == 406
        assert re.search(rb"application/dicom|octet-stream|image/jpeg", answer.body), "the types that there are"


async def test_gen_14_the_highest_quality_wins(server):
    path = INSTANCE + "/rendered"
    assert (await server.get(path, "image/jpeg;q=0.2, image/png;q=0.8")).media_type == "image/png"
    assert (await server.get(path, "image/*;q=0.8, image/png;q=0.1, image/jpeg;q=0.1")).media_type == "image/gif"
    assert (await server.get(path, "image/jpeg;q=0, image/png;q=0.1")).media_type == "image/png"
    assert (await server.get(path, "image/jpeg;q=0")).status == 406


@pytest.mark.parametrize(
    "accept",
    [
        'multipart/related; type="application/dicom"',
        "multipart/related; type=application/dicom",
        "Multipart/Related;TYPE=Application/Dicom",
        'multipart/related ; type="application/dicom" ; boundary=**',
        'multipart/related; type="application/dicom"; transfer-syntax="*"',
        "multipart/related; transfer-syntax=*; type=application/dicom",
    ],
)
async def test_gen_15_quotes_case_and_order_make_no_difference(server, accept):
    assert len((await server.get(SERIES, accept)).parts()) == 3


async def test_gen_16_every_payload_has_its_type(server):
    for path in ("/studies", SERIES, SERIES + "/metadata", INSTANCE + "/rendered", "/studies/1.2.3", "/nowhere"):
        answer = await server.get(path)
        assert answer.body
        assert answer.media_type


async def test_gen_17_every_payload_has_a_length_or_an_encoding(server):
    for path in ("/studies", SERIES, SERIES + "/metadata", INSTANCE + "/rendered", "/studies/1.2.3"):
        headers = (await server.get(path)).headers
        assert ("Content-Length" in headers) != ("Transfer-Encoding" in headers)


async def test_gen_18_compressed_only_for_who_accepts_it(server):
    for path in ("/instances?PatientID=CONF-*", STUDY + "/metadata"):
        plain = await server.get(path, JSON)
        assert "Content-Encoding" not in plain.headers
        packed = await server.get(path, JSON, Accept_Encoding="gzip")
        assert packed.headers["Content-Encoding"] == "gzip"
        assert len(packed.body) < len(plain.body)
        assert gzip.decompress(packed.body) == plain.body
        assert "accept-encoding" in packed.headers["Vary"].lower()


async def test_gen_19_methods_that_are_not_allowed(server):
    for method, path in (("PUT", "/studies"), ("POST", "/series"), ("PATCH", STUDY), ("POST", SERIES + "/metadata")):
        answer = await server.send(method, path)
        assert answer.status == 405
        assert "GET" in answer.headers["Allow"]


async def test_gen_20_head_is_get_without_payload(server):
    for path in ("/studies", SERIES + "/metadata", INSTANCE, INSTANCE + "/frames/1", INSTANCE + "/rendered"):
        answer, full = await server.send("HEAD", path), await server.get(path)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Content-Type"] == full.headers["Content-Type"]
        assert answer.headers.get("ETag") == full.headers.get("ETag")


async def test_gen_21_errors_are_explained(server):
    for path in ("/studies/1.2.3", "/studies?limit=x", STUDY + "?accept=*/*", "/nowhere"):
        answer = await server.get(path)
        assert 400 <= answer.status < 500
        assert len(answer.body) > 20


async def test_gen_22_a_challenge_for_who_is_not_signed_in(configured):
    server = await configured(ISTHMUS_AUTH__MODE="token")
    for path in ("/studies", "/studies/1.2.3", "/workitems"):
        answer = await server.get(path)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_gen_23_parts_say_type_length_and_place(server):
    for path, accept in ((SERIES, DICOM), (SERIES + "/pixeldata", OCTETS), (picture("frames") + "/frames/1,2", OCTETS)):
        for part in (await server.get(path, accept)).parts():
            assert {"Content-Type", "Content-Length", "Content-Location"} <= set(part.headers)


async def test_gen_24_the_root_type_is_that_of_the_parts(server):
    for path, accept in ((SERIES, DICOM), (SERIES + "/metadata", XML), (INSTANCE + "/frames/1", OCTETS)):
        answer = await server.get(path, accept)
        assert {part.media_type for part in answer.parts()} == {parameter(answer.headers["Content-Type"], "type")}


async def test_gen_25_ranges_over_whole_multipart_payloads(server):
    every = await server.get(SERIES, DICOM)
    pieces = b""
    for start in range(0, len(every.body), 700):
        end = min(start + 700, len(every.body))
        answer = await server.get(SERIES, DICOM, Range=f"bytes={start}-{end - 1}")
        assert answer.status == 206
        assert answer.headers["Content-Type"] == every.headers["Content-Type"]
        pieces += answer.body
    assert pieces == every.body


async def test_gen_26_character_sets_that_are_not_known_are_ignored(server):
    for path in ("/studies?PatientID=CONF-C&charset=x-unknown", "/studies?PatientID=CONF-C&charset=utf-8"):
        answer = await server.get(path, JSON, Accept_Charset="x-unknown")
        assert answer.status == 200
        assert "山田" in answer.body.decode("utf-8")
        assert "charset" not in answer.warnings


async def test_gen_27_a_single_part_for_a_single_item(server):
    for path, accept in (
        (INSTANCE, "application/dicom"),
        (INSTANCE + "/frames/1", "application/octet-stream"),
        (INSTANCE + "/pixeldata", "application/octet-stream"),
        (INSTANCE + "/rendered", "image/png"),
    ):
        answer = await server.get(path, accept)
        assert (answer.status, answer.media_type) == (200, accept)
        assert answer.headers["Content-Location"]


async def test_gen_28_single_parts_say_which_resource_they_are(server):
    answer = await server.get(INSTANCE, "application/dicom")
    assert answer.headers["Content-Location"] == server.base + INSTANCE


async def test_gen_29_uids_must_be_uids(server):
    for path in (
        "/studies/abc",
        f"{STUDY}/series/1..2",
        "/studies/1.2.3%20",
        f"/studies/{'1.2.' * 30}3",
    ):
        assert (await server.get(path)).status in {400, 404}


async def test_gen_30_pages_of_other_origins(configured):
    origin = "https://viewer.example.org"
    server = await configured(ISTHMUS_HTTP__CORS_ORIGINS=origin)
    answer = await server.get("/studies", JSON, Origin=origin)
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    exposed = answer.headers["Access-Control-Expose-Headers"].lower()
    for field in ("warning", "etag", "content-location", "location"):
        assert field in exposed
    fields = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "range"}
    asked = await server.send("OPTIONS", "/studies", headers=fields)
    assert asked.status in {200, 204}
    assert asked.headers["Access-Control-Allow-Origin"] == origin
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    other = await server.get("/studies", JSON, Origin="https://elsewhere.example.org")
    assert "Access-Control-Allow-Origin" not in other.headers


async def test_gen_31_cross_origin_resource_policy(configured, server):
    assert (await server.get("/studies")).headers["Cross-Origin-Resource-Policy"] == "same-origin"
    other = await configured(ISTHMUS_HTTP__CORS_ORIGINS="https://viewer.example.org")
    assert (await other.get("/studies")).headers["Cross-Origin-Resource-Policy"] == "cross-origin"


async def test_gen_32_urls_below_the_public_base(configured):
    public = "https://pacs.example.org/imaging"
    server = await configured(ISTHMUS_HTTP__PUBLIC_URL=public)
    image = objects.image("public", "public", "public")
    answer = await server.send(
        "POST", "/studies", data=objects.file_of(image), headers={"Content-Type": "application/dicom"}
    )
    url = f"{public}/dicomweb/studies/{image.StudyInstanceUID}"
    assert answer.json()["00081190"]["Value"] == [url]
    (item,) = await server.items("/studies?nonsense=1")
    assert item["00081190"]["Value"] == [url]
    (item,) = await server.items(f"/studies/{image.StudyInstanceUID}/metadata")
    assert item["7FE00010"]["BulkDataURI"].startswith((f"{public}/", "/imaging/dicomweb/"))


async def test_gen_33_urls_as_trusted_proxies_say(server):
    fields = {"Forwarded": "proto=https;host=pacs.example.org"}
    answer = await server.send("GET", "/studies?nonsense=1", headers=fields)
    assert "299 https://pacs.example.org/dicomweb" in answer.warnings
    fields = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pacs.example.org"}
    answer = await server.send("GET", "/studies?nonsense=1", headers=fields)
    assert "299 https://pacs.example.org/dicomweb" in answer.warnings
