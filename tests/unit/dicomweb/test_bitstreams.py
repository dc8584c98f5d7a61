"""Compressed frames say of themselves what the files that they come from say of them."""

import struct

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import generate_frames
from pydicom.uid import UID

from dicomweb.errors import BadRequest
from dicomweb.negotiate import COMPRESSED
from dicomweb.pixels import bitstreams


def described(path):
    """A file whose pixels are looked into, and what its first frame says; None if they are of another kind."""
    ds = pydicom.dcmread(path)
    syntax = ds.file_meta.TransferSyntaxUID
    media_type = COMPRESSED.get(syntax)
    if media_type is None or "PixelData" not in ds or media_type.startswith("video/"):
        return None
    frame = next(iter(generate_frames(ds.PixelData, number_of_frames=int(ds.get("NumberOfFrames") or 1))))
    found = bitstreams.describe(media_type, frame[: bitstreams.PEEK_BYTES])
    return (ds, syntax, found) if found is not None else None


def test_real_frames(data_folder):
    syntaxes = set()
    for path in sorted((data_folder / "transfer-syntaxes").rglob("*.dcm")):
        try:
            pair = described(path)
        except (pydicom.errors.InvalidDicomError, AttributeError):
            continue
        if pair is None:
            continue
        ds, syntax, found = pair
        syntaxes.add(UID(syntax))
        assert (found.rows, found.columns, found.samples) == (ds.Rows, ds.Columns, ds.SamplesPerPixel), path.name
        assert found.bits <= ds.BitsAllocated, path.name
        assert COMPRESSED[found.transfer_syntax_uid] == COMPRESSED[syntax], path.name
        if syntax not in NOT_TOLD:
            assert found.transfer_syntax_uid == syntax, path.name
    assert len(syntaxes) >= 6


#: Lossy by name though their bit stream is reversible, or of the same code stream as another syntax.
NOT_TOLD = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in ("51", "53", "81", "91", "92", "93", "202", "203"))


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/jls", "image/jp2", "image/jphc"])
@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"]))
def test_any_bytes(media_type, data, magic):
    try:
        found = bitstreams.describe(media_type, magic + data)
    except BadRequest:
        return
    assert found is not None
    assert COMPRESSED[found.transfer_syntax_uid]


def test_a_jp2_file_is_cut_down_to_its_code_stream():
    size = struct.pack(">HHLLLLLLLLH", 47, 0, 32, 24, 0, 0, 32, 24, 0, 0, 3) + b"\x07\x01\x01" * 3
    coding = b"\xff\x52\x00\x0c\x00\x00\x00\x01\x01\x05\x04\x04\x00\x01"
    data = b"\xff\x4f\xff\x51" + size + coding + b"\xff\x90"
    boxes = b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x10ftypjp2 \0\0\0\0" + (8 + len(data)).to_bytes(4, "big") + b"jp2c"
    found = bitstreams.describe("image/jp2", boxes + data)
    assert (found.rows, found.columns, found.samples, found.bits) == (24, 32, 3, 8)
    assert found.transfer_syntax_uid == "1.2.840.10008.1.2.4.90"
    assert (boxes + data)[found.skip : found.skip + found.length] == data


def test_what_is_not_looked_into():
    assert bitstreams.describe("video/mp4", b"anything") is None
