"""Clean Recognizable Visual Features: what shows a head passes only if it says that its face was taken off."""

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from gateway.deid.engine import Deidentifier, Refusal
from gateway.deid.profile import load_profile
from tests.unit.deid.objects import KEY, NEEDLES, decode, encode, header

MR, PET = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
PHOTOGRAPH, SR = "1.2.840.10008.5.1.4.1.1.77.1.4", "1.2.840.10008.5.1.4.1.1.88.33"


@pytest.fixture(scope="module")
def faceless(tmp_path_factory: pytest.TempPathFactory) -> Deidentifier:
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "faceless.toml").write_text('options = ["clean-recognizable-visual-features", "clean-descriptors"]\n')
    return Deidentifier(load_profile("faceless", folder), KEY)


def region(code: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "SCT", "Region"
    return Sequence([item])


def applied(deidentifier: Deidentifier, **attributes: object) -> Dataset:
    ds = decode(encode(header(**attributes)))
    deidentifier.apply(ds)
    return ds


def codes(ds: Dataset) -> set[str]:
    return {item.CodeValue for item in ds.DeidentificationMethodCodeSequence}


@pytest.mark.parametrize(
    "attributes",
    [
        {"BodyPartExamined": "HEAD"},
        {"BodyPartExamined": "HEADNECK"},
        {"BodyPartExamined": "THORAXNECK"},
        {"BodyPartExamined": "WHOLEBODY"},
        {"BodyPartExamined": "CHEST", "StudyDescription": "CT BRAIN AND CHEST"},
        {"BodyPartExamined": "BREAST", "StudyDescription": "PET-CT STUDY"},
        {"SeriesDescription": "sag_T1_MPRAGE", "SOPClassUID": MR},
        {"StudyDescription": "CT Schädel nativ", "SpecificCharacterSet": "ISO_IR 192"},
        {"AnatomicRegionSequence": region("12738006"), "BodyPartExamined": "CHEST"},
        {"SOPClassUID": MR},
        {"SOPClassUID": PET, "SeriesDescription": "coronal"},
        {"SOPClassUID": PHOTOGRAPH, "BodyPartExamined": "HAND"},
        {"SOPClassUID": SR, "RecognizableVisualFeatures": "YES"},
    ],
    ids=lambda attributes: " ".join(attributes),
)
def test_a_head_is_refused(faceless: Deidentifier, attributes: dict[str, object]) -> None:
    with pytest.raises(Refusal, match="deface") as refusal:
        applied(faceless, **attributes)
    assert not [needle for needle in NEEDLES if needle in refusal.value.message.lower()]


@pytest.mark.parametrize(
    "attributes",
    [
        {"BodyPartExamined": "CHEST"},
        {"BodyPartExamined": "CHEST", "SeriesDescription": "early arterial, oral contrast"},
        {"StudyDescription": "CT ABD/PEL W CONTRAST 5.0"},
        {"SeriesDescription": "t1sagknee", "StudyDescription": "Moving knee, temporal position", "SOPClassUID": MR},
        {"AnatomicRegionSequence": region("78904004")},
        {"StudyDescription": "Lumbar spine, facet joints", "SOPClassUID": MR},
        {"SOPClassUID": SR},
    ],
    ids=lambda attributes: " ".join(attributes),
)
def test_the_rest_of_the_body_passes_and_nothing_is_claimed(
    faceless: Deidentifier, attributes: dict[str, object]
) -> None:
    ds = applied(faceless, **attributes)
    assert "113102" not in codes(ds)
    assert "RecognizableVisualFeatures" not in ds


def test_who_says_that_the_face_is_gone_passes(faceless: Deidentifier) -> None:
    ds = applied(faceless, BodyPartExamined="HEAD", RecognizableVisualFeatures="NO")
    assert ds.RecognizableVisualFeatures == "NO"
    assert codes(ds) == {"113100", "113102", "113105"}


@pytest.mark.parametrize("groups", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_the_region_of_frames_counts(faceless: Deidentifier, groups: str) -> None:
    anatomy, frame = Dataset(), Dataset()
    anatomy.AnatomicRegionSequence = region("T-A0100")
    frame.FrameAnatomySequence = Sequence([anatomy])
    with pytest.raises(Refusal, match="shows a head"):
        applied(faceless, SOPClassUID=ENHANCED_MR, BodyPartExamined="KNEE", **{groups: Sequence([frame])})


def test_without_the_option_a_head_passes(research: Deidentifier) -> None:
    assert "113102" not in codes(applied(research, BodyPartExamined="HEAD"))


@pytest.mark.parametrize(
    ("folder", "passes"),
    [("ct-chest", True), ("ct-abdomen-labelled", False), ("ct-bone", False), ("mr-brain", False)],
)
def test_real_series(data_folder: Path, faceless: Deidentifier, folder: str, passes: bool) -> None:
    """`PARTIALBODY` says nothing, the bones are of a PET-CT, and the brain names no body part."""
    path = next(path for path in sorted((data_folder / folder).rglob("*.dcm")))
    ds = dcmread(path, stop_before_pixels=True)
    if passes:
        faceless.apply(ds)
    else:
        with pytest.raises(Refusal, match="deface"):
            faceless.apply(ds)
