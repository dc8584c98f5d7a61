"""A full disk, for real: a small file system fills up under C-STORE's and STOW's one path."""

import os
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from tests.dicomweb_support import MULTIPART_DICOM, multipart
from tests.samples import ct, part10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB of its own, in memory."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=False).returncode == 0
    )
    if not mounted:
        folder.rmdir()
        pytest.skip("only root may mount a small file system to fill") if os.getuid() else pytest.fail("mount failed")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def big(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 4096, (512, 512), "<u2")
    return part10(ct(Rows=512, Columns=512, PixelRepresentation=0, PixelData=pixels.tobytes(), InstanceNumber=number))


async def test_full_disk_refuses_and_keeps_what_it_has(open_archive, serve, small_disk: Path) -> None:
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_STORAGE__DIR=str(small_disk))
    client = await serve(core)
    statuses, sentences = [], []
    for number in range(12):
        answer = await client.post(
            "/dicomweb/studies", data=BytesIO(multipart(big(number))), headers={"Content-Type": MULTIPART_DICOM}
        )
        statuses.append(answer.status)
        sentences.append(answer.headers.get("Warning", ""))
    stored = statuses.count(200)
    assert 4 <= stored < 8
    assert set(statuses[stored:]) == {507}
    assert "storage is full" in sentences[-1]
    assert await core.catalogue.count() == stored
    assert [difference async for difference in core.archive.verify()] == []
    found = await (await client.get("/dicomweb/instances")).json()
    first = found[0]["00081190"]["Value"][0].split("/dicomweb")[1]
    assert (await client.delete("/dicomweb" + first)).status == 204
    answer = await client.post(
        "/dicomweb/studies", data=BytesIO(multipart(big(99))), headers={"Content-Type": MULTIPART_DICOM}
    )
    assert answer.status == 200
