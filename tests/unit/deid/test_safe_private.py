"""Retain Safe Private: what is on a list stays, cleaned as its VR asks; what is not what the list says goes."""

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from gateway.deid.engine import Deidentifier
from gateway.deid.profile import load_profile
from tests.unit.deid.objects import KEY, decode, encode, header, needles_in, tags

UID = "1.2.840.113619.2.55.3.19470312.1"


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Deidentifier:
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "safe.toml").write_text('options = ["retain-safe-private", "clean-descriptors", "modified-dates"]\n')
    return Deidentifier(load_profile("safe", folder), KEY)


def with_private(group: int, creator: str, element: int, vr: str, value: object, *, block: int = 0x10) -> Dataset:
    ds = header()
    ds.add_new(group << 16 | block, "LO", creator)
    ds.add_new(group << 16 | block << 8 | element, vr, value)
    return decode(encode(ds))


def private(ds: Dataset) -> list[int]:
    return [int(tag) for tag in tags(ds) if tag.is_private]


@pytest.mark.parametrize(
    ("group", "creator", "element", "vr", "value", "after"),
    [
        (0x0021, "GEMS_RELA_01", 0x5C, "FL", 1.5, None),  # not on the list
        (0x0019, "GEMS_ACQU_01", 0x24, "DS", "3.5", "3.5"),  # Table E.3.10-1
        (0x0019, "SIEMENS MR VA0  GEN", 0x31, "IS", "256", "256"),
        (0x0021, "SIEMENS MR VA0  GEN", 0x43, "IS", "7", "7"),
        (0x2001, "Philips Imaging DD 001", 0x6E, "SH", "Axial", "Axial"),
        (0x2001, "Philips Imaging DD 001", 0x6E, "SH", "QUIRINALE", "***"),
        (0x2001, "Philips Imaging DD 001", 0x6E, "UT", "Axial", None),  # another VR than on the list
        (0x2001, "Philips Imaging DD 002", 0x6E, "SH", "Axial", None),
        (0x2001, "philips imaging dd 001", 0x6E, "SH", "Axial", None),
        (0x2003, "Philips Imaging DD 001", 0x6E, "SH", "Axial", None),
        (0x0009, "GEMS_IDEN_01", 0x27, "SL", 1_551_657_600, None),  # `oi`: seconds since 1970
        (0x0013, "GEMS_GENIE_1", 0x23, "LO", "Mon Mar 04 2019", None),  # `o`, but in a spelling of its own
        (0x0029, "SIEMENS CT EXAM IMAGE", 0x44, "UN", b"QUIRINALE ", None),  # `d`
    ],
)
def test_an_element_at_the_top(
    keeper: Deidentifier, group: int, creator: str, element: int, vr: str, value: object, after: object
) -> None:
    ds = with_private(group, creator, element, vr, value)
    keeper.apply(ds)
    if after is None:
        assert private(ds) == []  # the creator goes with what it made
    else:
        assert private(ds) == [group << 16 | 0x10, group << 16 | 0x1000 | element]
        assert str(ds[group << 16 | 0x1000 | element].value) == after


def test_uids_are_replaced_as_others_are(keeper: Deidentifier) -> None:
    ds = with_private(0x0009, "GEMS_PETD_01", 0x0A, "LO", UID)
    keeper.apply(ds)
    assert ds[0x0009100A].value == keeper.uid(UID)
    assert ds[0x0009100A].VR == "LO"


def test_dates_are_moved_as_others_are(keeper: Deidentifier) -> None:
    ds = with_private(0x0009, "GEMS_PETD_01", 0x0D, "DT", "20190304101112.50")
    keeper.apply(ds)
    moved = str(ds[0x0009100D].value)
    assert moved == f"{ds.StudyDate}101112.50"
    assert not moved.startswith("2019")


def test_any_block_and_two_of_one_group(keeper: Deidentifier) -> None:
    ds = with_private(0x2001, "Philips Imaging DD 001", 0x6E, "SH", "Axial", block=0xE0)
    ds.add_new(0x20010011, "LO", "ZEPHYRINA 1.0")
    ds.add_new(0x2001116E, "SH", "QUIRINALE")
    ds = decode(encode(ds))
    keeper.apply(ds)
    assert private(ds) == [0x200100E0, 0x2001E06E]
    assert needles_in(encode(ds)) == []


def test_items_of_a_private_sequence_are_gone_through(keeper: Deidentifier) -> None:
    """(2005,..,84) Series Reference is on the list; within it public rules and the list hold as anywhere."""
    item = Dataset()
    item.ReferencedSOPInstanceUID = UID
    item.PatientName = "QUIRINALE^ZEPHYRINA"
    item.SeriesDescription = "Axial of Quirinale"
    item.add_new(0x20050010, "LO", "Philips MR Imaging DD 005")
    item.add_new(0x20051036, "UI", UID)
    item.add_new(0x200510F0, "LO", "ZEPHYRINA")
    ds = with_private(0x2005, "Philips MR Imaging DD 001", 0x84, "SQ", Sequence([item]))
    keeper.apply(ds)
    assert needles_in(encode(ds)) == []
    kept = ds[0x20051084].value[0]
    assert kept.ReferencedSOPInstanceUID == keeper.uid(UID)
    assert kept[0x20051036].value == keeper.uid(UID)
    assert kept.SeriesDescription.startswith("Axial of")
    assert 0x200510F0 not in kept


def test_an_undeclared_vr_is_that_of_the_list(keeper: Deidentifier) -> None:
    ds = with_private(0x2001, "Philips Imaging DD 001", 0x6E, "UN", b"QUIRINALE ")
    keeper.apply(ds)
    assert needles_in(encode(ds)) == []


def test_without_the_option_all_goes(research: Deidentifier) -> None:
    ds = with_private(0x0019, "GEMS_ACQU_01", 0x24, "DS", "3.5")
    research.apply(ds)
    assert private(ds) == []
