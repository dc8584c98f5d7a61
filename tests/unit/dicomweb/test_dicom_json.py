"""DICOM JSON against PS3.18 Annex F, pydicom's own reading, and every real file there is."""

import json
import struct
import warnings

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicomweb import dicom_json
from dicomweb.errors import NotFound

#: What designates GB 2312 (PS3.3 Table C.12-4); pydicom leaves it in the text.
GB_2312 = "\x1b$)A"
GB_2312_AS_JSON = json.dumps(GB_2312)[1:-1]


def raw(tag: int, vr: str | None, value: bytes, *, little_endian: bool = True) -> Dataset:
    """A data set with one element as the reader leaves it."""
    ds = Dataset()
    ds[Tag(tag)] = RawDataElement(Tag(tag), vr, len(value), value, 0, vr is None, little_endian)
    return ds


def one(ds: Dataset, **options: int) -> dict:
    encoded = dicom_json.encode(ds, **options)
    return next(value for tag, value in encoded.items() if tag != "00080005" or len(encoded) == 1)


@pytest.mark.parametrize(
    ("tag", "vr", "value", "expected"),
    [
        (0x00280010, "US", b"\x00\x02", {"vr": "US", "Value": [512]}),
        (0x00280010, None, b"\x00\x02", {"vr": "US", "Value": [512]}),
        (0x00280010, "US", b"\x00\x02\x03", {"vr": "UN", "InlineBinary": "AAID"}),
        (0x00280009, "AT", b"\x18\x00\x63\x10", {"vr": "AT", "Value": ["00181063"]}),
        (0x00281050, "DS", b"40.5\\ 400 ", {"vr": "DS", "Value": [40.5, 400]}),
        (0x00281050, "DS", b"40,5\\\\1e999", {"vr": "DS", "Value": ["40,5", None, "1e999"]}),
        (0x00200013, "IS", b"1.5 ", {"vr": "IS", "Value": ["1.5"]}),
        (0x00200013, "IS", b"-7 ", {"vr": "IS", "Value": [-7]}),
        (0x00080008, "CS", b"ORIGINAL\\\\AXIAL ", {"vr": "CS", "Value": ["ORIGINAL", None, "AXIAL"]}),
        (0x00080008, "CS", b"  ", {"vr": "CS"}),
        (0x00081030, "LO", b"", {"vr": "LO"}),
        (0x00204000, "LT", b"a\\b ", {"vr": "LT", "Value": ["a\\b"]}),
        (0x00100010, "PN", b"Doe^Jane==J", {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane", "Phonetic": "J"}]}),
        (
            0x00189087,
            "FD",
            struct.pack("<2d", float("nan"), float("-inf")),
            {"vr": "FD", "Value": ["NaN", "-Infinity"]},
        ),
        (0x00091001, "UN", b"\x01\x02", {"vr": "UN", "InlineBinary": "AQI="}),
        (0x00280106, None, b"\xff\xff", {"vr": "US", "Value": [65535]}),
    ],
)
def test_one_element(tag, vr, value, expected):
    assert one(raw(tag, vr, value)) == expected


def test_big_endian_numbers():
    assert one(raw(0x00280010, "US", b"\x02\x00", little_endian=False)) == {"vr": "US", "Value": [512]}


def test_signed_pixels_decide_an_ambiguous_vr():
    ds = raw(0x00280106, None, b"\xff\xff")
    ds.PixelRepresentation = 1
    assert dicom_json.encode(ds)["00280106"] == {"vr": "SS", "Value": [-1]}


def test_keys_ascend_and_file_meta_group_lengths_and_pixels_are_left_out():
    ds = raw(0x00100020, "LO", b"P1")
    for tag, vr, value in [(0x00020010, "UI", b"1.2"), (0x00080000, "UL", b"\0\0\0\0"), (0x7FE00010, "OW", b"\0\0")]:
        ds._dict[Tag(tag)] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
    ds.StudyDate = "20200101"
    assert list(dicom_json.encode(ds, pixel_vr="OW")) == ["00080005", "00080020", "00100020", "7FE00010"]


@pytest.mark.parametrize(("vr", "tag"), [("OB", "7FE00010"), ("OF", "7FE00008"), ("OD", "7FE00009")])
def test_pixel_data_is_a_reference(vr, tag):
    assert dicom_json.encode(Dataset(), pixel_vr=vr) == {tag: {"vr": vr, "BulkDataURI": tag}}


def test_long_binary_values_are_references_that_can_be_followed():
    item = Dataset()
    item.add_new(0x00700022, "OB", b"x" * 20)
    ds = Dataset()
    ds.add_new(0x0040A730, "SQ", Sequence([Dataset(), item]))
    ds.add_new(0x00420011, "OB", b"%PDF")
    ds.add_new(0x00281201, "OW", b"\0\1" * 4096)
    encoded = dicom_json.encode(ds, bulk_bytes=16)
    assert encoded["0040A730"]["Value"] == [{}, {"00700022": {"vr": "OB", "BulkDataURI": "0040A730/1/00700022"}}]
    assert encoded["00420011"] == {"vr": "OB", "BulkDataURI": "00420011"}
    assert "InlineBinary" in encoded["00281201"]
    assert dicom_json.bulk_value(ds, "0040A730/1/00700022") == b"x" * 20
    assert dicom_json.bulk_value(ds, "00420011") == b"%PDF"


@pytest.mark.parametrize(
    "path", ["", "/", "0040A730/9/00700022", "0040A730", "0040A730/-", "99999999999999", "x", "00080020"]
)
def test_no_bulk_data_there(path):
    ds = Dataset()
    ds.StudyDate = "20200101"
    ds.add_new(0x0040A730, "SQ", Sequence([Dataset()]))
    with pytest.raises(NotFound):
        dicom_json.bulk_value(ds, path)


_BYTES = st.binary(max_size=40)


@given(
    vr=st.sampled_from(sorted({*dicom_json._TEXT, *dicom_json._STRUCT, *dicom_json._BINARY, "AT", "SQ"})), value=_BYTES
)
def test_no_value_breaks_it(vr, value):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoded = json.loads(dicom_json.dumps(dicom_json.encode(raw(0x00091001, vr, value))))
    assert encoded["00091001"]["vr"] in {vr, "UN"}


@given(st.lists(st.floats(width=64), min_size=1, max_size=8))
def test_doubles_survive(values):
    ds = Dataset()
    ds.add_new(0x00189087, "FD", values)
    read = [float(value) for value in json.loads(dicom_json.dumps(dicom_json.encode(ds)))["00189087"]["Value"]]
    assert struct.pack(f"{len(read)}d", *read) == struct.pack(f"{len(values)}d", *values) or any(v != v for v in values)


def comparable(item):
    """pydicom's JSON, but for what it writes differently on purpose or against F.2.5."""
    if isinstance(item, dict):
        return {
            k: comparable(v) for k, v in sorted(item.items()) if not k.endswith("0000") and k != "00080005" and v != []
        }
    if isinstance(item, list):
        return [None if value == "" else comparable(value) for value in item]
    return item.strip() if isinstance(item, str) else item


@pytest.mark.parametrize(
    "folder", ["charsets", "derived", "enhanced-mf", "mammo", "phi-canaries", "transfer-syntaxes", "us"]
)
def test_agrees_with_pydicom_on_real_files(folder, data_folder):
    compared = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted((data_folder / folder).rglob("*.dcm")):
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            ours = json.loads(dicom_json.dumps(dicom_json.encode(ds, bulk_bytes=1 << 40)))
            ours = {k: v for k, v in ours.items() if "BulkDataURI" not in v}
            try:
                text = ds.to_json().replace(GB_2312_AS_JSON, "")
                theirs = {k: v for k, v in json.loads(text).items() if k in ours}
            except (ValueError, TypeError):
                continue  # pydicom cannot encode it; that we could is the point
            assert comparable(ours) == comparable(theirs), path.name
            compared += 1
    assert compared


def test_every_header_that_pydicom_reads_can_be_encoded(data_folder):
    read = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted((data_folder / "malformed").iterdir()):
            try:
                ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            except Exception:  # noqa: BLE001
                continue
            assert isinstance(dicom_json.dumps(dicom_json.encode(ds)), bytes)
            read += 1
    assert read > 20


def test_names_in_many_scripts(data_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in (data_folder / "charsets").glob("chr*.dcm"):
            ds = pydicom.dcmread(path)
            groups = dicom_json.encode(ds).get("00100010", {}).get("Value", [{}])[0]
            name = ds.get("PatientName")
            if name:
                expected = str(name).replace(GB_2312, "").replace("==", "=").rstrip("=")
                assert "=".join(groups.values()) == expected
