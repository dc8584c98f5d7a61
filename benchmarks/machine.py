"""On what it was measured: the machine, its load, and the versions of all that took part."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import urllib.request
from importlib.metadata import version
from pathlib import Path

from benchmarks.servers import ROOT, Orthanc, Unavailable
from gateway.config import MongoSettings
from gateway.store.mongod import find_binary

LOAD = "Load average before the run"


def describe(scratch: Path) -> dict[str, str]:
    """Facts by name, in the order that they are told in."""
    memory_kb = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1])
    return {
        "Processor": f"{_cpu_model()}, {os.cpu_count()} cores",
        "Memory": f"{memory_kb / 2**20:.0f} GiB",
        "File system of the data": _file_system(scratch),
        "System": f"{_pretty_name()}, Linux {platform.release()}",
        LOAD: ", ".join(f"{load:.1f}" for load in os.getloadavg()),
        "Isthmus": f"{version('isthmus')}, commit {_line('git', '-C', str(ROOT), 'describe', '--always', '--dirty')}",
        "Python": platform.python_version(),
        **{name: version(name) for name in ("aiohttp", "pymongo", "pydicom", "pynetdicom")},
        "MongoDB": _mongod(),
        "Orthanc": _orthanc(scratch / "versions"),
        "DCMTK": _first(r"storescu (v[\d.]+)", _line("storescu", "--version")),
        "nginx": _first(r"nginx/([\d.]+)", _line("nginx", "-v")),
        "wrk": _first(r"wrk (\S+)", _line("wrk", "--version")),
    }


def _cpu_model() -> str:
    return _first(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) or platform.machine()


def _pretty_name() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")


def _file_system(folder: Path) -> str:
    return _line("stat", "--file-system", "--format=%T", str(folder))


def _mongod() -> str:
    return _first(r"db version v(\S+)", _line(str(find_binary(MongoSettings())), "--version"))


def _orthanc(folder: Path) -> str:
    try:
        with Orthanc().start(folder) as server:
            base = server.dicomweb.removesuffix("/dicom-web")
            return f"{_json(base + '/system')['Version']}, DICOMweb {_json(base + '/plugins/dicom-web')['Version']}"
    except Unavailable as exc:
        return str(exc)


def _json(url: str) -> dict:
    with urllib.request.urlopen(url) as response:
        return json.load(response)


def _line(*command: str) -> str:
    """What a program says, on either output; nothing if it is not there."""
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        return "not there"
    done = subprocess.run([program, *command[1:]], check=False, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1].strip() if found else text
