"""What is kept without pydicom is what pydicom would have kept: byte for byte, and the same as JSON."""

import json
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, note, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.uid import ExplicitVRLittleEndian

from dicomweb.errors import IsthmusError
from gateway.deid.engine import Deidentifier
from gateway.intake.elements import Elements, Memo, Unusual
from gateway.intake.header import Encoding, Header, HeaderReader, Place, Walker, _plain
from gateway.intake.source import ByteSource, Short
from gateway.intake.stored import StoredHeader, _quickly, prepare
from tests.samples import BUNDLED, ct, part10

KEY = bytes(range(32))
NONE, RESEARCH = (Deidentifier.load(name, KEY) for name in ("none", "research"))
FOLDERS = ("charsets", "cr", "derived", "enhanced-mf", "malformed", "mammo", "pet", "series-traps", "transfer-syntaxes")


async def header_of(content: bytes) -> Header:
    async def whole() -> AsyncIterator[bytes]:
        yield content

    source = ByteSource(whole(), max_bytes=1 << 30)
    reader = HeaderReader(source, max_bytes=1 << 26)
    while True:
        await source.fill(source.held + 1)
        try:
            return reader.read()
        except Short:
            assert not source.ended


def outcome(header: Header, profile: Deidentifier, elements: Elements) -> object:
    """The stored header, its JSON read, or the refusal."""
    try:
        stored = prepare(header, profile, elements)
    except IsthmusError as exc:
        return type(exc), exc.message
    return replace(stored, json=b""), json.loads(stored.json), list(json.loads(stored.json))


def by_pydicom(header: Header, profile: Deidentifier) -> object:
    """The same by way of pydicom alone."""
    return outcome(replace(header, places=None), profile, Elements())


async def compare(contents: list[bytes]) -> int:
    """Compare both ways under both profiles, each twice, and count what was not left to pydicom."""
    elements = Elements()
    kept = 0
    for content in contents:
        try:
            header = await header_of(content)
        except IsthmusError:
            continue
        for profile in (NONE, RESEARCH):
            expected = by_pydicom(header, profile)
            assert outcome(header, profile, elements) == expected
            assert outcome(header, profile, elements) == expected
        kept += is_kept(header)
    return kept


def is_kept(header: Header) -> bool:
    try:
        return isinstance(_quickly(header, NONE, Elements()), StoredHeader)
    except Unusual:
        return False


async def test_files_of_pydicom() -> None:
    assert await compare([path.read_bytes() for path in BUNDLED]) > 40


@pytest.mark.parametrize("folder", FOLDERS)
async def test_real_files(data_folder: Path, folder: str) -> None:
    paths = sorted(path for path in (data_folder / folder).rglob("*.dcm"))[:40]
    assert await compare([path.read_bytes() for path in paths]) > 0


TEXT_VRS = "AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split()
ASCII_VRS = "AE AS CS DA DS DT IS TM UI UR".split()
BYTE_VRS = "OB OD OF OL OV OW UN AT FD FL SL SS SV UL US UV".split()
LONG = "OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
WORDS = st.sampled_from(
    [
        b"", b" ", b"1", b"12", b"1.5 ", b"-3\\4", b"\\", b" A B ", b"ISO_IR 100", b"ABC\0", b"M\xfcller", b"1e400",
        b"\x1b$B;3ED\x1b(B^x", b"a=b=c", b"1.2.840.1\0", b"1.2.3 ", b"\xff\xfe", b"nan", b"A\nB", b'q"\\u', b"\x1f",
    ]
)  # fmt: skip
TAGS = st.sampled_from(
    [
        0x00080008, 0x00080012, 0x00080090, 0x00081030, 0x00081115, 0x00081140, 0x00090010, 0x00091001, 0x00100010,
        0x00180050, 0x00190010, 0x0019100A, 0x00191018, 0x00200013, 0x00280008, 0x00281201, 0x00290010, 0x00291010,
        0x00291020, 0x0040A730, 0x00420011, 0x00540000, 0x60003000, 0x00080001, 0x00200032,
    ]
)  # fmt: skip


def encoded(tag: int, vr: str, value: bytes, *, undefined: bool = False, reserved: int = 0) -> bytes:
    length = 0xFFFFFFFF if undefined else len(value)
    if vr in LONG:
        return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr.encode(), reserved, length) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value


def item(content: bytes, *, undefined: bool) -> bytes:
    if undefined:
        return b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + content + b"\xfe\xff\x0d\xe0\0\0\0\0"
    return b"\xfe\xff\x00\xe0" + struct.pack("<L", len(content)) + content


def sequence(tag: int, items: list[bytes], *, undefined: bool) -> bytes:
    end = b"\xfe\xff\xdd\xe0\0\0\0\0" if undefined else b""
    return encoded(tag, "SQ", b"".join(items) + end, undefined=undefined)


@st.composite
def element(draw: st.DrawFn, tag: int, depth: int, *, is_lawful: bool) -> bytes:
    """An element of any VR and value, right or wrong for its tag; sometimes a sequence."""
    if depth < 3 and draw(st.integers(0, 3)) == 0:
        items = draw(st.lists(st.tuples(data_set(depth + 1, is_lawful=is_lawful), st.booleans()), max_size=3))
        return sequence(tag, [item(one, undefined=flag) for one, flag in items], undefined=draw(st.booleans()))
    known = [dictionary_VR(tag)] if tag in (0x00080008, 0x00100010, 0x00180050, 0x00200013, 0x00280008) else []
    vr = draw(st.sampled_from(TEXT_VRS + BYTE_VRS + ["LO", "UN", "UI"] * 3 + known * 20))
    value = draw(WORDS | st.binary(max_size=9))
    if is_lawful and vr in ASCII_VRS and not value.isascii():
        value = b""
    return encoded(tag, vr, value, reserved=draw(st.sampled_from([0] * 20 + [1])))


@st.composite
def data_set(draw: st.DrawFn, depth: int = 0, *, is_lawful: bool = False) -> bytes:
    """Elements in ascending order, mostly, with a character set, sometimes."""
    tags = draw(st.lists(TAGS, max_size=6, unique=True))
    if draw(st.integers(0, 9)):
        tags.sort()
    out = b""
    if draw(st.booleans()):
        charset = draw(st.sampled_from([b"ISO_IR 100", b"ISO_IR 192", b"", b"\\ISO 2022 IR 87 ", b"nonsense", b"GBK "]))
        out = encoded(0x00080005, "CS", charset)
    return out + b"".join(draw(element(tag, depth, is_lawful=is_lawful)) for tag in tags)


def names(study: str = "1.2.3.4") -> list[bytes]:
    uids = {0x00080016: "1.2.840.10008.5.1.4.1.1.2", 0x00080018: "1.2.9", 0x0020000D: study, 0x0020000E: "1.2.3.5"}
    return [encoded(tag, "UI", uid.encode() + b"\0" * (len(uid) % 2)) for tag, uid in uids.items()]


def in_order(data: bytes) -> bytes:
    """Generated elements with the names that an object needs among them."""
    return b"".join(sorted([*names(), *top_level(data)], key=lambda one: struct.unpack("<HH", one[:4])))


def top_level(data: bytes) -> list[bytes]:
    ends = [0, *(place[3] for place in places_of(data))]
    return [data[start:end] for start, end in pairwise(ends)]


def places_of(data: bytes) -> list[Place]:
    places: list[Place] = []
    assert _plain(data, Walker(Encoding(explicit=True, little=True)), places) == len(data)
    return places


@settings(max_examples=200, deadline=None)
@given(data_set())
@example(encoded(0x00090010, "LO", b"SIEMENS CT VA0  COAD") + encoded(0x00091001, "UN", b"12"))
@example(encoded(0x00191018, "UN", b"1.5 "))
@example(encoded(0x00190010, "AE", b" ") + encoded(0x0019100A, "OB", b""))
@example(encoded(0x00290010, "DT", b"12345") + sequence(0x00291020, [], undefined=False))
@example(encoded(0x00080001, "SH", b"\xc2\xa2") + encoded(0x00080005, "CS", b"ISO_IR 192"))
def test_anything_that_can_be_made(data: bytes) -> None:
    compare_one(in_order(data), NONE)


@settings(max_examples=100, deadline=None)
@given(data_set(is_lawful=True))
@example(sequence(0x00080090, [item(b"", undefined=False)], undefined=True))
def test_anything_that_can_be_deidentified(data: bytes) -> None:
    """Text is of the characters that its VR has: of others pydicom's writer makes bytes that its reader reads else."""
    compare_one(in_order(data), RESEARCH)


def compare_one(data: bytes, profile: Deidentifier) -> None:
    note(repr(data))
    encoding = Encoding(explicit=True, little=True)
    header = Header(ExplicitVRLittleEndian, encoding, data, None, ("", ""), places_of(data))
    expected = by_pydicom(header, profile)
    elements = Elements()
    for _ in range(2):
        assert outcome(header, profile, elements) == expected


async def test_a_plain_image_is_kept_and_an_odd_one_is_not() -> None:
    assert is_kept(await header_of(part10(ct())))
    content = part10(ct())
    at = content.index(b"\x08\x00\x60\x00CS")
    odd = content[:at] + b"\x08\x00\x60\x00UN\0\0\x02\0\0\0CT" + content[at + 10 :]
    assert not is_kept(await header_of(odd))


async def test_sequences_get_lengths_whatever_they_had() -> None:
    ds = ct()
    head = part10(ds)
    at = head.index(b"\x08\x00\x20\x00DA")
    inner = encoded(0x00080100, "SH", b"C1")
    forms = [
        head[:at] + sequence(0x0008001F, [item(inner, undefined=one)], undefined=other) + head[at:]
        for one in (True, False)
        for other in (True, False)
    ]
    stored = {prepare(await header_of(form), NONE, Elements()).head for form in forms}
    assert len(stored) == 1
    (again,) = stored
    assert dcmread(BytesIO(again), stop_before_pixels=True)[0x0008001F].value[0].CodeValue == "C1"


async def test_the_same_bytes_in_another_character_set_are_another_text() -> None:
    elements = Elements()
    found = []
    for charset in ("ISO_IR 100", "ISO_IR 144", "ISO_IR 100"):
        ds = ct(SpecificCharacterSet=charset)
        ds.add_new(0x00081030, "LO", b"\xe4\xf6")
        item_ds = Dataset()
        item_ds.add_new(0x00081030, "LO", b"\xe4\xf6")
        ds.ReferencedImageSequence = [item_ds]
        stored = prepare(await header_of(part10(ds)), NONE, elements)
        top = stored.attributes["00081030"]["Value"][0]
        assert stored.attributes["00081140"]["Value"][0]["00081030"]["Value"] == [top]
        found.append(top)
    assert found == [b"\xe4\xf6".decode(codec) for codec in ("latin-1", "iso8859-5", "latin-1")]


def test_the_memory_is_bounded() -> None:
    memo = Memo(max_bytes=100_000)
    elements = Elements(memo)
    for number in range(5000):
        data = encoded(0x00081030, "LO", f"text {number:06d}".encode() + b" " * 80)
        elements.data_set(data, places_of(data))
    assert len(memo._recent) + len(memo._older) < 200


@pytest.mark.parametrize("vr", ["SQ", "UN"])
async def test_deep_and_broken_sequences_are_left_to_pydicom(vr: str) -> None:
    inner = b""
    for _ in range(40):
        inner = encoded(0x00081140, vr, item(inner, undefined=False))
    data = in_order(inner)
    header = Header(ExplicitVRLittleEndian, Encoding(explicit=True, little=True), data, None, ("", ""), places_of(data))
    assert outcome(header, NONE, Elements()) == by_pydicom(header, NONE)
    for cut in range(1, 40, 3):
        broken = replace(header, data=in_order(encoded(0x00081140, "SQ", inner[12:-cut])))
        broken = replace(broken, places=places_of(broken.data))
        assert outcome(broken, NONE, Elements()) == by_pydicom(broken, NONE)
