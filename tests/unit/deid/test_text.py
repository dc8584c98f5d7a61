import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.deid.identity import Identity
from gateway.deid.text import Cleaner, vocabulary

CLEAN = Cleaner(lambda _: "2.25.334953562418440206188938073166254399189")
WORDS = st.sampled_from(
    [*sorted(vocabulary())[::97], "Doe", "12/03/47", "J", "***", "5.0", "b1000", "ZQ019", "1.2.3.4.5.6.7"]
)


@pytest.mark.parametrize(
    "text",
    [
        "AX T2 FLAIR FS",
        "CT ABD/PEL W CONTRAST 5.0",
        "Hodgkin protocol",
        "Parkinson",
        "White matter",
        "Dr Grid",
        "b1000 DWI b=2000 TE120 512x512",
        "C5-C6 120kVp 3D T2W 64x0.625 Image0001",
        "5.4 Chest/ Abd/ Pelvis*",
        "Lossless JPEG 2000, 10:1",
        "GE MEDICAL SYSTEMS LightSpeed VCT vct_zeta.4",
        "SIEMENS SOMATOM Definition AS+ syngo CT",
        "Cornerstone3DTools@^0.1.0:Length",
        "cornerstoneTools@^4.0.0:RectangleROI",
        "Schädel nativ",
        "No evidence of acute hemorrhage.",
    ],
)
def test_the_words_of_radiology_stay(text: str) -> None:
    assert CLEAN(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DOE J 12/03/47", "***"),
        ("CT HEAD Quirinale", "CT HEAD ***"),
        ("brain DOE_JANE", "brain ***"),
        ("ZQ019XWV", "***"),
        ("CAN-00417", "***"),
        ("MRN 00417123", "MRN ***"),
        ("call (555) 010 1234", "call ***"),
        ("SSN 078-05-1120", "SSN ***"),
        ("jane.doe@example.org", "***"),
        ("https://example.org/p/1", "***"),
        ("chest 2019", "chest ***"),
        ("12 Mar 1947", "***"),
        ("March 12th, 1947", "***"),
        ("1947-03-12 chest", "*** chest"),
        ("born 12. 3. 1947", "born ***"),
        ("93 y/o male", "*** male"),
        ("AB123", "***"),
        ("X1234567", "***"),
        ("A1234", "***"),
        ("CT2019", "***"),
        ("47120.3", "***"),
        ("山田 CT", "*** CT"),
        ("10.0.12.31", "***"),
    ],
)
def test_the_rest_does_not(text: str, expected: str) -> None:
    cleaned = CLEAN(text)
    assert cleaned == expected or (text.startswith(("MRN", "SSN", "call", "born")) and cleaned == "***")


#: What scanners and departments call their series, studies and structures.
PROTOCOLS = (
    *("AX T1 POST GAD", "Ax T2 FSE", "AXIAL T2 PROPELLER", "SAG 3D MPR", "t2_tse_tra", "t1_fl2d_sag"),
    *("ep2d_diff_b50_400_800_TRACEW", "LOCALIZER", "3 Plane Loc", "Cor T2 HASTE", "DYN LAVA", "DELAYED PHASE"),
    *("LIVER 3 PHASE", "CHEST/ABD/PELVIS WITH CONTRAST", "HRCT", "LUNG 1.0 B60f", "Recon 3:"),
    *("Thorax^1WB_PETCT_FDG (Adult)", "WB MAC", "PET AC 3D", "BREAST^ROUTINE", "Ph1/Ax Vibrant", "Mammo R CC"),
    *("R MLO Tomosynthesis Projection", "DEXA", "US ABDOMEN LIMITED", "XR CHEST 2 VIEWS"),
    *("CT HEAD WO CONTRAST", "CTA CHEST PE PROTOCOL", "MR PROSTATE WITHOUT AND WITH IV CONTRAST"),
    *("Topogram 0.6 T20s", "PosDisp: [4] T2_TSE", "Perfusion_Weighted", "relCBF"),
    *("DIFFUSION ADC (10^-6 mm²/s)", "SURVIEW", "SCOUT", "Dose Record", "Patient Protocol"),
    *("AbdRoutine 5.0 B40f", "ThorRoutine 1.0 B70f", "ABD_PEL 2.5", "AX C/A/P", "BONE PLUS 1.25"),
    *("SAGITTAL REFORMATS", "Coronal MPR 3mm", "ARTERIAL", "CAP W/ IV & ORAL", "HeadSeq 4.8 H40s"),
    *("InspExp LungCare", "Neck 3.0 B41s", "C-Spine 2.0 H60s", "Shoulder Arthrogram", "MR LUMBAR SPINE W/WO"),
    *("Rt Knee PD FS", "LT ANKLE 3 VIEWS", "PORTABLE CHEST", "AP UPRIGHT", "PA AND LATERAL", "BABYGRAM"),
    *("SKULL 4 VIEWS", "PANOREX", "MRA BRAIN TOF 3D", "MRV", "SWI_Images", "Mag_Images", "Pha_Images"),
    *("mIP_Images(SW)", "AX DWI TRACE", "eADC", "ASL perfusion", "DTI 32 dir", "MPRAGE_GRAPPA2", "SPACE T2"),
    *("CISS 3D IAC", "T1 VIBE DIXON OPP", "IN/OUT PHASE", "THRIVE dyn", "MRCP HASTE THICK SLAB", "CINE SAX"),
    *("4CH LGE", "PSIR", "T1 MAP MOLLI", "T2 STAR", "PHASE CONTRAST FLOW", "FIESTA 2CH"),
    *("Myocardial Perfusion Rest", "MIBI STRESS", "GATED SPECT", "BONE SCAN WHOLE BODY", "HIDA", "V/Q SCAN"),
    *("RENOGRAM MAG3", "THYROID UPTAKE I-123", "DATSCAN", "PSMA PET", "DOTATATE", "FDG SKULL TO MID THIGH"),
    *("CTAC 3.75 Thick", "NAC", "MIP ROTATING", "SUV", "CALCIUM SCORE", "CORONARY CTA 70%", "BestDiast 75 %"),
    *("BestSyst 38 %", "CARDIAC 0.75 B26f", "TAVI", "AORTA RUNOFF", "LOWER EXTREMITY VENOUS DOPPLER"),
    *("CAROTID DUPLEX", "THYROID US", "OB 2ND TRIMESTER", "TRANSVAGINAL", "ECHO TTE", "FLUORO GUIDED LP"),
    *("BARIUM SWALLOW", "UGI SBFT", "ERCP", "VCUG", "HSG", "DSA RT ICA", "POST STENT", "TACE"),
    *("BIOPSY CT GUIDED", "ABLATION", "STEREOTACTIC BIOPSY", "SPECIMEN", "SPOT COMPRESSION", "MAG VIEW"),
    *("IMPLANT DISPLACED", "SCREENING BILAT", "L XCCL", "CESM", "ACR PHANTOM", "QA DAILY", "KUB SUPINE"),
    *("DECUBITUS", "HIP FROG LEG", "SUNRISE", "TUNNEL VIEW", "SCAPHOID", "Y VIEW", "WATERS", "TOWNE"),
    *("ODONTOID", "FLEX/EXT", "SCOLIOSIS", "BONE AGE", "SKELETAL SURVEY", "Dental Panorama", "CEPH LAT"),
    *("Endo", "PERIAPICAL", "BITE WING", "Fundus OD", "OCT Macula OS", "Slit lamp", "Dermoscopy"),
    *("WSI H&E 40x", "IHC Ki67", "ER PR HER2", "GLIOMA FOLLOWUP", "BRAIN METS", "MS PROTOCOL", "SEIZURE"),
    *("PITUITARY DYNAMIC", "ORBITS", "TEMPORAL BONE", "FACIAL BONES", "MAXILLOFACIAL", "SOFT TISSUE NECK"),
    *("BRACHIAL PLEXUS", "RIBS", "STERNUM", "SACRUM/COCCYX", "MR ENTEROGRAPHY", "MR UROGRAM"),
    *("CT COLONOGRAPHY", "CT UROGRAM", "ADRENAL WASHOUT", "PANCREAS PROTOCOL", "LIVER MASS", "DONOR"),
    *("TRANSPLANT", "HERNIA", "APPENDICITIS", "TRAUMA PAN SCAN", "STROKE CODE", "CT PERFUSION 4D"),
    *("RAPID TMax", "CBF CBV MTT", "Smart Brain", "B0 MAP", "FIELD MAPPING", "rfMRI REST", "tfMRI MOTOR"),
    *("dMRI AP", "T2w_SPC", "AAHead_Scout", "Head_MPR_sag", "Spineroutine", "LEGAL", "REPEAT"),
    *("NON DIAGNOSTIC", "MOTION", "PRONE EXPIRATION", "INSPIRATION", "LOW DOSE SCREENING", "NODULE FOLLOW UP"),
    *("COVID", "PNEUMONIA", "TB SCREEN", "ICU", "ER", "STAT", "BEDSIDE", "INTRAOP", "O-ARM", "C-ARM"),
    *("Navigation", "Brainlab", "CyberKnife", "GammaKnife", "RT SIM", "4D-CT 50%", "MIP50", "AVG CT"),
    *("CBCT Pelvis", "kV-kV", "MV portal", "Setup", "Plan1", "PTV60", "GTV_T1", "OAR", "Parotid_L"),
    *("SpinalCord", "BrainStem", "Femur_Head_R", "External", "BODY", "Couch", "Bolus", "Isocenter", "VMAT arc"),
    *("IMRT", "SBRT lung", "Boost", "FLAIR_Long_TR", "S-I JOINTS"),
)


def test_what_series_and_studies_are_called_stays() -> None:
    assert [text for text in PROTOCOLS if CLEAN(text) != text] == []


def test_uids_in_text_are_replaced() -> None:
    assert CLEAN("see 1.2.840.113619.2.1.20190304") == "see 2.25.334953562418440206188938073166254399189"


@settings(max_examples=200)
@given(st.one_of(st.text(max_size=60), st.lists(st.one_of(WORDS, st.text(max_size=6)), max_size=8).map(" ".join)))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once = CLEAN(text)
    assert CLEAN(once) == once


def identity() -> Identity:
    found = Identity()
    found.add_name("WHITE-MÜLLER^Jo^Kim=山田^太郎")
    found.add_number("CAN-00417")
    found.add_number("2500")
    found.add_phrase("12 Canary Wharf Lane")
    found.freeze()
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("white matter", "*** matter"),
        ("KIM", "***"),
        ("kimono", "kimono"),
        ("Mueller", "***"),
        ("muller_white", "***_***"),
        ("drwhite2", "***"),
        ("太郎", "***"),
        ("can 00417", "***"),
        ("XCAN00417Y", "***"),
        ("slice 2.500", "slice 2.500"),
        ("id 2500", "id ***"),
        ("at 12, canary  WHARF lane", "at ***"),
    ],
)
def test_what_the_object_says_of_its_patient_is_found_elsewhere(text: str, expected: str) -> None:
    assert identity().mask(text) == expected


def test_nobody_is_not_learnt() -> None:
    found = Identity()
    for name in ("Anonymous", "ANONYMIZED^^", "Test^Patient", "Li", "X"):
        found.add_name(name)
    found.freeze()
    assert not found.is_in("Anonymous test patient Li X")


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "a ",
        "1",
        "1 ",
        "12 ",
        "1.",
        "*** a ",
        "a@",
        "c ",
        "Canary ",
        "CAN-",
        "(1",
        "March 1 ",
        "--",
        "x1",
        "\u0301a",
    ],
)
def test_no_text_takes_long(unit: str) -> None:
    """Text comes from anyone: no pattern may need time beyond linear, or nearly so."""
    text = (unit * 16_384)[:16_380] + " ***"
    found = identity()
    start = time.process_time()
    CLEAN(found.mask(text))
    CLEAN(found.mask(text[::-1]))
    assert time.process_time() - start < 5.0
    assert CLEAN(unit * 10**6) == "***"
