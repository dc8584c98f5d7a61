"""WADO-RS: a real H.264 film in an MP4 container, as players ask for it."""

import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import generate_uid

from tests.dicomweb_support import bodies, parts, path_of, store
from tests.samples import ct, part10

SYNTAX = "1.2.840.10008.1.2.4.102"
VIDEO_ENDOSCOPIC = "1.2.840.10008.5.1.4.1.1.77.1.1.1"
WIDTH, HEIGHT, FRAMES = 320, 240, 50


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Two seconds of a test picture, encoded by FFmpeg."""
    target = tmp_path_factory.mktemp("film") / "film.mp4"
    source = f"testsrc=size={WIDTH}x{HEIGHT}:rate=25:duration={FRAMES / 25}"
    encode = [
        "-c:v",
        "libx264",
        "-profile:v",
        "high",
        "-level",
        "4.1",
        "-pix_fmt",
        "yuv420p",
        "-movflags",
        "+faststart",
    ]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-f", "lavfi", "-i", source, *encode, target]
    subprocess.run(command, check=True)
    return target.read_bytes()


def frames_of(film, folder):
    """The frames as FFmpeg decodes them."""
    (folder / "read.mp4").write_bytes(film)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", folder / "read.mp4"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)


def video(film, fragments=1):
    """The film as a DICOM object."""
    ds = ct(
        SOPClassUID=VIDEO_ENDOSCOPIC, Modality="ES", Rows=HEIGHT, Columns=WIDTH, SamplesPerPixel=3,
        PhotometricInterpretation="YBR_PARTIAL_420", PlanarConfiguration=0, BitsAllocated=8, BitsStored=8, HighBit=7,
        PixelRepresentation=0, NumberOfFrames=FRAMES, FrameTime=40, SOPInstanceUID=generate_uid(None),
    )  # fmt: skip
    ds.PixelData = encapsulate([film], fragments_per_frame=fragments, has_bot=False)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return ds


async def get(client, path, accept="*/*", **headers):
    return await client.get(path, headers={"Accept": accept} | headers)


@pytest.mark.parametrize("fragments", [1, 3])
async def test_a_film_comes_back_as_it_was_encoded(client, film, tmp_path, fragments):
    ds = video(film, fragments)
    assert (await store(client, part10(ds, SYNTAX))).status == 200
    (item,) = await bodies(client, f"{path_of(ds)}/metadata")
    for path in (f"{path_of(ds)}/pixeldata", item["7FE00010"]["BulkDataURI"]):
        response = await get(client, path, "video/mp4")
        assert response.headers["Content-Type"] == f"video/mp4; transfer-syntax={SYNTAX}"
        assert response.headers["Accept-Ranges"] == "bytes"
        sent = await response.read()
        assert sent[: len(film)] == film
        assert len(sent) - len(film) in range(fragments + 1)  # fragments have even lengths
    shown = frames_of(sent, tmp_path)
    assert shown.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert np.array_equal(shown, frames_of(film, tmp_path))


async def test_players_read_ranges(client, film):
    ds = video(film)
    await store(client, part10(ds, SYNTAX))
    path = f"{path_of(ds)}/pixeldata"
    probe = await get(client, path, "video/mp4", Range="bytes=0-1")
    assert (probe.status, await probe.read()) == (206, film[:2])
    total = int(probe.headers["Content-Range"].split("/")[1])
    rest = await get(client, path, "video/mp4", Range=f"bytes={total // 2}-", **{"If-Range": probe.headers["ETag"]})
    assert (rest.status, (await rest.read())[: len(film) - total // 2]) == (206, film[total // 2 :])
    shown = await get(client, f"{path_of(ds)}/rendered?accept=video/mp4", Range="bytes=4-7")
    assert (shown.status, await shown.read()) == (206, b"ftyp")


async def test_other_forms(client, film):
    ds = video(film)
    await store(client, part10(ds, SYNTAX))
    path = path_of(ds)
    ((content_type, location, data),) = await parts(
        await get(client, f"{path}/pixeldata", "multipart/related; type=video/mp4")
    )
    assert content_type == f"video/mp4; transfer-syntax={SYNTAX}"
    assert location.endswith(f"{path}/bulkdata/7FE00010")
    assert data[: len(film)] == film
    octets = await get(client, f"{path}/pixeldata", "application/octet-stream; transfer-syntax=*")
    assert octets.headers["Content-Type"] == f"application/octet-stream; transfer-syntax={SYNTAX}"
    assert (await get(client, f"{path}/frames/2", "image/jpeg")).status == 406
    stored = await get(client, path, "application/dicom")
    assert stored.headers["Content-Type"] == f"application/dicom; transfer-syntax={SYNTAX}"
    ((content_type, _, _),) = await parts(await get(client, path.split("/series")[0] + "/pixeldata"))
    assert content_type == f"video/mp4; transfer-syntax={SYNTAX}"
