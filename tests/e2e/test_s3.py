"""The main job with all objects in S3: store, serve, compute on Ray from the bucket, find the results, delete."""

import os
import subprocess
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import boto3
import pytest
from pydicom import dcmread

from ray_plugins.testing import Phantom
from tests import leaks
from tests.conftest import Gateway, running
from tests.contract.test_objects import ACCESS_KEY, SECRET_KEY, serve
from tests.e2e.test_gateway import ISTHMUS, client_of, send

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    environ = os.environ | {"NANIO_ACCESS_KEY": ACCESS_KEY, "NANIO_SECRET_KEY": SECRET_KEY}
    folder = tmp_path_factory.mktemp("nanio")
    arguments = ["-m", "nanio", "serve", "--data-dir", str(folder), "--host", "127.0.0.1", "--no-access-log"]
    yield from serve(arguments, environ, folder)


@pytest.fixture
def gateway(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway on a bucket; its settings are in the environment for commands of this test, too."""
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=s3, **keys).create_bucket(Bucket="pixels")
    environment = {
        "ISTHMUS_STORAGE__BACKEND": "s3",
        "ISTHMUS_STORAGE__S3__ENDPOINT_URL": s3,
        "ISTHMUS_STORAGE__S3__BUCKET": "pixels",
        "ISTHMUS_STORAGE__S3__ACCESS_KEY_ID": ACCESS_KEY,
        "ISTHMUS_STORAGE__S3__SECRET_ACCESS_KEY": SECRET_KEY,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with running(tmp_path) as gateway:
        yield gateway
    assert SECRET_KEY not in gateway.log.read_text()


def bucket(s3: str) -> Iterator[leaks.Place]:
    """All objects in the bucket: their keys, what is said of them, and what they hold."""
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=s3, **keys)
    for entry in client.list_objects_v2(Bucket="pixels")["Contents"]:
        found = client.get_object(Bucket="pixels", Key=entry["Key"])
        yield leaks.Place("S3 names", entry["Key"], f"{entry} {found}".encode())
        yield leaks.Place("S3", entry["Key"], found["Body"].read())


def test_main_job_on_s3(gateway: Gateway, s3: str, tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    Phantom().write(series)
    send(gateway, *sorted(series.iterdir()))
    assert not (gateway.data / "objects").exists()
    with client_of(gateway) as client:
        (found,) = client.get("/dicomweb/series").json()
        study, uid = found["0020000D"]["Value"][0], found["0020000E"]["Value"][0]
        started = client.post("/api/v1/plugins/ct-bone/runs", json={"study": study, "series": [uid], "parameters": {}})
        assert started.status_code == 202
        deadline = time.monotonic() + 180
        while (run := client.get(started.headers["Location"]).json())["state"] in ("queued", "running"):
            assert time.monotonic() < deadline, run
            time.sleep(0.5)
        assert run["state"] == "succeeded", run
        kinds = {output["kind"]: output for output in run["outputs"]}
        assert set(kinds) == {"seg", "sr", "mesh"}
        seg = client.get(
            f"/dicomweb/studies/{study}/series/{kinds['seg']['series']}/instances/{kinds['seg']['instance']}",
            headers={"Accept": "application/dicom"},
        )
        assert dcmread(BytesIO(seg.content)).Modality == "SEG"
        assert client.get(kinds["mesh"]["url"], headers={"Accept": "model/stl"}).status_code == 200
        verified = subprocess.run(
            [*ISTHMUS, "verify", "--data", str(gateway.data)], capture_output=True, text=True, timeout=60, check=False
        )
        assert "42 instances verified, 0 differences" in verified.stdout, verified.stderr
        sent = dcmread(next(series.iterdir()), stop_before_pixels=True)
        told = [sent.PatientID, "Sphere", sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID]
        assert not leaks.Needles(map(str, told)).leaks(bucket(s3))
        assert client.delete(f"/dicomweb/studies/{study}").status_code == 204
        assert client.get(kinds["mesh"]["url"]).status_code in (410, 404)  # until it is removed, and then
