"""Objects as they really come, as the bytes of a file, what is stored of them, and a search of bytes in many forms."""

import base64
import binascii
import copy
import html
import io
import json
import re
import struct
import urllib.parse
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr, write_dataset, write_file_meta_info
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian

from gateway.deid.engine import Deidentifier, Refusal
from gateway.deid.profile import Profile
from gateway.deid.vault import Vault
from gateway.intake.elements import Elements
from gateway.intake.source import ByteSource, Short
from gateway.intake.suspicion import Suspect
from gateway.intake.taking import IngestLimits, Taking, Treatment
from tests.unit.deid.objects import KEY, NEEDLES, header

#: Text as DICOM, its senders and those who hide in it encode it.
ENCODINGS = (
    *("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "latin-1", "iso8859-5", "iso8859-7", "gb18030", "shift_jis"),
    *("euc_jp", "euc_kr", "iso2022_jp", "iso2022_kr", "cp037"),
)
_LONG = frozenset("OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_MOST_BYTES = 1 << 26


def profile_of(*options: str, key: bytes = KEY) -> Deidentifier:
    """A de-identifier with nothing but these options."""
    return Deidentifier(Profile(name="made", title="Made", options=frozenset(options)), key)


def item(**attributes: object) -> Dataset:
    """An item of these attributes."""
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def code(value: str, scheme: str, meaning: str) -> Sequence:
    """A coded entry."""
    return Sequence([item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)])


def element(tag: int, vr: str, value: bytes, *, length: int | None = None, order: str = "<") -> bytes:
    """An element with explicit VR as it is encoded, its length as true as one likes."""
    size = len(value) if length is None else length
    group, number = tag >> 16, tag & 0xFFFF
    if vr in _LONG:
        return struct.pack(f"{order}HH2s2xL", group, number, vr.encode(), size) + value
    return struct.pack(f"{order}HH2sH", group, number, vr.encode(), size) + value


def implicit(tag: int, value: bytes, *, length: int | None = None) -> bytes:
    """An element without VR."""
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def items(*contents: bytes, defined: bool = True) -> bytes:
    """The items of a sequence."""
    if defined:
        return b"".join(implicit(0xFFFEE000, content) for content in contents)
    ends = implicit(0xFFFEE00D, b"")
    return b"".join(implicit(0xFFFEE000, content, length=0xFFFFFFFF) + ends for content in contents) + implicit(
        0xFFFEE0DD, b""
    )


def file(
    ds: Dataset | None = None,
    *extra: tuple[int, bytes],
    syntax: str = ExplicitVRLittleEndian,
    preamble: bytes = b"\0" * 128,
    after: bytes = b"",
    meta: Mapping[str, object] | None = None,
    appended: bytes = b"",
) -> bytes:
    """A Part 10 file of the made-up patient, with encoded elements put in where their tags belong.

    Parameters
    ----------
    ds : the data set, or that of `header`.
    extra : tag and encoding of further elements; several with one tag come in the order given.
    preamble, meta : what comes before the data set, beyond what must.
    after, appended : what follows the elements: within the data set, and behind all that is deflated.
    """
    ds = header() if ds is None else ds
    info = FileMetaDataset()
    info.MediaStorageSOPClassUID = str(ds.get("SOPClassUID") or "1.2")
    info.MediaStorageSOPInstanceUID = str(ds.get("SOPInstanceUID") or "1.2.3")
    info.TransferSyntaxUID = syntax
    for keyword, value in (meta or {}).items():
        setattr(info, keyword, value)
    out = DicomBytesIO()
    write_file_meta_info(out, info)
    encoded = [*_encoded(ds, syntax), *extra]
    body = b"".join(content for _, content in sorted(encoded, key=lambda one: one[0])) + after
    if syntax == DeflatedExplicitVRLittleEndian:
        engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = engine.compress(body) + engine.flush()
    return preamble + b"DICM" + out.getvalue() + body + appended


def _encoded(ds: Dataset, syntax: str) -> Iterator[tuple[int, bytes]]:
    """Each element of a data set with its tag."""
    little, explicit = syntax != ExplicitVRBigEndian, syntax != "1.2.840.10008.1.2"
    charset = ds.get("SpecificCharacterSet")
    ds = correct_ambiguous_vr(copy.deepcopy(ds), little)
    for tag in sorted(ds.keys()):
        one = Dataset()
        one[tag] = ds.get_item(tag)
        out = DicomBytesIO()
        out.is_little_endian, out.is_implicit_VR = little, not explicit
        write_dataset(out, one, charset or "ISO_IR 6")
        yield int(tag), out.getvalue()


@dataclass(frozen=True)
class Stored:
    """What is kept of an instance: the file and the JSON of the catalogue."""

    raw: bytes
    json: bytes

    @property
    def ds(self) -> Dataset:
        """The file as pydicom reads it, pixels included."""
        return dcmread(io.BytesIO(self.raw))

    @property
    def attributes(self) -> dict[str, Any]:
        """The JSON of the catalogue."""
        attributes: dict[str, Any] = json.loads(self.json)
        return attributes

    def found(self, needles: Iterable[str] = NEEDLES) -> list[str]:
        """The needles that anything kept holds."""
        return sorted({*found(self.raw, needles), *found(self.json, needles)})


def taken(deidentifier: Deidentifier, raw: bytes) -> Stored:
    """Take a file in as it would be stored, without a look at its picture; raise what the archive would answer with."""
    limits = IngestLimits(max_bytes=1 << 28, max_header_bytes=_MOST_BYTES)
    source = ByteSource(_pieces(raw), max_bytes=limits.max_bytes)
    treatment = Treatment(deidentifier, Elements(), KEY, limits, Vault(bytes(range(32, 64))))
    taking = Taking(source, treatment, None)
    made, wanted = [], 1 << 20
    while not taking.done:
        _run(source.fill(wanted))
        try:
            made += taking.advance()
            wanted = source.held + (1 << 20)
        except Short as short:
            wanted = short.needed
        except Suspect as suspect:
            taking = Taking(source, treatment, None, suspect.header)
    return Stored(b"".join(made), taking.stored.json)


def refused(deidentifier: Deidentifier, raw: bytes) -> str:
    """Why a file is refused, having made sure that it is, and that the reason names nobody."""
    try:
        stored = taken(deidentifier, raw)
    except Refusal as refusal:
        assert refusal.__suppress_context__ or refusal.__context__ is None  # noqa: PT017
        assert not [needle for needle in NEEDLES if needle in refusal.message.lower()]  # noqa: PT017
        return refusal.message
    raise AssertionError(f"{len(stored.raw)} bytes were stored")


async def _pieces(raw: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(raw), 65536):
        yield raw[start : start + 65536]


def _run(filling: Any) -> None:
    """Run a coroutine that waits for nothing."""
    try:
        filling.send(None)
    except StopIteration:
        return
    raise AssertionError("the source waits")


def found(raw: bytes, needles: Iterable[str] = NEEDLES) -> list[str]:
    """The needles that occur in bytes: in any case and encoding, deflated, in base64, escaped."""
    layers = [raw, *_inflated(raw), *_from_base64(raw), *_unescaped(raw)]
    forms = {needle: _forms(needle.lower()) for needle in needles}
    lower = [layer.lower() for layer in layers]
    return sorted(needle for needle, some in forms.items() if any(form in layer for layer in lower for form in some))


def _forms(needle: str) -> set[bytes]:
    forms = set()
    for encoding in ENCODINGS:
        for spelling in (needle, needle.title(), needle.upper()):
            try:
                forms.add(spelling.encode(encoding).lower())
            except UnicodeError:
                continue
    return forms


def _inflated(raw: bytes) -> Iterator[bytes]:
    """What inflates where a stream of zlib or gzip may begin."""
    for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", raw):
        try:
            yield zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(raw[match.start() :], 1 << 20)
        except zlib.error:
            continue


def _from_base64(raw: bytes) -> Iterator[bytes]:
    for match in re.finditer(rb"[A-Za-z0-9+/_-]{8,}", raw[: 1 << 20]):
        run = match.group().replace(b"-", b"+").replace(b"_", b"/")
        for start in range(4):
            part = run[start:]
            try:
                yield base64.b64decode(part[: len(part) // 4 * 4])
            except binascii.Error:
                continue


def _unescaped(raw: bytes) -> Iterator[bytes]:
    text = raw[: 1 << 20].decode("latin-1")
    yield urllib.parse.unquote(text).encode("utf-8")
    yield html.unescape(text).encode("utf-8")
    yield re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), text).encode("utf-8", "replace")
