"""Lists of data sets and single ones as a client receives them."""

import asyncio
import gzip
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from dicomweb import answers
from dicomweb.dicom_xml import from_xml
from dicomweb.errors import NotAcceptable
from dicomweb.ports import Services
from tests.dicomweb_support import parts

ITEMS = [{"00100020": {"vr": "LO", "Value": [f"id-{number}"]}} for number in range(3)]
XML = 'multipart/related; type="application/dicom+xml"'


@pytest.fixture
async def ask():
    """Ask for `content` with an Accept header; the response is not decompressed."""
    services = Services(archive=None, run=asyncio.to_thread, public_base=None)
    clients = []

    async def make(content, accept=None, *, coding="identity", **options):
        async def handler(request):
            answer = answers.data_set if isinstance(content, dict) else answers.data_sets
            try:
                return await answer(request, services, content, **options)
            except NotAcceptable:
                return web.Response(status=406)

        app = web.Application()
        app.router.add_get("/", handler)
        client = TestClient(TestServer(app, host="127.0.0.1"), auto_decompress=False)
        clients.append(client)
        await client.start_server()
        return await client.get("/", headers={"Accept-Encoding": coding} | ({"Accept": accept} if accept else {}))

    yield make
    for client in clients:
        await client.close()


@pytest.mark.parametrize("accept", [None, "application/dicom+json", "application/json", "*/*"])
async def test_a_list_is_a_json_array(ask, accept):
    response = await ask(ITEMS, accept, headers={"Warning": "299 x: y"})
    expected = "application/json" if accept == "application/json" else "application/dicom+json"
    assert response.headers["Content-Type"] == expected
    assert response.headers["Warning"] == "299 x: y"
    assert response.headers["Vary"] == "Accept, Accept-Encoding"
    assert await response.json(content_type=None) == ITEMS


async def test_a_list_is_one_xml_part_each(ask):
    response = await ask(ITEMS, XML)
    found = await parts(response)
    assert {media_type for media_type, _, _ in found} == {"application/dicom+xml"}
    assert [from_xml(document) for _, _, document in found] == ITEMS


async def test_no_results(ask):
    assert await (await ask([])).json(content_type=None) == []
    response = await ask([], XML)
    assert (response.status, await response.read()) == (204, b"")


async def test_what_is_long_is_compressed_for_those_who_can(ask):
    for coding, compressed in [("gzip, br", True), ("*", True), ("gzip;q=0, *", False), ("br", False), ("", False)]:
        response = await ask(ITEMS * 50, coding=coding)
        assert (response.headers.get("Content-Encoding") == "gzip") is compressed, coding
        body = await response.read()
        assert json.loads(gzip.decompress(body) if compressed else body) == ITEMS * 50
    assert "Content-Encoding" not in (await ask(ITEMS, coding="gzip")).headers


async def test_one_data_set(ask):
    response = await ask(ITEMS[0], status=202)
    assert response.status == 202
    assert await response.json(content_type=None) == ITEMS[0]
    assert await (await ask(ITEMS[0], array=True)).json(content_type=None) == [ITEMS[0]]
    for array in (False, True):
        response = await ask(ITEMS[0], "application/dicom+xml", array=array)
        assert response.headers["Content-Type"] == "application/dicom+xml"
        assert from_xml(await response.read()) == ITEMS[0]
    ((media_type, _, document),) = await parts(await ask(ITEMS[0], XML))
    assert (media_type, from_xml(document)) == ("application/dicom+xml", ITEMS[0])


@pytest.mark.parametrize("content", [ITEMS, ITEMS[0]])
async def test_nothing_acceptable(ask, content):
    assert (await ask(content, "image/jpeg")).status == 406
