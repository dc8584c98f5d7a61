"""A whole gateway between a modality and a PACS: identity goes in, stays in, and goes back to the PACS alone."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.conftest import running
from tests.derived import document
from tests.dicomweb_support import MULTIPART_DICOM, multipart
from tests.integration.test_cli import isthmus
from tests.integration.test_reidentify import series
from tests.integration.test_stored_back import report_on
from tests.programs import program
from tests.samples import ct, part10

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore:The string:UserWarning")]
SECRETS = (b"Quixote", b"MRN-4711", b"Cervantes", b"ACC77")


@pytest.fixture
def pacs(tmp_path: Path):
    """storescp as a PACS: its port and its folder."""
    folder = tmp_path / "pacs"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [program("storescp", "dcmtk"), "-od", folder, str(port)]
    with subprocess.Popen(command, env={"TCP_NODELAY": "1"}) as process:
        deadline = time.monotonic() + 30
        while not listens(port):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port, folder
        process.terminate()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def call(url: str, token: str, data: bytes | None = None, content_type: str = "application/json") -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type, "Accept": "application/json"}
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read()


def test_from_the_modality_to_research_and_back_to_the_pacs(tmp_path, pacs):
    port, received = pacs
    originals, sent = series(), tmp_path / "modality"
    sent.mkdir()
    for number, ds in enumerate([*originals, document(ct(), "a letter")]):
        (sent / f"{number}.dcm").write_bytes(part10(ds))
    settings = {
        "ISTHMUS_REMOTES__PACS": f"STORESCP@127.0.0.1:{port}",
        "ISTHMUS_QUARANTINE__DIR": str(tmp_path / "quarantine"),
        "ISTHMUS_RAY__ENABLED": "false",
    }
    with running(tmp_path / "gateway", **settings) as gateway:
        files = [sent / f"{number}.dcm" for number in range(4)]
        peer = ["-aec", gateway.ae_title, "127.0.0.1", str(gateway.dicom_port)]
        command = [program("storescu", "dcmtk"), "-nh", *peer, *files]
        subprocess.run(command, check=False, env={"TCP_NODELAY": "1"}, capture_output=True)
        token = isthmus(
            "token", "create", "--user", "doctor", "--right", "reidentify", "--data", gateway.data, **settings
        )
        reader, doctor = gateway.token, token.stdout.strip()
        web, api = f"{gateway.base_url}/dicomweb", f"{gateway.base_url}/api/v1/returns"
        _, found = call(f"{web}/instances?includefield=0020000D&includefield=0020000E&Modality=CT", reader)
        items = json.loads(found)
        assert len(items) == 3
        study, one, instance = (items[0][tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
        url = f"{gateway.base_url}/wado?requestType=WADO&studyUID={study}&seriesUID={one}&objectUID={instance}"
        _, content = call(f"{url}&contentType=application/dicom", reader)
        (tmp_path / "image.dcm").write_bytes(content)
        report = report_on(dcmread(tmp_path / "image.dcm"))
        assert call(f"{web}/studies", reader, multipart(part10(report)), MULTIPART_DICOM)[0] == 200
        order = json.dumps({"study": study, "to": "pacs"}).encode()
        assert call(api, reader, order)[0] == 403
        assert list(received.iterdir()) == []
        status, said = call(api, doctor, order)
        assert (status, [one["outcome"] for one in json.loads(said)["results"]]) == (200, ["sent"])
        listed = isthmus("quarantine", "list", "--data", gateway.data, **settings)
        assert listed.stdout.count("Encapsulated documents cannot be de-identified.") == 1, listed.stderr
        log = gateway.log.read_bytes()
    (file,) = received.iterdir()
    back = dcmread(file)
    assert (back.PatientID, back.PatientName) == ("MRN-4711", "Quixote^Alonso")
    assert back.StudyInstanceUID == originals[0].StudyInstanceUID
    (referenced,) = back.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    named = referenced.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert named in {ds.SOPInstanceUID for ds in originals}
    kept = [path for folder in ("gateway", "quarantine") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    everything = [(path, path.read_bytes()) for path in kept] + [("log", log), ("answer", said)]
    assert [(path, secret) for path, data in everything for secret in SECRETS if secret in data] == []
