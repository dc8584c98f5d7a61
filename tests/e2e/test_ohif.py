"""OHIF with what clinics keep beside images: SEG, SR, RTSTRUCT and PDF, on our own origin and on another one.

On our own origin it shows a real abdomen where the folder of real studies is there, else the phantom that it shows on
the other origin, too.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from ray_plugins.testing import Phantom
from tests.browsers import VIEWER
from tests.conftest import ROOT, Gateway, running
from tests.derived import ct_series, document, measurements, segmentation, structure_set
from tests.e2e.elsewhere import Elsewhere, elsewhere
from tests.e2e.test_gateway import client_of, stow
from tests.nginx import PREFIX, free_port, nginx
from tests.samples import ct, part10

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
PHANTOM = Phantom(shape=(24, 128, 128), spacing_mm=(3.0, 1.5, 1.5), radius_mm=40.0, marrow_mm=20.0)
REAL = Path(os.environ.get("ISTHMUS_TEST_DATA", ROOT.parent / "shared" / "data")) / "ct-abdomen-labelled"


@dataclass(frozen=True)
class Hospital:
    """A gateway that keeps objects as they come, and the other web server that it trusts with OHIF."""

    gateway: Gateway
    other: Elsewhere
    phantom: list[Dataset]
    first: list[Dataset]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    if not (VIEWER / "ohif" / "index.html").is_file():
        pytest.skip("viewer/ohif is missing: `make viewer` fetches it")
    folder = tmp_path_factory.mktemp("hospital")
    settings = {"ISTHMUS_INGEST__PROFILE": "none", "ISTHMUS_RAY__ENABLED": "false"}
    with elsewhere() as other, running(folder, ISTHMUS_HTTP__CORS_ORIGINS=other.origin, **settings) as gateway:
        other.point_at(f"{gateway.base_url}/dicomweb")
        phantom = ct_series(folder / "phantom", PHANTOM, StudyDescription="CT PHANTOM")
        real = sorted((dcmread(path) for path in REAL.glob("*.dcm")), key=lambda ds: ds.InstanceNumber)
        head = ct(PatientName="Panza^Sancho", PatientID="MRN-2", Modality="MR", StudyDescription="MR HEAD")
        for one in (phantom, real):
            if one:
                keep(gateway, *one, segmentation(one), measurements(one), structure_set(one), document(one[0], "Dear"))
        keep(gateway, head)
        yield Hospital(gateway, other, phantom, real or phantom)


@pytest.mark.parametrize("where", ["own", "other"])
def test_tour(where, hospital, play, tmp_path):
    upload = tmp_path / "upload.dcm"
    upload.write_bytes(
        part10(ct(PatientName=f"Perez^{where}", PatientID=f"UP-{where}", StudyDescription="CT UPLOADED"))
    )
    slices = hospital.first if where == "own" else hospital.phantom
    play(
        "ohif_tour",
        hospital.gateway,
        OHIF=hospital.gateway.base_url if where == "own" else hospital.other.origin,
        STUDY=slices[0].StudyInstanceUID,
        SLICES=str(len(slices)),
        UPLOAD=str(upload),
        UPLOADED=f"UP-{where}",
    )


def test_below_a_path_of_a_proxy(play, tmp_path):
    port = free_port()
    public = f"http://127.0.0.1:{port}{PREFIX}/"
    settings = {"ISTHMUS_INGEST__PROFILE": "none", "ISTHMUS_RAY__ENABLED": "false"}
    with (
        running(tmp_path / "gateway", ISTHMUS_HTTP__PUBLIC_URL=public, **settings) as gateway,
        nginx(tmp_path / "nginx", port, gateway.base_url),
    ):
        slices = ct_series(tmp_path / "ct", PHANTOM)
        keep(gateway, *slices)
        assert gateway.login_url.startswith(public)
        play("proxied", gateway, BASE_URL=f"http://127.0.0.1:{port}", STUDY=slices[0].StudyInstanceUID)


def keep(gateway: Gateway, *objects: Dataset) -> None:
    """Store objects as a modality would."""
    contents: Sequence[bytes] = [content_of(ds) for ds in objects]
    with client_of(gateway) as client:
        answer = stow(client, *contents)
    assert answer.status_code == 200, answer.text


def content_of(ds: Dataset) -> bytes:
    if not hasattr(ds, "file_meta"):
        return part10(ds)
    out = BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()
