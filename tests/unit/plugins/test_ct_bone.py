"""The bone plugin on phantoms of known content, in whatever orientation, and on a real CT."""

from __future__ import annotations

import dataclasses
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from pydicom import dcmread

from ray_plugins.array import backend
from ray_plugins.builtin.ct_bone import ct_bone, segment
from ray_plugins.outputs.mesh import build
from ray_plugins.sdk import ParameterError, PluginError, Volume
from ray_plugins.testing import Phantom, PluginContract, run

#: The level half-way between water and bone lies on the bone's true edge.
HALF_WAY = {"low": 470, "high": 600}
TURN = np.deg2rad(25)
PHANTOMS = {
    "transverse": Phantom(),
    "thick slices": Phantom(shape=(20, 64, 64), spacing_mm=(4.0, 1.5, 1.5)),
    "oblong pixels": Phantom(shape=(40, 48, 80), spacing_mm=(2.0, 2.0, 1.2)),
    "feet first": Phantom(column=(0, -1, 0)),
    "prone": Phantom(row=(-1, 0, 0), column=(0, -1, 0)),
    "coronal": Phantom(shape=(48, 60, 64), spacing_mm=(2.0, 1.4, 1.5), column=(0, 0, -1)),
    "oblique": Phantom(row=(np.cos(TURN), np.sin(TURN), 0), column=(-np.sin(TURN), np.cos(TURN), 0)),
}


class TestContract(PluginContract):
    plugin = ct_bone
    parameters: ClassVar = {"quality": "preview"}


class TestContractBinary(PluginContract):
    plugin = ct_bone
    parameters: ClassVar = {"quality": "preview", "encoding": "BINARY"}


class TestContractDeidentified(PluginContract):
    """The source has a pseudonym, dates of long ago, and next to nothing else."""

    plugin = ct_bone
    parameters: ClassVar = {"quality": "preview"}

    def series(self, folder: Path) -> tuple[str, ...]:
        changes = {
            "PatientName": "ISTHMUS-3F9A",
            "PatientID": "ISTHMUS-3F9A",
            "PatientIdentityRemoved": "YES",
            "DeidentificationMethod": "Isthmus research",
            "LongitudinalTemporalInformationModified": "MODIFIED",
            "StudyDate": "20130102",
            "SeriesDate": "20130102",
            "StudyID": "",
        }
        return Phantom().write(folder, changes)


@pytest.mark.parametrize("phantom", PHANTOMS.values(), ids=PHANTOMS)
def test_volume_place_and_surface_are_those_of_the_bone(phantom: Phantom) -> None:
    volume = phantom.volume()
    result = ct_bone(volume, quality="full", **HALF_WAY)
    mask = result.segments[0].mask
    center = (volume.affine @ [*np.mean(np.nonzero(mask), axis=1), 1])[:3]
    assert mask.sum() * volume.voxel_ml == pytest.approx(phantom.bone_ml, rel=0.04)
    assert center == pytest.approx(phantom.bone_center_mm, abs=0.4)
    assert {item.name: item.value for item in result.measurements}["Components"] == 1

    mesh = build(result.surfaces[0], volume)
    assert mesh.is_watertight
    assert mesh.volume_ml == pytest.approx(phantom.bone_ml, rel=0.04)
    assert mesh.area_cm2 == pytest.approx(4 * np.pi * phantom.radius_mm**2 / 100, rel=0.04)
    reach = np.array([-phantom.radius_mm, phantom.radius_mm])[:, None] + phantom.bone_center_mm
    assert mesh.bounds_mm == pytest.approx(reach.ravel(), abs=phantom.spacing_mm[0] * 0.7)


def test_a_bone_cut_by_the_volume_has_a_closed_surface() -> None:
    phantom = Phantom(bone_mm=(8.0, -5.0, 40.0), marrow_mm=-5.0)
    result = ct_bone(phantom.volume(), quality="preview", **HALF_WAY)
    mesh = build(result.surfaces[0], phantom.volume())
    assert mesh.is_watertight
    assert mesh.volume_ml == pytest.approx(phantom.bone_ml / 2, rel=0.04)
    corners = np.array([(-1, -1, -1), phantom.shape])
    reach = np.sort((phantom.affine[:3, :3] @ corners.T).T + phantom.affine[:3, 3], axis=0)
    assert (reach[0] <= mesh.bounds_mm[:3]).all()
    assert (reach[1] >= mesh.bounds_mm[3:]).all()


def test_the_table_and_the_vessel_are_no_bone() -> None:
    phantom = Phantom()
    mask = ct_bone(phantom.volume()).segments[0].mask
    points = np.argwhere(mask) @ phantom.affine[:3, :3].T + phantom.affine[:3, 3]
    distance = np.linalg.norm(points - phantom.bone_center_mm, axis=1)
    assert distance.max() < phantom.radius_mm + 3


def test_nothing_found_is_one_sentence() -> None:
    water = Volume(np.full((12, 32, 32), 40, np.int16), np.diag([2.0, 1, 1, 1]))
    with pytest.raises(PluginError, match=r"^No bone was found with these thresholds\.$"):
        ct_bone(water)
    with pytest.raises(PluginError, match="No bone"):
        ct_bone(dataclasses.replace(water, array=np.full((12, 32, 32), -1000, np.int16)))


def test_thresholds_must_be_ordered() -> None:
    with pytest.raises(ParameterError, match=r"^high must not be below low\.$"):
        ct_bone.validate({"low": 400, "high": 300})


def test_a_gpu_gives_the_same_mask() -> None:
    """On a machine without one, the two are the same code; benchmarks/gpu_ct_bone.py compares them on a GPU."""
    phantom = Phantom()
    chosen, host = (segment(phantom.array(), phantom.spacing_mm, backend(device)) for device in ("auto", "cpu"))
    assert np.array_equal(chosen.mask, host.mask)
    assert chosen.components == host.components == 1


@pytest.mark.parametrize(("name", "expected_ml"), [("ct-bone", (1400, 1650)), ("ct-abdomen-labelled", (130, 260))])
def test_real_series(data_folder: Path, name: str, expected_ml: tuple[float, float]) -> None:
    uris = tuple(path.as_uri() for path in sorted((data_folder / name).glob("*.dcm")))
    result = run(ct_bone, uris, quality="preview")
    volume_ml = {row["name"]: row["value"] for row in result.measurements}["Bone: Volume"]
    assert expected_ml[0] < volume_ml < expected_ml[1]
    source = dcmread(uris[0].removeprefix("file://"), stop_before_pixels=True)
    for item in result.objects:
        made = dcmread(BytesIO(item.data))
        assert made.StudyInstanceUID == source.StudyInstanceUID
        assert made.get("LongitudinalTemporalInformationModified") == source.get(
            "LongitudinalTemporalInformationModified"
        )
    assert result.meshes[0].triangles <= 60_000
