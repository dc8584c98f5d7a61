"""Reading files as they arrive: the same result in whatever pieces, and a clear refusal of what is broken."""

import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicomweb.errors import NotDicom, TooLarge
from gateway.intake.header import Header, HeaderReader
from gateway.intake.pixels import PixelLayout, PixelScan
from gateway.intake.source import ByteSource, Short
from tests.samples import BUNDLED, ct, part10, stream

SAMPLE = part10(ct(ReferencedImageSequence=[ct()]))


async def read(content: bytes, size: int = 65536, max_bytes: int = 1 << 26) -> tuple[Header, bytes, PixelLayout, bytes]:
    source = ByteSource(stream(content, size), max_bytes=max_bytes)
    header = await header_of(source)
    scan = PixelScan(header.pixels)
    pixels = b""
    while not scan.done:
        if not await source.fill(1):
            raise NotDicom
        piece = bytes(source.piece())
        used = scan.feed(piece)
        source.put_back(piece[used:])
        pixels += piece[:used]
    await source.fill(1 << 30)
    return header, pixels, scan.layout, source.take(source.held)


async def header_of(source: ByteSource) -> Header:
    reader, wanted = HeaderReader(source, max_bytes=1 << 24), 1
    while True:
        await source.fill(wanted)
        try:
            return reader.read()
        except Short as short:
            wanted = short.needed


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian])
async def test_splits_header_and_pixels(syntax) -> None:
    ds = ct()
    header, pixels, layout, rest = await read(part10(ds) if syntax is None else part10(ds, syntax))
    assert header.pixels is not None
    assert layout.size == 512
    assert pixels == ds.PixelData
    assert rest == b""


async def test_pieces_do_not_matter() -> None:
    content = part10(ct(ReferencedImageSequence=[ct(), ct()]))
    whole = await read(content)
    for size in (1, 7, 131, 133, 1000):
        assert await read(content, size) == whole


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.name)
async def test_agrees_with_pydicom(path: Path) -> None:
    """Whatever pydicom reads, this reads alike: same pixel bytes, or the same verdict that there are none."""
    content = path.read_bytes()
    try:
        expected = dcmread(BytesIO(content))
    except Exception:  # noqa: BLE001 - pydicom does not read it either
        with suppress(NotDicom, TooLarge):
            await read(content)
        return
    try:
        header, pixels, *_ = await read(content, 4096)
    except NotDicom:
        declared = expected.get_item("PixelData")
        assert declared is None or declared.length not in (len(declared.value or b""), 0xFFFFFFFF) or len(expected) == 0
        return
    value = expected.get_item("PixelData").value if "PixelData" in expected else b""
    if header.transfer_syntax_uid == DeflatedExplicitVRLittleEndian or header.pixels is None:
        assert len(pixels) == len(value)
    elif header.pixels.length == 0xFFFFFFFF:
        assert pixels[:-8] == value or pixels == value
    else:
        assert pixels == value


async def test_truncated_is_refused() -> None:
    content = part10(ct())
    inside = content.index(b"AXIAL 5.0")
    for end in (0, 100, 132, 300, inside + 3, inside - 2, len(content) - 1):
        with pytest.raises(NotDicom):
            await read(content[:end])


async def test_text_is_refused() -> None:
    with pytest.raises(NotDicom, match="not a DICOM file"):
        await read(b"Dear radiologist, please find attached. " * 50)


async def test_claim_of_four_gigabytes_costs_nothing() -> None:
    content = part10(ct())
    start = content.index(b"\x08\x00\x08\x00CS")
    hostile = content[:start] + b"\x08\x00\x06\x00UT\x00\x00\xf0\xff\xff\xff" + content[start:]
    with pytest.raises(TooLarge):
        await read(hostile)


async def test_deflate_bomb_is_bounded() -> None:
    out = DicomBytesIO()
    info = FileMetaDataset()
    info.MediaStorageSOPClassUID, info.MediaStorageSOPInstanceUID = "1.2.3", "1.2.4"
    info.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    write_file_meta_info(out, info)
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"\x09\x00\x01\x10UN\x00\x00\x00\x00\x00\x10" + b"\0" * (1 << 28)
    packed = engine.compress(bomb) + engine.flush()
    assert len(packed) < 1 << 20
    with pytest.raises(TooLarge):
        await read(b"\0" * 128 + b"DICM" + out.getvalue() + packed, max_bytes=1 << 22)


async def test_nesting_is_bounded() -> None:
    head = SAMPLE[: SAMPLE.index(b"\x08\x00\x08\x00CS")]
    deep = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(NotDicom, match="nested too deep"):
        await read(head + deep * 500)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
async def test_damage_never_crashes(data: st.DataObject) -> None:
    """Any file with a few bytes changed is read, or refused with one of two errors."""
    content = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(NotDicom, TooLarge):
        await read(bytes(content), 512)


async def test_elements_count_once(monkeypatch) -> None:
    """However often the walk over a sequence of undefined length begins again as more of it arrives."""
    ds = ct(ReferencedImageSequence=[Dataset() for _ in range(60)])
    ds["ReferencedImageSequence"].is_undefined_length = True
    monkeypatch.setattr("gateway.intake.header._MAX_ELEMENTS", 100)
    header, *_ = await read(part10(ds), size=16)
    assert header.pixels is not None


async def test_file_meta_information_is_bounded_as_a_whole() -> None:
    element = b"\x02\x00\x02\x01UN\0\0\0\0\0\0"
    content = b"\0" * 128 + b"DICM" + element * (2 << 20 >> 3)
    with pytest.raises(TooLarge):
        await header_of(ByteSource(stream(content, 1 << 22), max_bytes=1 << 26))


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian])
async def test_elements_in_sequences_of_defined_length_are_bounded_too(monkeypatch, syntax) -> None:
    nested = ct(ReferencedImageSequence=[ct() for _ in range(20)])
    content = part10(nested) if syntax is None else part10(nested, syntax)
    count = len(ct()) * 21  # about
    monkeypatch.setattr("gateway.intake.header._MAX_NESTED", 2 * count)
    assert (await read(content))[0].pixels is not None
    monkeypatch.setattr("gateway.intake.header._MAX_NESTED", count // 2)
    with pytest.raises(TooLarge):
        await read(content)
