"""Identity outside of attributes that people see: bits, bytes, signatures, preamble, padding; and pixels."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from collections.abc import Callable
from io import BytesIO

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.deid.answers import Answer
from benchmarks.deid.images import compress
from benchmarks.deid.people import plain
from benchmarks.deid.planting import Planter, items
from tests.burned_in import burn

_TEXT_PX = 16


def _bytes(planter: Planter) -> bytes:
    text = plain(f"{planter.person.family} {planter.person.mrns[0]}").encode()
    return text + b" " * (len(text) % 2)


def _put(planter: Planter, tag: int, vr: str, value: object) -> None:
    person = planter.person
    answers = [("text_removed", plain(person.family)), ("text_removed", person.mrns[0])]
    planter.put(tag, vr, value, *(answers if vr != "US" else []), category="hidden")


def overlay(planter: Planter) -> None:
    """An overlay whose bits, label and description name the patient."""
    for tag, value in ((0x60000010, 16), (0x60000011, 32), (0x60000100, 1), (0x60000102, 0)):
        _put(planter, tag, "US", value)
    planter.ds.add_new(0x60000040, "CS", "G")
    planter.ds.add_new(0x60000050, "SS", [1, 1])
    _put(planter, 0x60003000, "OW", _bytes(planter).ljust(64, b"\0"))
    _put(planter, 0x60000022, "LO", _bytes(planter).decode())
    _put(planter, 0x60001500, "LO", _bytes(planter).decode())


def curve(planter: Planter) -> None:
    """A retired curve, and its label."""
    _put(planter, 0x50000010, "US", 1)
    _put(planter, 0x50002500, "LO", _bytes(planter).decode())
    _put(planter, 0x50003000, "OW", _bytes(planter))


def icon(planter: Planter) -> None:
    """An icon; of its pixels some spell the patient's name."""
    image = Dataset()
    image.Rows, image.Columns, image.SamplesPerPixel, image.PhotometricInterpretation = 8, 8, 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    image.PixelData = _bytes(planter).ljust(64, b"\0")[:64]
    image["PixelData"].VR = "OB"
    planter.put(0x00880200, "SQ", items(image), category="hidden")
    name = plain(planter.person.family)
    planter.note(((0x00880200, 0), (0x7FE00010,)), name, [("text_removed", name)], "hidden")


def padding(planter: Planter) -> None:
    """Padding after the pixels (PS3.10 section 7.2)."""
    _put(planter, 0xFFFCFFFC, "OB", _bytes(planter))


def signature(planter: Planter) -> None:
    """A digital signature with the certificate of whoever signed."""
    mac, one = Dataset(), Dataset()
    mac.MACIDNumber, mac.MACCalculationTransferSyntaxUID, mac.MACAlgorithm = 1, ExplicitVRLittleEndian, "SHA256"
    one.MACIDNumber, one.DigitalSignatureUID = 1, planter.study.uid("signature")
    one.DigitalSignatureDateTime, one.CertificateType = f"{planter.study.day:%Y%m%d}101112", "X509_1993_SIG"
    one.CertificateOfSigner = _bytes(planter)
    one.Signature = _bytes(planter)
    planter.put(0x4FFE0001, "SQ", items(mac), category="hidden")
    planter.put(0xFFFAFFFA, "SQ", items(one), category="hidden")
    name = plain(planter.person.family)
    planter.note(((0xFFFAFFFA, 0), (0x04000115,)), name, [("text_removed", name)], "hidden")


def blobs(planter: Planter) -> None:
    """Bytes of unknown meaning: plain, in UTF-16, deflated and in base64; and a listed attribute as one of them."""
    text = _bytes(planter)
    utf16 = text.decode().encode("utf-16-le")
    for number, value in enumerate((text, utf16, zlib.compress(text * 4), b64encode(text * 4))):
        _put(planter, 0x0008FFF0 + 2 * number, "UN", value + b"\0" * (len(value) % 2))
    _put(planter, 0x00104000, "UN", text)
    _put(planter, 0x00084000, "LT", text.decode())  # retired: Identifying Comments
    _put(planter, 0x40080115, "LT", text.decode())  # retired: Interpretation Diagnosis Description


PLACES: tuple[Callable[[Planter], None], ...] = (overlay, curve, icon, padding, signature, blobs)


def burn_in(planter: Planter) -> None:
    """Write the patient into the pixels, as modalities do, and note where."""
    ds, person = planter.ds, planter.person
    frames = np.frombuffer(ds.PixelData, np.uint8).copy()
    shape = (int(ds.get("NumberOfFrames", 1)), ds.Rows, ds.Columns, *([3] if ds.SamplesPerPixel == 3 else []))
    frames = frames.reshape(shape)
    name = plain(f"{person.family} {person.given}").upper()
    lines = [name if name.isascii() else person.places["physician"].upper(), person.mrns[0], f"{person.born:%d.%m.%Y}"]
    for number, line in enumerate(lines):
        for frame in frames:
            found = burn(frame, line, (6, 3 + 19 * number), _TEXT_PX, 250)
        planter.entry.answers.append(
            Answer("pixels_hidden", line, ((0x7FE00010,),), line, "burned in", tuple(map(int, found.box)))
        )
    ds.PixelData = frames.tobytes()


def encode(planter: Planter, *, trailing: bool, is_jpeg: bool) -> bytes:
    """The object as a file; the patient is named in preamble, file meta information and JPEG, and after the end."""
    ds, text = planter.ds, _bytes(planter)
    syntax = compress(ds, text) if is_jpeg else str(ExplicitVRLittleEndian)
    if "mp42" in str(ds.get("PixelData", b"")[:64]):
        syntax = "1.2.840.10008.1.2.4.102"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.SourceApplicationEntityTitle = planter.person.places["station"][:16]
    meta.PrivateInformationCreatorUID, meta.PrivateInformation = planter.study.uid("private"), text
    ds.file_meta, ds.preamble = meta, text.ljust(128, b"\0")[:128]
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue() + (_trailer(text) if trailing else b"")


def _trailer(text: bytes) -> bytes:
    """An element after all others whose tag is the last that there is."""
    return struct.pack("<HH2s2xL", 0xFFFC, 0xFFFC, b"OB", len(text)) + text
