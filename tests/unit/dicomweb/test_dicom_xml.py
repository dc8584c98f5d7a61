"""The Native DICOM Model: round trips of any data set, of every real header, and what is refused."""

import base64
import json
import re
import string
import warnings
from xml.etree import ElementTree as ET

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomweb import dicom_json
from dicomweb.dicom_xml import NAMESPACE, from_xml, to_xml
from dicomweb.errors import BadRequest, TooLarge

TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\\^=\ufffe\uffff"), min_size=1
).map(lambda text: f"x{text}y")
PART = st.text(string.ascii_letters + "öß山田 '-", max_size=8)
NAME = (
    st.lists(PART, min_size=1, max_size=5)
    .map(lambda parts: "^".join(["a", *parts]).rstrip("^"))
    .filter(lambda name: name.count("^") < 5)
)
PERSON = st.dictionaries(st.sampled_from(["Alphabetic", "Ideographic", "Phonetic"]), NAME, min_size=1)
BINARY = st.binary(min_size=1, max_size=40).map(lambda data: base64.b64encode(data).decode())


def values(one):
    return st.lists(st.one_of(one, st.none()), min_size=1, max_size=4)


def element(vr, one):
    return st.one_of(st.just({"vr": vr}), values(one).map(lambda found: {"vr": vr, "Value": found}))


def data_sets(depth):
    kinds = [
        element("LO", TEXT),
        element("UT", TEXT.map(lambda text: f"a\r\nb\t{text}")),
        element("PN", PERSON),
        element("US", st.integers(0, 65535)),
        element("SV", st.integers(-(2**63), 2**63 - 1)),
        element("IS", st.integers(-(2**31), 2**31 - 1)),
        element("DS", st.one_of(st.integers(-1000, 1000), st.sampled_from([0.1, -2.5e-7, "40,5"]))),
        element(
            "FD", st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.just("NaN"), st.just("-Infinity"))
        ),
        element("AT", st.sampled_from(["00181063", "0029100A"])),
        BINARY.map(lambda text: {"vr": "OW", "InlineBinary": text}),
        st.just({"vr": "OB", "BulkDataURI": "/dicomweb/studies/1/bulkdata/x?a=1&b=%22<"}),
    ]
    if depth:
        items = st.lists(st.one_of(st.just({}), data_sets(depth - 1)), min_size=1, max_size=3)
        kinds.append(items.map(lambda found: {"vr": "SQ", "Value": found}))
    tags = st.integers(0, 0x3FFF).map(lambda number: f"0018{number:04X}")
    public = st.dictionaries(tags, st.one_of(kinds), max_size=5)
    private = st.dictionaries(
        st.sampled_from(["0029101F", "00291020", "00291120", "00311003"]), st.one_of(kinds), max_size=3
    ).map(
        lambda found: (
            found
            and {
                "00290010": {"vr": "LO", "Value": ["VENDOR A"]},
                "00290011": {"vr": "LO", "Value": ["VENDOR <B>"]},
                "00310010": {"vr": "LO", "Value": ["VENDOR A"]},
            }
            | found
        )
    )
    return st.tuples(public, private).map(lambda pair: dict(sorted((pair[0] | pair[1]).items())))


@given(data_sets(2))
@settings(max_examples=300, deadline=None)
def test_any_data_set_comes_back_as_it_was(item):
    assert from_xml(to_xml(item)) == item


def test_every_real_header_comes_back_as_it_was(data_folder):
    files = [path for path in sorted(data_folder.rglob("*.dcm")) if "malformed" not in path.parts]
    checked = 0
    for path in [*files[:: max(1, len(files) // 150)], *(data_folder / "charsets").rglob("*.dcm")]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        item = json.loads(dicom_json.dumps(dicom_json.encode(ds)))
        back = from_xml(to_xml(item))
        assert list(back) == list(item)
        assert _plain(back) == _plain(item), path.name
        checked += 1
    assert checked > 100


def _plain(item):
    """Without what XML says in another way: trailing carets of names, and characters it cannot hold."""
    text = json.dumps(item, ensure_ascii=False)
    text = re.sub(r"\\u00[01][0-9a-f]|\\[bf]", "\ufffd", text)
    text = re.sub(r'\^+"', '"', text)
    return json.loads(text.replace('{"Alphabetic": ""}', "null"))


def test_what_a_document_looks_like():
    item = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080008": {"vr": "CS", "Value": ["ORIGINAL", None, "AXIAL"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou^^Dr", "Ideographic": "山田^太郎"}]},
        "00290010": {"vr": "LO", "Value": ["SIEMENS CSA HEADER"]},
        "00291008": {"vr": "CS", "Value": ["IMAGE NUM 4"]},
        "7FE00010": {"vr": "OW", "BulkDataURI": "/bulk"},
    }
    root = ET.fromstring(to_xml(item))
    assert root.tag == f"{{{NAMESPACE}}}NativeDicomModel"
    attributes = [dict(child.attrib) for child in root]
    assert attributes == [
        {"tag": "00080005", "vr": "CS", "keyword": "SpecificCharacterSet"},
        {"tag": "00080008", "vr": "CS", "keyword": "ImageType"},
        {"tag": "00100010", "vr": "PN", "keyword": "PatientName"},
        {"tag": "00290010", "vr": "LO"},
        {"tag": "00290008", "vr": "CS", "privateCreator": "SIEMENS CSA HEADER"},
        {"tag": "7FE00010", "vr": "OW", "keyword": "PixelData"},
    ]
    assert [(child.get("number"), child.text) for child in root[1]] == [("1", "ORIGINAL"), ("2", None), ("3", "AXIAL")]
    names = {group.tag.partition("}")[2]: [part.text for part in group] for group in root[2][0]}
    assert names == {"Alphabetic": ["Yamada", "Tarou", "Dr"], "Ideographic": ["山田", "太郎"]}
    assert root[5][0].attrib == {"uri": "/bulk"}


def test_documents_of_others_are_read():
    document = """<?xml version="1.0" encoding="ISO-8859-1"?><NativeDicomModel>
      <DicomAttribute keyword="StudyInstanceUID" tag="0020000d" vr="UI"><Value number="1">
        1.2.3</Value></DicomAttribute>
      <DicomAttribute tag="00080008"><Value number="3">AXIAL</Value><Value number="1">ORIGINAL</Value></DicomAttribute>
      <DicomAttribute tag="00290008" vr="CS" privateCreator="B"><Value>b</Value></DicomAttribute>
      <DicomAttribute tag="00290008" vr="CS" privateCreator="A"><Value>a</Value></DicomAttribute>
      <DicomAttribute tag="00290010" vr="LO"><Value number="1">A</Value></DicomAttribute>
      <DicomAttribute tag="00100010" vr="PN"><PersonName number="1"><SingleByte><GivenName>Zo\u00eb</GivenName>
        <FamilyName>Doe</FamilyName></SingleByte></PersonName></DicomAttribute>
      <DicomAttribute tag="00420011" vr="OB"><InlineBinary> AQ
        I= </InlineBinary></DicomAttribute>
    </NativeDicomModel>""".encode("latin-1")
    assert from_xml(document) == {
        "00080008": {"vr": "CS", "Value": ["ORIGINAL", None, "AXIAL"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Zoë"}]},
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00290010": {"vr": "LO", "Value": ["A"]},
        "00290011": {"vr": "LO", "Value": ["B"]},
        "00291008": {"vr": "CS", "Value": ["a"]},
        "00291108": {"vr": "CS", "Value": ["b"]},
        "00420011": {"vr": "OB", "InlineBinary": "AQI="},
    }


def test_two_blocks_of_one_creator_stay_apart():
    item = {
        "00290010": {"vr": "LO", "Value": ["A"]},
        "00290011": {"vr": "LO", "Value": ["A"]},
        "00291008": {"vr": "CS", "Value": ["X"]},
        "00291108": {"vr": "CS", "Value": ["Y"]},
    }
    assert from_xml(to_xml(item)) == item


def test_characters_that_xml_cannot_hold_are_replaced():
    item = {"00204000": {"vr": "LT", "Value": ["a\x00b\x0c\x1b\ud800\ufffe c"]}}
    assert from_xml(to_xml(item))["00204000"]["Value"] == ["a\ufffdb\ufffd\ufffd\ufffd\ufffd c"]


def model(inner):
    return f"<NativeDicomModel>{inner}</NativeDicomModel>".encode()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b"<NativeDicomModel>",
        b"<Other/>",
        b'<?xml version="1.0" encoding="no-such"?><NativeDicomModel/>',
        b'<!DOCTYPE x [<!ENTITY a "b">]><NativeDicomModel>&a;</NativeDicomModel>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><NativeDicomModel/>',
        model('<DicomAttribute tag="0010001" vr="PN"/>'),
        model('<DicomAttribute tag="00100010" vr="XX"/>'),
        model('<DicomAttribute tag="00090001"/>'),
        model('<DicomAttribute tag="00100020" vr="LO"/><DicomAttribute tag="00100020" vr="LO"/>'),
        model('<DicomAttribute tag="00100020" vr="LO"><Value number="0">a</Value></DicomAttribute>'),
        model('<DicomAttribute tag="00100020" vr="LO"><Value number="4000000000">a</Value></DicomAttribute>'),
        model('<DicomAttribute tag="00100020" vr="LO"><Value number="0000000019999999">a</Value></DicomAttribute>'),
        model(f'<DicomAttribute tag="00100020" vr="LO"><Value number="1{"0" * 5000}">a</Value></DicomAttribute>'),
        model('<DicomAttribute tag="00420011" vr="OB"><BulkData uuid="1"/></DicomAttribute>'),
        model('<DicomAttribute tag="00400275" vr="SQ"><Item number="1">' * 300 + "</Item></DicomAttribute>" * 300),
    ],
)
def test_what_is_no_native_model_is_refused(document):
    with pytest.raises(BadRequest):
        from_xml(document)


def test_a_document_of_too_many_elements_is_refused():
    with pytest.raises(TooLarge):
        from_xml(model("<a/>" * 1_000_001))


@given(st.binary(max_size=200))
def test_bytes_are_refused_in_no_other_way(data):
    with pytest.raises(BadRequest):
        from_xml(data)
