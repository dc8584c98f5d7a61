"""Drives a made-up person into a running gateway by every way there is. It needs no test runner.

What the gateway answers is kept as places to search by `tests.leaks`: each way, good and bad, has its own.
"""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import httpx
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from ray_plugins.session import short_folder
from tests import leaks
from tests.conftest import Gateway, running
from tests.leaks import Place
from tests.person import CALLING_TITLE, ENCAPSULATED_PDF, PERSON, TEXTS, bad_objects
from tests.samples import CT_IMAGE_STORAGE, ct, part10
from tests.ups_support import coded, element, state, workitem

STORESCU = shutil.which("storescu", path="/usr/bin:/usr/local/bin") or "storescu"
ISTHMUS = (sys.executable, "-m", "gateway.cli")
#: What is below the path of an instance, and as what it is asked for.
_FORMS = (
    ("", "application/dicom"),
    ("", 'multipart/related; type="application/dicom"'),
    ("", "application/zip"),
    ("/metadata", "application/dicom+json"),
    ("/metadata", 'multipart/related; type="application/dicom+xml"'),
    ("/rendered", "image/png"),
    ("/thumbnail", "image/jpeg"),
    ("/frames/1", "*/*"),
    ("/bulkdata/00104000", "*/*"),
)


class Running(Protocol):
    """What is to be known of a gateway: where it is, how to sign in, its data, its process, its log."""

    base_url: str
    ae_title: str
    dicom_port: int
    token: str
    data: Path
    process: "subprocess.Popen[str]"
    log: Path


@dataclass
class Drive:
    """All ways in and out of one gateway, and what came back; `uids` are the sender's own."""

    gateway: Running
    folder: Path
    places: list[Place] = field(default_factory=list)
    uids: set[str] = field(default_factory=set)
    study_uid: str = field(default_factory=lambda: generate_uid(None))
    series_uid: str = field(default_factory=lambda: generate_uid(None))

    @property
    def needles(self) -> leaks.Needles:
        """All that was planted."""
        return leaks.Needles([*TEXTS, *sorted(self.uids)])

    def planted(self, **changes: Any) -> Dataset:
        """An image of the person, of their one study."""
        names = {"StudyInstanceUID": self.study_uid, "SeriesInstanceUID": self.series_uid}
        ds = ct(**PERSON | names | {"SpecificCharacterSet": "ISO_IR 100"} | changes)
        step = Dataset()
        step.RequestedProcedureDescription = "Quibblethwaite again"
        step.AccessionNumber = PERSON["AccessionNumber"]
        ds.RequestAttributesSequence = [step]
        ds.add_new(0x00091001, "LO", PERSON["PatientID"])
        self.uids |= {str(ds[tag].value) for tag in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
        self.uids.add(str(ds.FrameOfReferenceUID))
        return ds

    @contextlib.contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """A client that tells of the person in headers."""
        headers = {
            "Authorization": f"Bearer {self.gateway.token}",
            "Referer": "https://ris.example/patients/Refquaxolotl?PatientID=MRNX-90817263",
            "User-Agent": "Agentblorptwist/1 (Quibblethwaite)",
            "X-Request-ID": "Reqidsnorkelby",
        }
        base_url = self.gateway.base_url
        with httpx.Client(base_url=base_url, headers=headers, timeout=60, trust_env=False) as client:
            yield client

    def ask(self, client: httpx.Client, method: str, path: str, *, allowed: tuple[str, ...] = (), **rest: Any) -> Any:
        """Send a request and keep all of its answer; `allowed` of it may come back to the sender."""
        answer = client.request(method, path, **rest)
        head = repr([answer.status_code, answer.reason_phrase, *answer.headers.multi_items()]).encode()
        self.keep(f"{method} {answer.status_code} {path[:80]}", head + answer.content, *allowed)
        return answer

    def keep(self, name: str, content: bytes, *allowed: str) -> None:
        """Keep what the gateway said to a sender."""
        self.places.append(Place("answers", name, content, frozenset(allowed)))

    def everything(self) -> None:
        """Go all ways."""
        with self.client() as client:
            self.by_stow(client)
            self.by_metadata(client)
            self.by_dimse()
            self.by_import()
            self.by_worklist(client)
            self.by_commitment(client)
            self.by_search(client)
            self.by_retrieval(client)
            self.by_api(client)
            self.by_plugin(client)
            self.by_reidentification(client)
        self.by_bad_http()

    # --- the ways in

    def by_stow(self, client: httpx.Client) -> None:
        """Objects as files: good, again, changed, cut short, of another study, refused, and no DICOM at all."""
        first, same = self.planted(), self.planted()
        whole = part10(first)
        other = part10(self.planted(SOPInstanceUID=first.SOPInstanceUID, InstanceNumber=9))
        ours = (str(first.SOPInstanceUID), str(same.SOPInstanceUID))
        for content in (whole, whole, other, part10(same)):
            self.stow(client, content, allowed=ours)
        wrong = self.planted()
        self.stow(
            client, part10(wrong), path=f"/dicomweb/studies/{generate_uid(None)}", allowed=(wrong.SOPInstanceUID,)
        )
        for content, uid in bad_objects(self.planted):
            self.stow(client, content, allowed=(uid,))
        self.stow(client, whole, part10(self.planted())[:900], b"Quibblethwaite" * 20, allowed=(*self.uids,))
        self.ask(client, "POST", "/dicomweb/studies/Pathgrimblewick", content=whole)
        self.ask(client, "POST", "/dicomweb/studies", content=whole, headers={"Content-Type": "text/Quibblethwaite"})
        self.ask(client, "POST", "/dicomweb/studies?PatientName=Querfumbledorn", content=b"Quibblethwaite")

    def stow(self, client: httpx.Client, *contents: bytes, path: str = "", allowed: tuple[str, ...] = ()) -> Any:
        """Store files, which are called like the person."""
        head = (
            b"Content-Type: application/dicom\r\n"
            b'Content-Disposition: attachment; filename="Filesnargle_Quibblethwaite.dcm"\r\n'
            b"Content-Location: /patients/Locswizzlebin/MRNX-90817263\r\nX-Patient: Quibblethwaite\r\n\r\n"
        )
        body = b"".join(b"--xx\r\n" + head + content + b"\r\n" for content in contents) + b"--xx--\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary=xx'
        path = path or "/dicomweb/studies"
        return self.ask(client, "POST", path, content=body, headers={"Content-Type": kind}, allowed=allowed)

    def by_metadata(self, client: httpx.Client) -> None:
        """Metadata with bulk data: good, with text as bulk data, with none, and no metadata at all."""
        ds = self.planted()
        item = ds.to_json_dict()
        item["7FE00010"] = {"vr": "OW", "BulkDataURI": "bulk/Locswizzlebin"}
        item["00104000"] = {"vr": "LT", "BulkDataURI": "bulk/Quibblethwaite"}
        comments = ("bulk/Quibblethwaite", PERSON["PatientComments"].encode())
        pixels = ("bulk/Locswizzlebin", ds.PixelData)
        uid = str(ds.SOPInstanceUID)
        self.metadata(client, [item], comments, pixels, allowed=(uid,))
        self.metadata(client, [item], comments, allowed=(uid,))
        self.metadata(client, [item | {"00100030": {"vr": "DA", "Value": ["Quibblethwaite"]}}], pixels, allowed=(uid,))
        self.metadata(client, [item | {"Quibblethwaite": {"vr": "PN"}}], pixels, allowed=(uid,))
        self.metadata(client, [item | {"00280010": {"vr": "US", "Value": ["MRNX-90817263"]}}], pixels, allowed=(uid,))
        self.metadata(client, [{"00100010": "Quibblethwaite"}], pixels, ("Locswizzlebin", b"Quibblethwaite"))
        self.metadata(client, "Quibblethwaite", pixels)

    def metadata(
        self, client: httpx.Client, items: Any, *bulk: tuple[str, bytes], allowed: tuple[str, ...] = ()
    ) -> Any:
        """Store metadata with bulk data at these locations."""
        parts = [(b"Content-Type: application/dicom+json", json.dumps(items).encode())]
        kind = b"Content-Type: application/octet-stream\r\nContent-Location: "
        parts += [(kind + location.encode(), value) for location, value in bulk]
        body = b"".join(b"--xx\r\n" + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts) + b"--xx--\r\n"
        media_type = 'multipart/related; type="application/dicom+json"; boundary=xx'
        return self.ask(
            client, "POST", "/dicomweb/studies", content=body, headers={"Content-Type": media_type}, allowed=allowed
        )

    @contextlib.contextmanager
    def waiting_bulk_data(self) -> Iterator[None]:
        """For the length of a block, a value waits in the gateway for the metadata that it belongs to."""
        host, port = self.gateway.base_url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        with contextlib.closing(connection):
            connection.putrequest("POST", "/dicomweb/studies")
            connection.putheader("Authorization", f"Bearer {self.gateway.token}")
            connection.putheader("Content-Type", 'multipart/related; type="application/dicom+json"; boundary=xx')
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            item = ct().to_json_dict()
            item |= {tag: {"vr": "UT", "BulkDataURI": tag} for tag in ("00104000", "00324000")}
            late = PERSON["PatientComments"].encode() * 40_000
            kind = "--xx\r\nContent-Type: application/"
            for piece in (
                f"{kind}dicom+json\r\n\r\n{json.dumps([item])}\r\n".encode(),
                f"{kind}octet-stream\r\nContent-Location: 00324000\r\n\r\n".encode() + late + b"\r\n--xx\r\n",
            ):
                connection.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            yield

    def by_dimse(self) -> None:
        """C-STORE by DCMTK and by pynetdicom, good and bad; and no DICOM at all."""
        for number, ds in enumerate((self.planted(), self.planted(SOPClassUID=ENCAPSULATED_PDF))):
            path = self.folder / f"Quibblethwaite_{number}.dcm"
            path.write_bytes(part10(ds, ImplicitVRLittleEndian if number else ExplicitVRLittleEndian))
            self.storescu(path)
        self.by_pynetdicom()
        for sent in (
            b"Quibblethwaite" * 40,
            b"\x01\0\0\0\0\x40" + b"Quibblethwaite" * 40,
            b"\x04\0\xff\xff\xff\xffMRNX",
        ):
            with socket.create_connection(("127.0.0.1", self.gateway.dicom_port), timeout=30) as connection:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    self.keep("bytes to the DICOM listener", connection.recv(4096))

    def storescu(self, *paths: Path) -> int:
        """Send files by DCMTK, as the station that is called like the person; its exit code."""
        command = [STORESCU, "-R", "-aet", CALLING_TITLE, "-aec", self.gateway.ae_title]
        command += ["127.0.0.1", str(self.gateway.dicom_port), *map(str, paths)]
        environ = os.environ | {"TCP_NODELAY": "1"}
        return subprocess.run(command, env=environ, capture_output=True, timeout=60, check=False).returncode

    def by_pynetdicom(self) -> None:
        """C-STORE of data sets that do not hold what the command says, and of bytes that are none."""
        ae = AE(CALLING_TITLE)
        ae.add_requested_context(CT_IMAGE_STORAGE, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", self.gateway.dicom_port, ae_title=self.gateway.ae_title)
        connection = association.dul.socket.socket
        try:
            for ds in (self.planted(StudyInstanceUID="Quibblethwaite"), self.planted(PatientName="x\\y" * 400)):
                status = association.send_c_store(dcmread(BytesIO(part10(ds)), force=True))
                self.keep("C-STORE-RSP", repr(status).encode())
            association.release()
        finally:
            connection.close()

    def by_import(self) -> None:
        """Files by the command line; it names to its user the files that were not taken, as they are called."""
        folder = self.folder / "import"
        folder.mkdir()
        (folder / "Filesnargle_1.dcm").write_bytes(part10(self.planted()))
        (folder / "Filesnargle_2.dcm").write_bytes(part10(self.planted())[:-100])
        (folder / "Filesnargle_3.dcm").write_bytes(part10(self.planted(SOPClassUID=ENCAPSULATED_PDF)))
        for command in (["import", folder, "--source", "Quibblethwaite"], ["verify"]):
            done = self.isthmus(*command)
            self.keep(f"isthmus {command[0]}", done.stdout + done.stderr.replace(b"Filesnargle", b""))

    def isthmus(self, *arguments: Any) -> "subprocess.CompletedProcess[bytes]":
        """Run a command on the gateway's data folder."""
        command = [*ISTHMUS, *map(str, arguments), "--data", str(self.gateway.data)]
        return subprocess.run(command, capture_output=True, timeout=120, check=False)

    def by_worklist(self, client: httpx.Client) -> None:
        """Workitems: created, updated, taken, cancelled, searched for, and malformed."""
        performer = {
            "00404009": element("SQ", coded("VANDERSNOOT", "99YPSILONFLUR", "Dr Vandersnoot")),
            "00404036": element("LO", "Krankenhaus Unterwoelbling"),
            "00404037": element("PN", {"Alphabetic": "Vandersnoot^Hieronymus"}),
        }
        uid = generate_uid(None)
        self.uids.add(uid)
        item = workitem(
            t00100010=element("PN", {"Alphabetic": PERSON["PatientName"]}),
            t00100020=element("LO", PERSON["PatientID"]),
            t00100030=element("DA", PERSON["PatientBirthDate"]),
            t00741204=element("LO", "Bone of Quibblethwaite"),
            t00404034=element("SQ", performer),
            t0020000D=element("UI", self.study_uid),
            t00400400=element("LT", PERSON["PatientComments"]),
            t00404025=element("SQ", coded("CT1", "99QUIBBLE", "Scanner of Ypsilonflur")),
        )
        kind = {"Content-Type": "application/dicom+json"}
        path = f"/dicomweb/workitems/{uid}"
        made = self.ask(client, "POST", f"/dicomweb/workitems?workitem={uid}", content=json.dumps(item), headers=kind)
        assert made.status_code == 201, made.text
        stored = made.headers["Location"].rpartition("/")[2]
        change = {"00400400": element("LT", "Quibblethwaite again")}
        transaction = generate_uid(None)
        self.uids.add(transaction)
        steps: list[tuple[str, str, Any]] = [
            ("POST", f"/dicomweb/workitems?workitem={uid}", item),
            ("POST", path, change),
            ("PUT", f"{path}/state", state("IN PROGRESS", transaction)),
            ("POST", f"{path}?{transaction}", change),
            ("POST", f"{path}/cancelrequest", {"00741238": element("LT", "of Quibblethwaite, MRNX-90817263")}),
            ("POST", f"{path}/subscribers/WATCHER", None),
            ("POST", "/dicomweb/workitems", {"00100010": "Quibblethwaite"}),
            ("POST", "/dicomweb/workitems?Pathgrimblewick", item),
            ("PUT", "/dicomweb/workitems/Pathgrimblewick/state", state("Quibblethwaite")),
            ("GET", f"/dicomweb/workitems/{stored}", None),
            ("GET", path, None),
            ("GET", f"/dicomweb/workitems?PatientName={PERSON['PatientName']}&PatientID=Querfumbledorn", None),
        ]
        for method, target, content in steps:
            self.ask(client, method, target, content=json.dumps(content) if content else b"", headers=kind)

    def by_commitment(self, client: httpx.Client) -> None:
        """Storage commitment of the sender's instances, whose UIDs come back to the sender."""
        transaction = generate_uid(None)
        self.uids.add(transaction)
        instance = next(iter(sorted(self.uids)))
        named = {"00081150": element("UI", CT_IMAGE_STORAGE), "00081155": element("UI", instance)}
        body = json.dumps({"00081195": element("UI", transaction), "00081199": element("SQ", named)})
        path = f"/dicomweb/commitment-requests/{transaction}"
        for method, content in (("POST", body), ("GET", b"")):
            self.ask(
                client,
                method,
                path,
                content=content,
                allowed=(*self.uids,),
                headers={"Content-Type": "application/dicom+json"},
            )

    def by_search(self, client: httpx.Client) -> None:
        """Queries that name the person, in every form and at every level; parameters that do not exist are named."""
        wanted = {
            "PatientName": ["Quibblethwaite*", PERSON["PatientName"], "Schröttingsbrünn"],
            "PatientID": [PERSON["PatientID"]],
            "PatientBirthDate": ["19370629", "19370629-", "Quibblethwaite"],
            "AccessionNumber": [PERSON["AccessionNumber"]],
            "ReferringPhysicianName": ["Vandersnoot^Hieronymus"],
            "StudyInstanceUID": [self.study_uid, "Quibblethwaite", f"{self.study_uid}\\1.2.3"],
            "Querfumbledorn": ["Quibblethwaite"],
            "limit": ["MRNX-90817263"],
            "includefield": ["Querfumbledorn"],
        }
        for level in ("studies", "series", "instances"):
            for name, values in wanted.items():
                for value in values:
                    named = ("Querfumbledorn",) if "Querfumbledorn" in (name, value) else ()
                    self.ask(client, "GET", f"/dicomweb/{level}", params={name: value}, allowed=named)
        for query in ("fuzzymatching=true&PatientName=Quibblethwaite", "includefield=all"):
            self.ask(client, "GET", f"/dicomweb/studies?{query}")

    def by_retrieval(self, client: httpx.Client) -> None:
        """Retrieval by the sender's UIDs, of which there is nothing, and of all that is stored in each form."""
        for target in (f"studies/{self.study_uid}", "studies/Pathgrimblewick", f"studies/{self.study_uid}/metadata"):
            for prefix in ("/dicomweb/", "/"):
                self.ask(client, "GET", prefix + target)
        sender = {"requestType": "WADO", "studyUID": self.study_uid, "seriesUID": self.series_uid, "objectUID": "1.2"}
        self.ask(client, "GET", "/wado", params=sender)
        self.ask(client, "GET", "/wado", params=sender | {"annotation": "Querfumbledorn", "contentType": "Quibble/x"})
        for found in client.get("/dicomweb/instances", params={"limit": 100}).json()[:4]:
            study, series, instance = (found[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
            path = f"/dicomweb/studies/{study}/series/{series}/instances/{instance}"
            for tail, accept in _FORMS:
                self.ask(client, "GET", path + tail, headers={"Accept": accept})
            uri = {"requestType": "WADO", "studyUID": study, "seriesUID": series, "objectUID": instance}
            for more in (
                {},
                {"contentType": "application/dicom"},
                {"contentType": "image/png", "annotation": "patient,technique"},
            ):
                self.ask(client, "GET", "/wado", params=uri | more)
            self.ask(client, "GET", f"/dicomweb/studies/{study}", headers={"Accept": "application/zip"})

    def by_api(self, client: httpx.Client) -> None:
        """The rest of the HTTP interface."""
        for path in (
            "/metrics",
            "/api/v1/info",
            "/api/v1/changes",
            "/api/v1/search-keys",
            "/api/openapi.json",
            "/Pathgrimblewick",
            "/health/ready",
            "/login?once=Querfumbledorn",
            f"/api/v1/studies/{self.study_uid}/plugins",
            f"/ohif/viewer?StudyInstanceUIDs={self.study_uid}",
        ):
            self.ask(client, "GET", path)
        named = ("Pathgrimblewick", "Paramglimworth")  # of a name that does not exist its caller is told
        self.ask(client, "GET", "/api/v1/plugins/Pathgrimblewick", allowed=named)
        order = {
            "study": self.study_uid,
            "series": [self.series_uid],
            "parameters": {"Paramglimworth": "Quibblethwaite"},
        }
        self.ask(client, "POST", "/api/v1/plugins/ct-bone/runs", json=order, allowed=named)
        self.ask(client, "POST", "/api/v1/plugins/Pathgrimblewick/runs", json=order, allowed=named)
        self.ask(client, "DELETE", f"/dicomweb/studies/{self.study_uid}")

    def by_plugin(self, client: httpx.Client) -> None:
        """A run of a plugin on a series of the person, with parameters that name them and with none."""
        series_uid, frame_uid = generate_uid(None), generate_uid(None)
        pixels = np.zeros((16, 16), "<i2")
        pixels[2:14, 2:14], pixels[6:10, 6:10] = 1064, 1824  # a body in air, and a bone in it
        for number in range(12):
            where = {"InstanceNumber": number + 1, "ImagePositionPatient": [0, 0, 5 * number], "PixelSpacing": [20, 20]}
            where |= {"PixelData": pixels.tobytes()}
            ds = self.planted(SeriesInstanceUID=series_uid, FrameOfReferenceUID=frame_uid, **where)
            stored = self.stow(client, part10(ds), allowed=(str(ds.SOPInstanceUID),))
        assert stored.status_code == 200, f"{stored.text} {stored.headers}"
        url = stored.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
        _, study, _, series, *_ = url.split("/dicomweb/")[1].split("/")
        order = {"study": study, "series": [series]}
        for parameters in ({"threshold": "Quibblethwaite"}, {"smoothing": PERSON}):
            bad = self.ask(client, "POST", "/api/v1/plugins/ct-bone/runs", json=order | {"parameters": parameters})
            assert bad.status_code == 400, bad.text
        made = self.ask(client, "POST", "/api/v1/plugins/ct-bone/runs", json=order | {"parameters": {}})
        run, deadline = made.headers["Location"], time.monotonic() + 120
        while client.get(run).json()["state"] in ("queued", "running") and time.monotonic() < deadline:
            time.sleep(0.1)
        ended = self.ask(client, "GET", run).json()
        assert ended["state"] == "succeeded", ended
        self.ask(client, "GET", f"{run}/log")
        for output in ended["outputs"]:
            if "url" in output:
                self.ask(client, "GET", output["url"])

    def by_reidentification(self, client: httpx.Client) -> None:
        """Questions about the person by a caller who may know, and is told, and by one who may not."""
        secret = self.isthmus("token", "create", "--user", "curator", "--right", "reidentify").stdout.decode().strip()
        asked: list[tuple[str, Any]] = [
            ("identities/search", {"patient_id": PERSON["PatientID"]}),
            ("identities/search", {"study_uid": self.study_uid}),
            ("identities/search", {"study_uid": "Quibblethwaite"}),
            ("identities/search", {"patient_id": "Querfumbledorn"}),
            ("identities/search", {"Quibblethwaite": PERSON["PatientID"]}),
            ("returns", {"study": "Quibblethwaite", "to": "Pathgrimblewick"}),
            ("returns", {"study": self.study_uid, "to": "Pathgrimblewick"}),
        ]
        for number, (path, body) in enumerate(asked):
            self.ask(client, "POST", f"/api/v1/{path}", json=body)
            told = {"Authorization": f"Bearer {secret}"}
            may_know = (*TEXTS, *self.uids) if number < 2 else ()
            answer = self.ask(client, "POST", f"/api/v1/{path}", json=body, headers=told, allowed=may_know)
            assert (answer.status_code == 200) == (number < 2), answer.text

    def by_bad_http(self) -> None:
        """What is no HTTP, and methods that nobody knows."""
        host, port = self.gateway.base_url.removeprefix("http://").split(":")
        name = quote(PERSON["OtherPatientNames"]).encode()
        for sent in (
            b"Quibblethwaite MRNX-90817263\r\n\r\n",
            b"GET /Quibblethwaite\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /" + name + b" HTTP/9.9\r\n\r\n",
            b"METHODSPROCKET /dicomweb/studies HTTP/1.1\r\nHost: Quibblethwaite\r\nConnection: close\r\n\r\n",
            b"GET /dicomweb/studies HTTP/1.1\r\nHost: x\r\nQuibble thwaite: y\r\n\r\n",
            b"POST /dicomweb/studies HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Quibblethwaite\r\n\r\n",
        ):
            with socket.create_connection((host, int(port)), timeout=30) as connection:
                connection.sendall(sent)
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
                self.keep("bytes to the web server", answer)


def drive(folder: Path) -> tuple[Drive, Gateway]:
    """Drive the person into a gateway at log level debug by every way; the drive holds what was there to see."""
    settings = {
        "ISTHMUS_LOG__LEVEL": "debug",
        "ISTHMUS_QUARANTINE__DIR": str(folder / "data" / "quarantine"),
    }
    with running(folder, **settings) as gateway:
        done = Drive(gateway, folder)
        with done.waiting_bulk_data():
            done.everything()
            done.places += leaks.processes(gateway.process.pid)
            done.places += leaks.folder(gateway.data, "files while it runs", without="mongo")
            done.places += leaks.folder(short_folder(gateway.data / "ray"), "Ray")
        done.places += leaks.database(leaks.internal_user(gateway.data))
    shutil.rmtree(short_folder(gateway.data / "ray"), ignore_errors=True)
    done.places += leaks.folder(gateway.data, "files")
    done.places.append(Place("log", "standard error", gateway.log.read_bytes()))
    return done, gateway
