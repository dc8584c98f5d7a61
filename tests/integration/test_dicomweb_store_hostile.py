"""STOW bodies made to hurt: each is refused with a 4xx, in bounded time and memory, and what is whole is stored."""

import asyncio
import functools
import gzip
import io
import json
import resource
import time
import zipfile
import zlib

import pytest

from dicomweb.ports import Limits
from dicomweb.storing import metadata
from tests.dicomweb_support import MULTIPART_DICOM, multipart, path_of, store
from tests.samples import ct, part10

DEFLATED = "1.2.840.10008.1.2.1.99"


async def post(client, body, content_type=MULTIPART_DICOM, **headers):
    data = body if not isinstance(body, bytes) else io.BytesIO(body)
    headers = {name.replace("_", "-"): text for name, text in headers.items()}
    return await client.post("/dicomweb/studies", data=data, headers={"Content-Type": content_type} | headers)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture
async def small(core, serve, monkeypatch):
    """A server with small limits."""
    monkeypatch.setattr(
        "gateway.app.Limits",
        lambda **given: Limits(**given | {"max_part_bytes": 1 << 20, "max_metadata_bytes": 1 << 16, "max_parts": 100}),
    )
    return await serve(core)


@pytest.mark.parametrize(
    "boundary", ["", '""', '" "', "x" * 71, '"(.*)+$"', '"a\\"b"', "ü", "XX; boundary=YY", '"%0d%0a"'], ids=range(9)
)
async def test_boundaries(client, boundary):
    """None of them is the boundary of the body, and none does harm."""
    body = multipart(part10(ct())).replace(b"--XX", b"--QQ")
    response = await post(client, body, f'multipart/related; type="application/dicom"; boundary={boundary}')
    assert response.status == 400, await response.text()


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n" * 100_000,
        b"x" * 1_000_000,
        b"--XX\r\n" + b"X-Junk: y\r\n" * 10_000 + b"\r\nDATA\r\n--XX--",
        b"--XX\r\n" + b"X" * 1_000_000,
        b"--XX\nContent-Type: application/dicom\n\nDATA\n--XX--\n",
        b"--XX\r\nContent-Type: application/dicom\n\nDATA\r\n--XX--",
        b"DICM--XX\r\n\r\nDATA\r\n--XX--",
        b"--XX\r\nno header at all\r\n\r\nDATA\r\n--XX--",
        b"--XX\r\n\r\nDATA\r\n--XX\r\n\r\nDATA",
    ],
    ids=range(9),
)
async def test_framing(client, body):
    begin = time.monotonic()
    response = await post(client, body)
    assert response.status in (400, 409), await response.text()
    assert time.monotonic() - begin < 10


async def test_junk_around_the_parts(client):
    image = ct()
    body = b"preamble\r\n" * 100 + multipart(part10(image)) + b"epilogue\r\n--XX\r\n" * 10_000
    assert (await post(client, body)).status == 200
    assert (await client.get(path_of(image))).status == 200


async def test_multipart_within_multipart(client):
    inner = multipart(part10(ct())).replace(b"--XX", b"--YY")
    body = b'--XX\r\nContent-Type: multipart/related; boundary="YY"\r\n\r\n' + inner + b"\r\n--XX--"
    assert (await post(client, body)).status == 415


async def test_a_hundred_thousand_parts(client):
    """All of them empty: each is a failure, and the answer says so once for each."""
    before = peak_mib()
    body = b"--XX\r\n\r\n\r\n" * 100_000 + b"--XX--"
    response = await post(client, body)
    assert response.status == 409
    assert len((await response.json(content_type=None))["0008119A"]["Value"]) == 100_000
    assert len(response.headers.getall("Warning")) == 1
    assert peak_mib() - before < 400


async def test_a_zip_as_dicom(client):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("image.dcm", b"\0" * (50 << 20))
    for body, content_type in [
        (archive.getvalue(), "application/dicom"), (multipart(archive.getvalue()), MULTIPART_DICOM),
    ]:  # fmt: skip
        assert (await post(client, body, content_type)).status == 409
    assert (await post(client, archive.getvalue(), "application/zip")).status == 415


async def test_a_bomb_in_the_transfer_syntax(client):
    """300 MB of zeros in 300 kB, as a header: refused at the limit of headers, not after it."""
    uid = DEFLATED.encode()
    meta = b"\x02\x00\x10\x00UI" + len(uid).to_bytes(2, "little") + uid
    engine = zlib.compressobj(9, wbits=-15)
    element = b"\x09\x00\x10\x10OB\0\0" + (300 << 20).to_bytes(4, "little")
    bomb = engine.compress(element) + b"".join(engine.compress(bytes(1 << 20)) for _ in range(300)) + engine.flush()
    body = b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little") + meta + bomb
    response = await post(client, body, "application/dicom")
    assert response.status == 413, await response.text()


class TestContentEncoding:
    """A compressed body is inflated as it is read, and its limits are those of what comes out."""

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    async def test_compressed_bodies(self, client, coding):
        image = ct()
        body = multipart(part10(image))
        packed = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
        assert (await post(client, packed, Content_Encoding=coding)).status == 200
        assert (await client.get(path_of(image))).status == 200

    async def test_a_bomb(self, small):
        before = peak_mib()
        body = gzip.compress(b"--XX\r\n\r\n" + bytes(400 << 20))
        response = await post(small, body, Content_Encoding="gzip")
        assert response.status in (400, 409, 413), await response.text()
        assert peak_mib() - before < 500  # of the test's own 400

    @pytest.mark.parametrize("body", [b"not gzip", gzip.compress(b"--XX\r\n", mtime=0)[:-9]])
    async def test_what_is_not_compressed(self, client, body):
        assert (await post(client, body, Content_Encoding="gzip")).status == 400

    @pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "x"])
    async def test_other_codings(self, client, coding):
        assert (await post(client, multipart(part10(ct())), Content_Encoding=coding)).status in (400, 415)


class TestMetadata:
    """JSON and XML that cost more than they weigh."""

    @pytest.mark.parametrize(
        "document",
        [b"[" + b"{}," * 2_000_000 + b"{}]", b"[" * 500_000, b'{"a":' * 500_000, b"[" + b"9" * 1_000_000 + b"]"],
        ids=["many", "arrays", "objects", "number"],
    )
    async def test_json(self, client, document):
        begin = time.monotonic()
        response = await post(client, document, "application/dicom+json")
        assert response.status in (400, 413), await response.text()
        assert time.monotonic() - begin < 20

    @pytest.mark.parametrize(
        "document",
        [
            b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><NativeDicomModel>&x;</NativeDicomModel>',
            b"<NativeDicomModel>" + b"<DicomAttribute><Item>" * 100_000,
            b"<x/>", b"", b"\xff\xfe",
        ],
        ids=range(5),
    )  # fmt: skip
    async def test_xml(self, client, document):
        response = await post(client, document, "application/dicom+xml")
        assert response.status in (400, 413), await response.text()
        assert "root:" not in await response.text()

    async def test_more_than_the_limit(self, small):
        item = {"00104000": {"vr": "LT", "Value": ["x" * 70_000]}}
        response = await post(small, json.dumps([item]).encode(), "application/dicom+json")
        assert response.status == 413

    async def test_bulk_data_larger_than_a_part_may_be(self, small):
        item = ct().to_json_dict() | {"7FE00010": {"vr": "OW", "BulkDataURI": "b"}}
        head = "--XX\r\nContent-Type: {}\r\nContent-Location: b\r\n\r\n"
        body = head.format("application/dicom+json").encode() + json.dumps([item]).encode() + b"\r\n"
        body += head.format("application/octet-stream").encode() + bytes(2 << 20) + b"\r\n--XX--"
        response = await post(small, body, 'multipart/related; type="application/dicom+json"; boundary=XX')
        assert response.status in (400, 413), await response.text()
        assert list(await response.json(content_type=None)) == ["00081190", "00081198"]


async def test_large_metadata_is_read_in_turns(client, monkeypatch):
    """30 MiB of numbers take near 1 GiB while they are read: not of several requests at a time."""
    reading, most = 0, 0

    def read(*args):
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        try:
            return metadata.read(*args)
        finally:
            reading -= 1

    monkeypatch.setattr("dicomweb.storing.assemble.read", read)
    item = {"00281050": {"vr": "DS", "Value": [1.5] * 600_000}, "00080018": {"vr": "UI", "Value": ["1.2.3"]}}
    body = json.dumps([item]).encode()
    responses = await asyncio.gather(*(post(client, body, "application/dicom+json") for _ in range(4)))
    assert {response.status for response in responses} == {409}
    assert most == 1


async def test_the_spool_is_bounded_and_given_back(core, serve, monkeypatch):
    from dicomweb.storing.spool import SpoolFolder

    folder = SpoolFolder(core.settings.data.dir / "spool", max_files=1, max_bytes=3 << 20)
    monkeypatch.setattr("gateway.app._spool", lambda _: folder)
    client = await serve(core)
    image = ct()
    item = image.to_json_dict() | {
        "7FE00010": {"vr": "OW", "BulkDataURI": "p"},
        "00420011": {"vr": "OB", "BulkDataURI": "d"},
    }
    head = "--XX\r\nContent-Type: application/octet-stream\r\nContent-Location: {}\r\n\r\n"
    metadata = b"--XX\r\nContent-Type: application/dicom+json\r\n\r\n" + json.dumps([item]).encode() + b"\r\n"

    def body(size):
        value = head.format("d").encode() + bytes(size) + b"\r\n"
        return metadata + value + head.format("p").encode() + image.PixelData + b"\r\n--XX--"

    json_body = 'multipart/related; type="application/dicom+json"; boundary=XX'
    assert (await post(client, body(4 << 20), json_body)).status == 413
    for _ in range(3):
        assert (await post(client, body(2 << 20), json_body)).status == 200
    assert list((core.settings.data.dir / "spool").iterdir()) == []
    folder.take_file()
    response = await post(client, body(1 << 20), json_body)
    assert response.status == 503
    assert response.headers["Retry-After"]


async def test_a_body_that_drips(core, serve, monkeypatch):
    """Each byte comes in time, and all of them would take for ever."""
    monkeypatch.setattr("gateway.app.Limits", functools.partial(Limits, read_timeout_s=0.5, min_bytes_per_s=1000.0))
    client = await serve(core)
    body = multipart(part10(ct()))

    async def drip():
        for at in range(len(body)):
            yield body[at : at + 1]
            await asyncio.sleep(0.05)

    begin = time.monotonic()
    response = await post(client, drip())
    assert response.status == 408
    assert time.monotonic() - begin < 10


async def test_expect_100_continue(client):
    """curl sends the head alone and waits."""
    image = ct()
    body = multipart(part10(image))
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--show-error", "--verbose", "--max-time", "20", "--data-binary", "@-",
        "--header", "Expect: 100-continue", "--header", f"Content-Type: {MULTIPART_DICOM}",
        "--expect100-timeout", "15", str(client.make_url("/dicomweb/studies")),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    answer, said = await process.communicate(body)
    assert b"100 Continue" in said
    assert image.SOPInstanceUID.encode() in answer
    assert (await client.get(path_of(image))).status == 200


async def test_chunked_by_curl(client, tmp_path):
    image = ct()
    file = tmp_path / "body"
    await asyncio.to_thread(file.write_bytes, multipart(part10(image)))
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--max-time", "20", "--upload-file", "-", "--request", "POST",
        "--header", "Transfer-Encoding: chunked", "--header", f"Content-Type: {MULTIPART_DICOM}",
        str(client.make_url("/dicomweb/studies")),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await process.communicate(await asyncio.to_thread(file.read_bytes))
    assert (await client.get(path_of(image))).status == 200


class TestDelete:
    """DELETE and what is no method of a resource."""

    @pytest.mark.parametrize("level", [1, 2, 3])
    async def test_gone_at_every_level(self, client, level):
        image = ct()
        await store(client, image)
        paths = [path_of(image).rsplit("/", 2 * up)[0] if up else path_of(image) for up in (2, 1, 0)]
        assert (await client.delete(paths[level - 1])).status == 204
        for path in paths:
            assert (await client.get(path)).status == 410
            assert (await client.get(path + "/metadata")).status == 410
            assert (await client.delete(path)).status == 410
        assert (await store(client, image)).status == 200
        assert (await client.get(paths[0])).status == 200

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("DELETE", "studies", {"GET", "HEAD", "POST"}),
            ("PUT", "studies/1.2", {"GET", "HEAD", "POST", "DELETE"}),
            ("POST", "studies/1.2/series/1.3", {"GET", "HEAD", "DELETE"}),
            ("POST", "studies/1.2/series/1.3/instances/1.4", {"GET", "HEAD", "DELETE"}),
            ("DELETE", "studies/1.2/metadata", {"GET", "HEAD"}),
            ("POST", "studies/1.2/series/1.3/instances/1.4/frames/1", {"GET", "HEAD"}),
        ],
    )
    async def test_methods_that_are_none(self, client, method, path, allowed):
        response = await client.request(method, f"/dicomweb/{path}")
        assert response.status == 405
        assert set(response.headers["Allow"].split(",")) == allowed
