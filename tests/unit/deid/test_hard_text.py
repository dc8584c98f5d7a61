"""Free text, codes and places: what people write where they should not, and what they write to get past a cleaner."""

import base64
import html
import unicodedata
import urllib.parse

import pytest
from pydicom.sequence import Sequence

from gateway.deid.engine import Deidentifier
from tests.unit.deid.objects import COMMENT, encode, header
from tests.unit.deid.passage import Stored, code, element, file, item, profile_of, refused, taken

#: Elements of text that the research profile cleans rather than removes.
DESCRIPTORS = (
    *("StudyDescription", "SeriesDescription", "ProtocolName", "ImageComments", "AdditionalPatientHistory"),
    *("RequestedProcedureDescription", "DerivationDescription", "ContrastBolusAgent", "PatientComments"),
)


def described(deidentifier: Deidentifier, text: str, **attributes: object) -> Stored:
    """An object of the made-up patient with a text in all its descriptors."""
    long = {name: text for name in DESCRIPTORS if len(text) <= 64 or name in {"ImageComments", "PatientComments"}}
    return taken(deidentifier, file(header(**({"SpecificCharacterSet": "ISO_IR 192"} | long | attributes))))


@pytest.mark.parametrize("name", ["StudyDescription", "SeriesDescription", "ProtocolName"])
def test_descriptions_lose_name_initial_and_date(research: Deidentifier, name: str) -> None:
    ds = taken(research, file(header(PatientName="DOE^JANE", **{name: "CHEST DOE J 12/03/47 W CONTRAST"}))).ds
    assert ds[name].value == "CHEST *** CONTRAST"


@pytest.mark.parametrize(
    "name",
    [
        *("PatientComments", "ImageComments", "AdditionalPatientHistory", "Allergies", "MedicalAlerts"),
        *("StudyComments", "FrameComments", "AcquisitionComments", "SpecialNeeds", "PatientState", "VisitComments"),
        *("ReasonForStudy", "RequestedProcedureComments", "InterpretationText", "Impressions", "Arbitrary"),
        *("ContentDescription", "TextComments", "SegmentDescription", "TrackingID", "DocumentTitle", "ContentLabel"),
    ],
)
@pytest.mark.parametrize("depth", [0, 1])
def test_comments_keep_nothing_of_anyone(research: Deidentifier, basic: Deidentifier, name: str, depth: int) -> None:
    text = COMMENT[:16] if name == "ContentLabel" else COMMENT
    ds = header(**{name: text}) if not depth else header(SourceImageSequence=Sequence([item(**{name: text})]))
    for deidentifier in (
        research,
        basic,
        profile_of("clean-descriptors"),
        profile_of("retain-patient-characteristics"),
    ):
        assert taken(deidentifier, file(ds)).found() == []


SPELLINGS = [
    *("QUIRINALE^ZEPHYRINA", "Zephyrina Quirinale", "Z. QUIRINALE", "quirinale_zephyrina", "QuirinaleZephyrina"),
    *("QUIRINALEZEPHYRINA", "zephyrinaquirinale2", "xQUIRINALEx", "Quirinale's", "(Quirinale)", "Moa Quirinale"),
    *("Dr.Houseman", "HOUSEMAN,G", "ref. by Gregor H.", "QUIRINALE\\ZEPHYRINA", "quirinale/zephyrina"),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_name_in_a_description_is_known_from_the_object_itself(research: Deidentifier, spelling: str) -> None:
    stored = described(research, f"CT CHEST {spelling} AXIAL")
    assert stored.found(["quirinale", "zephyrina", "houseman", "gregor"]) == []
    assert stored.ds.SeriesDescription != "CT CHEST"


#: Names that are words of radiology: only because the patient is called so must they go.
WORDS = ["HEAD^CHEST", "WHITE^LONG", "MAY^FLOW", "BROWN^BLACK", "STONE^SIEMENS", "GREEN^FLAIR", "LUNG^AXIAL"]


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("vary", [str.upper, str.lower, str.title], ids=["upper", "lower", "title"])
def test_names_that_are_words_go_where_text_is_free(research: Deidentifier, name: str, vary: object) -> None:
    family, given = name.split("^")
    assert callable(vary)
    texts = [f"CT {vary(family)} {vary(given)}", f"{vary(given)}_{vary(family)}", f"mri of {vary(family)}"]
    for text in texts:
        ds = described(research, text, PatientName=name).ds
        for descriptor in DESCRIPTORS:
            value = str(ds[descriptor].value).lower()
            assert family.lower() not in value
            assert given.lower() not in value


def test_a_body_part_stays_even_if_the_patient_is_called_so(research: Deidentifier) -> None:
    ds = taken(research, file(header(PatientName="HEAD^CHEST", BodyPartExamined="HEAD", PatientPosition="HFS"))).ds
    assert (ds.BodyPartExamined, ds.PatientPosition) == ("HEAD", "HFS")


#: What hides a name from those who compare letters, each of a name that is a word and of one that is not.
DISGUISES = {
    "zero width space": lambda name: "\u200b".join(name),
    "zero width joiner": lambda name: name[:2] + "\u200d" + name[2:],
    "soft hyphen": lambda name: name[:2] + "\u00ad" + name[2:],
    "word joiner": lambda name: name[:2] + "\u2060" + name[2:],
    "byte order mark": lambda name: name[:2] + "\ufeff" + name[2:],
    "right to left": lambda name: "\u202e" + name + "\u202c",
    "control characters": lambda name: name[:2] + "\x07" + name[2:],
    "del": lambda name: name[:2] + "\x7f" + name[2:],
    "c1 controls": lambda name: name[:2] + "\x9f" + name[2:],
    "accents": lambda name: "".join(letter + "\u0301" for letter in name),
    "fullwidth": lambda name: "".join(chr(ord(letter) + 0xFEE0) for letter in name),
    "mathematical": lambda name: "".join(chr(0x1D400 + ord(letter) - ord("A")) for letter in name.upper()),
    "circled": lambda name: "".join(chr(0x24B6 + ord(letter) - ord("A")) for letter in name.upper()),
    "cyrillic": lambda name: name.lower().translate(str.maketrans("aeiopcyxh", "аеіорсухһ")),
    "ligature": lambda name: name.lower().replace("fl", "\ufb02"),
    "spaced": lambda name: " ".join(name),
    "dotted": lambda name: ".".join(name),
    "dashed": lambda name: "-".join(name),
    "underscored": lambda name: "_".join(name),
    "split over values": lambda name: name[:3] + "\\" + name[3:],
    "split over lines": lambda name: name[:3] + "\r\n" + name[3:],
    "url": lambda name: urllib.parse.quote(name, safe="").replace("^", "%5E"),
    "url of all": lambda name: "".join(f"%{ord(letter):02X}" for letter in name),
    "base64": lambda name: base64.b64encode(name.encode()).decode(),
    "hexadecimal": lambda name: name.encode().hex(),
    "html": lambda name: "".join(f"&#{ord(letter)};" for letter in name),
    "html hexadecimal": lambda name: "".join(f"&#x{ord(letter):x};" for letter in name),
    "javascript": lambda name: "".join(f"\\u{ord(letter):04x}" for letter in name),
    "digits between": lambda name: "".join(f"{letter}1" for letter in name),
    "mixed case": lambda name: "".join(map(str.swapcase, name.title())),
    "doubled": lambda name: name + name,
    "possessive": lambda name: name + "'s",
}


def plain(text: str) -> str:
    """What a person sees in a text: letters alone, folded, in one row."""
    folded = unicodedata.normalize("NFKD", html.unescape(urllib.parse.unquote(text))).lower()
    return "".join(letter for letter in folded if letter.isalpha())


@pytest.mark.parametrize("name", ["QUIRINALE", "FLOWER", "WHITE", "STONE"])
@pytest.mark.parametrize("disguise", DISGUISES)
def test_disguised_names_go(research: Deidentifier, name: str, disguise: str) -> None:
    hidden = DISGUISES[disguise](name)
    stored = described(research, f"CT CHEST {hidden}", PatientName=f"{name}^ZEPHYRINA")
    for descriptor in (name for name in DESCRIPTORS if name in stored.ds):
        value = str(stored.ds[descriptor].value)
        assert name.lower() not in plain(value), value
        if hidden.isascii() and disguise not in {"split over values", "spaced", "dotted", "split over lines"}:
            assert hidden.lower() not in value.lower()
    assert stored.found([name]) == []


def test_a_name_written_backwards_or_in_base64_is_no_word(research: Deidentifier) -> None:
    stored = described(research, f"CT {'QUIRINALE'[::-1]} {base64.b64encode(b'QUIRINALE').decode()}")
    assert stored.found() == []
    assert stored.found(["elaniriuq"]) == []


@pytest.mark.parametrize("text", ["CT CHEST Dr Featherstonehaugh", "ref. A. Ravensbourne", "cc: Mr Okonkwo-Ibrahim"])
def test_names_of_others_are_no_vocabulary(research: Deidentifier, text: str) -> None:
    stored = described(research, text)
    assert stored.found(["featherstonehaugh", "ravensbourne", "okonkwo", "ibrahim"]) == []


def test_code_strings_keep_terms_alone(research: Deidentifier, basic: Deidentifier) -> None:
    ds = header(BodyPartExamined="QUIRINALE", ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "ZEPHYRINA Q"])
    ds.ScanOptions, ds.PatientPosition, ds.ImageLaterality = ["HELICAL MODE", "HOUSEMAN"], "MRN7788123", "19470312"
    ds.Modality = "ROOMSEVEN"
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found() == []
        assert stored.ds.ImageType[:3] == ["ORIGINAL", "PRIMARY", "AXIAL"]


def test_local_codes_lose_people_and_keep_their_kind(research: Deidentifier, basic: Deidentifier) -> None:
    ds = header(
        ProcedureCodeSequence=code("QUIRINALE1", "99ELSEWHERE", "CT CHEST for Dr Houseman"),
        ViewCodeSequence=code("399348003", "SCT", "antero-posterior"),
        AnatomicRegionSequence=code("51185008", "SCT", "Chest of Zephyrina"),
    )
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found() == []
        view = stored.ds.ViewCodeSequence[0]
        assert (view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning) == (
            "399348003",
            "SCT",
            "antero-posterior",
        )


def test_codes_of_every_length_are_codes(research: Deidentifier) -> None:
    entry = item(LongCodeValue="QUIRINALE ZEPHYRINA", CodingSchemeDesignator="99Q", CodeMeaning="x")
    other = item(URNCodeValue="urn:QUIRINALE:7788123", CodingSchemeDesignator="99Q", CodeMeaning="x")
    other.EquivalentCodeSequence = Sequence([entry])
    other.ContextUID = "1.2.840.99.19470312"
    other.ContextGroupLocalVersion = "19470312"
    stored = taken(research, file(header(ProcedureCodeSequence=Sequence([entry, other]))))
    assert stored.found() == []


def test_agents_and_doses_are_cleaned_like_comments(research: Deidentifier, basic: Deidentifier) -> None:
    ds = header(
        ContrastBolusAgent="OMNIPAQUE 300 Quirinale",
        RadiopharmaceuticalInformationSequence=Sequence(
            [item(Radiopharmaceutical="FDG for ZEPHYRINA", RadionuclideTotalDose="370000000")]
        ),
        InterventionDrugInformationSequence=Sequence([item(InterventionDrugName="Lasix Dr Houseman")]),
    )
    for deidentifier in (research, basic):
        assert taken(deidentifier, file(ds)).found() == []
    kept = taken(research, file(ds)).ds
    assert kept.ContrastBolusAgent == "OMNIPAQUE 300 ***"
    assert kept.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose == 370000000


def test_titles_of_stations_never_leave(research: Deidentifier, basic: Deidentifier) -> None:
    ds = header(RetrieveAETitle="ROOMSEVEN", ScheduledStudyLocationAETitle="ELSEWHERE_CT")
    ds.PerformedStationAETitle = "HOUSEMAN1"
    ds.ScheduledProcedureStepSequence = Sequence([item(ScheduledStationAETitle="ROOMSEVEN")])
    meta = {
        "SourceApplicationEntityTitle": "ROOMSEVEN",
        "SendingApplicationEntityTitle": "ELSEWHERE",
        "ReceivingApplicationEntityTitle": "HOUSEMAN",
        "ImplementationVersionName": "QUIRINALE_1",
        "PrivateInformationCreatorUID": "1.2.840.99.19470312",
        "PrivateInformation": b"ZEPHYRINA ",
    }
    for deidentifier in (research, basic, profile_of("clean-descriptors", "retain-full-dates")):
        assert taken(deidentifier, file(ds, meta=meta)).found() == []


def test_a_place_within_another_place_is_found(research: Deidentifier) -> None:
    ds = header(
        InstitutionName="Saint Elsewhere",
        StationName="ELSEWHERE_CT1",
        DeviceUID="1.2.840.99.19470312.7",
        InstitutionalDepartmentName="Saint Elsewhere Radiology",
        ManufacturerModelName="Optima at Saint Elsewhere",
        SoftwareVersions="1.0 SAINT_ELSEWHERE",
    )
    stored = taken(research, file(ds))
    assert stored.found() == []
    assert stored.ds.ManufacturerModelName == "Optima at ***"


@pytest.mark.parametrize(
    ("option", "kept"),
    [
        ("retain-institution-identity", {"InstitutionName": "Saint Elsewhere"}),
        ("retain-device-identity", {"StationName": "ROOMSEVEN", "DeviceSerialNumber": "SN5566778"}),
    ],
)
def test_an_option_retains_what_it_names_and_nothing_else(option: str, kept: dict[str, str]) -> None:
    ds = header(StudyDescription=COMMENT[:60], ImageComments=COMMENT)
    ds.ReferencedStudySequence = Sequence([header(ImageComments=COMMENT)])
    for options in ((option,), (option, "clean-descriptors")):
        result = taken(profile_of(*options), file(ds))
        assert {name: result.ds[name].value for name in kept} == kept
        others = {"elsewhere", "roomseven", "5566778"} - {word.lower() for word in " ".join(kept.values()).split()}
        others -= {"5566778"} if "DeviceSerialNumber" in kept else set()
        assert result.found([*others, "quirinale", "zephyrina", "7788123", "19470312", "99881", "tiber"]) == []


def test_characteristics_are_kept_without_the_person() -> None:
    ds = header(PatientSex="F", PatientAge="071Y", PatientSize="1.7", PatientWeight="60", SmokingStatus="NO")
    ds.Allergies, ds.PregnancyStatus, ds.SpecialNeeds = "Quirinale iodine", 4, "wheelchair, call 555-0117-442"
    result = taken(profile_of("retain-patient-characteristics"), file(ds))
    kept = result.ds
    assert (kept.PatientSex, kept.PatientAge, kept.PatientWeight, kept.PregnancyStatus) == ("F", "071Y", 60, 4)
    assert result.found() == []
    assert not kept.PatientBirthDate
    strict = taken(profile_of(), file(ds)).ds
    assert not strict.get("PatientAge")
    assert not strict.get("PatientSize")


@pytest.mark.parametrize(
    "text",
    [
        "http://roomseven.elsewhere.example.org/wado?patientID=MRN-7788123",
        "10.11.12.131",
        "fe80::1ff:fe23:4567:890a",
        "zephyrina@example.org",
        "ftp://quirinale:secret@elsewhere.example.org/",
    ],
)
def test_addresses_of_machines_and_people_go(research: Deidentifier, basic: Deidentifier, text: str) -> None:
    ds = header(RetrieveURL=text, StudyDescription=text[:64], ImageComments=f"see {text} please", RetrieveURI=text)
    ds.ReferencedImageSequence = Sequence([item(RetrieveURL=text, PixelDataProviderURL=text)])
    for deidentifier in (research, basic):
        stored = taken(deidentifier, file(ds))
        assert stored.found([text, "example.org", "roomseven", "12.131", "4567:890a"]) == []


PATTERNS = {
    "telephone": [
        "+1 (555) 010-7744",
        "555-010-7744",
        "0155/5010774",
        "+49 30 5550107",
        "tel 030-5550-107",
        "5550107744",
    ],
    "social security": ["078-05-1120", "078 05 1120", "078051120", "SSN:078-05-1120"],
    "mail": ["z.quirinale+ct@mail.example.org", "zq@x.yz", "ZQ (at) example.org"],
    "web": ["https://example.org/a?b=c", "www.example.org", "example.org/zephyrina"],
    "machine": ["192.168.13.77", "10.0.0.201", "00:1B:44:11:3A:B7"],
    "date": [
        *("12.03.1947", "12/03/47", "03-12-1947", "1947-03-12", "19470312", "12 March 1947", "March 12, 1947"),
        *("12MAR1947", "12-Mar-47", "1947/3/12", "12.3.47", "47-03-12", "12. März 1947", "1947 03 12", "12 03 1947"),
    ],
    "record": ["MRN-7788123", "MRN 7788123", "7788123", "77-88-123", "H7788123", "0007788123", "PAT#7788123A"],
    "plate": ["B-ZQ 1947", "7TRX194", "WOB ZK 295", "AB12 CDE"],
    "address": ["7 Tiber Street", "Springfield IL 62704-1234", "IL 62704", "D-10115 Berlin", "Tiberstr. 7"],
    "age": ["97 y/o", "93yo", "age 104 years", "aged 93", "Age: 93.", "aged 93 with pain"],
    "account": ["DE89 3704 0044 0532 0130 00", "4111 1111 1111 1111", "A123456789"],
}
#: What an attacker would look for: parts that are left even so.
REMAINS = ("1120", "7744", "5550107", "1947", "19470312", "62704", "10115", "tiber", "springfield", "3704", "4111")


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in PATTERNS.items() for text in texts])
def test_patterns_that_identify_go_from_descriptors(research: Deidentifier, kind: str, text: str) -> None:
    stored = described(research, f"CT CHEST {text} AXIAL", PatientID="X1", PatientBirthDate="")
    for descriptor in DESCRIPTORS:
        value = str(stored.ds[descriptor].value)
        assert text not in value, (kind, value)
        assert not [part for part in REMAINS if part in text.lower() and part in value.lower()], (kind, value)
        assert value.startswith("CT"), value


@pytest.mark.parametrize(
    "text",
    [
        *("AX T2 FLAIR FS", "CT ABD/PEL W CONTRAST 5.0", "Hodgkin protocol", "Parkinson", "White matter"),
        *("b1000 ADC", "TE/TR 90/4000", "120kVp 200mAs", "SAG T1 TSE +C", "Chest PA & LAT", "DWI b=0,500,1000"),
        *("AX 3D SPGR 1.5mm", "WB PET/CT FDG 60 min p.i.", "MRCP RADIAL 40 mm", "Circle of Willis MRA", "C-SPINE AP"),
        *("t1_mprage_sag_p2_iso_1.0", "ep2d_diff_3scan_trace_ADC", "RECON 2: LUNG 1.25", "Thorax 2.0 I70f 3", "KUB"),
        *("Achilles tendon", "Baker cyst", "Colles fracture", "Crohn disease", "Doppler liver", "Hounsfield units"),
        *("Thin Bone 0.625mm", "Sinus W/O", "PORTAL VENOUS 70s", "CTA Head & Neck", "MIP COR 10x5", "Stealth protocol"),
        *("Age 120 months", "age 93 d", "age 89"),
    ],
)
def test_the_words_of_radiology_stay_in_a_file(research: Deidentifier, text: str) -> None:
    assert described(research, text).ds.SeriesDescription == text


def test_a_uid_in_text_is_found_with_spaces_and_all(research: Deidentifier) -> None:
    uid = "1.2.840.113619.2.1.19470312"
    spaced = " ".join(uid)
    ds = header(ImageComments=f"see {uid}, {uid}. and ({uid})", PatientComments=spaced, SeriesDescription=uid)
    stored = taken(research, file(ds))
    assert stored.found([uid, spaced, "19470312", "1 9 4 7"]) == []
    assert stored.ds.SeriesDescription == research.uid(uid)
    assert stored.ds.ImageComments.count(research.uid(uid)) == 3


def test_long_text_is_not_searched_in_vain(research: Deidentifier) -> None:
    ds = header(TextValue="CT CHEST " * 10_000 + "Quirinale", ImageComments="AXIAL " * 1700 + "Zephyrina")
    assert taken(research, file(ds)).found() == []


def test_a_text_may_not_forge_what_was_issued(research: Deidentifier) -> None:
    """A number like one of ours, and a pseudonym like one of ours, made without the key, are replaced."""
    forged = f"2.25.{(1 << 127) + 19470312}"
    pseudonym = "QUIRI-NALE2-ZEPHY-RINA2"
    ds = header(
        SOPInstanceUID=forged, PatientID=pseudonym, PatientName=pseudonym, ImageComments=f"{forged} {pseudonym}"
    )
    stored = taken(research, file(ds))
    assert stored.found([forged, pseudonym, "19470312", "zephy"]) == []
    assert research.pseudonyms.is_issued(stored.ds.PatientID)


def test_a_binary_number_that_spells_a_name_is_refused(research: Deidentifier) -> None:
    raw = file(None, (0x00280010, element(0x00280010, "US", b"QUIRINALE^")))
    assert "(0028,0010)" in refused(research, raw)


@pytest.mark.parametrize("value", ["HEAD", "CT", "1000", "AXIAL", "ISO_IR 192", "YES", "1.2.840.10008.5.1.4.1.1.2"])
def test_an_id_that_is_a_term_takes_no_term_with_it(research: Deidentifier, value: str) -> None:
    ds = header(PatientID=value, BodyPartExamined="HEAD", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], PatientName="A^B")
    stored = taken(research, file(ds))
    assert stored.ds.PatientID != value
    assert (stored.ds.BodyPartExamined, stored.ds.ImageType[2], stored.ds.Modality) == ("HEAD", "AXIAL", "CT")
    assert encode(taken(research, stored.raw).ds) == encode(stored.ds)
