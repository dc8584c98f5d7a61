"""A user agent that reads answers as strictly as PS3.18 writes them down: what it cannot read is the server's fault."""

import json
import re
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from tests.dicomweb_support import multipart

DICOM = 'multipart/related; type="application/dicom"'
XML = 'multipart/related; type="application/dicom+xml"'
OCTETS = 'multipart/related; type="application/octet-stream"'
JSON = "application/dicom+json"


@dataclass(frozen=True)
class Part:
    """One part of a multipart payload."""

    headers: CIMultiDict[str]
    body: bytes

    @property
    def media_type(self) -> str:
        """The media type without parameters."""
        return self.headers["Content-Type"].split(";")[0].strip().lower()

    @property
    def transfer_syntax(self) -> str | None:
        """The parameter of that name."""
        return parameter(self.headers["Content-Type"], "transfer-syntax")


@dataclass(frozen=True)
class Answer:
    """A response whose payload has arrived."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def media_type(self) -> str:
        """The media type without parameters, empty without payload."""
        return self.headers.get("Content-Type", "").split(";")[0].strip().lower()

    @property
    def warnings(self) -> str:
        """All Warning fields, one a line."""
        return "\n".join(self.headers.getall("Warning", []))

    def json(self) -> Any:
        """The payload as JSON, which is always UTF-8."""
        return json.loads(self.body.decode("utf-8"))

    def parts(self) -> list[Part]:
        """The parts of a multipart payload, by the syntax of section 8.6.1.2.1 to the letter."""
        assert self.media_type == "multipart/related", (self.status, self.media_type, self.body[:200])
        boundary = parameter(self.headers["Content-Type"], "boundary")
        assert boundary
        assert re.fullmatch(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]", boundary)
        delimiter = b"--" + boundary.encode()
        assert self.body.startswith(delimiter), "something stands before the first boundary"
        pieces = (b"\r\n" + self.body).split(b"\r\n" + delimiter)
        assert pieces[0] == b""
        assert pieces[-1] in {b"--", b"--\r\n"}, "the closing boundary is missing"
        return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> Part:
    assert piece.startswith(b"\r\n")
    head, blank, body = piece[2:].partition(b"\r\n\r\n")
    assert blank, "no empty line between the header of a part and its payload"
    pairs = [line.split(": ", 1) for line in head.decode("ascii").split("\r\n")]
    headers = CIMultiDict((name, value) for name, value in pairs)
    assert "Content-Type" in headers
    if "Content-Length" in headers:
        assert int(headers["Content-Length"]) == len(body)
    return Part(headers, body)


def parameter(value: str, name: str) -> str | None:
    """A parameter of a media type, quoted or not."""
    found = re.search(rf'(?i);\s*{re.escape(name)}\s*=\s*(?:"([^"]*)"|([^;\s]+))', value)
    return (found[1] if found[1] is not None else found[2]) if found else None


class Caller:
    """Sends requests to a server, byte for byte as the test wrote them."""

    def __init__(self, session: ClientSession, origin: str, root: str = "/dicomweb") -> None:
        self.session = session
        self.origin = origin
        self.base = origin + root

    async def send(
        self,
        method: str,
        path: str,
        *,
        accept: str | None = "*/*",
        data: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request below the base URI, or anywhere if `path` is absolute; read all of the answer."""
        url = URL(path if "://" in path else self.base + path, encoded=True)
        fields = {"Accept": accept} if accept is not None else {}
        fields |= headers or {}
        async with self.session.request(
            method, url, data=data, headers=fields, skip_auto_headers=["Accept", "User-Agent"], allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, accept: str | None = "*/*", **headers: str) -> Answer:
        """GET; header fields by keyword, with `_` for `-`."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send("GET", path, accept=accept, headers=fields)

    async def items(self, path: str) -> list[dict[str, Any]]:
        """The data sets of a search or of metadata."""
        answer = await self.get(path, JSON)
        assert answer.status == 200, (path, answer.status, answer.body[:300])
        found: list[dict[str, Any]] = answer.json()
        return found

    async def found(self, path: str, tag: str) -> list[Any]:
        """The first value of one attribute of each item, sorted."""
        return sorted(value_of(item, tag) for item in await self.items(path))


def value_of(item: dict[str, Any], tag: str) -> Any:
    """The first value of an attribute, None if it is absent or empty."""
    return next(iter(item.get(tag, {}).get("Value", [None])))


async def keep(server: Caller, *files: bytes) -> None:
    """Store what one test needs."""
    body = multipart(*files)
    answer = await server.send("POST", "/studies", data=body, headers={"Content-Type": f"{DICOM}; boundary=XX"})
    assert answer.status == 200, answer.body[:2000]
