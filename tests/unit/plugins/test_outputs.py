"""What a run writes: SEG, SR and meshes, read back by others' readers."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
import pytest
import trimesh
from pydicom import Dataset, dcmread

from ray_plugins.execution import execute
from ray_plugins.outputs.mesh import Mesh, build
from ray_plugins.sdk import Accepts, Context, PluginError, Result, Segment, Surface, Volume, plugin
from ray_plugins.task import RunFailed, Task, TaskResult
from ray_plugins.testing import Phantom, only, validate

DEIDENTIFIED = {
    "PatientName": "ISTHMUS-3F9A",
    "PatientIdentityRemoved": "YES",
    "DeidentificationMethod": "Isthmus research",
    "LongitudinalTemporalInformationModified": "MODIFIED",
}


@plugin(name="two", title="Two", version="1.0.0", accepts=Accepts("CT"))
def two(volume: Volume, context: Context, encoding: str = "LABELMAP", overlap: bool = False) -> Result:
    """Finds two things and measures them."""
    bone, water = volume.array > 470, (volume.array > -200) & (volume.array < 470 + 1000 * overlap)
    return (
        Result()
        .segmentation([Segment("Bone", bone, color=(255, 0, 0)), Segment("Water", water, color=(0, 0, 255))], encoding)
        .measure("Volume", bone.sum() * volume.voxel_ml, "mL", segment="Bone")
        .measure("Volume", water.sum() * volume.voxel_ml, "mL", segment="Water")
        .measure("Noise", 12.345678, "[hnsf'U]")
        .mesh("Bone", bone, image=volume.array, level=470)
    )


def run(uris: tuple[str, ...], created: datetime | None = None, **parameters: object) -> TaskResult:
    return execute(Task("run", "two", parameters, uris, "seed", created), only(two), Context())


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    turn = np.deg2rad(20)
    return Phantom(marrow_mm=-5, row=(np.cos(turn), np.sin(turn), 0), column=(-np.sin(turn), np.cos(turn), 0))


@pytest.fixture(scope="module")
def uris(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return phantom.write(tmp_path_factory.mktemp("series"))


@pytest.fixture(scope="module")
def result(uris: tuple[str, ...]) -> TaskResult:
    return run(uris)


def objects(result: TaskResult) -> dict[str, Dataset]:
    return {item.kind: dcmread(BytesIO(item.data)) for item in result.objects}


@pytest.mark.parametrize("encoding", ["LABELMAP", "BINARY"])
def test_a_seg_holds_the_masks_where_they_were(uris, phantom: Phantom, encoding: str) -> None:
    seg = highdicom.seg.segread(BytesIO(run(uris, encoding=encoding).objects[0].data))
    assert seg.segmentation_type.value == encoding
    found = seg.get_volume(combine_segments=False, segment_numbers=[1, 2])
    truth = phantom.array()
    for number, mask in enumerate([truth > 470, (truth > -200) & (truth < 470)]):
        indices = np.argwhere(found.array[..., number] > 0)
        places = indices @ found.affine[:3, :3].T + found.affine[:3, 3]
        expected = np.argwhere(mask) @ phantom.affine[:3, :3].T + phantom.affine[:3, 3]
        assert len(places) == len(expected)
        assert np.sort(places, axis=0) == pytest.approx(np.sort(expected, axis=0), abs=1e-2)


def test_a_labelmap_describes_no_background(result: TaskResult) -> None:
    seg = objects(result)["seg"]
    assert seg.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
    assert seg.file_meta.TransferSyntaxUID.name == "RLE Lossless"
    assert [item.SegmentNumber for item in seg.SegmentSequence] == [1, 2]
    lightness, a, b = seg.SegmentSequence[0].RecommendedDisplayCIELabValue
    assert (lightness / 65535 * 100, a / 65535 * 255 - 128, b / 65535 * 255 - 128) == pytest.approx((53, 80, 67), abs=1)


def test_overlapping_segments_need_binary(uris) -> None:
    with pytest.raises(RunFailed, match=r'^Segment "Water" overlaps another: a LABELMAP cannot'):
        run(uris, overlap=True)
    both = run(uris, overlap=True, encoding="BINARY")
    assert validate(both.objects[0].data) == []


def test_the_report_refers_to_the_segments(result: TaskResult, uris) -> None:
    report = highdicom.sr.srread(BytesIO(run(uris, encoding="BINARY").objects[1].data))
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["Bone", "Water"]
    references = [group.referenced_segment[0].ReferencedSOPSequence[0] for group in groups]
    assert [item.ReferencedSegmentNumber for item in references] == [1, 2]
    assert {item.ReferencedSOPInstanceUID for item in references} == {objects(result)["seg"].SOPInstanceUID}
    values = {row["name"]: row for row in result.measurements}
    assert values["Bone: Surface area"]["unit"] == "cm2"
    assert values["Noise"]["value"] == 12.35
    volume = groups[0].get_measurements()[0]
    assert volume.value == pytest.approx(values["Bone: Volume"]["value"], rel=1e-3)
    assert volume.unit.value == "mL"


def test_a_deidentified_source_gives_its_own_dates_and_nothing_newer(tmp_path: Path) -> None:
    uris = Phantom().write(tmp_path, {**DEIDENTIFIED, "SeriesDate": "20130102", "SeriesTime": "030405"})
    now = datetime.now(UTC)
    made = run(uris, created=now)
    for item in objects(made).values():
        assert (item.ContentDate, item.ContentTime, item.SeriesDate) == ("20130102", "030405", "20130102")
        assert {keyword: item.get(keyword) for keyword in DEIDENTIFIED} == DEIDENTIFIED
    for item in made.objects:
        assert now.strftime("%Y%m%d").encode() not in item.data
    assert now.strftime("%Y") not in made.meshes[0].x3d.decode().partition("<Shape>")[0]


def test_another_source_gives_the_time_of_the_request(uris) -> None:
    created = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    for item in objects(run(uris, created=created)).values():
        assert (item.ContentDate, item.ContentTime) == ("20240506", "070809")
        assert item.StudyDate == "20200102"


def test_a_source_without_dates_gets_one_that_is_none(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"), "")
    made = run(Phantom().write(tmp_path, {**DEIDENTIFIED, **nothing}), created=datetime.now(UTC))
    assert {item.ContentDate for item in objects(made).values()} == {"19000101"}
    assert [validate(item.data) for item in made.objects[:1]] == [[]]


def test_a_source_with_the_least_of_attributes_will_do(tmp_path: Path) -> None:
    changes = {"PatientBirthDate": "", "SeriesNumber": None, "StudyID": "", "FrameOfReferenceUID": "2.25.77"}
    made = objects(run(Phantom().write(tmp_path, changes)))
    assert made["seg"].FrameOfReferenceUID == "2.25.77"
    assert made["seg"].SeriesDescription == "Two of series ?"


def test_uids_follow_from_the_seed(result: TaskResult, uris) -> None:
    other = execute(Task("run", "two", {}, uris, "another seed"), only(two), Context())
    uids = [{item.instance_uid for item in made.objects} for made in (result, other)]
    assert not uids[0] & uids[1]
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids[0] | uids[1])


def test_the_three_encodings_of_a_mesh_are_one_watertight_surface(result: TaskResult, phantom: Phantom) -> None:
    files = result.meshes[0]
    stl = trimesh.load(BytesIO(files.stl), file_type="stl")
    assert stl.is_watertight
    assert stl.is_winding_consistent
    assert stl.volume / 1000 == pytest.approx(phantom.bone_ml, rel=0.04)
    assert len(stl.faces) == files.triangles
    assert stl.bounds.ravel() == pytest.approx(files.bounds_mm, abs=1e-3)

    scene = trimesh.load(BytesIO(files.glb), file_type="glb")
    low, high = scene.bounds * 1000

    x0, y0, z0, x1, y1, z1 = files.bounds_mm  # glTF: y is up (z), z is front (-y)
    assert [*low, *high] == pytest.approx([x0, z0, -y1, x1, z1, -y0], abs=1e-2)

    root = ElementTree.fromstring(files.x3d)
    point = np.array(root.find(".//Coordinate").get("point").split(), float).reshape(-1, 3)
    index = np.array(root.find(".//IndexedTriangleSet").get("index").split(), int).reshape(-1, 3)
    normal = np.array(root.find(".//Normal").get("vector").split(), float).reshape(-1, 3)
    mesh = Mesh(point, index)
    assert mesh.is_watertight
    assert mesh.volume_ml == pytest.approx(phantom.bone_ml, rel=0.04)
    outward = point - phantom.bone_center_mm
    assert (np.einsum("ij,ij->i", normal, outward) > 0).mean() > 0.99
    assert root.get("version") == "4.0"


def test_an_x3d_frames_the_model_from_the_front_and_tells_no_identity(result: TaskResult) -> None:
    text = result.meshes[0].x3d.decode()
    root = ElementTree.fromstring(text)
    view = root.find(".//Viewpoint")
    x, y, z = map(float, view.get("position").split())
    low, high = np.reshape(result.meshes[0].bounds_mm, (2, 3))
    center = (low + high) / 2
    assert root.find(".//Transform").get("rotation") == "1 0 0 1.570796"  # of the camera: left, head, front
    assert root.find("./Scene/Shape") is not None
    assert (x, y) == pytest.approx((center[0], center[2]), abs=0.1)
    assert z > -low[1]
    assert view.get("orientation") is None
    assert "PHANTOM" not in text.upper()
    assert "millimetre" in root.find(".//WorldInfo").get("info")


def test_sheets_that_touch_stay_closed() -> None:
    mask = np.zeros((12, 12, 12), bool)
    mask[2:6, 2:6, 2:6] = mask[6:10, 6:10, 6:10] = True  # two cubes that share a corner
    mask[2:6, 6:10, 6:8] = True  # and one that shares an edge
    volume = Volume(mask.astype(np.int16), np.diag([4.0, 1, 1, 1]))
    for smooth in (0, 10):
        assert build(Surface("cubes", mask, smooth=smooth, triangles=100), volume).is_watertight


def test_an_empty_or_misshapen_mask_is_refused() -> None:
    volume = Volume(np.zeros((4, 4, 4), np.int16), np.eye(4))
    with pytest.raises(PluginError, match="the mask is empty"):
        build(Surface("nothing", volume.array > 0), volume)
    with pytest.raises(PluginError, match="another shape"):
        build(Surface("other", np.ones((2, 2, 2), bool)), volume)
