"""PDUs of the DICOM upper layer (PS3.8 section 9.3): cuts what arrives into them, and encodes the few that we send.

Nothing waits here and nothing is read ahead: bytes go in as they come, in pieces of any size, and fragments of messages
come out in pieces as they came, without a copy. Only heads and the short PDUs are put together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Final, Protocol

#: Of an A-ABORT by us as provider (PS3.8 Table 9-26); user aborts have no reason.
UNRECOGNISED, UNEXPECTED, INVALID = 1, 2, 6
#: Bits of the message control header (PS3.8 Annex E.2): a fragment of a command set, and the last of its set.
COMMAND, LAST = 1, 2
_HEAD_BYTES = 6
_HEAD = struct.Struct(">BxL")
_FRAGMENT = struct.Struct(">LBB")
_SHORT = struct.Struct(">BxLBBBB")
_NOTHING = memoryview(b"")


class Kind(IntEnum):
    """Types of PDUs."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


#: Lengths of PDUs that have but one.
SHORT_BYTES: Final = 4


class ProtocolError(Exception):
    """The peer sent what it may not send; `reason` is that of the A-ABORT which it deserves."""

    def __init__(self, reason: int, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Receiver(Protocol):
    """What takes the PDUs that arrive."""

    def pdu(self, kind: int, body: bytes) -> None:
        """Take a whole PDU, without its head; never one of data."""
        ...

    def fragment(self, context_id: int, control: int, data: memoryview, *, whole: bool) -> None:
        """Take a fragment of a message, or a piece of one: `whole` with its last. `data` is valid during the call."""
        ...


class PduReader:
    """Reads one peer's PDUs. `allowed` says which may come now, and how long each may be, in bytes."""

    def __init__(self, receiver: Receiver) -> None:
        self.allowed: Mapping[int, int] = {}
        self._receiver = receiver
        self._partial = bytearray()  # of a head, or of the body of a PDU that is no data
        self._kind = 0
        self._pdu_left = 0  # bytes of the PDU that are still to come, those of a fragment that has begun excepted
        self._value_left = 0
        self._context_id = self._control = 0

    @property
    def within(self) -> bool:
        """Whether a PDU has begun and not ended."""
        return bool(self._partial or self._pdu_left or self._value_left)

    def feed(self, data: memoryview) -> None:
        """Take what arrived; raise ProtocolError where it breaks the protocol."""
        at, end = 0, len(data)
        while at < end:
            if self._value_left:
                size = min(self._value_left, end - at)
                self._value(data[at : at + size])
            else:
                wanted = self._pdu_left if self._kind else _HEAD_BYTES
                size = min(wanted - len(self._partial), end - at)
                self._partial += data[at : at + size]
                if len(self._partial) == wanted:
                    self._complete()
            at += size

    def _value(self, piece: memoryview) -> None:
        self._value_left -= len(piece)
        self._receiver.fragment(self._context_id, self._control, piece, whole=not self._value_left)

    def _complete(self) -> None:
        """Go on after a head, or a body, has come as a whole."""
        found = bytes(self._partial)
        self._partial.clear()
        if self._kind:
            kind, self._kind, self._pdu_left = self._kind, 0, 0
            self._receiver.pdu(kind, found)
        elif self._pdu_left:
            self._begin_fragment(found)
        else:
            self._begin_pdu(found)

    def _begin_pdu(self, head: bytes) -> None:
        kind, length = _HEAD.unpack(head)
        if kind not in self.allowed:
            raise ProtocolError(*_STRANGE[kind in Kind.__members__.values()])
        if length > self.allowed[kind] or (kind != Kind.DATA and length < SHORT_BYTES):
            raise ProtocolError(INVALID, "a PDU of a length that it may not have")
        self._pdu_left = length
        self._kind = 0 if kind == Kind.DATA else kind

    def _begin_fragment(self, head: bytes) -> None:
        length, context_id, control = _FRAGMENT.unpack(head)
        if length < 2 or length + 4 > self._pdu_left:
            raise ProtocolError(INVALID, "a fragment that does not fit into its PDU")
        self._pdu_left -= length + 4
        self._value_left, self._context_id, self._control = length - 2, context_id, control
        if not self._value_left:
            self._value(_NOTHING)


_STRANGE = {
    True: (UNEXPECTED, "a PDU that may not come now"),
    False: (UNRECOGNISED, "what is no PDU"),
}


def data_pdus(context_id: int, command: bytes, max_bytes: int) -> bytes:
    """PDUs that carry a command set, each no longer than the peer takes; with 0 it takes any."""
    return b"".join(_fragments(context_id, COMMAND, command, max_bytes))


def _fragments(context_id: int, control: int, data: bytes, max_bytes: int) -> Iterator[bytes]:
    size = max(max_bytes - _HEAD_BYTES, 1) if max_bytes else len(data)
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        last = LAST if at + size >= len(data) else 0
        head = _HEAD.pack(Kind.DATA, len(piece) + _HEAD_BYTES)
        yield head + _FRAGMENT.pack(len(piece) + 2, context_id, control | last) + piece


def associate_rj(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ PDU (PS3.8 Table 9-21)."""
    return _SHORT.pack(Kind.ASSOCIATE_RJ, SHORT_BYTES, 0, result, source, reason)


def release_rp() -> bytes:
    """An A-RELEASE-RP PDU."""
    return _SHORT.pack(Kind.RELEASE_RP, SHORT_BYTES, 0, 0, 0, 0)


def abort(reason: int | None = None) -> bytes:
    """An A-ABORT PDU (PS3.8 Table 9-26): by the provider with a reason, without one by the user."""
    source = 0 if reason is None else 2
    return _SHORT.pack(Kind.ABORT, SHORT_BYTES, 0, 0, source, reason or 0)
