"""Every encoding, and what is in a file beside its data set: no byte of the original may come along."""

import itertools
import struct

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomweb.errors import NotDicom, Refused, TooLarge
from gateway.deid.engine import Deidentifier
from tests.samples import ct
from tests.unit.deid.objects import COMMENT, DESCRIPTION, PATIENT, all_values, elements, encode, header, tags
from tests.unit.deid.passage import code, element, file, found, implicit, item, items, profile_of, refused, taken

NAME = b"QUIRINALE^ZEPHYRINA "
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
PRIVATE = {0x00090010: "QUIRINALE", 0x00091001: "ZEPHYRINA"}

#: Declared character sets, names with up to three component groups, and a text that repeats parts of them.
CHARSETS = [
    ("ISO_IR 100", "Müller^Jörg", "Schädel Müller"),
    ("ISO_IR 101", "Wałęsa^Żółć", "CT Wałęsa"),
    ("ISO_IR 110", "Āboliņš^Ģirts", "CT Āboliņš"),
    ("ISO_IR 126", "Διονυσιος^Παύλος", "CT Διονυσιος"),
    ("ISO_IR 127", "قباني^لنزار", "CT قباني"),
    ("ISO_IR 138", "שרון^דבורה", "CT שרון"),
    ("ISO_IR 144", "Люкceмбypг^Иван", "CT Люкceмбypг"),
    ("ISO_IR 148", "Çavuşoğlu^Çağrı", "CT Çavuşoğlu"),
    ("ISO_IR 166", "สมชาย^ใจดี", "CT สมชาย"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东=", "CT 王小东"),
    ("GB18030", "Wang^XiaoDong=王^小东", "CT 小东 王"),
    ("GBK", "Wang^XiaoDong=王^小东", "CT 小东"),
    (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", "CT 山田 ﾔﾏﾀﾞ"),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "CT 山田"),
    (["", "ISO 2022 IR 87", "ISO 2022 IR 159"], "Yamada^Tarou=山田^太郎", "CT 太郎"),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", "CT 길동"),
    (["", "ISO 2022 IR 58"], "Zhang^XiaoDong=张^小东=", "CT 小东"),
    (["ISO 2022 IR 100", "ISO 2022 IR 144"], "Müller^Jörg", "CT Müller"),
]


@pytest.mark.parametrize(("charset", "name", "text"), CHARSETS, ids=[name for _, name, _ in CHARSETS])
@pytest.mark.parametrize("profile", ["research", "basic", "clean-descriptors"])
def test_every_character_set_comes_out_clean_and_in_utf8(
    request: pytest.FixtureRequest, profile: str, charset: object, name: str, text: str
) -> None:
    deidentifier = profile_of(profile) if "-" in profile else request.getfixturevalue(profile)
    inner = item(PatientName=name, ImageComments=text, PersonName=name)
    ds = header(SpecificCharacterSet=charset, PatientName=name, StudyDescription=text, ReferringPhysicianName=name)
    ds.SourceImageSequence = Sequence([inner])
    stored = taken(deidentifier, file(ds))
    assert stored.found(part for part in name.replace("=", "^").split("^") if len(part) > 1) == []
    result = stored.ds
    assert result.SpecificCharacterSet == "ISO_IR 192"
    assert "\x1b" not in str(result)
    stored.raw.decode("latin-1")
    for one in elements(result):
        if one.VR in {"LO", "LT", "ST", "SH", "UT", "PN"}:
            str(one.value).encode("utf-8")
    if profile == "research":
        assert result.StudyDescription.startswith(("CT", "Schädel"))


WRONG = [
    ("ISO_IR 192", "Müller^Jörg", "latin-1"),
    ("ISO_IR 100", "Müller^Jörg", "utf-8"),
    (None, "Müller^Jörg", "utf-8"),
    (None, "Müller^Jörg", "latin-1"),
    ("ISO_IR 6", "Люкceмбypг", "utf-8"),
    ("ISO_IR 144", "Müller^Jörg", "latin-1"),
    ("ISO 2022 IR 87", "山田^太郎", "shift_jis"),
    ("ISO_IR 13", "山田^太郎", "euc_jp"),
    ("GB18030", "Müller^Jörg", "latin-1"),
    ("ISO_IR 999", "Müller^Jörg", "utf-8"),
    ("QUIRINALE", "Müller^Jörg", "utf-8"),
    ("\\ISO 2022 IR 149", "洪^吉洞", "utf-8"),
    ("ISO_IR 192\\ISO 2022 IR 87", "Müller^Jörg", "utf-8"),
]


@pytest.mark.parametrize(("charset", "name", "really"), WRONG)
def test_a_wrong_character_set_hides_nobody(
    research: Deidentifier, basic: Deidentifier, charset: str | None, name: str, really: str
) -> None:
    value = name.encode(really)
    text = b"CT CHEST " + name.split("^")[0].encode(really)
    extra = [
        (0x00100010, element(0x00100010, "PN", value + b" " * (len(value) % 2))),
        (0x0008103E, element(0x0008103E, "LO", text + b" " * (len(text) % 2))),
        (0x00204000, element(0x00204000, "LT", text + b" " * (len(text) % 2))),
    ]
    if charset is not None:
        extra.append((0x00080005, element(0x00080005, "CS", charset.encode() + b" " * (len(charset) % 2))))
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(header(PatientName=None), *extra))
        parts = name.split("^")
        assert stored.found([*(part for part in parts if len(part) > 1), "quirinale"]) == []
        assert not [part for part in parts if part.encode(really) in stored.raw]
        assert encode(stored.ds)


@pytest.mark.parametrize(
    "hidden",
    [
        b"\x1b$B\x1b(BQUIRINALE",
        b"QUIRI\x1b(BNALE",
        b"\x1b(BQUIRINALE\x1b$B",
        b"QUI\x1b$)CRINALE",
        b"Q\x1b-AU\x1b-AIRINALE",
        b"\x1b%GQUIRINALE",
        b"QUIRINALE\x1b",
        b"\x1b\x1b\x1bQUIRINALE",
        b"\x0eQUIRINALE\x0f",
    ],
)
@pytest.mark.parametrize("charset", [None, "\\ISO 2022 IR 87", "ISO_IR 192", "\\ISO 2022 IR 149"])
def test_escape_sequences_hide_nobody(
    research: Deidentifier, basic: Deidentifier, hidden: bytes, charset: str | None
) -> None:
    value = hidden + b"^ZEPHYRINA"
    extra = [
        (0x00100010, element(0x00100010, "PN", value + b" " * (len(value) % 2))),
        (0x0008103E, element(0x0008103E, "LO", b"CT " + hidden + b" " * (len(hidden) % 2 == 0))),
        (0x00180015, element(0x00180015, "CS", hidden + b" " * (len(hidden) % 2))),
    ]
    if charset is not None:
        extra.append((0x00080005, element(0x00080005, "CS", charset.encode() + b" " * (len(charset) % 2))))
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(header(PatientName=None), *extra))
        assert stored.found() == []
        assert b"\x1b" not in stored.raw[: len(stored.raw)]


def test_an_item_may_have_a_character_set_of_its_own(research: Deidentifier) -> None:
    inner = item(SpecificCharacterSet="ISO_IR 144", PatientName="Люкceмбypг", ImageComments="CT Люкceмбypг")
    stored = taken(research, file(header(SpecificCharacterSet="ISO_IR 100", SourceImageSequence=Sequence([inner]))))
    assert stored.found(["Люкceмбypг"]) == []
    assert stored.ds.SourceImageSequence[0].ImageComments == "CT ***"
    assert "SpecificCharacterSet" not in stored.ds.SourceImageSequence[0]


def everywhere() -> Dataset:
    ds = header(
        StudyDescription=DESCRIPTION,
        ImageComments=COMMENT,
        Rows=512,
        SliceLocation="12.5",
        ReferencedSeriesSequence=Sequence([header(TextValue=COMMENT), header(RelevantOPCodesSequence=None)]),
        ProcedureCodeSequence=code("QUIRINALE", "99Q", "CT of Zephyrina"),
    )
    for tag, value in PRIVATE.items():
        ds.add_new(tag, "LO", value)
    return ds


@pytest.mark.parametrize("profile", ["research", "basic"])
def test_all_transfer_syntaxes_come_out_alike(request: pytest.FixtureRequest, profile: str) -> None:
    deidentifier = request.getfixturevalue(profile)
    results = [taken(deidentifier, file(everywhere(), syntax=syntax)) for syntax in SYNTAXES]
    for stored in results:
        assert stored.found() == []
        assert stored.ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert stored.ds.Rows == 512
    assert len({encode(stored.ds) for stored in results}) == 1


def test_a_syntax_that_is_not_the_declared_one_is_seen(research: Deidentifier) -> None:
    for declared, really in itertools.permutations(SYNTAXES[:2], 2):
        raw = file(everywhere(), syntax=really)
        pair = [str(really).encode(), str(declared).encode()]
        pair = [uid + b"\0" * (len(uid) % 2) for uid in pair]
        at = raw.index(b"\x02\x00\x10\x00UI")
        start, size = at + 8, len(pair[0])
        changed = raw[: at + 6] + struct.pack("<H", len(pair[1])) + pair[1] + raw[start + size :]
        assert taken(research, changed).found() == []


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00081030, "DA", NAME),
        (0x00081030, "UI", NAME),
        (0x00081030, "OB", NAME),
        (0x00081030, "US", NAME),
        (0x00081030, "PN", NAME),
        (0x00081030, "SQ", NAME),
        (0x00080022, "LO", b"12 March 1947 "),
        (0x00080022, "PN", NAME),
        (0x00080022, "UN", NAME),
        (0x00100010, "UI", NAME),
        (0x00100010, "DA", b"19470312"),
        (0x00100010, "SQ", items(implicit(0x00100010, NAME))),
        (0x00200052, "PN", NAME),
        (0x00280010, "PN", NAME),
        (0x00281050, "LT", NAME),
        (0x00281050, "DS", b"QUIRINALE \\1"),
        (0x00180050, "IS", b"7788123."),
        (0x00189306, "FD", NAME[:16]),
        (0x00280034, "IS", b"1\\QUIRINALE "),
        (0x00082112, "LO", NAME),
        (0x00082112, "OB", NAME),
        (0x00101010, "LO", b"born 1947 "),
        (0x00080005, "LO", NAME),
        (0x00080008, "OB", NAME),
        (0x00282000, "OB", b"ICC " + NAME),
        (0x00091001, "XX", NAME),
        (0x00204000, "??", NAME),
        (0x00204000, "un", NAME),
    ],
)
def test_values_that_are_not_of_their_vr_take_nobody_along(
    research: Deidentifier, basic: Deidentifier, tag: int, vr: str, value: bytes
) -> None:
    ds = header()
    if tag in ds:
        del ds[tag]
    needles = ["quirinale", "zephyrina", "19470312", "12 march", "7788123", "born"]
    for deidentifier in (research, basic, profile_of("retain-device-identity", "retain-patient-characteristics")):
        try:
            stored = taken(deidentifier, file(ds, (tag, element(tag, vr, value))))
        except (Refused, NotDicom, TooLarge) as refusal:
            assert "QUIRINALE" not in refusal.message  # noqa: PT017
            assert refusal.__cause__ is None  # noqa: PT017
        else:
            assert stored.found(needles) == []


@pytest.mark.parametrize("size", [1, 3, 5, 9, 19])
def test_odd_lengths_keep_no_byte_of_a_neighbour(research: Deidentifier, basic: Deidentifier, size: int) -> None:
    raw = file(
        header(PatientName=None),
        (0x0008103E, element(0x0008103E, "LO", NAME[:size])),
        (0x00100010, element(0x00100010, "PN", NAME[:19])),
        (0x00280034, element(0x00280034, "IS", b"1\\1")),
        (0x00181020, element(0x00181020, "LO", b"of ZEPHYRINA"[:11])),
    )
    for deidentifier in (research, basic):
        stored = taken(deidentifier, raw)
        assert stored.found() == []
        assert not [one for one in elements(stored.ds) if isinstance(one.value, bytes) and len(one.value) % 2]


@pytest.mark.parametrize("extra", [2, 100, 1 << 20, 0xFFFFFFFE])
@pytest.mark.parametrize("vr", ["LO", "UT", "OB", "SQ", "UN"])
def test_lengths_beyond_the_data_are_refused(research: Deidentifier, extra: int, vr: str) -> None:
    length = min(len(NAME) + extra, 0xFFFF if vr == "LO" else 0xFFFFFFFE)
    with pytest.raises((NotDicom, TooLarge, Refused)) as refusal:
        taken(research, file(after=element(0xFFFC0001, vr, NAME, length=length)))
    assert "QUIRINALE" not in refusal.value.message


def test_items_that_are_longer_than_their_sequence_are_refused(research: Deidentifier, basic: Deidentifier) -> None:
    content = implicit(0xFFFEE000, element(0x00104000, "LT", COMMENT.encode()), length=1 << 16)
    for value in (
        content,
        content[:20],
        b"\xfe\xff\x00\xe0",
        NAME,
        items(NAME),
        items(element(0x00104000, "LT", NAME, length=900)),
    ):
        for deidentifier in (research, basic):
            try:
                stored = taken(deidentifier, file(None, (0x00081115, element(0x00081115, "SQ", value))))
            except (NotDicom, Refused) as refusal:
                assert "QUIRINALE" not in refusal.message  # noqa: PT017
            else:
                assert stored.found() == []


RETIRED = {
    0x00080000: ("UL", struct.pack("<L", 19470312)),
    0x00080001: ("UL", struct.pack("<L", 7788123)),
    0x00100000: ("UL", b"QUIR"),
    0x00010001: ("LO", NAME),
    0x00030010: ("LO", NAME),
    0x00080010: ("LO", b"ACR-NEMA QUIRINALE"),
    0x00084000: ("LT", COMMENT.encode().ljust(120)),
    0x00100044: ("LO", NAME),
    0x00321055: ("LO", NAME),
    0x40080040: ("SH", b"MRN-7788123 "),
    0x40080042: ("LO", NAME),
    0x4008010B: ("ST", COMMENT.encode().ljust(120)),
    0x4008010C: ("PN", NAME),
    0x40084000: ("ST", NAME),
    0x00204000: ("LT", NAME),
    0x00280400: ("LO", NAME),
    0x00189999: ("LO", NAME),
    0x00111111: ("LO", NAME),
}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_group_lengths_and_retired_elements_go(research: Deidentifier, basic: Deidentifier, syntax: str) -> None:
    explicit = syntax == ExplicitVRLittleEndian
    extra = [
        (tag, element(tag, vr, value) if explicit else implicit(tag, value)) for tag, (vr, value) in RETIRED.items()
    ]
    for deidentifier in (research, basic, profile_of("clean-descriptors")):
        try:
            stored = taken(deidentifier, file(None, *extra, syntax=syntax))
        except (NotDicom, TooLarge):
            pytest.fail("elements that are out of use are not a reason to refuse")
        assert stored.found() == []
        result = stored.ds
        assert not [tag for tag in tags(result) if tag.element == 0 or tag.group in {1, 3, 9, 0x11}]


PREAMBLES = {
    "name": NAME.ljust(128),
    "TIFF": b"II*\x00\x90\x00\x00\x00" + NAME.ljust(120),
    "BigTIFF": b"MM\x00+\x00\x08\x00\x00" + NAME.ljust(120),
    "PE": b"MZ\x90\x00" + NAME.ljust(124),
    "ELF": b"\x7fELF" + NAME.ljust(124),
    "script": b"#!/bin/sh\necho " + NAME.ljust(113),
    "UTF-16": "QUIRINALE".encode("utf-16-le").ljust(128, b"\0"),
}


@pytest.mark.parametrize("kind", PREAMBLES)
def test_the_preamble_is_never_the_received_one(research: Deidentifier, kind: str) -> None:
    for deidentifier in (research, Deidentifier.load("none", bytes(range(32)))):
        stored = taken(deidentifier, file(preamble=PREAMBLES[kind]))
        assert stored.raw[:132] == b"\0" * 128 + b"DICM"
    assert taken(research, file(preamble=PREAMBLES[kind])).found() == []


def test_the_file_meta_information_is_never_the_received_one(research: Deidentifier, basic: Deidentifier) -> None:
    meta = {
        "ImplementationClassUID": "1.2.840.99.19470312",
        "ImplementationVersionName": "QUIRINALE",
        "SourceApplicationEntityTitle": "ROOMSEVEN",
        "SourcePresentationAddress": "http://elsewhere.example.org",
        "PrivateInformationCreatorUID": "1.2.840.99.7788123",
        "PrivateInformation": NAME,
    }
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(meta=meta))
        assert stored.found() == []
        assert {int(tag) & 0xFFFF for tag in tags(stored.ds.file_meta)} == {0, 1, 2, 3, 0x10, 0x12, 0x13}


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_padding_and_whatever_follows_go(research: Deidentifier, basic: Deidentifier, syntax: str) -> None:
    if syntax == ImplicitVRLittleEndian:
        padding = implicit(0xFFFCFFFC, NAME)
    else:
        padding = element(0xFFFCFFFC, "OB", NAME, order=">" if syntax == ExplicitVRBigEndian else "<")
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(after=padding, syntax=syntax))
        assert stored.found() == []
    if syntax == DeflatedExplicitVRLittleEndian:
        assert taken(research, file(syntax=syntax, appended=NAME)).found() == []


@pytest.mark.parametrize("behind", [element(0xFFFCFFFC, "OB", NAME), NAME * 10, b"\0" * 7 + NAME, file()])
@pytest.mark.parametrize("cut", [0, 1])
def test_what_follows_the_pixels_goes(research: Deidentifier, behind: bytes, cut: int) -> None:
    ds = ct(**PATIENT)
    ds.PixelData = ds.PixelData[: len(ds.PixelData) - 2 * cut]
    stored = taken(research, file(ds, after=behind))
    assert stored.found() == []
    assert stored.ds.PixelData == ds.PixelData
    assert stored.raw.endswith(ds.PixelData)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_what_follows_the_last_frame_becomes_zeros(research: Deidentifier, syntax: str) -> None:
    ds = ct(**PATIENT)
    frames = ds.PixelData
    ds["PixelData"].VR = "OW"
    bare = taken(research, file(ds, syntax=syntax))
    ds.PixelData = frames + NAME * 3
    stored = taken(research, file(ds, syntax=syntax))
    assert stored.found() == []
    assert stored.ds.PixelData == bare.ds.PixelData + bytes(3 * len(NAME))


def test_frames_that_the_object_does_not_tell_of_are_refused(research: Deidentifier) -> None:
    ds = ct(**PATIENT)
    ds.PixelData = ds.PixelData * 2
    assert refused(research, file(ds)) == "The pixel data has more frames than the object says."


@pytest.mark.parametrize("keyword", ["Rows", "Columns", "BitsAllocated"])
def test_pixel_data_of_no_size_is_refused(research: Deidentifier, keyword: str) -> None:
    ds = ct(**PATIENT)
    ds.PixelData, ds["PixelData"].VR = NAME, "OW"
    del ds[keyword]
    assert "size" in refused(research, file(ds))


def test_pads_are_blanks_and_not_what_came(research: Deidentifier) -> None:
    """Characters behind a NUL, and items with pads that are none."""
    raw = file(
        header(PatientName=None, SeriesDescription=None, StudyDescription=None),
        (0x0008103E, element(0x0008103E, "LO", b"CT CHEST\0QUIRINALE ")),
        (0x00081030, element(0x00081030, "LO", b"CT\0\0\0\0\0\0")),
        (0x00080060, element(0x00080060, "CS", b"CT\0QUIRI")),
        (0x00100010, element(0x00100010, "PN", b"A^B\0QUIRINALE ")),
        (0x00200010, element(0x00200010, "SH", b"1\0QUIRINALE")),
        (0x00200052, element(0x00200052, "UI", b"1.2.3.4.5\0QUIRINALE\0")),
    )
    stored = taken(research, raw)
    assert stored.found() == []
    assert stored.ds.StudyDescription == "CT"


def test_signatures_and_envelopes_go(research: Deidentifier, basic: Deidentifier) -> None:
    signature = item(
        MACIDNumber=1,
        DigitalSignatureUID="1.2.840.99.19470312",
        DigitalSignatureDateTime="19470312101112",
        CertificateType="X509_1993_SIG",
        CertificateOfSigner=NAME,
        Signature=NAME,
        CertifiedTimestamp=NAME,
    )
    ds = header(
        DigitalSignaturesSequence=Sequence([signature]),
        MACParametersSequence=Sequence([item(MACIDNumber=1, MACAlgorithm="RIPEMD160", DataElementsSigned=0x00100010)]),
        EncryptedAttributesSequence=Sequence(
            [item(EncryptedContentTransferSyntaxUID=ExplicitVRLittleEndian, EncryptedContent=NAME)]
        ),
        SourceImageSequence=Sequence([item(DigitalSignaturesSequence=Sequence([signature]))]),
    )
    for deidentifier in (research, basic, profile_of("retain-full-dates", "retain-device-identity", "retain-uids")):
        stored = taken(deidentifier, file(ds))
        assert stored.found([*("quirinale", "zephyrina", "1.2.840.99", "x509")]) == []
        assert not {"DigitalSignaturesSequence", "MACParametersSequence", "EncryptedAttributesSequence"} & set(
            stored.ds.dir()
        )


def test_what_attributes_were_before_goes(research: Deidentifier, basic: Deidentifier) -> None:
    before = item(PatientName=PATIENT["PatientName"], PatientID=PATIENT["PatientID"], StudyInstanceUID="1.2.840.99.1")
    nonconforming = item(SelectorAttribute=0x00100010, NonconformingDataElementValue=NAME)
    original = item(
        ModifiedAttributesSequence=Sequence([before]),
        NonconformingModifiedAttributesSequence=Sequence([nonconforming]),
        ModifyingSystem="ROOMSEVEN",
        SourceOfPreviousValues="Saint Elsewhere",
        AttributeModificationDateTime="19470312101112",
        ReasonForTheAttributeModification="CORRECT",
    )
    contributing = item(InstitutionName="Saint Elsewhere", OperatorsName="HOUSEMAN^G", ContributionDescription=COMMENT)
    ds = header(OriginalAttributesSequence=Sequence([original]), ContributingEquipmentSequence=Sequence([contributing]))
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found([*PATIENT.values(), "quirinale", "elsewhere", "houseman", "1.2.840.99", "19470312"]) == []
        assert "OriginalAttributesSequence" not in stored.ds


@pytest.mark.parametrize("nested", [False, True])
def test_elements_of_other_layers_within_the_data_set_go(
    research: Deidentifier, basic: Deidentifier, nested: bool
) -> None:
    layers = {
        0x00000010: ("LO", NAME),
        0x00001000: ("UI", b"1.2.840.99.19470312\0"),
        0x00020016: ("AE", b"ROOMSEVEN "),
        0x00041500: ("CS", b"QUIRINALE "),
        0x00041130: ("CS", b"ZEPHYRINA "),
        0x00041511: ("UI", b"1.2.840.99.19470312\0"),
    }
    if nested:
        content = b"".join(element(tag, vr, value) for tag, (vr, value) in layers.items())
        raws = [file(None, (0x00081140, element(0x00081140, "SQ", items(content))))]
    else:
        raws = [file(None, (tag, element(tag, vr, value))) for tag, (vr, value) in layers.items()]
    for deidentifier, raw in itertools.product((research, basic), raws):
        try:
            stored = taken(deidentifier, raw)
        except (NotDicom, Refused) as refusal:
            assert "QUIRINALE" not in refusal.message  # noqa: PT017
        else:
            assert stored.found([*PATIENT.values(), "quirinale", "zephyrina", "roomseven", "1.2.840.99"]) == []


def test_repeated_and_disordered_elements_are_all_treated(research: Deidentifier, basic: Deidentifier) -> None:
    name, other = element(0x00100010, "PN", NAME), element(0x00100010, "PN", b"HOUSEMAN^GREGOR ")
    text = element(0x00081030, "LO", b"CT Quirinale")
    good, bad = (
        items(element(0x00081155, "UI", b"1.2.3.4\0")),
        items(element(0x00104000, "LT", COMMENT.encode().ljust(120))),
    )
    repeated = [
        [(0x00100010, name), (0x00100010, other)],
        [(0x00100010, other), (0x00100010, name)],
        [(0x00081140, element(0x00081140, "SQ", good)), (0x00081140, element(0x00081140, "SQ", bad))],
        [(0x00081140, element(0x00081140, "SQ", bad)), (0x00081140, element(0x00081140, "SQ", good))],
        [(0xFFFB0000, text), (0xFFFB0001, name)],  # behind all others
        [(0x00080000, name), (0x00080000, text)],  # before all others
        [
            (0x00100020, element(0x00100020, "LO", b"MRN-7788123 ")),
            (0x00100020, element(0x00100020, "LO", b"OTHER-12345 ")),
        ],
    ]
    for extra, deidentifier in itertools.product(repeated, (research, basic)):
        try:
            stored = taken(deidentifier, file(None, *extra))
        except (NotDicom, Refused) as refusal:
            assert "QUIRINALE" not in refusal.message  # noqa: PT017
        else:
            assert stored.found() == []
            assert found(stored.raw, ["other-12345"]) == []


def test_every_id_of_a_patient_goes(research: Deidentifier, basic: Deidentifier) -> None:
    other = item(PatientID="OTHER-445566", IssuerOfPatientID="Saint Elsewhere", TypeOfPatientID="TEXT")
    other.IssuerOfPatientIDQualifiersSequence = Sequence([item(UniversalEntityID="elsewhere.example.org")])
    ds = header(
        OtherPatientIDsSequence=Sequence([other]),
        OtherPatientIDs=["OTHER-445566", "MRN-7788123"],
        IssuerOfPatientID="Saint Elsewhere",
        MedicalRecordLocator="OTHER-445566",
        PatientInsurancePlanCodeSequence=code("OTHER-445566", "99Q", "of Zephyrina"),
        AdmissionID="ADM-998877",
        StudyID="MRN-7788123",
        PatientComments="also OTHER 445566, ADM998877",
        StudyDescription="CT OTHER-445566",
    )
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found([*PATIENT.values(), "445566", "998877", "elsewhere", "quirinale"]) == []


def test_ids_are_told_apart_by_issuer_alone(research: Deidentifier) -> None:
    def pseudonym(**attributes: object) -> str:
        return str(taken(research, file(header(PatientName=None, **attributes))).ds.PatientID)

    assert pseudonym(PatientID="0077881") != pseudonym(PatientID="77881")
    assert pseudonym(PatientID=" ab77881 ") == pseudonym(PatientID="AB77881")
    assert pseudonym(PatientID="77881", IssuerOfPatientID="A") != pseudonym(PatientID="77881", IssuerOfPatientID="B")
    assert pseudonym(PatientID="") == pseudonym(PatientID=None) != pseudonym(PatientID=None, StudyInstanceUID="1.2.9")
    one_study = {pseudonym(PatientID=patient_id) for patient_id in ("77881", "77882")}
    assert len(one_study) == 2


def test_the_patient_referred_to_and_pictured_goes(research: Deidentifier, basic: Deidentifier) -> None:
    photo = item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.4", ReferencedSOPInstanceUID="1.2.840.99.1")
    ds = header(
        ReferencedPatientSequence=Sequence([photo]),
        ReferencedPatientPhotoSequence=Sequence(
            [item(TypeOfInstances="DICOM", ReferencedSOPSequence=Sequence([photo]))]
        ),
        SourcePatientGroupIdentificationSequence=Sequence([item(PatientID="MRN-7788123")]),
        ResponsiblePerson="QUIRINALE^MARIO",
        PatientMotherBirthName="ZEPHYRINA",
        PatientBirthName="QUIRINALE",
        PatientTelephoneNumbers="555-0117",
        PatientTelecomInformation="zq@example.org",
    )
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found() == []
        assert stored.found(["1.2.840.99", "mario", "555-0117"]) == []
        assert "ReferencedPatientPhotoSequence" not in stored.ds


def test_what_trials_wrote_of_the_patient_goes(research: Deidentifier, basic: Deidentifier) -> None:
    ds = header(
        ClinicalTrialSponsorName="Saint Elsewhere",
        ClinicalTrialProtocolID="MRN-7788123",
        ClinicalTrialProtocolName="QUIRINALE trial",
        ClinicalTrialSiteID="ELSEWHERE",
        ClinicalTrialSiteName="Saint Elsewhere",
        ClinicalTrialSubjectID="ZQ19470312",
        ClinicalTrialSubjectReadingID="ZEPHYRINA",
        ClinicalTrialTimePointDescription="after 12 March 1947",
        ClinicalTrialCoordinatingCenterName="Saint Elsewhere",
        ClinicalTrialProtocolEthicsCommitteeName="Houseman committee",
    )
    for deidentifier in (research, basic):
        assert taken(deidentifier, file(ds)).found() == []


@pytest.mark.parametrize("statement", ["YES", "NO", "yes", ""])
def test_what_says_that_it_is_anonymous_is_looked_at_all_the_same(
    research: Deidentifier, basic: Deidentifier, statement: str
) -> None:
    ds = everywhere()
    ds.PatientIdentityRemoved = statement
    ds.DeidentificationMethod = ["QUIRINALE removed by Dr Houseman", "Isthmus profile research"]
    ds.DeidentificationMethodCodeSequence = Sequence(
        [*code("113101", "DCM", "Clean Pixel Data Option"), *code("113110", "DCM", "Retain UIDs Option of QUIRINALE")]
    )
    ds.LongitudinalTemporalInformationModified = "REMOVED"
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found() == []
        codes = [entry.CodeValue for entry in stored.ds.DeidentificationMethodCodeSequence]
        assert "113110" not in codes
        assert {"113100", "113101"} <= set(codes)
        assert stored.ds.PatientIdentityRemoved == "YES"


def test_twice_is_once_down_to_the_byte(research: Deidentifier, basic: Deidentifier) -> None:
    for deidentifier, syntax in itertools.product((research, basic), SYNTAXES):
        once = taken(deidentifier, file(everywhere(), syntax=syntax))
        twice = taken(deidentifier, once.raw)
        assert twice.raw == once.raw
        assert twice.json == once.json


def test_what_comes_out_can_be_read_by_others(research: Deidentifier, basic: Deidentifier) -> None:
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(everywhere()))
        assert all_values(stored.ds, "UI")
        assert set(stored.attributes) >= {"00080018", "00100020", "00120062"}
