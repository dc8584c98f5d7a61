"""Orthanc of Debian's package as a PACS, on a folder of its own and on free ports of this machine."""

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from aiohttp import ClientSession
from pydicom import dcmread

from tests.integration.dimse_support import listens
from tests.programs import program


@dataclass(frozen=True)
class Pacs:
    """A running Orthanc."""

    session: ClientSession
    url: str
    dicom_port: int

    async def get(self, path):
        async with self.session.get(self.url + path) as answer:
            assert answer.status == 200, path
            return await answer.json()

    async def file(self, path):
        async with self.session.get(self.url + path) as answer:
            assert answer.status == 200, path
            content = await answer.read()
        return dcmread(BytesIO(content))


@contextlib.asynccontextmanager
async def orthanc(folder: Path):
    """Run Orthanc until the block ends; without it the test is skipped."""
    binary = program("Orthanc", "orthanc")
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        http, dicom = first.getsockname()[1], second.getsockname()[1]
    settings = {
        "StorageDirectory": str(folder / "data"),
        "IndexDirectory": str(folder / "data"),
        "Plugins": [],
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "TcpNoDelay": True,
        "SaveJobs": False,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            binary, str(folder / "orthanc.json"), stdout=log, stderr=asyncio.subprocess.STDOUT
        )
    try:
        await listens(http)
        await listens(dicom)
        async with ClientSession() as session:
            yield Pacs(session, f"http://127.0.0.1:{http}", dicom)
    finally:
        process.terminate()
        await process.wait()
