"""multipart/related bodies (RFC 2046, RFC 2387, PS3.18 section 8.6.1.2): a reader and a writer without I/O."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from dicomweb.errors import BadRequest

MAX_PART_HEADER_BYTES = 16 << 10
_MAX_PREAMBLE_BYTES = 64 << 10
_MAX_PADDING = 64  # spaces after a boundary
# RFC 2046 section 5.1.1 wants at most 70 characters and fewer kinds of them than senders use.
_BOUNDARY = re.compile(r"[!-~ ]{0,69}[!-~]")


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part starts; header names are in lower case."""

    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartData:
    """Some bytes of the current part."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The current part is complete."""


Event = PartBegin | PartData | PartEnd


class Reader:
    """Takes a body in pieces of any size and says what it has found; holds no more than a piece and a header.

    Only `CRLF--boundary` followed by a line end or `--` divides parts: DICOM may hold anything else. A piece in which
    nothing is found is passed on as it is, without a copy.
    """

    def __init__(self, boundary: str) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise BadRequest("The multipart boundary is missing or not valid.")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._buffer = b"\r\n"  # as if a line ended before the body: it may begin with the first boundary
        self._at = 0  # what comes before it in the buffer is done with
        self._state = self._preamble
        self._preamble_bytes = 0
        self.complete = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes. Exhaust the iterator before the next call. Raises BadRequest on a malformed body."""
        self._buffer += data
        again = True
        while again and not self.complete:
            events, again = self._state()
            yield from events
        # What follows the last boundary has no meaning.
        self._buffer, self._at = b"" if self.complete else self._buffer[self._at :], 0

    def finish(self) -> None:
        """The body has ended; raise BadRequest if the last boundary was not there."""
        if not self.complete:
            raise BadRequest("The multipart body ends before its last boundary.")

    # Each state consumes some of the buffer and returns what it found, and whether it is worth to go on.

    def _preamble(self) -> tuple[list[Event], bool]:
        found, data = self._until_delimiter()
        self._preamble_bytes += len(data)
        if self._preamble_bytes > _MAX_PREAMBLE_BYTES:
            raise BadRequest("The multipart body does not begin with its boundary.")
        return [], found

    def _part(self) -> tuple[list[Event], bool]:
        found, data = self._until_delimiter()
        events: list[Event] = [PartData(data)] if data else []
        return ([*events, PartEnd()] if found else events), found

    def _headers(self) -> tuple[list[Event], bool]:
        begin = end = self._at
        if not self._buffer.startswith(b"\r\n", begin):  # there are some
            end = self._buffer.find(b"\r\n\r\n", begin, begin + MAX_PART_HEADER_BYTES + 2) + 2
            if end == 1:
                if len(self._buffer) - begin > MAX_PART_HEADER_BYTES:
                    raise BadRequest("The headers of a part are too long.")
                return [], False
        self._at = end + 2
        self._state = self._part
        return [PartBegin(_parse_headers(self._buffer[begin:end]))], True

    def _until_delimiter(self) -> tuple[bool, bytes]:
        """Cut off the data before the next delimiter, and that too; without one keep what may be its beginning."""
        start = self._at
        while (at := self._buffer.find(self._delimiter, start)) >= 0:
            after = self._after_delimiter(at + len(self._delimiter))
            if after is None:
                return False, self._cut(at, at)
            if after:
                return True, self._cut(at, after)
            start = at + 1
        # A delimiter begins with the only CR that it has (RFC 2046 section 5.1.1).
        at = self._buffer.rfind(b"\r", max(start, len(self._buffer) - len(self._delimiter) + 1))
        end = at if at >= 0 and self._delimiter.startswith(self._buffer[at:]) else len(self._buffer)
        return False, self._cut(end, end)

    def _cut(self, end: int, after: int) -> bytes:
        """The data up to `end`; the buffer goes on at `after`."""
        data, self._at = self._buffer[self._at : end], after
        return data

    def _after_delimiter(self, at: int) -> int | None:
        """Where the next state begins; 0 if this was no delimiter after all; None if more bytes must tell."""
        rest = self._buffer[at : at + _MAX_PADDING + 2]
        if rest.startswith(b"--"):
            self.complete = True
            return at + 2
        line = rest.lstrip(b" \t")
        if line.startswith(b"\r\n"):
            self._state = self._headers
            return at + len(rest) - len(line) + 2
        could_continue = line in (b"", b"\r") or rest == b"-"
        return None if could_continue and len(rest) < _MAX_PADDING + 2 else 0


def _parse_headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    unfolded = re.sub(rb"\r\n[ \t]+", b" ", block)
    for line in filter(None, unfolded.split(b"\r\n")):
        name, colon, value = line.partition(b":")
        if not colon or not name.strip():
            raise BadRequest("A part has a malformed header.")
        headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
    return headers


def boundary_for(*validators: str) -> str:
    """A boundary that is the same whenever the same parts are sent, so that ranges of the body stay valid."""
    return "isthmus-" + hashlib.sha256("\0".join(validators).encode()).hexdigest()[:40]


def part_head(boundary: str, content_type: str, size: int | None, location: str | None, *, first: bool) -> bytes:
    """What comes before the bytes of a part; `Content-Type` leads and is spelt so since viewers search for it.

    The location is left out of parts that represent no resource, the size where it is not known yet.
    """
    length = "" if size is None else f"Content-Length: {size}\r\n"
    where = "" if location is None else f"Content-Location: {location}\r\n"
    head = f"--{boundary}\r\nContent-Type: {content_type}\r\n{where}{length}\r\n"
    return (head if first else "\r\n" + head).encode("ascii")


def closing(boundary: str) -> bytes:
    """What comes after the last part."""
    return f"\r\n--{boundary}--\r\n".encode("ascii")
