"""The work that the bytes of one instance ask for as they arrive: pure CPU, for a thread.

What fits `WHOLE_BYTES`, as most CT and MR images do, is done in one call.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from dicomweb.errors import BadRequest, Conflict, NotDicom, Refused, TooLarge
from dicomweb.pixels.frames import FrameTable
from gateway.deid.vault import Vault
from gateway.intake.codestreams import Codestreams, blanked
from gateway.intake.digests import InstanceDigests
from gateway.intake.elements import Elements
from gateway.intake.header import Header, HeaderReader
from gateway.intake.pixels import TRUNCATED, UNDEFINED, PixelScan, Swap
from gateway.intake.source import Buffer, ByteSource
from gateway.intake.stored import Deidentify, StoredHeader, prepare, sent_names
from gateway.intake.surplus import Surplus, check_offsets, surplus_of
from gateway.intake.suspicion import Suspect, is_suspect

#: Collected before anything is done with it.
WHOLE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """Bounds of one instance, in bytes."""

    max_bytes: int
    max_header_bytes: int


@dataclass(frozen=True, slots=True)
class Treatment:
    """What every instance of a source is taken in with.

    `digest_key` keys the sameness digests, `vault` seals; `looks` tells whether suspect pictures are looked at.
    """

    profile: Deidentify
    elements: Elements
    digest_key: bytes = field(repr=False)
    limits: IngestLimits
    vault: Vault
    looks: bool = False


class Taking:
    """One instance on its way from its source to the bytes of its file."""

    def __init__(
        self,
        source: ByteSource,
        treatment: Treatment,
        study_uid: str | None,
        header: Header | None = None,
        *,
        received: bytes | None = None,
    ) -> None:
        """Take what belongs to `study_uid`, if that is given.

        With a `header`, the source holds what follows it, and its picture is looked at already; `received` is then the
        sameness of what was received, if that differs.
        """
        self._source = source
        self._treatment = treatment
        self.study_uid = study_uid
        self._header = header
        self._received = received
        self._reader = HeaderReader(source, max_bytes=treatment.limits.max_header_bytes)
        self._known: _Known | None = None
        #: SOP class and instance as the sender sent them, empty until they are known.
        self.sent = ("", "")
        #: Bytes of the file by now, and whether these are all.
        self.size = 0
        self.done = False

    @property
    def stored(self) -> StoredHeader:
        """The header as it is stored."""
        return self._begun.stored

    @property
    def digests(self) -> InstanceDigests:
        """The digests, once all is done."""
        return self._begun.digests

    @property
    def frames(self) -> FrameTable:
        """Where the frames lie, once all is done."""
        return self.stored.frame_table(self._begun.header.pixels, self._begun.scan.layout)

    @property
    def codestreams(self) -> int:
        """How many codestreams the pixel data holds, as far as their markers tell, once all is done."""
        return len(self._begun.scan.layout.codestreams)

    def advance(self) -> list[Buffer]:
        """Take what has arrived and give the bytes of the file that it makes.

        Raises
        ------
        Short : the header has not arrived in whole.
        Suspect : the picture must be looked at first.
        BadRequest, Conflict, Refused, TooLarge : the instance cannot be taken.
        """
        made: list[Buffer] = []
        if self._known is None:
            self._known = self._begin()
            made.append(self._known.stored.head)
        made += self._value(self._known)
        if not self._known.scan.done:
            if self._source.ended:
                raise NotDicom(TRUNCATED)
        elif self._source.held > self._treatment.limits.max_header_bytes:
            raise TooLarge("The data after the pixel data is larger than this gateway accepts.")
        elif self._source.ended:
            made += self._end(self._known)
        self.size += sum(map(len, made))
        return made

    @property
    def _begun(self) -> _Known:
        assert self._known is not None, "the header has not been read"  # noqa: S101
        return self._known

    def _begin(self) -> _Known:
        """Read and prepare the header."""
        treatment = self._treatment
        header = self._header or self._reader.read()
        if self._header is None and treatment.looks and is_suspect(header):
            raise Suspect(header)
        try:
            stored = prepare(header, treatment.profile, treatment.elements)
        except (BadRequest, Refused):
            self.sent = sent_names(header)
            raise
        self.sent = (stored.sent_class_uid, stored.sent_instance_uid)
        if self.study_uid not in (None, stored.sent_study_uid, stored.resource.study_uid):
            raise Conflict("The instance belongs to another study than the one in the request.")
        digests = InstanceDigests(treatment.digest_key, header.data, stored.data_set, stored.pixel_offset)
        digests.update(stored.head)
        header = dataclasses.replace(header, data=b"", places=None)
        codestreams = None if treatment.profile.is_identity else Codestreams.of(stored.transfer_syntax_uid)
        surplus = Surplus() if treatment.profile.is_identity else surplus_of(header.pixels, stored)
        scan = PixelScan(header.pixels, codestreams)
        return _Known(header, stored, digests, scan, Swap(stored.swap), codestreams, surplus)

    def _value(self, known: _Known) -> list[Buffer]:
        """What has arrived of the pixel value, as it is stored."""
        made: list[Buffer] = []
        while not known.scan.done and (piece := self._source.piece()):
            used = known.scan.feed(piece)
            if used < len(piece):
                self._source.put_back(memoryview(piece)[used:])
            made.append(known.swap.feed(self._clean(known, memoryview(piece)[:used])))
            known.digests.update(made[-1])
        return made

    def _clean(self, known: _Known, value: memoryview) -> Buffer:
        """Some of the pixel value, without what it carries besides the picture."""
        pictured = known.surplus.pictured(len(value))
        if pictured < len(value):
            known.digests.remove(value[pictured:])
            return bytes(value[:pictured]) + bytes(len(value) - pictured)
        if known.codestreams is None or not known.codestreams.cuts:
            return value
        cuts, known.codestreams.cuts = known.codestreams.cuts, []
        for start, end in cuts:
            known.digests.remove(value[start:end])
        return blanked(value, cuts)

    def _end(self, known: _Known) -> list[Buffer]:
        """What follows the pixel value as it came: the end of a swapped word, a pad, elements after it."""
        if not self._treatment.profile.is_identity:
            check_offsets(known.stored, known.scan.layout)
        self.done = True
        header = known.header
        made: list[Buffer] = [known.swap.rest()]
        if known.scan.layout.size % 2 and header.pixels is not None and header.pixels.length != UNDEFINED:
            made.append(b"\0")  # after items comes a delimiter
        for piece in made:
            known.digests.update(piece)
        rest = self._source.take(self._source.held)
        # padding or signatures stay only where the object is kept as it came
        is_kept = self._treatment.profile.is_identity and header.encoding.explicit and header.encoding.little
        kept = rest if is_kept else b""
        known.digests.end(rest, kept)
        known.digests.received = self._received or known.digests.received
        return [*made, kept]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known once the header has been read; its own bytes are let go."""

    header: Header
    stored: StoredHeader
    digests: InstanceDigests
    scan: PixelScan
    swap: Swap
    codestreams: Codestreams | None
    surplus: Surplus
