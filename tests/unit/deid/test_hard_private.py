"""Private elements, unknown VRs and deep nests: what nobody can vouch for goes, wherever it hides."""

import struct
import sys

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicomweb.errors import NotDicom, Refused
from gateway.deid.engine import Deidentifier
from tests.unit.deid.objects import COMMENT, header, tags
from tests.unit.deid.passage import element, file, implicit, item, items, profile_of, refused, taken

PHILIPS = "Philips Imaging DD 001"
SAFE = ("retain-safe-private", "clean-descriptors", "modified-dates")
NAME = b"QUIRINALE^ZEPHYRINA "


def private(group: int, creator: str, offset: int, vr: str, value: object) -> Dataset:
    ds = header()
    ds.private_block(group, creator, create=True).add_new(offset, vr, value)
    return ds


@pytest.mark.parametrize("options", [(), SAFE])
def test_private_elements_off_the_safe_list_go(options: tuple[str, ...]) -> None:
    for group, creator, vr in ((0x0009, "GEMS_IDEN_01", "LO"), (0x0029, "SIEMENS CSA HEADER", "OB")):
        value = NAME if vr == "OB" else NAME.decode()
        stored = taken(profile_of(*options), file(private(group, creator, 0x10, vr, value)))
        assert not [tag for tag in tags(stored.ds) if tag.is_private]
        assert stored.found() == []


def test_a_safe_element_stays_under_its_creator_alone() -> None:
    ds = private(0x2001, PHILIPS, 0x03, "FL", 1000.0)
    ds.private_block(0x2001, "SOMEONE ELSE 001", create=True).add_new(0x03, "FL", 2000.0)
    ds.private_block(0x2005, PHILIPS, create=True).add_new(0x03, "FL", 3000.0)
    result = taken(profile_of(*SAFE), file(ds)).ds
    assert [tag for tag in tags(result) if tag.is_private] == [0x20010010, 0x20011003]
    assert result[0x20011003].value == 1000.0


def test_a_creator_that_is_a_name_goes() -> None:
    stored = taken(profile_of(*SAFE), file(private(0x2001, "QUIRINALE ZEPHYRINA", 0x03, "FL", 1.0)))
    assert stored.found() == []
    assert not [tag for tag in tags(stored.ds) if tag.is_private]


def test_blocks_at_any_place_are_known_by_their_creator() -> None:
    ds = header()
    for tag, vr, value in (
        (0x20010042, "LO", PHILIPS),
        (0x20014203, "FL", 1000.0),
        (0x200142F0, "LO", "QUIRINALE"),
        (0x200100EE, "LO", PHILIPS),
        (0x2001EE03, "FL", 700.0),
        (0x20010011, "LO", "ZEPHYRINA"),
        (0x20011103, "FL", 500.0),
        (0x20015503, "FL", 300.0),  # of no creator
    ):
        ds.add_new(tag, vr, value)
    stored = taken(profile_of(*SAFE), file(ds))
    kept = [int(tag) for tag in tags(stored.ds) if tag.is_private]
    assert kept == [0x20010042, 0x200100EE, 0x20014203, 0x2001EE03]
    assert stored.found() == []


@pytest.mark.parametrize("options", [(), SAFE])
def test_public_elements_in_private_sequences_go_with_them(options: tuple[str, ...]) -> None:
    inner = header(SeriesDescription="AXIAL", PatientComments=COMMENT)
    ds = private(0x2005, PHILIPS, 0x84, "SQ", Sequence([inner]))
    ds.private_block(0x0021, "QUIRINALE", create=True).add_new(0x10, "SQ", Sequence([inner]))
    stored = taken(profile_of(*options), file(ds))
    assert stored.found() == []
    assert b"AXIAL" not in stored.raw


def test_private_elements_in_functional_groups_go_unless_safe() -> None:
    frame = Dataset()
    frame.private_block(0x2005, PHILIPS, create=True).add_new(0x0F, "SQ", Sequence([header(ImageComments=COMMENT)]))
    frame.private_block(0x2001, PHILIPS, create=True).add_new(0x03, "FL", 900.0)
    frame.private_block(0x0011, "ZEPHYRINA", create=True).add_new(0x03, "LO", "QUIRINALE")
    ds = header(SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", PerFrameFunctionalGroupsSequence=Sequence([frame, frame]))
    kept = taken(profile_of(*SAFE), file(ds))
    assert kept.found() == []
    assert [group[0x20011003].value for group in kept.ds.PerFrameFunctionalGroupsSequence] == [900.0, 900.0]
    gone = taken(profile_of(), file(ds))
    assert gone.found() == []
    assert not [tag for group in gone.ds.PerFrameFunctionalGroupsSequence for tag in tags(group) if tag.is_private]


@pytest.mark.parametrize("tag", [0x00081140, 0x00091001, 0x0008FFF0, 0x00400275])
@pytest.mark.parametrize("form", ["defined", "undefined", "undefined items"])
def test_sequences_disguised_as_unknown_are_gone_through(
    research: Deidentifier, basic: Deidentifier, tag: int, form: str
) -> None:
    """PS3.5 section 6.2.2: a UN may hold a sequence in Implicit VR Little Endian, whatever the rest is in."""
    inner = implicit(0x00081155, b"1.2.840.99.19470312\0") + implicit(0x00104000, COMMENT.encode().ljust(120))
    inner += implicit(0x00100010, NAME)
    if form == "defined":
        encoded = element(tag, "UN", items(inner))
    else:
        value = items(inner, defined=form == "undefined")
        end = b"" if form == "undefined items" else implicit(0xFFFEE0DD, b"")
        encoded = element(tag, "UN", value + end, length=0xFFFFFFFF)
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(None, (tag, encoded)))
        assert stored.found() == []
        if tag == 0x00081140:
            assert deidentifier.uid.is_issued(stored.ds[tag].value[0].ReferencedSOPInstanceUID)


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (0x00080080, b"Saint Elsewhere "),
        (0x00081030, b"CT of Quirinale "),
        (0x00100010, NAME),
        (0x00101000, b"MRN-7788123 "),
        (0x00080018, b"1.2.840.99.19470312\0"),
        (0x00200052, b"1.2.840.99.19470312\0"),
        (0x00080022, b"19470312"),
        (0x00200011, b"7788123 "),
        (0x00280010, b"QUIRINALE^"),
        (0x0040A730, NAME),
        (0x7FE00001, NAME),
    ],
)
def test_public_elements_declared_unknown_are_what_the_dictionary_says(
    research: Deidentifier, basic: Deidentifier, tag: int, value: bytes
) -> None:
    """Gateways that do not know a public element write UN: its VR is that of PS3.6 all the same."""
    ds = header()
    if tag in ds:
        del ds[tag]
    raw = file(ds, (tag, element(tag, "UN", value)))
    for deidentifier in (research, basic):
        try:
            assert taken(deidentifier, raw).found() == []
        except Refused as refusal:
            assert "QUIRINALE" not in refusal.message  # noqa: PT017


@pytest.mark.parametrize("depth", [1, 5, 50])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_names_in_items_that_the_table_does_not_list_go_at_any_depth(
    research: Deidentifier, basic: Deidentifier, depth: int, syntax: str | None
) -> None:
    ds = top = header()
    for _ in range(depth):
        child = item(
            TextValue=COMMENT, SeriesDescription="Quirinale", PersonName="QUIRINALE^Z", PatientID="MRN-7788123"
        )
        ds.ReferencedImageBoxSequence = Sequence([child])
        ds = child
    raw = file(top) if syntax is None else file(top, syntax=syntax)
    for deidentifier in (research, basic):
        stored = taken(deidentifier, raw)
        assert stored.found() == []
        assert "ReferencedImageBoxSequence" in stored.ds


def nested(depth: int, *, defined: bool) -> bytes:
    content = element(0x00100010, "PN", NAME)
    for _ in range(depth):
        inner = items(content, defined=defined)
        content = element(0x00081115, "SQ", inner, length=None if defined else 0xFFFFFFFF)
    return content


@pytest.mark.parametrize("depth", [70, 99, 198, 300, 2000])
@pytest.mark.parametrize("defined", [True, False])
def test_nests_that_no_reader_survives_are_refused(research: Deidentifier, depth: int, defined: bool) -> None:
    """pydicom ends in a RecursionError at a depth of 198."""
    before = sys.getrecursionlimit()
    with pytest.raises((Refused, NotDicom)) as refusal:
        taken(research, file(None, (0x00081115, nested(depth, defined=defined))))
    assert "quirinale" not in refusal.value.message.lower()
    assert sys.getrecursionlimit() == before


def test_a_private_length_that_lies_is_no_way_out(research: Deidentifier) -> None:
    lying = element(0x00091001, "UN", b"short", length=1 << 20)
    with pytest.raises((Refused, NotDicom)):
        taken(research, file(None, (0x00090010, element(0x00090010, "LO", b"QUIRINALE ")), (0x00091001, lying)))


def test_a_creator_may_not_be_repeated_to_lend_its_name(research: Deidentifier) -> None:
    """Two creators of one block: neither may keep what the other made."""
    creators = [(0x20010010, element(0x20010010, "LO", name.ljust(22))) for name in (b"QUIRINALE", PHILIPS.encode())]
    value = element(0x20011003, "FL", struct.pack("<f", 1000.0))
    text = element(0x20011004, "LO", NAME)
    for order in (creators, creators[::-1]):
        raw = file(None, *order, (0x20011003, value), (0x20011004, text))
        for deidentifier in (research, profile_of(*SAFE)):
            try:
                assert taken(deidentifier, raw).found() == []
            except (Refused, NotDicom) as refusal:
                assert "QUIRINALE" not in refusal.message  # noqa: PT017


def test_a_creator_with_several_values_is_none() -> None:
    ds = header()
    ds.add_new(0x20010010, "LO", [PHILIPS, "QUIRINALE"])
    ds.add_new(0x20011003, "FL", 1000.0)
    stored = taken(profile_of(*SAFE), file(ds))
    assert stored.found() == []
    assert not [tag for tag in tags(stored.ds) if tag.is_private]


def test_a_safe_element_may_not_be_text_in_disguise() -> None:
    for vr in ("LO", "OB", "UN"):
        raw = file(
            None,
            (0x20010010, element(0x20010010, "LO", PHILIPS.encode())),
            (0x20011003, element(0x20011003, vr, b"QUIRINALE^ZE")),
        )
        try:
            assert taken(profile_of(*SAFE), raw).found() == []
        except Refused as refusal:
            assert "QUIRINALE" not in refusal.message  # noqa: PT017


def refusal_reasons_name_nobody(deidentifier: Deidentifier) -> str:
    return refused(deidentifier, file(None, (0x00280010, element(0x00280010, "UN", b"QUIRINALE^"))))


def test_the_reason_of_a_refusal_names_an_element_and_nobody(research: Deidentifier) -> None:
    assert refusal_reasons_name_nobody(research) == "After de-identification (0028,0010) still held identity."
