"""Random objects about a known person, and objects made to defeat the engine: clean bytes or a reason, nothing else."""

import io
import struct
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom._dicom_dict import DicomDictionary

from dicomweb.errors import NotDicom, Refused, TooLarge
from gateway.deid.engine import Deidentifier
from tests.unit.deid.objects import header
from tests.unit.deid.passage import Stored, element, file, found, implicit, items, profile_of, taken

NEEDLES = ("quirinale", "zephyrina", "7788123", "19470312")
#: The person in the spellings and character sets of those who write down people.
SPELLINGS = [
    spelling.encode(encoding)
    for spelling in (
        *("QUIRINALE^ZEPHYRINA", "Zephyrina Quirinale", "z.quirinale", "QUIRINALE_Z", "xquirinalex", "MRN-7788123"),
        *(
            "MRN7788123",
            "77-88-123",
            "19470312",
            "1947-03-12",
            "12.03.1947",
            "1.2.840.99.19470312",
            "ＱＵＩＲＩＮＡＬＥ",
        ),
        *("Quirina\u0301le", "QUIRINALE\\ZEPHYRINA", "<b>Quirinale</b>", '{"name":"Quirinale"}', "QUIRI\x00NALE"),
    )
    for encoding in ("utf-8", "utf-16-le", "latin-1")
    if encoding != "latin-1" or spelling.isascii()
]
HARMLESS = [b"CT CHEST", b"1.5", b"AXIAL", b"", b" ", b"20190304", b"\\", b"12\\13", b"b1000", b"\xff\xfe\0\1"]
VALUES = st.one_of(
    st.sampled_from(SPELLINGS),
    st.sampled_from(HARMLESS),
    st.binary(max_size=20),
    st.tuples(st.sampled_from(HARMLESS), st.sampled_from(SPELLINGS)).map(b" ".join),
)
TAGS = st.one_of(
    st.sampled_from(sorted(tag for tag in DicomDictionary if 0x0008 <= tag >> 16 < 0x7FE0)),
    st.integers(0x00080000, 0x7FDFFFFF),
    st.sampled_from([0x00080005, 0x00090010, 0x00091001, 0x20010010, 0x20011003, 0x00080008, 0x00280010, 0x0040A160]),
)
SHORT = "AE AS CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US AT".split()
LONG = "OB OD OF OL OV OW SV UC UN UR UT UV SQ".split()
CHARSETS = [
    None,
    "ISO_IR 100",
    "ISO_IR 192",
    "\\ISO 2022 IR 87",
    "GB18030",
    "ISO_IR 144",
    "nonsense",
    "ISO 2022 IR 149",
]
PROFILES = {
    "research": Deidentifier.load("research", bytes(range(32))),
    "basic": Deidentifier.load("basic", bytes(range(32))),
    "kept": profile_of(
        *("retain-safe-private", "clean-descriptors", "modified-dates", "clean-structured-content"),
        *("retain-patient-characteristics", "retain-device-identity"),
    ),
}


@st.composite
def encoded(draw: st.DrawFn, depth: int = 3) -> tuple[int, bytes]:
    """An element, well-formed or not quite."""
    tag, vr = draw(TAGS), draw(st.sampled_from([*SHORT, *LONG]))
    if depth and draw(st.integers(0, 3)) == 0:
        inner = b"".join(content for _, content in draw(st.lists(encoded(depth - 1), max_size=4)))
        if draw(st.booleans()):
            return tag, element(tag, draw(st.sampled_from(["SQ", "UN"])), items(inner))
        return tag, element(tag, "SQ", items(inner, defined=False), length=0xFFFFFFFF)
    value = draw(VALUES)
    if draw(st.integers(0, 9)):
        value += b" " * (len(value) % 2)
    length = None if draw(st.integers(0, 30)) else draw(st.integers(0, 0xFFFF))
    return tag, element(tag, vr, value, length=length)


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """A file about the person, with anything else in it."""
    elements = draw(st.lists(encoded(), max_size=8))
    if (charset := draw(st.sampled_from(CHARSETS))) is not None:
        elements.append((0x00080005, element(0x00080005, "CS", charset.encode() + b" " * (len(charset) % 2))))
    if draw(st.booleans()):
        elements.sort(key=lambda one: one[0])
    return file(header(), *elements, after=draw(st.sampled_from([b"", element(0xFFFCFFFC, "OB", SPELLINGS[0])])))


def judge(deidentifier: Deidentifier, raw: bytes) -> Stored | None:
    """What is stored, looked at; None if the file is refused for a reason that names nobody."""
    try:
        stored = taken(deidentifier, raw)
    except (Refused, NotDicom, TooLarge) as refusal:
        assert not found(str(refusal).encode(), NEEDLES)  # noqa: PT017
        assert refusal.__cause__ is None  # noqa: PT017
        return None
    assert stored.found(NEEDLES) == []
    return stored


@pytest.mark.parametrize("profile", PROFILES)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(raw=objects())
def test_random_objects_come_out_clean_or_not_at_all(profile: str, raw: bytes) -> None:
    stored = judge(PROFILES[profile], raw)
    if stored is None:
        return
    result = dcmread(io.BytesIO(stored.raw))
    assert result.PatientIdentityRemoved == "YES"
    again = taken(PROFILES[profile], stored.raw)
    assert again.raw == stored.raw
    assert again.json == stored.json


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_files_with_a_few_bytes_changed_come_out_clean_or_not_at_all(data: st.DataObject) -> None:
    """Of a file whose every text is the person's name, whatever becomes of tags, VRs and lengths."""
    name = b"QUIRINALE^ZEPHYRINA "
    texts = [(tag, element(tag, vr, name)) for tag, vr in ((0x00081030, "LO"), (0x00104000, "LT"), (0x00091010, "UN"))]
    inner = items(element(0x00081030, "LO", name) + element(0x00100010, "PN", name))
    raw = bytearray(file(None, *texts, (0x00081140, element(0x00081140, "SQ", inner))))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(132, len(raw) - 1))
        if name[0:9].lower() not in bytes(raw[max(0, at - 20) : at + 20]).lower():
            raw[at] = data.draw(st.integers(0, 255))
    try:
        stored = taken(PROFILES["research"], bytes(raw))
    except (Refused, NotDicom, TooLarge) as refusal:
        assert not found(str(refusal).encode(), NEEDLES)  # noqa: PT017
    else:
        assert found(stored.raw, ["quirinale", "zephyrina"]) == []


WORD = st.sampled_from(["QUIRINALE", "Zephyrina", "zephyrina quirinale", "MRN-7788123"])
NOISE = st.text(st.characters(codec="utf-8", exclude_characters="\\"), max_size=6)


def folded(text: str) -> str:
    return "".join(one for one in unicodedata.normalize("NFKD", text).lower() if one.isalnum())


@settings(max_examples=300, deadline=None)
@given(before=NOISE, word=WORD, after=NOISE, glue=st.sampled_from(["", " ", "_", "-", "\t", "/", "\u200b", "\u00a0"]))
def test_no_neighbour_protects_a_name(before: str, word: str, after: str, glue: str) -> None:
    text = f"CT {before}{glue}{word}{glue}{after} AXIAL"
    ds = header(SpecificCharacterSet="ISO_IR 192", ImageComments=text, SeriesDescription=text)
    stored = taken(PROFILES["research"], file(ds))
    assert stored.found(NEEDLES) == []
    assert not [name for name in ("quirinale", "zephyrina") if name in folded(str(stored.ds.ImageComments))]


@pytest.mark.parametrize("vr", ["SQ", "UN"])
def test_megabytes_of_empty_items_are_refused(vr: str) -> None:
    """They take pydicom 19 s."""
    raw = file(None, (0x00081140, element(0x00081140, vr, items(*[b""] * (1 << 19)))))
    for deidentifier in PROFILES.values():
        assert judge(deidentifier, raw) is None


def test_thousands_of_tiny_private_elements_are_gone_through() -> None:
    block = b"".join(element(0x00091000 + number % 256, "LO", b"QUIRINALE ") for number in range(60_000))
    judge(PROFILES["kept"], file(None, (0x00090010, element(0x00090010, "LO", b"QUIRINALE ")), (0x00091000, block)))


@pytest.mark.parametrize("count", [1, 3, 1000])
def test_names_by_the_thousand_are_all_learnt_and_found(count: int) -> None:
    """Each other person of a list, in a text that names them all."""
    people = [
        f"Featherston{chr(97 + number % 26)}{chr(97 + number // 26 % 26)}{chr(97 + number // 676)}"
        for number in range(count)
    ]
    ds = header(OtherPatientNames=people, TextValue=" ".join(people), SeriesDescription=f"CT {people[-1]}")
    stored = judge(PROFILES["research"], file(ds))
    assert stored is not None
    assert found(stored.raw, [people[0], people[-1]]) == []


@pytest.mark.parametrize(
    "name",
    [
        *(
            "^^^^",
            "=",
            "==",
            "^",
            "\\\\\\",
            "(((((",
            "[a-z]+",
            ".*",
            "***",
            "a|b",
            "(?i)x",
            "\\d+",
            "$^",
            "A" * 64,
            "^".join("ABCDE"),
        ),
        *("QUIRINALE^" * 6, "Anonymous", "ANONYMIZED", "YES", "CT", "none", "1.2.840.10008", "2.25.1", "ISO_IR 192"),
    ],
)
def test_names_that_are_patterns_are_names(name: str) -> None:
    for profile, deidentifier in PROFILES.items():
        ds = header(
            PatientName=name, PatientID=name[:64], SeriesDescription=f"CT {name}"[:64], ImageComments=f"x {name} y"
        )
        stored = judge(deidentifier, file(ds))
        assert stored is not None, profile
        assert deidentifier.pseudonyms.is_issued(str(stored.ds.PatientID))
        assert stored.ds.Modality == "CT"


def test_an_object_may_not_lend_its_words_to_the_next() -> None:
    """What is remembered of one patient's objects keeps nothing of another's in."""
    deidentifier = Deidentifier.load("research", bytes(range(32)))
    for family in ("STONE", "QUIRINALE", "WHITE", "STONE"):
        ds = header(PatientName=f"{family}^ANN", PatientID=f"ID-{family}", SeriesDescription="STONE WHITE QUIRINALE")
        text = str(taken(deidentifier, file(ds)).ds.SeriesDescription)
        assert family not in text
        assert "QUIRINALE" not in text


def test_an_implicit_file_with_an_explicit_sequence_hides_nobody() -> None:
    """Some writers switch in the middle."""
    inner = items(element(0x00100010, "PN", b"QUIRINALE^ZEPHYRINA "), implicit(0x00100010, b"QUIRINALE^ZEPHYRINA "))
    for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"):
        for tag in (0x00081140, 0x00091001):
            extra = implicit(tag, inner) if syntax.endswith("1.2") else element(tag, "SQ", inner)
            judge(PROFILES["research"], file(None, (tag, extra), syntax=syntax))
            other = element(tag, "SQ", inner) if syntax.endswith("1.2") else implicit(tag, inner)
            judge(PROFILES["research"], file(None, (tag, other), syntax=syntax))


def test_a_value_of_sixteen_megabytes_is_no_hiding_place() -> None:
    text = b"CT CHEST AXIAL " * 70_000 + b"QUIRINALE "
    for tag, vr in ((0x0040A160, "UT"), (0x00091001, "UN"), (0x00189306, "FD"), (0x00281201, "OW")):
        value = text[: len(text) // 8 * 8 - 16] + b"QUIRINALE^ZEPHYR"
        judge(PROFILES["kept"], file(None, (tag, element(tag, vr if vr != "FD" else "UN", value))))


def test_numbers_of_bytes_are_numbers_alone() -> None:
    """A name in the bytes of numbers is found, those of a picture's geometry are not taken for one."""
    name = b"QUIRINALEZEPHYRI"
    for tag, vr in ((0x00189306, "FD"), (0x00280106, "SS"), (0x00209165, "AT"), (0x00182002, "OB"), (0x00700022, "FL")):
        judge(PROFILES["research"], file(None, (tag, element(tag, vr, name))))
    doubles = struct.pack("<2d", 1.25, 0.5)
    stored = judge(PROFILES["research"], file(None, (0x00189306, element(0x00189306, "FD", doubles))))
    assert stored is not None
    assert list(stored.ds[0x00189306].value) == [1.25, 0.5]
