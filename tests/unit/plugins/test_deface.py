"""Defacing: of heads whose every part is known, in whatever orientation, and of what is no head."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from ray_plugins.builtin.deface import deface
from ray_plugins.builtin.head import NoBrain
from ray_plugins.sdk import PluginError, Result, Volume
from ray_plugins.testing import PluginContract, run
from ray_plugins.volume import read
from tests.heads import Head

TURN = np.deg2rad(15)
HEADS = {
    "CT": Head(),
    "CT, turned and nodding": Head(turn_deg=20, nod_deg=12),
    "CT, coronal": Head(shape=(84, 66, 80), spacing_mm=(3.0, 4.0, 2.5), column=(0, 0, -1)),
    "T1": Head(kind="T1"),
    "T1, sagittal": Head(shape=(60, 100, 110), spacing_mm=(3.0, 2.5, 2.5), kind="T1", row=(0, 1, 0), column=(0, 0, -1)),
    "T2, oblique": Head(
        kind="T2", row=(np.cos(TURN), np.sin(TURN), 0), column=(-np.sin(TURN), np.cos(TURN), 0), turn_deg=5
    ),
}
DEIDENTIFIED = {
    "PatientIdentityRemoved": "YES",
    "DeidentificationMethod": "Isthmus research",
    "LongitudinalTemporalInformationModified": "MODIFIED",
}


class TestContract(PluginContract):
    plugin = deface

    def series(self, folder: Path) -> tuple[str, ...]:
        return Head().write(folder, {"PatientPosition": "HFS", "BodyPartExamined": "HEAD"})


@pytest.fixture(scope="module", params=HEADS)
def case(request: pytest.FixtureRequest) -> tuple[Head, Result]:
    head = HEADS[request.param]
    return head, deface(head.volume())


def test_the_face_goes_and_the_brain_stays(case: tuple[Head, Result]) -> None:
    head, result = case
    assert result.segments == []
    (images,) = result.series
    gone = {part: float(images.changed[getattr(head, part)].mean()) for part in ("nose", "chin", "eyes", "ears")}
    assert gone["nose"] == gone["chin"] == 1
    assert gone["eyes"] > 0.7  # their backs touch the brain of the phantom
    assert gone["ears"] > 0.95
    assert not (images.changed & head.brain).any()
    assert images.defaced


def test_a_mask_of_what_was_removed_shows_no_profile(case: tuple[Head, Result]) -> None:
    head, result = case
    changed = result.series[0].changed
    air = head.array() < (-500 if head.kind == "CT" else 60)
    in_front = changed & (head.points[1] < -70) & (head.points[2] < -50)
    assert (in_front & air).any()
    assert (in_front & ~air).any()
    assert in_front[(head.points[1] < -80) & (head.points[2] < -60) & (head.points[2] > -120)].all()


def test_ears_may_stay() -> None:
    head = Head()
    (images,) = deface(head.volume(), ears=False).series
    assert images.changed[head.nose].all()
    assert not images.changed[head.ears].any()


def test_a_wider_margin_removes_less() -> None:
    near, far = (deface(Head().volume(), margin=margin).series[0].changed for margin in (2, 12))
    assert not (far & ~near).any()
    assert near.sum() > far.sum()


def test_noise_looks_like_the_air_around() -> None:
    head = Head(noise=20)
    volume = head.volume()
    (images,) = deface(volume, fill="noise").series
    drawn = np.asarray(images.values)[images.changed]
    air = volume.array[:, :5, :20]
    assert float(drawn.mean()) == pytest.approx(float(air.mean()), abs=2)
    assert float(drawn.std()) == pytest.approx(float(air.std()), rel=0.1)
    assert (np.asarray(images.values)[~images.changed] == volume.array[~images.changed]).all()


def test_a_preview_is_a_segmentation_of_the_source() -> None:
    result = deface(Head().volume(), preview=True)
    (segment,) = result.segments
    assert (segment.mask == result.series[0].changed).all()


def part(head: Head, first: int = 0, last: int | None = None) -> Volume:
    """Some slices of a head."""
    volume = head.volume()
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 0] * first
    return Volume(volume.array[first:last], affine, volume.headers)


@pytest.mark.parametrize("kind", ["CT", "T1"])
def test_a_field_of_view_that_ends_in_the_head_is_refused(kind: str) -> None:
    head = Head(kind=kind)
    with pytest.raises(PluginError, match="holds no face"):
        deface(part(head, 36))
    with pytest.raises(NoBrain):
        deface(part(head, 0, 40))


def test_a_slab_and_grains_are_refused() -> None:
    head = Head()
    with pytest.raises(NoBrain):
        deface(part(head, 10, 22))
    grains = np.random.default_rng(0).normal(300, 300, (40, 60, 60)).astype(np.int16)
    with pytest.raises(NoBrain):
        deface(Volume(grains, head.affine, head.volume().headers))


def test_what_is_defaced_already_is_refused() -> None:
    volume = Head().volume()
    volume.headers[0].RecognizableVisualFeatures = "NO"
    with pytest.raises(PluginError, match="says of itself"):
        deface(volume)


@pytest.mark.parametrize("folder", ["dental-cbct-sim", "ct-chest", "ct-abdomen-labelled"])
def test_other_parts_of_the_body_are_refused(data_folder: Path, folder: str) -> None:
    files = sorted(path for path in (data_folder / folder).glob("*.dcm") if "seg" not in path.name)
    with pytest.raises(NoBrain):
        deface(read([path.as_uri() for path in files]))


@pytest.fixture(scope="module")
def brain(data_folder: Path) -> Volume:
    """A real T1 at half its resolution in each direction, for speed."""
    files = sorted((data_folder / "mr-brain").glob("*.dcm"))
    whole = read([path.as_uri() for path in files])
    affine = whole.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    return Volume(whole.array[::2, ::2, ::2], affine, whole.headers)


def test_a_real_brain_stays_whole_and_a_face_before_it_goes(brain: Volume) -> None:
    """The face of this volunteer is gone; eyes, nose and chin are put back, where they lay."""
    index = np.stack(np.indices(brain.array.shape), axis=-1)
    x, y, z = np.moveaxis(index @ brain.affine[:3, :3].T + brain.affine[:3, 3], -1, 0)
    # of its cerebrum, what is bright within an ellipsoid well inside of the skull; places were read from pictures
    brain_voxels = ((x - 2) / 60) ** 2 + ((y + 5) / 78) ** 2 + ((z - 20) / 50) ** 2 < 1
    brain_voxels &= brain.array > 25
    nose = (x / 14) ** 2 + ((y + 115) / 20) ** 2 + ((z + 50) / 22) ** 2 < 1
    chin = (x / 34) ** 2 + ((y + 90) / 26) ** 2 + ((z + 110) / 34) ** 2 < 1
    eyes = ((abs(x) - 32) / 12) ** 2 + ((y + 88) / 12) ** 2 + ((z + 30) / 12) ** 2 < 1
    array = brain.array.copy()
    array[nose | chin | eyes] = 60
    (images,) = deface(Volume(array, brain.affine, brain.headers)).series
    assert brain_voxels.sum() > 100_000
    assert not (images.changed & brain_voxels).any()
    assert images.changed[nose | chin].all()
    assert images.changed[eyes].mean() > 0.9


def test_an_instance_says_what_became_of_it(tmp_path: Path) -> None:
    icon = Dataset()
    icon.Rows = 1
    changes = {**DEIDENTIFIED, "SeriesDescription": "Head native", "IconImageSequence": [icon], "BitsStored": 16}
    uris = Head().write(tmp_path, changes)
    (series,) = run(deface, uris).series
    sources = {str(one.SOPInstanceUID): one for one in (dcmread(uri.removeprefix("file://")) for uri in uris)}
    heights = []
    for uid, data in series.instances:
        made = dcmread(BytesIO(data))
        (reference,) = made.SourceImageSequence
        source = sources.pop(reference.ReferencedSOPInstanceUID)
        heights.append(float(made.ImagePositionPatient[2]))
        assert uid == made.SOPInstanceUID != source.SOPInstanceUID
        assert made.SeriesInstanceUID == series.series_uid
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "InstanceNumber", "KVP"):
            assert made.get(keyword) == source.get(keyword), keyword
        assert list(made.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert made.RecognizableVisualFeatures == "NO"
        assert made.DerivationCodeSequence[0].CodeValue == "113077"
        assert [item.CodeValue for item in made.DeidentificationMethodCodeSequence] == ["113102"]
        assert list(made.DeidentificationMethod) == ["Isthmus research", "deface 1.0.0"]
        assert made.SeriesDescription == "Head native defaced"
        assert "IconImageSequence" not in made
        differ = made.pixel_array != source.pixel_array
        assert (made.pixel_array[differ] < -950).all()
    assert sources == {}
    assert heights == sorted(heights)
