"""What is put into pictures beside pixels: square pixels, overlays, text, ICC profiles; and how they are encoded."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageSequence
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomweb.errors import BadRequest
from dicomweb.rendering.annotation import burn_in, corners
from dicomweb.rendering.options import Options, Viewport, Window
from dicomweb.rendering.overlays import graphics
from dicomweb.rendering.render import display, pixel_aspect, render
from dicomweb.rendering.renderer import color_profiles, encoders, frame_ms
from tests.samples import ct

WINDOW = Window(127.5, 255, "LINEAR_EXACT")


def header(**attributes) -> Dataset:
    ds = Dataset()
    ds.Rows = ds.Columns = 8
    ds.BitsAllocated = ds.BitsStored = 8
    ds.PixelRepresentation = 0
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def shown(pixels, ds, media_type="image/png", photometric="MONOCHROME2", **options) -> Image.Image:
    chosen = Options(window=WINDOW, **options)
    image = Image.open(io.BytesIO(render(display(pixels, photometric, ds, 1, WINDOW), ds, 1, chosen, media_type)))
    image.load()
    return image


GRAY = np.arange(64, dtype=np.uint8).reshape(8, 8)


class TestAspect:
    @pytest.mark.parametrize(
        ("attributes", "expected"),
        [
            ({}, 1.0),
            ({"PixelSpacing": [2, 1]}, 2.0),
            ({"ImagerPixelSpacing": [1, 2]}, 0.5),
            ({"PixelAspectRatio": [1, 2], "PixelSpacing": [1, 1]}, 0.5),
            ({"PixelSpacing": [0, 1]}, 1.0),
            ({"PixelSpacing": [1, 1.0001]}, 1.0),
            ({"PixelSpacing": [1e9, 1]}, 1.0),
        ],
    )
    def test_where_it_is_from(self, attributes, expected):
        assert pixel_aspect(header(**attributes), 1) == expected

    def test_it_shows_in_a_viewport_only(self):
        ds = header(PixelSpacing=[2, 1])
        assert shown(GRAY, ds).size == (8, 8)
        assert shown(GRAY, ds, viewport=Viewport(64, 64)).size == (32, 64)
        assert shown(GRAY, ds, viewport=Viewport(64, 64, 0, 0, 8, 2)).size == (64, 32)


class TestOverlays:
    def overlay(self, kind="G", origin=(1, 1), frames=None, first=None) -> Dataset:
        bits = np.zeros((4, 4), np.uint8)
        bits[0] = 1
        ds = header()
        ds.add_new(0x60000010, "US", 4)
        ds.add_new(0x60000011, "US", 4)
        ds.add_new(0x60000040, "CS", kind)
        ds.add_new(0x60000050, "SS", list(origin))
        ds.add_new(0x60000100, "US", 1)
        ds.add_new(0x60003000, "OW", np.packbits(bits, bitorder="little").tobytes())
        if frames:
            ds.add_new(0x60000015, "IS", frames)
            ds.add_new(0x60000051, "US", first)
        return ds

    def test_they_lie_where_they_say(self):
        mask = graphics(self.overlay(origin=(3, 2)), 1, (8, 8))
        assert np.argwhere(mask).tolist() == [[2, 1], [2, 2], [2, 3], [2, 4]]

    def test_they_may_reach_beyond_the_image(self):
        assert graphics(self.overlay(origin=(1, 7)), 1, (8, 8)).sum() == 2
        assert graphics(self.overlay(origin=(1, -1)), 1, (8, 8)).sum() == 2
        assert graphics(self.overlay(origin=(90, 90)), 1, (8, 8)).sum() == 0

    def test_regions_and_other_frames_are_left_out(self):
        assert graphics(self.overlay(kind="R"), 1, (8, 8)).sum() == 0
        assert graphics(self.overlay(frames=1, first=2), 1, (8, 8)).sum() == 0
        assert graphics(self.overlay(frames=1, first=2), 2, (8, 8)).sum() == 4
        assert graphics(header(), 1, (8, 8)) is None

    def test_they_are_drawn_but_not_in_thumbnails(self):
        picture = np.asarray(shown(GRAY, self.overlay()))
        assert (picture[0, :4] == 255).all()
        assert np.array_equal(np.asarray(shown(GRAY, self.overlay(), overlays=False)), GRAY)


class TestAnnotation:
    def test_what_is_written(self):
        patient, procedure, plane = corners(ct(), 1, ["patient", "technique"])
        assert patient == ["Quixote Alonso", "MRN-4711", "1950-01-02 M"]
        assert procedure == ["2021-03-04 10:11", "CT ABDOMEN", "AXIAL 5.0", "CT Series 2 Image 1"]
        assert plane[0] == "Position 0.0 0.0 0.0 mm"
        assert corners(ct(), 1, ["technique"])[0] == []
        assert corners(ct(), 1, ["patient"])[1:] == ([], [])

    def test_nothing_is_written_of_nothing(self):
        assert corners(Dataset(), 1, ["patient", "technique"]) == ([], [], [])

    def test_it_is_drawn_in_the_corners_alone(self):
        before = Image.new("L", (400, 300), 90)
        after = np.asarray(burn_in(before, (["AAA"], ["BBB"], ["CCC"])))
        changed = after != 90
        assert changed[:40, :60].any()
        assert changed[:40, -60:].any()
        assert changed[-40:, :60].any()
        assert not changed[100:200].any()
        assert not changed[-40:, -60:].any()
        assert after.max() > 200

    def test_it_comes_after_the_scaling(self):
        plain = np.asarray(shown(GRAY, ct(), viewport=Viewport(512, 512)))
        written = np.asarray(shown(GRAY, ct(), viewport=Viewport(512, 512), annotation=("patient",)))
        assert plain.shape == written.shape
        assert (plain[256:] == written[256:]).all()
        assert (plain != written).any()


class TestProfiles:
    RAMPS = np.meshgrid(np.arange(0, 256, 36), np.arange(0, 256, 36))
    RGB = np.stack([*RAMPS, np.full((8, 8), 99)], axis=-1).astype(np.uint8)

    def described(self, image) -> str:
        return ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"])).profile.profile_description

    @pytest.mark.parametrize("media_type", ["image/jpeg", "image/png"])
    def test_embedded_where_asked_for(self, media_type):
        assert "icc_profile" not in shown(GRAY, header(), media_type).info
        assert "icc_profile" not in shown(GRAY, header(), media_type, icc_profile="no").info
        assert "sRGB" in self.described(shown(GRAY, header(), media_type, icc_profile="yes"))
        assert "Adobe" in self.described(shown(GRAY, header(), media_type, icc_profile="adobergb"))

    @pytest.mark.parametrize("name", ["srgb", "adobergb", "rommrgb"])
    def test_profiles_do_not_tell_when_they_were_made(self, name):
        """Else pictures with the same ETag would differ from worker to worker."""
        profile = ImageCms.ImageCmsProfile(io.BytesIO(color_profiles.standard(name))).profile
        assert profile.creation_date.year == 2001

    def test_the_object_s_own_profile_stays(self):
        own = color_profiles.standard("adobergb")
        ds = header(ICCProfile=own)
        assert shown(self.RGB, ds, photometric="RGB", icc_profile="yes").info["icc_profile"] == own
        path = Dataset()
        path.OpticalPathIdentifier, path.ICCProfile = "1", own
        ds = header(OpticalPathSequence=Sequence([path]))
        assert shown(self.RGB, ds, photometric="RGB", icc_profile="yes").info["icc_profile"] == own
        broken = header(ICCProfile=b"not a profile at all")
        assert "sRGB" in self.described(shown(self.RGB, broken, photometric="RGB", icc_profile="yes"))

    @pytest.mark.parametrize("name", ["adobergb", "rommrgb"])
    def test_pixels_are_transformed_and_look_the_same(self, name):
        plain = shown(self.RGB, header(), photometric="RGB", icc_profile="srgb")
        wide = shown(self.RGB, header(), photometric="RGB", icc_profile=name)
        assert np.array_equal(np.asarray(plain), self.RGB)
        assert not np.array_equal(np.asarray(wide), self.RGB)
        back = ImageCms.profileToProfile(
            wide, io.BytesIO(wide.info["icc_profile"]), io.BytesIO(color_profiles.standard("srgb")), outputMode="RGB"
        )
        difference = np.abs(np.asarray(back).astype(int) - self.RGB)
        assert difference.mean() < 1
        assert difference.max() <= 12  # 8 bits are few for the darkest values of a wide space

    @pytest.mark.parametrize("media_type", ["image/gif", "image/jp2"])
    def test_refused_where_it_cannot_be_embedded(self, media_type):
        color_profiles.check("no", media_type)
        with pytest.raises(BadRequest):
            color_profiles.check("srgb", media_type)


class TestEncoders:
    def test_each_type(self):
        image = Image.fromarray(np.tile(GRAY, (8, 8)))
        for media_type in encoders.MEDIA_TYPES:
            decoded = Image.open(io.BytesIO(encoders.encode(image, media_type)))
            assert decoded.get_format_mimetype() == media_type
            if media_type != "image/jpeg":
                assert np.array_equal(np.asarray(decoded.convert("L")), np.asarray(image))

    def test_jpeg_is_baseline(self):
        stream = encoders.encode(Image.new("RGB", (9, 9)), "image/jpeg")
        assert b"\xff\xc0" in stream
        assert b"\xff\xc2" not in stream

    def test_quality_makes_jp2_smaller(self):
        noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64), dtype=np.uint8))
        assert len(encoders.encode(noise, "image/jp2", 20)) < len(encoders.encode(noise, "image/jp2")) / 3

    def test_animations_keep_every_frame_and_their_pace(self):
        frames = [Image.fromarray(np.roll(GRAY, shift)) for shift in range(5)]
        movie = Image.open(io.BytesIO(encoders.animate(frames, 42.0)))
        assert movie.n_frames == 5
        assert movie.info["duration"] == 40
        assert movie.info["loop"] == 0
        for frame, expected in zip(ImageSequence.Iterator(movie), frames, strict=True):
            assert np.array_equal(np.asarray(frame.convert("L")), np.asarray(expected))

    @pytest.mark.parametrize(
        ("attributes", "expected"),
        [
            ({}, 100.0),
            ({"FrameTime": 33.3}, 33.3),
            ({"FrameTimeVector": [0, 40, 60]}, 50.0),
            ({"CineRate": 25}, 40.0),
            ({"FrameTime": 0, "RecommendedDisplayFrameRate": 10}, 100.0),
        ],
    )
    def test_the_pace_of_a_cine(self, attributes, expected):
        assert frame_ms(header(**attributes)) == expected


def test_padding_is_black_whatever_the_polarity():
    pixels = np.array([[0, 10], [200, 255]], np.uint8)
    ds = header(PixelPaddingValue=0, WindowCenter=128, WindowWidth=256)
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        encoded = render(display(pixels, photometric, ds, 1, None), ds, 1, Options(), "image/png")
        assert np.asarray(Image.open(io.BytesIO(encoded)))[0, 0] == 0


def test_a_table_gives_what_arithmetic_gives():
    """Large pictures are shown through a table of all values: the same as pixel by pixel."""
    rng = np.random.default_rng(5)
    for dtype, low, high in ((np.int16, -2000, 3000), (np.uint16, 100, 4096), (np.int8, -128, 128), (np.uint8, 0, 256)):
        pixels = rng.integers(low, high, (260, 260)).astype(dtype)
        ds = header(RescaleSlope=1.5, RescaleIntercept=-7, WindowCenter=300, WindowWidth=900, BitsAllocated=16)
        whole = display(pixels, "MONOCHROME2", ds, 1, None)
        rows = [display(pixels[row : row + 1], "MONOCHROME2", ds, 1, None) for row in range(3)]
        assert np.array_equal(whole[:3], np.concatenate(rows))
