"""Whatever comes in, a 4xx goes out, in bounded time: never a 500, never silence."""

import asyncio
import io
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from yarl import URL

from tests.conformance import objects
from tests.conformance.caller import DICOM, JSON, Answer, Caller, keep
from tests.conformance.objects import uid
from tests.conformance.test_wado_rs import INSTANCE, SERIES, picture

#: Requests made of each operation.
EXAMPLES = 12
#: How long one answer may take on a busy machine.
PATIENCE_S = 20
STORE = b"POST /dicomweb/studies HTTP/1.1\r\nHost: x\r\n"
KNOWN = {"study": uid("CONF-PIXELS"), "series": uid("pixels frames"), "instance": uid("frames"), "frames": "1"}


def requests_of(description: dict[str, Any], origin: str) -> Iterator[requests.PreparedRequest]:
    """Requests that a description allows, and such as it does not; every second one asks for what is there."""
    for result in schemathesis.openapi.from_dict(description).get_all_operations():
        operation = result.ok()
        for number, case in enumerate(_cases(operation)):
            if number % 2 and operation.method.upper() != "DELETE":
                case.path_parameters.update({name: KNOWN[name] for name in case.path_parameters if name in KNOWN})
            yield requests.Request(**case.as_transport_kwargs(base_url=origin)).prepare()


def _cases(operation: Any) -> list[Any]:
    found: list[Any] = []

    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy())
    def collect(case: Any) -> None:
        found.append(case)

    collect()
    return found


async def in_time(server: Caller, method: str, path: str, **more: Any) -> Answer:
    """An answer that comes before long."""
    async with asyncio.timeout(PATIENCE_S):
        return await server.send(method, path, **more)


async def test_bad_01_random_requests_never_fail(configured):
    server = await configured()
    await keep(server, objects.pixels()["frames"], objects.pixels()["rgb"])
    description = (await server.get(f"{server.origin}/api/openapi.json", "application/json")).json()
    ours = {path: value for path, value in description["paths"].items() if path.startswith(("/dicomweb", "/wado"))}
    assert len(ours) > 30
    made = await asyncio.to_thread(list, requests_of(description | {"paths": ours}, server.origin))
    failures = []
    for one in made:
        fields = {name: value for name, value in one.headers.items() if name not in {"Content-Length", "Accept"}}
        accept = str(one.headers.get("Accept", "*/*"))
        answer = await in_time(server, one.method, one.url, data=one.body, headers=fields, accept=accept)
        if answer.status >= 500:
            failures.append((one.method, one.url, one.body, answer.status))
    assert not failures
    assert len(made) > EXAMPLES * 30


@pytest.mark.parametrize("count", [10_000, 900])
async def test_bad_02_ten_thousand_parameters(server, count):
    query = "&".join(f"p{number}=1" for number in range(count))
    answer = await in_time(server, "GET", f"/studies?PatientID=NOBODY&{query}")
    assert answer.status in ({400, 413, 414} if count == 10_000 else {200, 400, 431})


async def test_bad_03_wildcards_are_no_regular_expressions(server, fresh):
    await keep(server, objects.file_of(objects.image(fresh, fresh, fresh, PatientName="a" * 60)))
    started = time.monotonic()
    for pattern in ("*a" * 30 + "b", "(a%2B)%2B$", "a" * 64 + "*" * 500 + "!", "[a-z]*", ".*", "%5Ca*", "a{9999}*"):
        answer = await in_time(server, "GET", f"/studies?PatientID={fresh}&PatientName={pattern}")
        assert answer.status in {200, 400}
        assert answer.status == 400 or answer.json() == []
    assert time.monotonic() - started < PATIENCE_S


async def test_bad_04_a_hundred_thousand_parts(server):
    body = b"--XX\r\nContent-Type: application/dicom\r\n\r\n\r\n" * 100_001 + b"--XX--\r\n"
    headers = {"Content-Type": f"{DICOM}; boundary=XX"}
    async with asyncio.timeout(120):
        answer = await server.send("POST", "/studies", data=io.BytesIO(body), headers=headers)
    assert 400 <= answer.status < 500


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (DICOM, b"--XX--"),
        (f"{DICOM}; boundary=", b"----\r\n"),
        (f"{DICOM}; boundary={'x' * 500}", b"--x--"),
        (f"{DICOM}; boundary=XX", b"--XX\r\nContent-Type: application/dicom\r\n\r\n" + b"x" * 100_000),
        (f"{DICOM}; boundary=XX", b"--XX\r\n" + b"A: b\r\n" * 50_000),
        (f"{DICOM}; boundary=XX", b"--XX\r\nContent-Type: application/dicom\r\n" + b"c" * 1_000_000),
        (f"{DICOM}; boundary=XX", b"x" * 1_000_000),
        (f'{DICOM}; boundary="\r-XX"'.replace("\r", "%0d"), b"--XX--"),
    ],
    ids=["none", "empty", "long", "no end", "many fields", "endless field", "never", "odd"],
)
async def test_bad_05_hostile_multipart(server, content_type, body):
    answer = await in_time(server, "POST", "/studies", data=body, headers={"Content-Type": content_type})
    assert answer.status in {400, 413, 415}


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /dicomweb/studies HTTP/1.1\r\n" + b"X: y\r\n" * 40_000,
        b"GET /dicomweb/studies HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        STORE + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        STORE + b"Content-Length: -5\r\n\r\n",
        STORE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"GET /dicomweb/studies HTTP/1.1\r\nHost: x\r\n bad: folding\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"\0" * 10_000,
    ],
    ids=["fields", "field", "path", "smuggled", "length", "chunk", "fold", "TLS", "zeros"],
)
async def test_bad_06_hostile_http(server, request_):
    url = URL(server.origin)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(request_)
        async with asyncio.timeout(PATIENCE_S):
            line = await reader.readline()
    except ConnectionError:
        line = b""
    finally:
        writer.close()
    assert line == b"" or line.split()[1].startswith(b"4"), line
    assert (await server.get("/studies?PatientID=NOBODY")).status == 200


@pytest.mark.parametrize("count", [5_000, 400])
async def test_bad_07_endless_accept_headers(server, count):
    accept = ",".join(f"a/b{number};q=0.{number % 9}1" for number in range(count))
    answer = await in_time(server, "GET", SERIES + "/metadata", accept=accept)
    assert answer.status in ({400, 431} if count == 5_000 else {406})


@pytest.mark.parametrize(
    "frames", [",".join(map(str, range(1, 5000))), "9" * 30, "1-5", "1e1", "%D9%A1", "1," * 500 + "1"]
)
async def test_bad_08_hostile_frame_lists(server, frames):
    answer = await in_time(server, "GET", f"{picture('frames')}/frames/{frames}")
    assert 400 <= answer.status < 500 or (frames.startswith("1,1") and answer.status == 200)


@pytest.mark.parametrize(
    "query",
    [
        "viewport=nan,nan",
        "viewport=1e9,1e9",
        "viewport=99999999,99999999",
        "viewport=10,10,nan,0,4,4",
        "viewport=10,10,0,0,inf,4",
        "window=nan,1,linear",
        "window=1,inf,linear",
        "window=1,1e999,sigmoid",
        "quality=%D9%A5",
        "quality=1e1",
        "quality=5_0",
    ],
)
async def test_bad_09_numbers_that_are_none(server, query):
    assert (await in_time(server, "GET", f"{INSTANCE}/rendered?{query}")).status in {400, 413}


@pytest.mark.parametrize("depth", [400, 900, 5_000])
@pytest.mark.parametrize("path", ["/studies", "/workitems?1.2.3.9", "/commitment-requests/1.2.3.9"])
async def test_bad_10_nested_without_end(server, path, depth):
    opened, closed = b'{"00081199":{"vr":"SQ","Value":[' * depth, b"]}}" * depth
    for text in (b"[" + opened + closed + b"]", b"[" + opened):
        body, content_type = text, JSON
        if path == "/studies":
            body = b"--XX\r\nContent-Type: application/dicom+json\r\n\r\n" + text + b"\r\n--XX--\r\n"
            content_type = f'multipart/related; type="{JSON}"; boundary=XX'
        answer = await in_time(server, "POST", path, data=body, headers={"Content-Type": content_type})
        assert answer.status in {400, 409, 413}


async def test_bad_11_a_deflate_bomb(server, fresh):
    head = objects.file_of(objects.image(fresh, fresh, fresh), "1.2.840.10008.1.2.1.99")
    start = head.index(b"1.2.840.10008.1.2.1.99") + 22
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    element = b"\x09\x00\x10\x00OB\x00\x00" + (600 << 20).to_bytes(4, "little")
    bomb = packer.compress(element) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(600)) + packer.flush()
    assert len(bomb) < 1 << 20
    headers = {"Content-Type": "application/dicom"}
    answer = await in_time(server, "POST", "/studies", data=head[:start] + bomb, headers=headers)
    assert 400 <= answer.status < 500
