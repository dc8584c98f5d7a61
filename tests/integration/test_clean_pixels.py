"""Pictures on which something is written, from their sender to what is stored, with the real OCR."""

import asyncio
import json
import shutil
import subprocess
import threading
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.uid import JPEGBaseline8Bit

from dicomweb.pixels import compress, transcode
from dicomweb.ports import StoredInstance
from gateway.archive import Archive, Source
from gateway.deid import ocr
from gateway.deid.ocr import TextFinder
from gateway.wiring import Core
from tests.burned_in import burn
from tests.dicomweb_support import store
from tests.samples import ct, part10, stream
from tests.unit.gateway.test_cleaning import file, us

Opener = Callable[..., Awaitable[Core]]
SOURCE = Source("dimse", "US1")


async def taken(archive: Archive, content: bytes) -> tuple[StoredInstance, bytes]:
    """Store a file; what is stored of it."""
    outcome = await archive.ingest(stream(content), SOURCE)
    assert outcome.stored is not None, outcome.reason
    (instance,) = await archive.instances(outcome.stored)
    return instance, await archive.open(instance).read()


def picture(instance: StoredInstance, data: bytes, number: int = 1) -> tuple[Dataset, np.ndarray]:
    """A stored file and one of its frames."""
    ds = dcmread(BytesIO(data))
    frame = b"".join(data[at : at + length] for at, length in instance.frames.ranges(number))
    return ds, transcode.decode(ds, instance.transfer_syntax_uid, frame, rgb=True)[0]


def assert_unreadable(pixels: np.ndarray, identity: list[str]) -> None:
    """Nothing is left that our own OCR reads, and nothing of the identity that Tesseract reads."""
    texts = TextFinder().find(pixels, read=True)
    assert not [text for text in texts if text.characters >= 3 and text.confidence >= 0.7]
    if shutil.which("tesseract") is None:
        return
    buffer = BytesIO()
    Image.fromarray(pixels).resize((3 * pixels.shape[1], 3 * pixels.shape[0])).save(buffer, "PNG")
    command = ["tesseract", "stdin", "stdout", "--psm", "11"]
    text = subprocess.run(command, input=buffer.getvalue(), capture_output=True, check=True).stdout.decode().upper()
    assert not [word for token in identity for word in token.upper().replace("-", " ").split() if word in text]


def codes(ds: Dataset) -> list[str]:
    return [item.CodeValue for item in ds.DeidentificationMethodCodeSequence]


@pytest.mark.parametrize("name", ["us-burnedin", "us-clean-pixels"])
async def test_canaries_are_released_clean(open_archive: Opener, data_folder: Path, name: str) -> None:
    folder = data_folder / "phi-canaries"
    content = await asyncio.to_thread((folder / f"{name}.dcm").read_bytes)
    identity = json.loads(await asyncio.to_thread((folder / f"{name}.json").read_text))["must_not_survive"]
    archive = (await open_archive()).archive
    instance, data = await taken(archive, content)
    ds, pixels = await asyncio.to_thread(picture, instance, data)
    assert not [token for token in identity if token.encode() in data]
    assert ds.BurnedInAnnotation == "NO"
    assert "113101" in codes(ds)
    await asyncio.to_thread(assert_unreadable, pixels, identity)
    before = (await asyncio.to_thread(dcmread, BytesIO(content))).pixel_array
    assert (pixels[70:] == before[70:]).all()  # where nothing is written
    again = await archive.ingest(stream(content), SOURCE)
    assert (again.duplicate, again.stored) == (True, (await archive.ingest(stream(data), SOURCE)).stored)


async def test_text_drawn_on_a_lossy_cine_is_gone_from_every_frame(open_archive: Opener, serve: Any) -> None:
    ds = us("RGB", "", Rows=240, Columns=320, NumberOfFrames=2)
    frames = np.full((2, 240, 320, 3), 40, np.uint8)
    marks = [burn(frame, "CANARY ANNA 00417", (20, 20 + 150 * number), 16, 230) for number, frame in enumerate(frames)]
    items = [transcode.item(_jpeg(ds, frame)) for frame in frames]
    ds.PhotometricInterpretation = "YBR_FULL_422"
    content = file(ds, JPEGBaseline8Bit, transcode.EMPTY_OFFSET_TABLE + b"".join(items) + transcode.SEQUENCE_END)
    core = await open_archive()
    client = await serve(core)
    answer = await store(client, content)
    assert answer.status == 200, await answer.text()
    instance, data = await taken(core.archive, content)
    for number in (1, 2):
        stored, pixels = await asyncio.to_thread(picture, instance, data, number)
        for mark in marks:
            assert not pixels[mark.mask].any()
        assert stored.LossyImageCompression == "01"
        await asyncio.to_thread(assert_unreadable, pixels, ["CANARY", "ANNA", "00417"])
    rendered = await client.get(f"/dicomweb/studies/{instance.study_uid}/thumbnail")
    assert rendered.status == 200


def _jpeg(ds: Dataset, frame: np.ndarray) -> bytes:
    return compress.encode(ds, frame, "RGB", JPEGBaseline8Bit).data


async def test_of_a_slice_nothing_is_said_and_no_time_is_taken(open_archive: Opener) -> None:
    ocr._finder.cache_clear()
    archive = (await open_archive()).archive
    instance, data = await taken(archive, part10(ct()))
    ds, _ = await asyncio.to_thread(picture, instance, data)
    assert "113101" not in codes(ds)
    finder = ocr.shared_finder()
    assert finder is archive._cleaning._cleaner._finder
    assert finder._engine is None, "no model is loaded"


async def test_a_look_that_nobody_waits_for_ends_before_the_next_begins(
    open_archive: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its picture is in memory until its thread is done."""
    begun, go, inside = threading.Event(), threading.Event(), []

    def find(*_: object, **__: object) -> list[ocr.Text]:
        inside.append(1)
        begun.set()
        assert go.wait(30)
        assert inside.pop()
        assert not inside
        return []

    monkeypatch.setattr(ocr.TextFinder, "find", find)
    archive = (await open_archive()).archive
    first = asyncio.create_task(archive.ingest(stream(part10(us("8", "1.2.840.10008.1.2.1"))), SOURCE))
    assert await asyncio.to_thread(begun.wait, 30)
    first.cancel()
    second = asyncio.create_task(archive.ingest(stream(part10(us("8", "1.2.840.10008.1.2.1"))), SOURCE))
    await asyncio.to_thread(lambda: None)
    assert not first.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await second).stored


async def test_without_ocr_what_is_suspect_is_refused(open_archive: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "is_installed", lambda: False)
    archive = (await open_archive()).archive
    ds = us("8", "1.2.840.10008.1.2.1")
    outcome = await archive.ingest(stream(part10(ds)), SOURCE)
    assert outcome.stored is None
    assert "isthmus[ocr]" in (outcome.reason or "")
    assert (outcome.sop_class_uid, outcome.instance_uid) == (ds.SOPClassUID, ds.SOPInstanceUID)
    assert [info async for info in archive.objects.list()] == []
    assert (await archive.ingest(stream(part10(ct())), SOURCE)).stored


async def test_what_is_too_large_to_be_looked_at_is_refused(open_archive: Opener) -> None:
    archive = (await open_archive(ISTHMUS_INGEST__MAX_CLEANING_MB="1")).archive
    ds = us("8", "1.2.840.10008.1.2.1", NumberOfFrames=500)
    ds.PixelData = bytes(500 * 40 * 60)
    outcome = await archive.ingest(stream(part10(ds)), SOURCE)
    assert "max_cleaning_mb" in (outcome.reason or "")
    assert [info async for info in archive.objects.list()] == []
