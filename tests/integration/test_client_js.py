"""dicomweb-client for JavaScript, in the version that OHIF 3.13 brings, in Chromium on a page of another origin.

Its calls come from here, with a Bearer token; the page and the server are two origins, so that every request passes
the browser's rules. Pixels are compared with pydicom's.
"""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import generate_uid

from gateway.auth.tokens import Tokens
from ray_plugins.testing import Phantom
from tests.browsers import chromium, module, node
from tests.derived import ct_series, document, segmentation
from tests.integration.test_client_python import shipped
from tests.samples import ct, part10

DRIVER = Path(__file__).with_name("client_js.mjs")
LIBRARY = ("dicomweb-client", "build", "dicomweb-client.js")
#: OHIF's request for frames: whatever is stored.
ANY_FRAMES = [{"mediaType": "application/octet-stream", "transferSyntaxUID": "*"}]
PAGE = '<!doctype html><link rel="icon" href="data:,">'
BULK = [{"mediaType": "application/pdf"}, {"mediaType": "application/octet-stream"}]


class Refused(Exception):
    """The client's promise was rejected; the argument is the HTTP status."""


class Page:
    """The client in the browser: `await page("searchForStudies", queryParams={…})`."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url
        self._turn = asyncio.Lock()

    async def __call__(self, method: str, singlepart: str = "", **options: Any) -> Any:
        call = {"client": {"singlepart": singlepart}, "method": method, "options": options}
        async with self._turn:
            self._process.stdin.write(json.dumps(call).encode() + b"\n")
            line = await self._process.stdout.readline()
        outcome = json.loads(line)
        if "error" in outcome:
            raise Refused(outcome["status"])
        assert outcome["console"] == []
        return unpack(outcome["answer"])

    async def store(self, *objects: Dataset) -> dict[str, Any]:
        datasets = [{"base64": base64.b64encode(file_of(ds)).decode()} for ds in objects]
        return json.loads(await self("storeInstances", datasets=datasets))


@pytest.fixture
async def page(open_archive, serve) -> AsyncIterator[Page]:
    """A page of one origin, signed in by token at the server of another."""
    elsewhere = web.Application()
    elsewhere.router.add_get("/", lambda _: web.Response(text=PAGE, content_type="text/html"))
    async with TestServer(elsewhere, host="127.0.0.1") as host:
        origin = str(host.make_url("")).rstrip("/")
        core = await open_archive(
            ISTHMUS_INGEST__PROFILE="none", ISTHMUS_AUTH__MODE="token", ISTHMUS_HTTP__CORS_ORIGINS=origin
        )
        server = await serve(core)
        environment = {
            "PAGE": origin,
            "DICOMWEB": str(server.make_url("/dicomweb")),
            "TOKEN": await Tokens(core.catalogue.db).create("bearer", "reader"),
            "LIBRARY": str(module(*LIBRARY)),
            "CHROMIUM": chromium(),
        }
        process = await asyncio.create_subprocess_exec(
            node(), DRIVER, env=os.environ | environment, stdin=-1, stdout=-1, limit=1 << 26
        )
        yield Page(process, environment["DICOMWEB"])
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_search(page):
    named = {"PatientName": "Panza^Sancho", "PatientID": "MRN-2", "StudyDescription": "CT HEAD"}
    first, second = ct(), ct(**named)
    other = ct(StudyInstanceUID=second.StudyInstanceUID, Modality="MR", **named)
    await page.store(first, second, other)

    found = await page("searchForStudies", queryParams={"PatientName": "*anz*", "includefield": "00081030,00080060"})
    assert values(found, "0020000D") == [second.StudyInstanceUID]
    assert values(found, "00081030") == ["CT HEAD"]
    assert values(await page("searchForStudies", queryParams={"00100020": "*4711*"}), "00100020") == ["MRN-4711"]
    pages = [await page("searchForStudies", queryParams={"limit": 1, "offset": start}) for start in range(3)]
    assert [len(one) for one in pages] == [1, 1, 0]

    study = second.StudyInstanceUID
    found = await page("searchForSeries", studyInstanceUID=study, queryParams={"Modality": "MR"})
    assert values(found, "0020000E") == [other.SeriesInstanceUID]
    found = await page("searchForInstances", studyInstanceUID=study, seriesInstanceUID=second.SeriesInstanceUID)
    assert values(found, "00080018") == [second.SOPInstanceUID]


async def test_metadata_and_instances(page, tmp_path):
    slices = ct_series(tmp_path / "ct", Phantom(shape=(4, 32, 32)))
    mask = segmentation(slices)
    await page.store(*slices, mask)
    instance = address(slices[0])
    series = {key: instance[key] for key in ("studyInstanceUID", "seriesInstanceUID")}
    study = {"studyInstanceUID": mask.StudyInstanceUID}
    assert len(await page("retrieveStudyMetadata", **study)) == 5
    found = await page("retrieveSeriesMetadata", **series)
    assert set(values(found, "00080018")) == {ds.SOPInstanceUID for ds in slices}
    (one,) = await page("retrieveInstanceMetadata", **instance)
    assert one["00200032"]["Value"] == [float(value) for value in slices[0].ImagePositionPatient]

    found = [dcmread(BytesIO(content)) for content in await page("retrieveStudy", **study)]
    assert {ds.SOPInstanceUID for ds in found} == {ds.SOPInstanceUID for ds in (*slices, mask)}
    assert len(await page("retrieveSeries", **series)) == 4
    whole = dcmread(BytesIO(await page("retrieveInstance", **address(mask))))
    assert whole.PixelData == mask.PixelData


async def test_frames(page):
    for name in ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "SC_rgb_rle_2frame.dcm"):
        original = shipped(name)
        original.SOPInstanceUID = generate_uid(None)  # some of them are one image in several syntaxes
        await page.store(original)
        await frames_are_those_of(page, original)


async def frames_are_those_of(page: Page, original: Dataset) -> None:
    """Decoded by the server they are pydicom's, asked for as they are they come as stored."""
    count = int(original.get("NumberOfFrames", 1))
    numbers = list(range(1, count + 1))
    frames = await page("retrieveInstanceFrames", **address(original), frameNumbers=numbers)
    pixels = original.pixel_array.reshape(count, -1)
    for frame, expected in zip(frames, pixels, strict=True):
        np.testing.assert_array_equal(np.frombuffer(frame, expected.dtype.newbyteorder("<")), expected)
    stored = await page("retrieveInstanceFrames", **address(original), frameNumbers=numbers, mediaTypes=ANY_FRAMES)
    compressed = original.file_meta.TransferSyntaxUID.is_compressed
    assert stored == (list(generate_frames(original.PixelData, number_of_frames=count)) if compressed else frames)


async def test_rendered(page):
    image = ct()
    await page.store(image)
    for method, more in (
        ("retrieveInstanceRendered", {}),
        ("retrieveInstanceFramesRendered", {"frameNumbers": [1]}),
        ("retrieveInstanceThumbnail", {}),
        ("retrieveInstanceFramesThumbnail", {"frameNumbers": [1]}),
    ):
        options = {"mediaTypes": [{"mediaType": "image/jpeg"}], "queryParams": {"viewport": "8,8"}}
        (content,) = await page(method, **address(image), **more, **options)
        picture = Image.open(BytesIO(content))
        assert (picture.format, picture.size) == ("JPEG", (8, 8))


async def test_bulk_data(page, tmp_path):
    letter = document(ct(), "Dear Sancho")
    await page.store(letter)
    (metadata,) = await page("retrieveInstanceMetadata", **address(letter))
    uri = urljoin(page.url, metadata["00420011"]["BulkDataURI"])
    for options in ({}, {"mediaTypes": BULK}, {"singlepart": "bulkdata"}):
        (content,) = await page("retrieveBulkData", BulkDataURI=uri, **options)
        assert content == letter.EncapsulatedDocument


async def test_store_tells_what_was_refused(page):
    image = ct()
    answer = await page.store(image)
    assert answer["00081199"]["Value"][0]["00081155"]["Value"] == [image.SOPInstanceUID]
    assert "00081198" not in answer
    datasets = [{"base64": base64.b64encode(part10(ct())).decode()}]
    with pytest.raises(Refused, match="409"):
        await page("storeInstances", datasets=datasets, studyInstanceUID="1.2.3")


def file_of(ds: Dataset) -> bytes:
    return part10(ds, ds.file_meta.TransferSyntaxUID) if hasattr(ds, "file_meta") else part10(ds)


def address(ds: Dataset) -> dict[str, str]:
    return {
        "studyInstanceUID": ds.StudyInstanceUID,
        "seriesInstanceUID": ds.SeriesInstanceUID,
        "sopInstanceUID": ds.SOPInstanceUID,
    }


def values(found: list[dict[str, Any]], tag: str) -> list[Any]:
    return [item[tag]["Value"][0] for item in found]


def unpack(value: Any) -> Any:
    """Bytes out of what came as JSON."""
    if isinstance(value, list):
        return [unpack(one) for one in value]
    if isinstance(value, dict) and set(value) == {"base64"}:
        return base64.b64decode(value["base64"])
    return value
