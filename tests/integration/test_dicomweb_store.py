"""STOW-RS over HTTP, on a real archive: honest, partly wrong and hostile requests."""

import asyncio
import functools
import io

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient

from dicomweb.ports import Limits
from tests.dicomweb_support import MULTIPART_DICOM, bodies, multipart, path_of, store
from tests.samples import ct, part10

#: How long a body may pause for the server `impatient`.
IMPATIENT_S = 0.5
FAILED, REFERENCED, OTHER = "00081198", "00081199", "0008119A"


@pytest.fixture
async def impatient(core, serve, monkeypatch):
    monkeypatch.setattr("gateway.app.Limits", functools.partial(Limits, read_timeout_s=IMPATIENT_S))
    return await serve(core)


async def stalling(body):
    """A body that stops and never ends."""
    yield body
    await asyncio.Event().wait()


async def answer(response):
    return await response.json(content_type=None)


async def post(client, body, content_type=MULTIPART_DICOM, path="/dicomweb/studies"):
    return await client.post(path, data=body, headers={"Content-Type": content_type})


async def test_all_stored(client):
    first, second = ct(), ct()
    response = await store(client, first, second)
    assert response.status == 200
    assert response.content_type == "application/dicom+json"
    answered = await answer(response)
    assert FAILED not in answered
    assert OTHER not in answered
    assert answered["00081190"] == {"vr": "UR"}
    items = answered[REFERENCED]["Value"]
    assert [item["00081155"]["Value"][0] for item in items] == [first.SOPInstanceUID, second.SOPInstanceUID]
    assert items[0]["00081150"]["Value"] == [first.SOPClassUID]
    assert items[0]["00081190"]["Value"] == [str(client.make_url(path_of(first)))]


async def test_one_study_is_named_in_the_headers(client):
    image = ct()
    response = await store(client, image)
    study = str(client.make_url(f"/dicomweb/studies/{image.StudyInstanceUID}"))
    assert response.headers["Location"] == response.headers["Content-Location"] == study
    assert (await answer(response))["00081190"]["Value"] == [study]


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/related; type=application/dicom; boundary=XX",
        'multipart/related; type="application/dicom"; boundary="XX"',
        "Multipart/Related; boundary=XX; Type=Application/DICOM",
        "multipart/related; boundary=XX",
    ],
)
async def test_forms_of_the_content_type(client, content_type):
    assert (await post(client, multipart(part10(ct())), content_type)).status == 200


async def test_a_single_object(client):
    image = ct()
    assert (await post(client, part10(image), "application/dicom")).status == 200
    assert len(await bodies(client, path_of(image) + "/metadata")) == 1


async def test_the_study_of_the_path(client):
    inside, outside = ct(), ct()
    path = f"/dicomweb/studies/{inside.StudyInstanceUID}"
    response = await store(client, inside, outside, path=path)
    assert response.status == 202
    answered = await answer(response)
    assert [item["00081155"]["Value"][0] for item in answered[REFERENCED]["Value"]] == [inside.SOPInstanceUID]
    (failed,) = answered[FAILED]["Value"]
    assert failed["00081155"]["Value"] == [outside.SOPInstanceUID]
    assert failed["00081197"]["vr"] == "US"
    assert isinstance(failed["00081197"]["Value"][0], int)
    assert (await store(client, outside, path=path)).status == 409


async def test_the_same_again_and_other_content(client):
    image = ct()
    assert (await store(client, image)).status == 200
    assert (await store(client, image)).status == 200
    image.PatientID = "other"
    response = await store(client, image)
    assert response.status == 409
    assert (await answer(response))[FAILED]["Value"][0]["00081197"]["Value"] == [0xC001]
    assert "C001" in response.headers["Warning"]


class TestHostile:
    """Whatever one part holds, the next ones go on."""

    @pytest.mark.parametrize(
        "bad",
        [
            b"",
            b"text",
            b"\0" * 128 + b"DICM",
            b"\0" * 100_000,
            b"\r\n--X\r\n" * 2000,
            b"\0" * 128 + b"DICM\x02\0\0\0UL\4\0\xff\xff\xff\xff",
        ],
        ids=["empty", "text", "magic only", "zeros", "false boundaries", "endless meta"],
    )
    async def test_a_bad_part_between_good_ones(self, client, bad):
        first, last = ct(), ct()
        response = await post(client, multipart(part10(first), bad, part10(last)))
        assert response.status == 202
        answered = await answer(response)
        assert len(answered[REFERENCED]["Value"]) == 2
        assert len(answered[OTHER]["Value"]) == 1
        response = await post(client, multipart(bad))
        assert response.status == 409
        assert list(await answer(response)) == ["00081190", OTHER]

    async def test_a_part_that_claims_four_gigabytes(self, client):
        image = ct()
        data = bytearray(part10(image))
        data[-516:-512] = b"\xfe\xff\xff\xff"  # the length of the pixel data
        response = await post(client, multipart(bytes(data), part10(ct())))
        assert response.status == 202
        assert (await client.get(path_of(image))).status == 404

    async def test_a_part_of_another_type(self, client):
        text = b"--XX\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
        response = await post(client, text + multipart(part10(ct())))
        assert response.status == 202
        assert (await post(client, text + b"--XX--")).status == 415

    @pytest.mark.parametrize(
        ("body", "content_type", "status"),
        [
            (b"", MULTIPART_DICOM, 400),
            (b"--XX--", MULTIPART_DICOM, 400),
            (b"nothing", MULTIPART_DICOM, 400),
            (b"--XX\r\nContent-Type: application/dicom\r\n\r\nDATA", MULTIPART_DICOM, 400),
            (b"--XX--", "multipart/related; type=application/dicom", 400),
            (b"--XX--", 'multipart/related; type="application/dicom+json"; boundary=XX', 400),
            (b"--XX--", 'multipart/related; type="image/jpeg"; boundary=XX', 415),
            (b"{}", "application/dicom+json", 409),
            (b"x", "text/plain", 415),
            (b"", "application/dicom", 409),
        ],
    )
    async def test_malformed_requests(self, client, body, content_type, status):
        response = await post(client, body, content_type)
        assert response.status == status
        assert response.content_type in ("application/json", "application/dicom+json")

    async def test_a_body_that_breaks_off_keeps_what_was_complete(self, client):
        whole = ct()
        response = await post(client, multipart(part10(whole), part10(ct()))[:-700])
        assert response.status == 202
        assert len((await answer(response))[REFERENCED]["Value"]) == 1
        assert (await client.get(path_of(whole))).status == 200

    async def test_a_connection_that_breaks_off_leaves_nothing(self, client, core):
        image = ct()
        _reader, writer = await asyncio.open_connection(client.host, client.port)
        head = f"POST /dicomweb/studies HTTP/1.1\r\nHost: {client.host}\r\nContent-Type: {MULTIPART_DICOM}\r\n"
        writer.write(f"{head}Content-Length: 99999\r\n\r\n".encode() + multipart(part10(image))[:-200])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await client.get(path_of(image))).status == 404
        assert (await store(client, image)).status == 200

    @pytest.mark.parametrize("content_type", [MULTIPART_DICOM, "application/dicom"])
    async def test_a_body_that_stalls_is_given_up(self, core, impatient, content_type):
        image = ct()
        single = content_type == "application/dicom"
        body = part10(image) if single else multipart(part10(image))
        response = await post(impatient, stalling(body[:-200]), content_type)
        assert response.status == 408
        assert list(await answer(response)) == ["00081190", OTHER]
        assert (await impatient.get(path_of(image))).status == 404
        assert [info async for info in core.archive.objects.list()] == []

    async def test_a_body_that_stalls_keeps_what_was_complete(self, impatient):
        whole = ct()
        response = await post(impatient, stalling(multipart(part10(whole), part10(ct()))[:-700]))
        assert response.status == 202
        assert len((await answer(response))[OTHER]["Value"]) == 1
        assert (await impatient.get(path_of(whole))).status == 200

    async def test_a_body_that_is_slow_but_does_not_stall(self, impatient):
        body = multipart(part10(ct()))

        async def pieces():
            for at in range(0, len(body), 100):
                yield body[at : at + 100]
                await asyncio.sleep(IMPATIENT_S / 5)

        assert (await post(impatient, pieces())).status == 200

    async def test_study_uid_of_the_path(self, client):
        assert (await store(client, ct(), path="/dicomweb/studies/1.2.x")).status == 400


async def test_bodies_are_streamed(client):
    """A part of 40 MB that arrives slowly in small pieces is stored as it is."""
    image = ct(Rows=4096, Columns=4096, NumberOfFrames=1)
    image.PixelData = bytes(range(256)) * (2 * 4096 * 16)
    body = multipart(part10(image))

    async def pieces():
        for at in range(0, len(body), 99_991):
            yield body[at : at + 99_991]

    response = await post(client, pieces())
    assert response.status == 200, await response.text()
    stored = await client.get(path_of(image), headers={"Accept": "application/dicom"})
    assert pydicom.dcmread(io.BytesIO(await stored.read())).PixelData == image.PixelData


async def test_delete_at_three_levels(client):
    first = ct()
    second = ct(StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID)
    third = ct(StudyInstanceUID=first.StudyInstanceUID)
    await store(client, first, second, third)
    study = f"/dicomweb/studies/{first.StudyInstanceUID}"
    for path, left in [(path_of(first), 2), (f"{study}/series/{first.SeriesInstanceUID}", 1), (study, 0)]:
        assert (await client.delete(path)).status == 204
        assert len(await bodies(client, f"/dicomweb/instances?StudyInstanceUID={first.StudyInstanceUID}")) == left
        assert (await client.delete(path)).status == 410
    assert (await client.delete("/dicomweb/studies/1.2.3.4")).status == 404


async def test_with_the_client_library_of_others(client, data_folder):
    """dicomweb-client stores, finds and reads back, in its own thread as it blocks."""
    files = [data_folder / "ct-bone" / "001.dcm", data_folder / "enhanced-mf" / "emri_small_rle.dcm"]

    def use(url):
        theirs = DICOMwebClient(url)
        objects = [pydicom.dcmread(file) for file in files]
        theirs.store_instances(objects)
        study = objects[0].StudyInstanceUID
        (found,) = theirs.search_for_studies(search_filters={"StudyInstanceUID": study})
        assert found["00100020"]["Value"] == [objects[0].PatientID]
        series = objects[0].SeriesInstanceUID
        (metadata,) = theirs.retrieve_series_metadata(study, series)
        assert metadata["00280010"]["Value"] == [512]
        (back,) = theirs.retrieve_series(study, series)
        assert (back.pixel_array == objects[0].pixel_array).all()
        multi = objects[1]
        uids = multi.StudyInstanceUID, multi.SeriesInstanceUID, multi.SOPInstanceUID
        frames = theirs.retrieve_instance_frames(*uids, [3, 1])
        assert frames[0] == multi.pixel_array[2].tobytes()
        picture = theirs.retrieve_instance_rendered(*uids, media_types=("image/png",))
        assert picture.startswith(b"\x89PNG")
        bulk = theirs.retrieve_bulkdata(url + path_of(multi).removeprefix("/dicomweb") + "/bulkdata/7FE00010")
        assert b"".join(bulk) == multi.pixel_array.tobytes()

    await asyncio.to_thread(use, str(client.make_url("/dicomweb")))
