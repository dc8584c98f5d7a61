from collections import Counter
from pathlib import Path

import pytest
from pydicom.datadict import tag_for_keyword

from gateway.deid.plan import Action, Plan, safe_private, table
from gateway.deid.profile import OPTIONS, PIXEL_OPTIONS, load_profile
from gateway.errors import ConfigurationError

ADDED = """
00081301 00081302 00081303 00081304 00100011 00100012 00100013 00100014 00100015 00100016 00100041 00100042 00100043
00100044 00100045 00100046 00100047 00102161 00102162 00181010 00181011 003A0020 003A0203 003A020C 00400556 0040A034
0040A035 0040B020 0040B034 0040B036 0040B03B 0040B03F 0040E012 00700006 300A0054
""".split()


def action(profile: str, keyword: str) -> Action:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return Plan(load_profile(profile)).action(tag)


def test_the_table_is_complete() -> None:
    """2024b has 621 rows, private attributes among them; 2026c adds 35."""
    assert len(table()) == 656
    assert len(ADDED) == 35
    assert set(ADDED) <= set(table())
    assert Counter(basic for basic, _ in table().values()) == Counter(
        {
            "X": 415,
            "D": 93,
            "U": 55,
            "Z": 42,
            "X/D": 23,
            "X/Z": 11,
            "X/Z/D": 8,
            "Z/D": 6,
            "X/Z/U*": 2,
        }
    ) + Counter({"X": 1})


def test_the_options_of_the_table_are_those_of_2024b() -> None:
    counts = Counter(
        (option, code)
        for pattern, (_, options) in table().items()
        if pattern not in ADDED
        for option, code in options.items()
    )
    assert counts["clean-descriptors", "C"] == 125
    assert counts["modified-dates", "C"] == 165
    assert counts["retain-full-dates", "K"] == 165
    assert counts["retain-uids", "K"] == 59
    assert (counts["retain-patient-characteristics", "K"], counts["retain-patient-characteristics", "C"]) == (9, 4)
    assert (counts["retain-device-identity", "K"], counts["retain-device-identity", "C"]) == (46, 11)
    assert counts["retain-institution-identity", "K"] == 10
    assert {option for option, _ in counts} == {*OPTIONS} - PIXEL_OPTIONS


def test_the_safe_private_list_is_complete() -> None:
    assert len(safe_private()) == 87
    assert safe_private()[0x2001, "Philips Imaging DD 001", 0x03] == "FL"


@pytest.mark.parametrize(
    ("keyword", "research", "basic"),
    [
        ("PatientBirthDate", Action.EMPTY, Action.EMPTY),
        ("StudyDate", Action.DATE, Action.EMPTY),
        ("StudyDescription", Action.CLEAN, Action.REMOVE),
        ("PatientAge", Action.AGE, Action.REMOVE),
        ("PatientSex", Action.CODE_STRING, Action.EMPTY),
        ("SOPInstanceUID", Action.UID, Action.UID),
        ("ReferencedImageSequence", Action.RECURSE, Action.RECURSE),
        ("ContentSequence", Action.RECURSE, Action.RECURSE),
        ("TextValue", Action.CLEAN, Action.DUMMY),
        ("OtherPatientIDsSequence", Action.REMOVE, Action.REMOVE),
        ("EncryptedAttributesSequence", Action.REMOVE, Action.REMOVE),
        ("OriginalAttributesSequence", Action.REMOVE, Action.REMOVE),
        ("DigitalSignaturesSequence", Action.REMOVE, Action.REMOVE),
        ("IconImageSequence", Action.REMOVE, Action.REMOVE),
        ("SegmentLabel", Action.CLEAN, Action.CLEAN),
        ("ContentLabel", Action.CODE_STRING, Action.CODE_STRING),
        ("Rows", Action.KEEP, Action.KEEP),
        ("PixelData", Action.KEEP, Action.KEEP),
        ("PixelSpacing", Action.NUMBER, Action.NUMBER),
        ("DataSetTrailingPadding", Action.REMOVE, Action.REMOVE),
        ("MediaStorageSOPInstanceUID", Action.REMOVE, Action.REMOVE),
    ],
)
def test_actions(keyword: str, research: Action, basic: Action) -> None:
    assert (action("research", keyword), action("basic", keyword)) == (research, basic)


def test_what_ps3_6_does_not_list_is_removed() -> None:
    plan = Plan(load_profile("research"))
    assert plan.action(0x0008FFF0) is Action.REMOVE
    assert plan.action(0x60000022) is Action.REMOVE
    assert plan.resolve(0x60003000, "OW")[0] is Action.REMOVE


def test_a_declared_vr_cannot_disguise_text() -> None:
    plan = Plan(load_profile("research"))
    rows, description = 0x00280010, 0x00081030
    assert plan.resolve(rows, "US") == (Action.KEEP, "US")
    assert plan.resolve(rows, "LO") == (Action.CLEAN, "LO")
    assert plan.resolve(description, "US")[0] is Action.REMOVE
    assert plan.resolve(description, "SQ")[0] is Action.REMOVE
    assert plan.resolve(description, "UN") == (Action.CLEAN, "LO")


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(
        'options = ["retain-device-identity"]\n[rules]\nStationName = "keep"\n00081030 = "clean"\n'
    )
    plan = Plan(load_profile("site", tmp_path))
    assert plan.action(0x00081010) is Action.TRANSCODE
    assert plan.action(0x00081030) is Action.CLEAN
    assert plan.action(0x00181000) is Action.TRANSCODE  # Device Serial Number, retained by the option


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("options = [", "not valid TOML"),
        ('option = ["x"]', "Unknown key option"),
        ('options = ["clean-everything"]', "clean-everything"),
        ('options = ["modified-dates", "retain-full-dates"]', "choose one"),
        ("title = 3", "title"),
        ('[rules]\nStudyDescripton = "keep"', "rules.StudyDescripton"),
        ('[rules]\nStudyDescription = "shred"', "rules.StudyDescription"),
        ('[rules]\nPatientID = "keep"', "always carries the pseudonym"),
        ('[rules]\n00091001 = "keep"', "rules.00091001"),
    ],
)
def test_faults_of_a_profile_name_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "site.toml").write_text(text)
    with pytest.raises(ConfigurationError) as failure:
        load_profile("site", tmp_path)
    assert says in failure.value.message
    assert "site.toml" in failure.value.message


@pytest.mark.parametrize("name", ["missing", "../research", "Research", ""])
def test_an_unknown_profile_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigurationError, match="basic, none, research"):
        load_profile(name)


def test_an_operators_folder_comes_first(tmp_path: Path) -> None:
    (tmp_path / "research.toml").write_text('title = "Ours"\n')
    assert load_profile("research", tmp_path).title == "Ours"
    assert load_profile("basic", tmp_path).title == "Basic"
