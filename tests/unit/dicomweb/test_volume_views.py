"""Views of volumes against patient coordinates: nothing mirrored, nothing moved, projections as by brute force."""

import numpy as np
import pytest
from scipy import ndimage

from dicomweb.errors import BadRequest
from dicomweb.rendering.options import Options, Window
from dicomweb.volumetric import reslice as volume_reslice
from dicomweb.volumetric.camera import camera
from dicomweb.volumetric.compositing import compose, project
from dicomweb.volumetric.cubic import cubic
from dicomweb.volumetric.options import Animation, Reformatting, View, VolumeOptions
from dicomweb.volumetric.pictures import cameras_of, response_module
from dicomweb.volumetric.reslice import reslice
from dicomweb.volumetric.screen import around
from dicomweb.volumetric.shading import transfer
from dicomweb.volumetric.volume import Volume

# For each orientation: which way (in LPS) the picture's right and its top point.
SEEN = {
    "a": ((1, 0, 0), (0, 0, 1)),
    "p": ((-1, 0, 0), (0, 0, 1)),
    "r": ((0, -1, 0), (0, 0, 1)),
    "l": ((0, 1, 0), (0, 0, 1)),
    "h": ((-1, 0, 0), (0, -1, 0)),
    "f": ((1, 0, 0), (0, -1, 0)),
}


def rotation(degrees_x, degrees_z) -> np.ndarray:
    x, z = np.radians([degrees_x, degrees_z])
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return about_x @ about_z


def phantom(axes=None, *, tilt=0.0, spacing=(3.0, 1.0, 1.25), is_ct=True) -> tuple[Volume, np.ndarray]:
    """Air with one bright ball off the middle; also where the ball is, in mm.

    `axes` are columns slice, row, column direction in LPS; `tilt` moves each slice along the rows by so many mm.
    """
    shape = np.array([20, 48, 40])
    axes = np.stack([[0, 0, 1], [0, 1, 0], [1, 0, 0]], axis=1) if axes is None else axes
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(spacing)
    affine[:3, 0] += axes[:, 1] * tilt
    affine[:3, 3] = [-17.0, 31.0, 250.0]
    ball = affine[:3, :3] @ (shape * [0.75, 0.3, 0.7]) + affine[:3, 3]
    index = np.indices(shape).reshape(3, -1)
    places = affine[:3, :3] @ index + affine[:3, 3:]
    distance = np.linalg.norm(places - ball[:, None], axis=0).reshape(shape)
    values = np.clip((5.0 - distance) * 400 + 200, -1000, 1000)
    return Volume(values.astype(np.int16), affine, Window(0, 2000), is_ct=is_ct), ball


def seen_at(picture, screen, cam) -> np.ndarray:
    """Where the bright spot of a picture lies: mm to the right of and below the point looked at."""
    gray = np.nan_to_num(picture if picture.ndim == 2 else picture.sum(axis=2), nan=-1e4)
    weight = np.clip(gray - (0.5 * gray.max() if picture.ndim == 3 else 0), 0, None)
    rows, columns = ndimage.center_of_mass(weight)
    return np.array([screen.left + columns * screen.pixel_mm, screen.top + rows * screen.pixel_mm])


OBLIQUE = [
    View(position=(300.0, -400.0, 500.0)),
    View(position=(-100.0, 50.0, 900.0), up=(1.0, 0.2, 0.0)),
    View(position=(10.0, 400.0, 100.0), look_at=(0.0, 30.0, 260.0)),
]
ALL_VIEWS = [*(View(letter) for letter in SEEN), *OBLIQUE]
AXES = {
    "axial": None,
    "sagittal": np.stack([[1, 0, 0], [0, 0, -1], [0, 1, 0]], axis=1),
    "coronal from the back": np.stack([[0, -1, 0], [0, 0, -1], [1, 0, 0]], axis=1),
    "oblique": rotation(20, 35),
}


class TestCamera:
    @pytest.mark.parametrize("letter", SEEN)
    def test_orientations_are_those_of_the_standard(self, letter):
        cam = camera(View(letter), np.array([5.0, 6.0, 7.0]), 100.0)
        right, top = SEEN[letter]
        assert np.allclose(cam.right, right)
        assert np.allclose(cam.up, top)
        assert np.allclose(cam.look_at, [5, 6, 7])
        assert np.allclose(cam.position + 100 * cam.forward, cam.look_at)

    def test_defaults(self):
        cam = camera(View(), np.zeros(3), 10.0)
        assert np.allclose(cam.forward, [0, 1, 0])
        from_above = camera(View(position=(0, 0, 50)), np.zeros(3), 10.0)
        assert np.allclose(from_above.up, [0, -1, 0])

    def test_up_is_made_perpendicular(self):
        cam = camera(View(position=(0, -10, 0), up=(0, 0.9, 0.1)), np.zeros(3), 1.0)
        assert np.allclose(cam.up, [0, 0, 1])

    @pytest.mark.parametrize("view", [View(position=(1, 2, 3)), View(position=(1, 2, 9), up=(0, 0, 1))])
    def test_impossible_cameras(self, view):
        with pytest.raises(BadRequest):
            camera(view, np.array([1.0, 2.0, 3.0]), 1.0)

    def test_turning_brings_the_patient_s_right_to_the_front(self):
        cam = camera(View("a"), np.zeros(3), 10.0)
        assert np.allclose(cam.turned(360).forward, cam.forward)
        assert np.allclose(cam.turned(90).forward, [1, 0, 0])  # seen from the right: the near side went to the right
        assert np.allclose(cam.turned(90).position, [-10, 0, 0])


class TestReslice:
    @pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
    @pytest.mark.parametrize("tilt", [0.0, 0.8])
    def test_the_ball_lies_where_it_is(self, axes, tilt):
        volume, ball = phantom(axes, tilt=tilt)
        for view in ALL_VIEWS:
            first = camera(view, volume.center_mm, 1.0)
            cam = first.moved(ball)
            screen = around(volume.corners_mm, [cam], float(volume.spacing_mm.min()))
            picture = reslice(volume, cam, screen, "AVERAGE_IP", None)
            assert np.allclose(seen_at(picture, screen, cam), 0, atol=0.6), view

    @pytest.mark.parametrize("number", [0, 7, 19])
    def test_a_plane_of_the_images_is_that_image(self, number):
        volume, _ = phantom(spacing=(3.0, 1.0, 1.0))
        look_at = volume.affine[:3, :3] @ [number, 24, 20] + volume.affine[:3, 3]
        cam = camera(View("f"), look_at, 10.0)
        screen = around(volume.corners_mm, [cam], 1.0)
        picture = reslice(volume, cam, screen, "AVERAGE_IP", None)
        assert picture.shape == volume.array.shape[1:]
        assert np.array_equal(np.rint(picture), volume.array[number])
        above = camera(View("h"), look_at, 10.0)
        from_above = reslice(volume, above, around(volume.corners_mm, [above], 1.0), "AVERAGE_IP", None)
        assert np.allclose(from_above, picture[:, ::-1], atol=1e-3)

    def test_slabs(self):
        volume, ball = phantom(spacing=(2.0, 2.0, 2.0))
        cam = camera(View("f"), ball, 10.0)
        screen = around(volume.corners_mm, [cam], 2.0)
        thin = reslice(volume, cam, screen, "MAXIMUM_IP", None)
        inside = volume.array[11:20].astype(float)  # 15 is the slice of the ball
        most, least, mean = (
            reslice(volume, cam, screen, f"{name}_IP", 18.0) for name in ("MAXIMUM", "MINIMUM", "AVERAGE")
        )
        assert np.allclose(most, inside.max(axis=0), atol=1)
        assert np.allclose(least, inside.min(axis=0), atol=1)
        assert np.allclose(mean, inside.mean(axis=0), atol=1)
        assert (most >= thin - 1e-3).all()

    def test_slabs_of_an_animation_share_the_samples_of_one(self, monkeypatch):
        volume, ball = phantom(spacing=(2.0, 2.0, 2.0))
        cam = camera(View("f"), ball, 10.0)
        screen = around(volume.corners_mm, [cam], 2.0)
        looks = []
        monkeypatch.setattr("dicomweb.volumetric.reslice._MAX_SAMPLES", 16 * screen.rows * screen.columns)
        plane = volume_reslice._plane
        monkeypatch.setattr(volume_reslice, "_plane", lambda *given: looks.append(1) or plane(*given))
        for frames, expected in ((1, 16), (4, 4), (100, 2)):
            looks.clear()
            reslice(volume, cam, screen, "MAXIMUM_IP", 80.0, frames)
            assert len(looks) == expected

    def test_nothing_outside(self):
        volume, _ = phantom()
        cam = camera(View(look_at=(0.0, 5000.0, 0.0)), volume.center_mm, 10.0)
        screen = around(volume.corners_mm, [cam], 1.0)
        assert np.isnan(reslice(volume, cam, screen, "AVERAGE_IP", 5.0)).all()


class TestProjection:
    @pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
    @pytest.mark.parametrize("tilt", [0.0, 0.8])
    @pytest.mark.parametrize("is_ct", [True, False])
    def test_the_ball_is_seen_where_it_is(self, axes, tilt, is_ct):
        volume, ball = phantom(axes, tilt=tilt, is_ct=is_ct)
        grid = cubic(volume, 400_000)
        look = transfer(grid, is_ct=is_ct, window=None)
        for view in ALL_VIEWS:
            cam = camera(view, volume.center_mm, 1.0)
            screen = around(volume.corners_mm, [cam], grid.voxel_mm)
            expected = np.array([cam.right, -cam.up]) @ (ball - cam.look_at)
            for picture in (project(grid, cam, screen, "MAXIMUM_IP"), compose(grid, cam, screen, look)):
                assert picture.shape[:2] == (screen.rows, screen.columns)
                assert np.allclose(seen_at(picture, screen, cam), expected, atol=1.2), view

    @pytest.mark.parametrize("view", [View("a"), View("h"), View("l"), *OBLIQUE[:2]])
    def test_maximum_as_by_brute_force(self, view):
        rng = np.random.default_rng(3)
        array = ndimage.gaussian_filter(rng.normal(size=(24, 30, 36)), 2) * 4000
        volume = Volume(array.astype(np.float32), np.diag([1.2, 1.5, 2.0, 1.0])[:, [2, 1, 0, 3]])
        grid = cubic(volume, 10_000_000)
        cam = camera(view, volume.center_mm, 1.0)
        screen = around(volume.corners_mm, [cam], grid.voxel_mm)
        found = project(grid, cam, screen, "MAXIMUM_IP")
        rows, columns = np.mgrid[: screen.rows, : screen.columns]
        plane = (
            screen.origin(cam)[:, None]
            + cam.right[:, None] * (columns.ravel() * screen.pixel_mm)
            - cam.up[:, None] * (rows.ravel() * screen.pixel_mm)
        )
        inverse = np.linalg.inv(volume.affine[:3, :3])
        best = np.full(plane.shape[1], -np.inf)
        for depth in np.arange(-60, 60, 0.6):
            places = inverse @ (plane + cam.forward[:, None] * depth - volume.affine[:3, 3:])
            best = np.maximum(best, ndimage.map_coordinates(array, places, order=1, cval=-np.inf))
        expected = best.reshape(rows.shape)
        both = np.isfinite(expected) & np.isfinite(found)
        both = ndimage.binary_erosion(both, iterations=3)
        assert both.sum() > 300
        difference = np.abs(found - expected)[both]
        assert difference.mean() < 0.03 * np.ptp(array)
        assert np.corrcoef(found[both], expected[both])[0, 1] > 0.98

    def test_what_is_near_hides_what_is_far(self):
        volume, _ = phantom(spacing=(1.0, 1.0, 1.0))
        array = np.full((40, 40, 40), -1000, np.int16)
        array[10:30, 5:8, 10:30] = 1000  # a plate near the front
        array[15:25, 30:33, 15:25] = 1000
        hidden = Volume(array, volume.affine, is_ct=True)
        array = array.copy()
        array[15:25, 30:33, 15:25] = -1000
        alone = Volume(array, volume.affine, is_ct=True)
        pictures = []
        for one in (hidden, alone):
            grid = cubic(one, 100_000)
            cam = camera(View("a"), one.center_mm, 1.0)
            screen = around(one.corners_mm, [cam], grid.voxel_mm)
            pictures.append(compose(grid, cam, screen, transfer(grid, is_ct=True, window=None)).astype(int))
        assert np.abs(pictures[0][12:28, 12:28] - pictures[1][12:28, 12:28]).max() <= 12
        assert pictures[0].max() > 150

    def test_mean_and_minimum(self):
        volume = Volume(np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6), np.eye(4)[:, [2, 1, 0, 3]])
        grid = cubic(volume, 10_000)
        cam = camera(View("f"), volume.center_mm, 1.0)
        screen = around(volume.corners_mm, [cam], 1.0)
        mean, least = project(grid, cam, screen, "AVERAGE_IP"), project(grid, cam, screen, "MINIMUM_IP")
        assert np.allclose(mean[1:-1, 1:-1], volume.array.mean(axis=0)[1:-1, 1:-1], atol=0.01)
        assert np.allclose(least[1:-1, 1:-1], volume.array.min(axis=0)[1:-1, 1:-1], atol=0.01)


def test_a_volume_much_longer_than_wide_takes_no_more_memory():
    affine = np.diag([1.0, 1.0, 1.0, 1.0])[:, [2, 1, 0, 3]]
    affine[:3, 0] *= 1e6
    volume = Volume(np.full((2, 8, 8), 500, np.int16), affine, is_ct=True)
    grid = cubic(volume, 48_000_000)
    assert max(grid.array.shape) <= 1025
    cam = camera(View(position=(5e5, 5e5, 4e5)), volume.center_mm, 1.0)
    screen = around(volume.corners_mm, [cam], grid.voxel_mm)
    assert max(screen.rows, screen.columns) <= 2048
    assert project(grid, cam, screen, "MAXIMUM_IP").shape == (screen.rows, screen.columns)


class TestAnimation:
    def options(self, animation, reformatting=Reformatting.MPR, **view) -> VolumeOptions:
        return VolumeOptions(reformatting, "AVERAGE_IP", Options(), View(**view), animation=animation)

    def test_a_swivel_starts_at_the_view_and_goes_round(self):
        volume, _ = phantom()
        cameras = cameras_of(volume, self.options(Animation(4, 90.0, 10, swivel_deg=360.0)))
        assert [np.rint(cam.forward).astype(int).tolist() for cam in cameras] == [
            [0, 1, 0],
            [1, 0, 0],
            [0, -1, 0],
            [-1, 0, 0],
        ]

    def test_a_curve_is_cut_across(self):
        volume, _ = phantom()
        curve = ((0.0, 0.0, 0.0), (10.0, 0.0, 0.0), (10.0, 10.0, 0.0))
        cameras = cameras_of(volume, self.options(Animation(4, 5.0, 10, curve=curve)))
        assert [cam.look_at.tolist() for cam in cameras] == [[0, 0, 0], [5, 0, 0], [10, 0, 0], [10, 5, 0]]
        assert [cam.forward.tolist() for cam in cameras] == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]]
        kept = cameras_of(volume, self.options(Animation(2, 5.0, 10, curve=curve), orientation="h"))
        assert [cam.forward.tolist() for cam in kept] == [[0, 0, -1]] * 2

    def test_what_is_told(self):
        volume, _ = phantom()
        module = response_module(volume, self.options(Animation(4, 90.0, 10, swivel_deg=360.0)))
        assert list(module) == sorted(module)
        assert module["00701A06"] == {"vr": "FD", "Value": [360.0]}
        assert module["00281051"]["Value"] == [2000]
