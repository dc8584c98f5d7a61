"""A whole gateway in its own processes: what users send by real tools, what they find, and what a kill leaves."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx
import psutil
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from tests.conftest import Gateway, running
from tests.programs import program
from tests.samples import CT_IMAGE_STORAGE, ct, part10

pytestmark = pytest.mark.e2e
ISTHMUS = (sys.executable, "-m", "gateway.cli")


def client_of(gateway: Gateway) -> httpx.Client:
    return httpx.Client(
        base_url=gateway.base_url, headers={"Authorization": f"Bearer {gateway.token}"}, timeout=30, trust_env=False
    )


def send(gateway: Gateway, *paths: Path, options: tuple[str, ...] = ("-R",)) -> None:
    peer = ["-aec", gateway.ae_title, "127.0.0.1", str(gateway.dicom_port)]
    command = [program("storescu", "dcmtk"), *options, *peer, *map(str, paths)]
    done = subprocess.run(
        command, env=os.environ | {"TCP_NODELAY": "1"}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("e2e"), ISTHMUS_LOG__LEVEL="debug", ISTHMUS_RAY__ENABLED="false") as gateway:
        yield gateway


def stow(client: httpx.Client, *contents: bytes) -> httpx.Response:
    boundary = "e2e-boundary"
    body = b"".join(
        f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + content + b"\r\n" for content in contents
    )
    return client.post(
        "/dicomweb/studies",
        content=body + f"--{boundary}--\r\n".encode(),
        headers={"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}'},
    )


def test_two_workers_agree(gateway: Gateway) -> None:
    """Each request opens a connection of its own, so both workers answer: what one stored the other shows at once."""
    content = part10(ct())
    url = ""
    for _ in range(8):
        with client_of(gateway) as client:
            answer = stow(client, content)
            assert answer.status_code == 200
            url = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
        for _ in range(4):
            with client_of(gateway) as client:
                assert client.get(url + "/metadata").status_code == 200
        with client_of(gateway) as client:
            assert client.delete(url).status_code == 204
        for _ in range(4):
            with client_of(gateway) as client:
                assert client.get(url + "/metadata").status_code == 410
    with client_of(gateway) as client:
        assert stow(client, content).status_code == 200
        assert client.get(url).status_code == 200


def test_real_ct_by_storescu(gateway: Gateway, data_folder: Path) -> None:
    files = sorted((data_folder / "ct-bone").glob("*.dcm"))
    original = dcmread(files[0], stop_before_pixels=True)
    send(gateway, *files, options=("-xv",))
    with client_of(gateway) as client:
        series = client.get("/dicomweb/series", params={"Modality": "CT", "includefield": "all"}).json()
        (found,) = [item for item in series if item["00201209"]["Value"] == [len(files)]]
        assert found["0020000D"]["Value"] != [original.StudyInstanceUID]
        assert str(original.PatientID) not in str(found)
        path = f"/dicomweb/studies/{found['0020000D']['Value'][0]}/series/{found['0020000E']['Value'][0]}"
        metadata = client.get(f"{path}/metadata").json()
        assert len(metadata) == len(files)
        positions = [entry["00200032"]["Value"][2] for entry in metadata]
        assert len(set(positions)) == len(files)


def test_sign_in(gateway: Gateway) -> None:
    with httpx.Client(base_url=gateway.base_url, trust_env=False) as browser:
        assert browser.get("/dicomweb/studies").status_code == 401
        assert browser.get(gateway.login_url).status_code == 303
        assert browser.get("/dicomweb/studies").status_code == 200
        assert browser.delete("/dicomweb/studies/1.2.3", headers={"Origin": "http://evil.example"}).status_code == 403
    with httpx.Client(base_url=gateway.base_url, trust_env=False) as other:
        other.get(gateway.login_url)
        assert other.get("/dicomweb/studies").status_code == 401, "a one-time link works once"


def test_every_data_route_needs_a_caller(gateway: Gateway) -> None:
    with client_of(gateway) as client:
        paths = client.get("/api/openapi.json").json()["paths"]
    with httpx.Client(base_url=gateway.base_url, trust_env=False) as anyone:
        for path, operations in paths.items():
            for method in set(operations) & {"get", "post", "delete", "put"}:
                concrete = path.replace("{", "").replace("}", "")
                status = anyone.request(method, concrete).status_code
                assert status == 401 or path == "/api/openapi.json", path


def store_all(gateway: Gateway, contents: list[bytes], acknowledged: list[str]) -> None:
    """Send over one association until all are sent or the gateway is gone; note what it acknowledged."""
    ae = AE(ae_title="SENDER")
    ae.add_requested_context(CT_IMAGE_STORAGE, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", gateway.dicom_port, ae_title=gateway.ae_title)
    connection = association.dul.socket.socket
    try:
        for content in contents:
            ds = dcmread(BytesIO(content))
            status = association.send_c_store(ds)
            if not status or status.Status != 0:
                return
            acknowledged.append(ds.SOPInstanceUID)
        association.release()
    except (RuntimeError, ValueError, OSError):
        return
    finally:
        connection.close()  # pynetdicom leaves it open when the other side is gone


def test_kill_9_during_c_store(tmp_path: Path) -> None:
    """kill -9 in the middle of 500 instances: what was acknowledged is whole and served after a restart."""
    study = generate_uid(None)
    contents = [
        part10(ct(StudyInstanceUID=study, SeriesInstanceUID=f"{study[:50]}.{part}", InstanceNumber=number + 1))
        for part in range(4)
        for number in range(125)
    ]
    acknowledged: list[list[str]] = [[] for _ in range(4)]
    settings = {"ISTHMUS_INGEST__PROFILE": "none", "ISTHMUS_RAY__ENABLED": "false"}
    with running(tmp_path, **settings) as gateway, ThreadPoolExecutor(4) as pool:
        sending = [
            pool.submit(store_all, gateway, contents[part * 125 : part * 125 + 125], acknowledged[part])
            for part in range(4)
        ]
        deadline = time.monotonic() + 60
        while sum(map(len, acknowledged)) < 60 and time.monotonic() < deadline:
            time.sleep(0.01)
        family = psutil.Process(gateway.process.pid).children(recursive=True)
        for pid in (gateway.process.pid, *(child.pid for child in family)):
            with contextlib.suppress(ProcessLookupError):  # what loses its parent may have ended already
                os.kill(pid, signal.SIGKILL)
        for one in sending:
            one.result(timeout=60)
    kept = [uid for part in acknowledged for uid in part]
    assert 60 <= len(kept) < 500
    with running(tmp_path, **settings) as gateway:
        with client_of(gateway) as client:
            found = client.get("/dicomweb/instances", params={"limit": 1000}).json()
            assert set(kept) <= {item["00080018"]["Value"][0] for item in found}
            for item in found:
                path = "/dicomweb/studies/{}/series/{}/instances/{}".format(
                    *(item[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
                )
                answer = client.get(path, headers={"Accept": "application/dicom"})
                assert dcmread(BytesIO(answer.content)).PixelData == ct().PixelData
        verified = subprocess.run(
            [*ISTHMUS, "verify", "--data", str(gateway.data)], capture_output=True, text=True, timeout=60, check=False
        )
        assert verified.returncode == 0, verified.stdout
        assert f"{len(found)} instances verified, 0 differences" in verified.stdout


def test_mongod_killed_under_load(tmp_path: Path) -> None:
    """The catalogue dies while instances arrive: senders get a clear failure, the server goes on, nothing is lost."""
    with running(tmp_path, ISTHMUS_INGEST__PROFILE="none", ISTHMUS_RAY__ENABLED="false") as gateway:
        (mongod,) = [
            child for child in psutil.Process(gateway.process.pid).children() if child.name().startswith("mongod")
        ]
        stored, refused = [], []
        with client_of(gateway) as client:
            for number in range(60):
                if number == 20:
                    mongod.send_signal(signal.SIGKILL)
                ds = ct()
                answer = stow(client, part10(ds))
                assert answer.status_code in (200, 409, 503), answer.text
                (stored if answer.status_code == 200 else refused).append(ds.SOPInstanceUID)
            deadline = time.monotonic() + 30
            while client.get("/health/ready").status_code != 200 and time.monotonic() < deadline:
                time.sleep(0.2)
            assert stow(client, part10(ct())).status_code == 200
            found = client.get("/dicomweb/instances", params={"limit": 1000}).json()
        assert set(stored) <= {item["00080018"]["Value"][0] for item in found}
        assert len(stored) >= 20


def test_sigterm_leaves_nothing_running(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        family = psutil.Process(gateway.process.pid).children(recursive=True)
        assert len(family) >= 6
        started = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(timeout=30) == 0
        assert time.monotonic() - started < 15
    assert [process for process in family if process.is_running() and process.status() != "zombie"] == []
