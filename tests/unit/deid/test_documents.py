"""Encapsulated documents: refused, or replaced by something that says nothing."""

import re
import struct
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from gateway.deid.documents import notice
from gateway.deid.engine import Deidentifier, Refusal
from gateway.deid.profile import load_profile
from tests.unit.deid.objects import KEY, decode, encode, header, needles_in
from tests.unit.deid.passage import taken

CLASSES = "1.2.840.10008.5.1.4.1.1.104."
PDF, CDA, STL, OBJ, MTL = (f"{CLASSES}{number}" for number in range(1, 6))
TRIANGLE = struct.pack("<12f", *range(12))


@pytest.fixture(scope="module")
def replacing(tmp_path_factory: pytest.TempPathFactory) -> Deidentifier:
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "replacing.toml").write_text('documents = "replace"\noptions = ["clean-descriptors"]\n')
    return Deidentifier(load_profile("replacing", folder), KEY)


def document(sop_class: str, content: bytes, mime_type: str) -> Dataset:
    ds = header(
        SOPClassUID=sop_class,
        BurnedInAnnotation="YES",
        DocumentTitle="Discharge letter of Zephyrina Quirinale",
        EncapsulatedDocument=content + b"\0" * (len(content) % 2),
        EncapsulatedDocumentLength=len(content),
        MIMETypeOfEncapsulatedDocument=mime_type,
        ListOfMIMETypes=["image/png; name=quirinale", "text/plain"],
    )
    return decode(encode(ds))


def stl(*, head: bytes = b"solid of Quirinale", attribute: bytes = b"QU", count: int = 3, end: bytes = b"") -> bytes:
    return head.ljust(80, b" ") + struct.pack("<L", count) + (TRIANGLE + attribute) * 3 + end


@pytest.mark.parametrize("sop_class", [PDF, CDA, STL, OBJ, MTL])
def test_documents_are_refused_unless_a_profile_says_otherwise(research: Deidentifier, sop_class: str) -> None:
    with pytest.raises(Refusal, match="Encapsulated documents"):
        research.apply(document(sop_class, b"QUIRINALE", "text/plain"))


def test_a_pdf_gives_way_to_a_notice(replacing: Deidentifier) -> None:
    ds = document(PDF, b"%PDF-1.7 letter about Zephyrina QUIRINALE, MRN-7788123", "application/pdf")
    replacing.apply(ds)
    raw = encode(ds)
    assert needles_in(raw) == []
    after = decode(raw)
    assert after.EncapsulatedDocument[: after.EncapsulatedDocumentLength] == notice()
    assert after.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert after.BurnedInAnnotation == "NO"
    assert after.DocumentTitle.lower().startswith("discharge letter of")
    assert "ListOfMIMETypes" not in after


def test_the_notice_is_a_valid_pdf() -> None:
    """Every place that the cross-reference table names holds the object of that number, and the stream its length."""
    pdf = notice()
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n\Z", pdf)[1])  # type: ignore[index]
    assert pdf[start:].startswith(b"xref\n0 6\n")
    places = [int(place) for place in re.findall(rb"(\d{10}) 00000 n \n", pdf)]
    assert len(places) == 5
    assert all(pdf[place:].startswith(b"%d 0 obj\n" % number) for number, place in enumerate(places, 1))
    length, stream = re.search(rb"/Length (\d+) >>\nstream\n(.*)\nendstream", pdf, re.DOTALL).groups()  # type: ignore[union-attr]
    assert int(length) == len(stream)
    assert b"has been removed" in stream
    assert b"/Info" not in pdf


def test_a_mesh_stays_without_what_is_written_beside_it(replacing: Deidentifier) -> None:
    ds = document(STL, stl(), "model/stl")
    replacing.apply(ds)
    raw = encode(ds)
    assert needles_in(raw) == []
    content = decode(raw).EncapsulatedDocument
    assert content == bytes(80) + struct.pack("<L", 3) + (TRIANGLE + b"\0\0") * 3
    assert decode(raw).EncapsulatedDocumentLength == len(content)


@pytest.mark.parametrize(
    "content",
    [
        b"solid of Zephyrina\nfacet normal 0 0 0\nendsolid",
        b"",
        stl(count=4),
        stl(count=2),
        stl(end=b"QUIRINALE"),
        stl(count=0xFFFFFFFF),
        stl().replace(TRIANGLE, b"\xff" * len(TRIANGLE)),
    ],
    ids=["text", "empty", "short", "long", "tail", "countless", "no numbers"],
)
def test_what_is_no_binary_stl_is_refused(replacing: Deidentifier, content: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        replacing.apply(document(STL, content, "model/stl"))
    assert "could not be" not in refusal.value.message


@pytest.mark.parametrize("sop_class", [CDA, OBJ, MTL, f"{CLASSES}99"])
def test_other_documents_are_always_refused(replacing: Deidentifier, sop_class: str) -> None:
    with pytest.raises(Refusal, match="other than PDF and binary STL"):
        replacing.apply(document(sop_class, b"<ClinicalDocument/>", "text/XML"))


def test_identity_in_the_numbers_of_a_mesh_is_found(replacing: Deidentifier) -> None:
    hidden = b"Zephyrina Quirinale".ljust(48, b"\0")
    with pytest.raises(Refusal, match="0042,0011"):
        replacing.apply(document(STL, stl().replace(TRIANGLE, hidden), "model/stl"))


def test_real_documents(data_folder: Path, replacing: Deidentifier) -> None:
    for path in sorted((data_folder / "derived" / "encapsulated").glob("*.dcm")):
        ds = dcmread(path)
        title = ds.DocumentTitle
        replacing.apply(ds)
        raw = encode(ds)
        assert b"CANARY" not in raw, path
        assert title.encode() not in raw, path


@pytest.mark.parametrize("name", ["report-pdf.dcm", "mesh-stl.dcm"])
def test_a_replaced_document_on_the_way_in(data_folder: Path, replacing: Deidentifier, name: str) -> None:
    stored = taken(replacing, (data_folder / "derived" / "encapsulated" / name).read_bytes())
    assert stored.found(["CANARY", "PDFREADER", "tetrahedron", "MESH^TETRA", "STL-1", "19700101"]) == []
    content = stored.ds.EncapsulatedDocument[: stored.ds.EncapsulatedDocumentLength]
    assert content == notice() if name.startswith("report") else content.startswith(bytes(80))
