"""The servers that are compared. Each is started by the harness on a folder of its own and on free loopback ports."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.processes import ProcessTree, running

ROOT = Path(__file__).resolve().parent.parent
_START_TIMEOUT_S = 60.0


class Unavailable(Exception):
    """What is to be measured is not on this machine; the message says what to install."""


@dataclass(frozen=True)
class Server:
    """A running server: where its services are, what every request carries, and its processes."""

    name: str
    dicomweb: str  # URL without a trailing slash
    dicom_port: int
    ae_title: str
    tree: ProcessTree
    started_s: float
    headers: Mapping[str, str] = field(default_factory=dict)

    def url(self, path: str) -> str:
        """Of a DICOMweb resource, or of a path from the root if it begins with a slash."""
        return f"{self.dicomweb.rpartition('/')[0]}{path}" if path.startswith("/") else f"{self.dicomweb}/{path}"

    def get_json(self, path: str) -> list[dict]:
        """GET a DICOMweb resource as JSON."""
        headers = {"Accept": "application/dicom+json", **self.headers}
        request = urllib.request.Request(self.url(path), headers=headers)
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def stored_instances(self) -> int:
        """How many instances the server says that it has."""
        studies = self.get_json("studies?includefield=00201208&limit=10000")
        return sum(int(study["00201208"]["Value"][0]) for study in studies)


class Kind(Protocol):
    """A kind of server, with its settings: a column of a table."""

    name: str

    def start(self, folder: Path) -> AbstractContextManager[Server]:
        """Run it on the data in `folder`, which may be new, until the block ends."""
        ...


@dataclass(frozen=True)
class Isthmus:
    """Isthmus with all of its defaults but those named here; `settings` are further ones, which `label` names.

    Ray is off: nothing that is measured runs a plugin.
    """

    workers: int = 2
    profile: str = "none"
    auth: str = "none"
    label: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        profile = f", {self.profile}" if self.profile != "none" else ""
        auth = f", {self.auth}" if self.auth != "none" else ""
        label = f", {self.label}" if self.label else ""
        return f"Isthmus, {self.workers} worker{'s' * (self.workers > 1)}{profile}{auth}{label}"

    @contextmanager
    def start(self, folder: Path) -> Iterator[Server]:
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / "data"
        command = [sys.executable, "-m", "gateway.cli", "serve", "--data", data, "--auth", self.auth]
        command += ["--http", "127.0.0.1:0", "--dicom", "127.0.0.1:0", "--workers", str(self.workers)]
        settings = {"ISTHMUS_INGEST__PROFILE": self.profile, "ISTHMUS_RAY__ENABLED": "false", **self.settings}
        begin = time.perf_counter()
        with (
            running(command, folder / "serve.log", PYTHONPATH=str(ROOT), **settings) as process,
            ProcessTree(process.pid).watched() as tree,
        ):
            url, title, port = _ready(process.stdout, folder / "serve.log")
            started_s = time.perf_counter() - begin
            headers = {}
            if self.auth == "token":
                headers["Authorization"] = f"Bearer {(data / 'secrets' / 'token').read_text().strip()}"
            yield Server(self.name, f"{url}/dicomweb", int(port), title, tree, started_s, headers)


def _ready(output, log: Path) -> tuple[str, str, str]:
    for line in output:
        if found := re.match(r"ready (\S+)/ dicom (\w+)@\S+:(\d+)", line):
            return found[1], found[2], found[3]
    raise RuntimeError(f"Isthmus did not start:\n{log.read_text()[-2000:]}")


@dataclass(frozen=True)
class Orthanc:
    """Orthanc with its DICOMweb plugin, set as the chapter on scalability of its Book advises."""

    name: str = "Orthanc"

    @contextmanager
    def start(self, folder: Path) -> Iterator[Server]:
        folder.mkdir(parents=True, exist_ok=True)
        binary, plugin = orthanc_files()
        http, dicom = free_port(), free_port()
        configuration = folder / "orthanc.json"
        configuration.write_text(json.dumps(_orthanc_settings(folder / "data", plugin, http, dicom), indent=1))
        begin = time.perf_counter()
        with (
            running([binary, configuration], folder / "orthanc.log") as process,
            ProcessTree(process.pid).watched() as tree,
        ):
            url = f"http://127.0.0.1:{http}"
            await_http(f"{url}/system", folder / "orthanc.log")
            started_s = time.perf_counter() - begin
            yield Server(self.name, f"{url}/dicom-web", dicom, "ORTHANC", tree, started_s)


def _orthanc_settings(data: Path, plugin: Path, http: int, dicom: int) -> dict:
    """Advised values where there is advice (https://orthanc.uclouvain.be/book/faq/scalability.html), else defaults.

    Different from the advice is one: LimitFindResults would cut the answers short that Isthmus gives in full.
    SyncStorageArea is Orthanc's default: it syncs files before it answers, as Isthmus does.
    """
    return {
        "Name": "benchmark",
        "StorageDirectory": str(data),
        "IndexDirectory": str(data),
        "Plugins": [str(plugin)],
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "StorageCompression": False,
        "LimitFindResults": 0,
        "LimitFindInstances": 0,
        "KeepAlive": True,
        "TcpNoDelay": True,
        "SaveJobs": False,
        "StorageAccessOnFind": "Never",
        "SyncStorageArea": True,
        "OverwriteInstances": False,
        "MaximumPduLength": 131072,
        "DicomWeb": {
            "Enable": True, "Root": "/dicom-web/", "EnableWado": True,
            "StudiesMetadata": "MainDicomTags", "SeriesMetadata": "Full",
        },
    }  # fmt: skip


def orthanc_files() -> tuple[Path, Path]:
    """The executable and the DICOMweb plugin: of ORTHANC_BIN and ORTHANC_DICOMWEB, else of Debian's packages."""
    binary = Path(os.environ.get("ORTHANC_BIN", "/usr/sbin/Orthanc"))
    plugin = Path(os.environ.get("ORTHANC_DICOMWEB", "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"))
    for path, variable in ((binary, "ORTHANC_BIN"), (plugin, "ORTHANC_DICOMWEB")):
        if not path.exists():
            raise Unavailable(f"{path} is not there: install orthanc and orthanc-dicomweb, or set {variable}")
    return binary, plugin


def free_port() -> int:
    """A port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_http(url: str, log: Path) -> None:
    """Wait until a URL answers, whatever the status."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            urllib.request.urlopen(url).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"no answer from {url}:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.02)
