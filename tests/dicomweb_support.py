"""DICOMweb as tests speak it: multipart bodies written and read by other means than our own."""

import email.parser
import email.policy
from io import BytesIO
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from pydicom.dataset import Dataset

from tests.samples import part10

MULTIPART_DICOM = 'multipart/related; type="application/dicom"; boundary=XX'


def multipart(*payloads: bytes, media_type: str = "application/dicom") -> bytes:
    """A multipart body with the boundary XX."""
    head = f"--XX\r\nContent-Type: {media_type}\r\n\r\n".encode()
    return b"".join(head + payload + b"\r\n" for payload in payloads) + b"--XX--\r\n"


async def store(client: TestClient, *objects: Dataset | bytes, path: str = "/dicomweb/studies") -> ClientResponse:
    """Store objects in one request."""
    files = [one if isinstance(one, bytes) else part10(one) for one in objects]
    return await client.post(path, data=BytesIO(multipart(*files)), headers={"Content-Type": MULTIPART_DICOM})


async def bodies(client: TestClient, path: str) -> list[dict[str, Any]]:
    """The items of a search or of metadata."""
    response = await client.get(path)
    assert response.status == 200, await response.text()
    items: list[dict[str, Any]] = await response.json(content_type=None)
    return items


async def parts(response: ClientResponse) -> list[tuple[str, str, bytes]]:
    """Media type, location and payload of each part, read by the standard library's parser."""
    head = f"Content-Type: {response.headers['Content-Type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + await response.read())
    return [
        (part["Content-Type"].replace('"', ""), part["Content-Location"], _payload(part))
        for part in message.iter_parts()
    ]


def _payload(part: Any) -> bytes:
    content: bytes = part.get_payload(decode=True)
    return content


def path_of(ds: Dataset) -> str:
    """The path of an instance."""
    return f"/dicomweb/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
