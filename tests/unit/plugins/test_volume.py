"""Reading a series: sorted by geometry, rescaled, and refused where it is no grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from ray_plugins.sdk import PluginError
from ray_plugins.testing import Phantom
from ray_plugins.volume import UnusableSeries, read

SMALL = Phantom(shape=(8, 12, 10), spacing_mm=(3.0, 2.0, 1.5))


def paths(uris: tuple[str, ...]) -> list[Path]:
    """Files in the order of their slices: the name ends in the number."""
    return sorted((Path(uri.removeprefix("file://")) for uri in uris), key=lambda path: path.stem[-3:])


@pytest.mark.parametrize(
    "phantom",
    [SMALL, Phantom(shape=(8, 12, 10), row=(0, 1, 0), column=(0, 0, -1)), Phantom(shape=(8, 12, 10), row=(-1, 0, 0))],
)
def test_files_in_any_order_give_the_grid_they_came_from(phantom: Phantom, tmp_path: Path) -> None:
    volume = read(phantom.write(tmp_path))
    assert np.array_equal(volume.array, phantom.array())
    assert volume.array.dtype == np.int16
    assert volume.affine == pytest.approx(phantom.affine, abs=1e-3)
    assert volume.spacing_mm == pytest.approx(phantom.spacing_mm)
    assert [header.InstanceNumber for header in volume.headers] == list(range(1, 9))
    assert not any("PixelData" in header for header in volume.headers)


def test_rescaling_that_is_not_whole_gives_float(tmp_path: Path) -> None:
    volume = read(SMALL.write(tmp_path, {"RescaleSlope": 0.5, "RescaleIntercept": 10}))
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, SMALL.array() * np.float32(0.5) + 10)


def test_padding_below_int16_is_clipped_not_wrapped(tmp_path: Path) -> None:
    volume = read(SMALL.write(tmp_path, {"RescaleIntercept": -32000}))
    assert volume.array.min() == -32768


def change(path: Path, **values: object) -> None:
    dataset = dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"SeriesInstanceUID": "2.25.9"}, "The instances belong to more than one series."),
        ({"FrameOfReferenceUID": "2.25.9"}, "The slices do not share one frame of reference."),
        ({"ImageOrientationPatient": [0, 1, 0, -1, 0, 0]}, "instance 4 has another orientation than instance 1."),
        ({"PixelSpacing": [1, 1]}, "instance 4 has another pixel spacing than instance 1."),
        ({"Rows": 10, "Columns": 12}, "instance 4 has another size than instance 1."),
        ({"ImagePositionPatient": None}, "An image does not say where in the patient it lies"),
        ({"SamplesPerPixel": 3}, "The series has colour images."),
    ],
)
def test_a_slice_that_does_not_fit_is_named(values: dict[str, object], sentence: str, tmp_path: Path) -> None:
    uris = SMALL.write(tmp_path)
    change(paths(uris)[3], **values)
    ordered = tuple(path.as_uri() for path in paths(uris))
    with pytest.raises(UnusableSeries) as failure:
        read(ordered)
    assert str(failure.value).startswith(sentence)


def test_a_missing_slice_and_a_double_one_are_refused(tmp_path: Path) -> None:
    uris = paths(SMALL.write(tmp_path))
    with pytest.raises(UnusableSeries, match=r"6\.00 mm between instance 3 and instance 5, elsewhere 3\.00 mm"):
        read([path.as_uri() for path in uris if path != uris[3]])
    position = dcmread(uris[2]).ImagePositionPatient
    change(uris[3], ImagePositionPatient=position)
    with pytest.raises(UnusableSeries, match="Two slices lie at the same position"):
        read([path.as_uri() for path in uris])


def test_a_crooked_stack_is_refused_and_a_tilted_one_is_read(tmp_path: Path) -> None:
    uris = paths(SMALL.write(tmp_path))
    for number, path in enumerate(uris):
        x, y, z = dcmread(path).ImagePositionPatient
        change(path, ImagePositionPatient=[x, y + 0.5 * number, z])
    volume = read([path.as_uri() for path in uris])
    assert volume.affine[:3, 0] == pytest.approx([0, 0.5, 3])
    assert volume.voxel_ml == pytest.approx(3 * 2 * 1.5 / 1000)
    change(uris[4], ImagePositionPatient=[x + 5, y, float(dcmread(uris[4]).ImagePositionPatient[2])])
    with pytest.raises(UnusableSeries, match="do not lie on one line"):
        read([path.as_uri() for path in uris])


def test_what_is_no_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableSeries, match="holds no image"):
        read([])
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(b"no DICOM")
    with pytest.raises(UnusableSeries, match="is not DICOM"):
        read([junk.as_uri()])
    with pytest.raises(PluginError, match="cannot be fetched"):
        read([(tmp_path / "absent").as_uri()])
    with pytest.raises(PluginError, match="not http://"):
        read(["http://127.0.0.1/x"])
    with pytest.raises(UnusableSeries, match="One slice is no volume"):
        read(SMALL.write(tmp_path)[:1])


@pytest.mark.parametrize(
    ("name", "shape", "spacing_mm", "extremes"),
    [
        ("ct-bone", (99, 512, 512), (4.25, 0.9766, 0.9766), (-3024, 1288)),  # JPEG 2000, signed
        ("ct-chest", (100, 512, 512), (2.5, 0.8984, 0.8984), (-3024, 3071)),  # JPEG-LS, signed
        ("series-traps/shuffled-instance-numbers", (24, 24, 24), (2.0, 1.5, 1.5), (-1000, 400)),
        ("series-traps/gantry-tilt", (24, 24, 24), (2.0, 1.5, 1.5), (-1000, 400)),
    ],
)
def test_real_series(data_folder: Path, name: str, shape, spacing_mm, extremes) -> None:
    volume = read([path.as_uri() for path in sorted((data_folder / name).glob("*.dcm"))])
    assert volume.array.shape == shape
    assert volume.spacing_mm == pytest.approx(spacing_mm, abs=1e-3)
    assert (volume.array.min(), volume.array.max()) == extremes


def test_an_enhanced_multi_frame_series(data_folder: Path) -> None:
    files = sorted((data_folder / "enhanced-mf").glob("ect*.dcm"))
    volume = read([path.as_uri() for path in files])
    assert volume.array.shape == (2, 512, 512)
    assert len(volume.headers) == 1
