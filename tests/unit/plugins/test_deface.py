"""Defacing: of heads whose every part is known, in whatever orientation, and of what is no head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ray_plugins.array import backend
from ray_plugins.builtin.deface import deface, fillings, plan
from ray_plugins.builtin.head import Head as Brain
from ray_plugins.builtin.head import NoBrain, find
from ray_plugins.sdk import PluginError, Result, Volume
from ray_plugins.testing import PluginContract
from ray_plugins.volume import read
from tests.heads import Head

TURN = np.deg2rad(15)
HEADS = {
    "CT, its ears stay": (Head(), {"ears": False}),
    "CT, coronal, turned and nodding": (
        Head(shape=(84, 66, 80), spacing_mm=(3.0, 4.0, 2.5), column=(0, 0, -1), turn_deg=20, nod_deg=12),
        {"preview": True},
    ),
    "T2, sagittal and oblique": (
        Head(
            shape=(60, 100, 100), spacing_mm=(3.0, 2.5, 2.5), kind="T2", turn_deg=5,
            row=(-np.sin(TURN), np.cos(TURN), 0), column=(0, 0, -1),
        ),
        {},
    ),
}  # fmt: skip
CPU = backend("cpu")


Case = tuple[Head, Result, dict[str, bool]]


class TestContract(PluginContract):
    plugin = deface

    def series(self, folder: Path) -> tuple[str, ...]:
        return Head(shape=(44, 100, 80), spacing_mm=(6.0, 2.5, 2.5)).write(
            folder, {"PatientPosition": "HFS", "BodyPartExamined": "HEAD"}
        )


@pytest.fixture(scope="module", params=HEADS)
def case(request: pytest.FixtureRequest) -> Case:
    """A head, what became of it, and what was asked for."""
    head, parameters = HEADS[request.param]
    return head, deface(head.volume(), **parameters), parameters


def test_the_face_goes_and_the_brain_stays(case: Case) -> None:
    head, result, asked = case
    (images,) = result.series
    gone = {part: float(images.changed[getattr(head, part)].mean()) for part in ("nose", "chin", "eyes", "ears")}
    assert gone["nose"] == gone["chin"] == 1
    assert gone["eyes"] > 0.7  # their backs touch the brain of the phantom
    assert not (images.changed & head.brain).any()
    assert gone["ears"] > 0.95 if asked.get("ears", True) else gone["ears"] == 0
    assert images.defaced is asked.get("ears", True), "who keeps ears can be recognized"


def test_a_mask_of_what_was_removed_shows_no_profile(case: Case) -> None:
    head, result, _ = case
    changed = result.series[0].changed
    air = head.array() < (-500 if head.kind == "CT" else 60)
    in_front = changed & (head.points[1] < -70) & (head.points[2] < -50)
    assert (in_front & air).any()
    assert (in_front & ~air).any()
    assert in_front[(head.points[1] < -80) & (head.points[2] < -60) & (head.points[2] > -120)].all()


@pytest.fixture(scope="module")
def found() -> tuple[Volume, Brain]:
    """A CT, noisy as it is, and its brain."""
    volume = Head(noise=20).volume()
    return volume, find(volume, "CT", CPU)


def test_a_wider_margin_removes_less(found: tuple[Volume, Brain]) -> None:
    volume, brain = found
    near, far = (plan(brain, CPU, margin_mm=mm).mask(volume.array.shape, volume.affine) for mm in (2, 12))
    assert not (far & ~near).any()
    assert near.sum() > far.sum()


@pytest.mark.parametrize("padded", [False, True])
def test_noise_looks_like_the_air_around(found: tuple[Volume, Brain], padded: bool) -> None:
    volume, brain = found
    removed = plan(brain, CPU).mask(volume.array.shape, volume.affine)
    array = volume.array.copy()
    if padded:  # most of what lies before a face, in a round field of view
        array[removed & (array < -900) & (np.arange(array.shape[2]) % 4 > 0)] = -3024
    values, tissue_ml = fillings(Volume(array, volume.affine), removed, brain, "noise")
    drawn = np.asarray(values)[removed]
    air = volume.array[:, :5, :20]
    assert float(drawn.mean()) == pytest.approx(float(air.mean()), abs=2)
    assert float(drawn.std()) == pytest.approx(float(air.std()), rel=0.1)
    assert (np.asarray(values)[~removed] == array[~removed]).all()
    assert fillings(Volume(array, volume.affine), removed, brain, "air") == (
        pytest.approx(float(air.mean()), abs=2),
        tissue_ml,
    )
    assert tissue_ml == pytest.approx((volume.array[removed] > -300).sum() * volume.voxel_ml)


def test_a_preview_is_a_segmentation_of_the_source(case: Case) -> None:
    _, result, asked = case
    assert len(result.segments) == bool(asked.get("preview"))
    assert all((segment.mask == result.series[0].changed).all() for segment in result.segments)


def part(head: Head, first: int = 0, last: int | None = None) -> Volume:
    """Some slices of a head."""
    volume = head.volume()
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 0] * first
    return Volume(volume.array[first:last], affine, volume.headers)


def test_a_field_of_view_that_ends_below_the_vertex_is_refused() -> None:
    with pytest.raises(NoBrain):
        deface(part(Head(kind="T1"), 14, 40))


def test_a_field_of_view_that_ends_above_the_face_is_refused() -> None:
    with pytest.raises(PluginError, match="holds no face"):
        deface(part(Head(), 36))


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
        deface(read([path.as_uri() for path in files[:: 1 + len(files) // 100]]))


@pytest.fixture(scope="module")
def brain(data_folder: Path) -> Volume:
    """A real T1 at half its resolution in each direction, for speed."""
    files = sorted((data_folder / "mr-brain").glob("*.dcm"))
    read_ones = read([path.as_uri() for path in files[::2]])
    affine = read_ones.affine @ np.diag([1.0, 2.0, 2.0, 1.0])
    return Volume(read_ones.array[:, ::2, ::2], affine, read_ones.headers)


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
