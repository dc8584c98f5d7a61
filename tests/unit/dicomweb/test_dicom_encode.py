"""DICOM JSON back to DICOM: what pydicom and this server write as JSON is read as the same data set."""

import contextlib
import math
from io import BytesIO

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dicomweb import dicom_encode, dicom_json
from dicomweb.dicom_encode import Hole
from dicomweb.errors import BadRequest
from tests.samples import ct


def decoded(item: dict) -> Dataset:
    """The data set that DICOM JSON without bulk data means."""
    pieces = [piece for element in dicom_encode.encode(item).values() for piece in element]
    assert not [piece for piece in pieces if isinstance(piece, Hole)]
    return read_dataset(BytesIO(b"".join(pieces)), False, True)


def one(vr: str, *values: object, tag: str = "00091010") -> object:
    return decoded({tag: {"vr": vr, "Value": list(values)}})[int(tag, 16)].value


def comparable(item: dict) -> dict:
    """The same without what items say of their text, and decimal strings to the digits that 16 characters hold."""
    found = {}
    for tag, element in item.items():
        values = element.get("Value", [])
        if element["vr"] == "SQ":
            inner = [{key: one for key, one in comparable(value).items() if key != "00080005"} for value in values]
            element = element | {"Value": inner}
        elif element["vr"] == "DS":
            element = element | {"Value": [f"{one:.8e}" if isinstance(one, float) else one for one in values]}
        found[tag] = element
    return found


def test_real_headers(data_folder):
    """Everything that metadata says of a file survives the way to DICOM and back."""
    seen = 0
    for path in sorted(data_folder.rglob("*.dcm"))[::7]:
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=True)
            item = dicom_json.encode(ds, bulk_bytes=1 << 30)
        except Exception:  # noqa: BLE001 - the folder holds broken files on purpose
            continue
        item = {tag: element for tag, element in item.items() if "BulkDataURI" not in element}
        again = dicom_json.encode(decoded(item), bulk_bytes=1 << 30)
        assert comparable({tag: again[tag] for tag in item}) == comparable(item), path.name
        seen += 1
    assert seen > 20


def test_what_pydicom_writes():
    ds = ct(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう", ImageComments="two\nlines", WindowCenter=[40, -600.5])
    del ds.PixelData
    again = decoded(ds.to_json_dict())
    del again.SpecificCharacterSet
    assert again == ds


def test_lenient_forms():
    assert one("PN", "Plain^Name") == "Plain^Name"
    assert one("PN", {"Alphabetic": "A^B", "Phonetic": "C"}) == "A^B==C"
    assert one("DS", 0.1 + 0.2) == pytest.approx(0.3)
    assert one("DS", "1.50", 2) == [1.5, 2]
    assert one("IS", 3.0, "4") == [3, 4]
    assert one("CS", "A", None, "B") == ["A", "", "B"]
    assert one("AT", "00100010") == 0x00100010
    assert math.isnan(one("FD", "NaN"))
    assert decoded({"00100020": {"Value": ["no VR"]}}).PatientID == "no VR"
    assert decoded({"00100020": {"vr": "LO", "Value": "no array"}}).PatientID == "no array"
    assert decoded({"00020010": {"vr": "UI", "Value": ["1.2"]}, "00080000": {"vr": "UL", "Value": [3]}}).keys() == {
        0x00080005
    }
    assert decoded({"00100020": {"vr": "LO"}}).PatientID == ""


@pytest.mark.parametrize(
    "element",
    [
        {"vr": "OW", "Value": [1, 2, 3]},
        {"vr": "UN", "Value": [1]},
        {"vr": "OB", "InlineBinary": "AA!!AA=="},
        {"vr": "OB", "InlineBinary": 5},
        {"vr": "US", "Value": [3.7]},
        {"vr": "IS", "Value": [3.7]},
        {"vr": "IS", "Value": [{}]},
        {"vr": "DS", "Value": [[1]]},
        {"vr": "LO", "Value": [{"Alphabetic": "A"}]},
        {"vr": "LO", "Value": [True]},
    ],
)
def test_no_value_is_made_up(element):
    """Rather a refusal than bytes that nobody meant."""
    with pytest.raises(BadRequest):
        decoded({"00091010": element})


def test_padding():
    assert [Hole("00091010", vr, "u").padding for vr in ("UT", "UI", "OB")] == [b" ", b"\0", b"\0"]


def test_holes_are_where_the_value_belongs():
    item = {
        "0040a730": {"vr": "SQ", "Value": [{"00700022": {"vr": "FL", "BulkDataURI": "points"}}]},
        "00281201": {"vr": "OW", "BulkDataURI": "palette"},
    }
    encoded = dicom_encode.encode(item)
    assert list(encoded) == ["00080005", "00281201", "0040A730"]
    assert encoded["00281201"] == [Hole("00281201", "OW", "palette")]
    before, hole, after = encoded["0040A730"]
    assert hole == Hole("00700022", "FL", "points")
    value = b"\0\0\x80\x3f" * 20_000
    whole = before + hole.head(len(value)) + value + after
    (found,) = read_dataset(BytesIO(whole), False, True)[0x0040A730].value
    assert found[0x00700022].VR in ("UN", "FL")
    assert hole.head(8)[4:6] == b"FL"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["vr", "Value", "InlineBinary", "BulkDataURI", "00100010", "00280010", "7FE00010", "x"]
                ),
                inner | st.sampled_from(["SQ", "PN", "US", "OB", "AT", "DS", "IS", "UI"]),
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json(item):
    with contextlib.suppress(BadRequest):
        assert all(isinstance(piece, bytes | Hole) for pieces in dicom_encode.encode(item).values() for piece in pieces)


def test_sequences_may_not_be_endless():
    item: dict = {"vr": "SQ", "Value": []}
    for _ in range(60):
        item = {"vr": "SQ", "Value": [{"0040A730": item}]}
    with pytest.raises(BadRequest):
        dicom_encode.encode({"0040A730": item})
