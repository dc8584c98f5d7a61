"""The grayscale and color pipelines, in numbers worked out by hand from PS3.3 C.11."""

import io

import numpy as np
import pytest
from multidict import MultiDict
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomweb.errors import BadRequest
from dicomweb.rendering.grayscale import apply_window
from dicomweb.rendering.options import RENDERED, THUMBNAIL, Options, Parameters, Viewport, Window
from dicomweb.rendering.render import display, render


def parse_options(query, max_pixels=1 << 20) -> Options:
    return Parameters(MultiDict(query), RENDERED).options(max_pixels)


def header(**attributes) -> Dataset:
    ds = Dataset()
    ds.Rows = ds.Columns = 4
    ds.BitsAllocated, ds.BitsStored, ds.PixelRepresentation = 16, 16, 0
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def picture(pixels, photometric="MONOCHROME2", ds=None, frame=1, **options):
    ds, chosen = ds or header(), Options(**options)
    encoded = render(display(pixels, photometric, ds, frame, chosen.window), ds, frame, chosen, "image/png")
    return np.asarray(Image.open(io.BytesIO(encoded)))


RAMP = np.arange(16, dtype=np.uint16).reshape(4, 4) * 100


def test_linear_window_of_the_standard():
    """C.11.2.1.2.1: y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255; below and above it is flat."""
    values = np.array([-1000.0, 40 - 0.5 - 199.5, 39.5, 40 - 0.5 + 199.5, 1000.0])
    assert np.allclose(apply_window(values, Window(40, 400)), [0, 0, 127.5, 255, 255])


def test_exact_and_sigmoid_windows():
    values = np.array([-160.0, 40.0, 240.0])
    assert np.allclose(apply_window(values, Window(40, 400, "LINEAR_EXACT")), [0, 127.5, 255])
    assert np.allclose(apply_window(values, Window(40, 400, "SIGMOID")), 255 / (1 + np.exp([2.0, 0.0, -2.0])))
    assert np.array_equal(apply_window(np.array([39.0, 40.0]), Window(40, 1)), [0, 255])


def test_window_is_in_modality_units():
    ds = header(
        RescaleSlope=2,
        RescaleIntercept=-1000,
        WindowCenter=[500, 40],
        WindowWidth=[1000, 400],
        VOILUTFunction="LINEAR_EXACT",
    )
    assert np.array_equal(picture(RAMP, ds=ds), np.rint(np.clip((RAMP * 2.0 - 1000) / 1000, 0, 1) * 255))


def test_a_window_of_the_caller_wins():
    ds = header(WindowCenter=0, WindowWidth=1)
    shown = picture(RAMP, ds=ds, window=Window(750, 1500, "LINEAR_EXACT"))
    assert (shown.min(), shown.max()) == (0, 255)


@pytest.mark.parametrize(
    ("photometric", "attributes", "first"),
    [
        ("MONOCHROME2", {}, 0),
        ("MONOCHROME1", {}, 255),
        ("MONOCHROME1", {"PresentationLUTShape": "IDENTITY"}, 0),
        ("MONOCHROME2", {"PresentationLUTShape": "INVERSE"}, 255),
    ],
)
def test_polarity(photometric, attributes, first):
    shown = picture(RAMP, photometric, header(WindowCenter=750, WindowWidth=1500, **attributes))
    assert shown[0, 0] == first
    assert shown[-1, -1] == 255 - first


def test_voi_lut():
    lut = Dataset()
    lut.LUTDescriptor = [4, 100, 12]
    lut.LUTData = [0, 1000, 2000, 4095]
    pixels = np.array([[0, 100], [102, 900]], dtype=np.uint16)
    shown = picture(pixels, ds=header(VOILUTSequence=Sequence([lut])))
    assert shown.tolist() == [[0, 0], [round(2000 * 255 / 4095), 255]]


def test_modality_lut_as_bytes():
    lut = Dataset()
    lut.LUTDescriptor = [3, 0, 16]
    lut.LUTData = np.array([10, 20, 30], "<u2").tobytes()
    ds = header(ModalityLUTSequence=Sequence([lut]), WindowCenter=20, WindowWidth=20, VOILUTFunction="LINEAR_EXACT")
    assert picture(np.array([[0, 1, 2]], dtype=np.uint16), ds=ds).tolist() == [[0, 128, 255]]


def test_each_frame_has_its_own_window_and_rescaling():
    def group(center):
        item, window, rescale = Dataset(), Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = center, 1000
        rescale.RescaleSlope, rescale.RescaleIntercept = 1, 0
        item.FrameVOILUTSequence, item.PixelValueTransformationSequence = Sequence([window]), Sequence([rescale])
        return item

    ds = header(PerFrameFunctionalGroupsSequence=Sequence([group(500), group(5000)]))
    assert picture(RAMP, ds=ds, frame=1).max() == 255
    assert picture(RAMP, ds=ds, frame=2).max() == 0


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4), np.int16), np.full((4, 4), np.nan, np.float32), RAMP.astype(np.float64)]
)
def test_without_any_window_something_is_shown(pixels):
    with np.errstate(invalid="ignore"):
        assert picture(pixels).shape == (4, 4)


def test_padding_does_not_set_the_window():
    pixels = RAMP.astype(np.int16)
    pixels[0] = -2000
    shown = picture(pixels, ds=header(PixelRepresentation=1, PixelPaddingValue=-2000))
    assert shown[0].max() == 0
    assert shown[1, 0] < 10


def test_palette():
    ds = header(BitsAllocated=8, BitsStored=8, PhotometricInterpretation="PALETTE COLOR", SamplesPerPixel=1)
    for color, values in {"Red": [0, 65535], "Green": [0, 32768], "Blue": [65535, 0]}.items():
        setattr(ds, f"{color}PaletteColorLookupTableDescriptor", [2, 0, 16])
        setattr(ds, f"{color}PaletteColorLookupTableData", np.array(values, "<u2").tobytes())
    assert picture(np.array([[0, 1]], np.uint8), "PALETTE COLOR", ds).tolist() == [[[0, 0, 255], [255, 128, 0]]]


def test_deep_color():
    pixels = np.full((2, 2, 3), 4095, np.uint16)
    assert picture(pixels, "RGB", header(BitsStored=12)).max() == 255


class TestViewport:
    PIXELS = np.arange(64, dtype=np.uint16).reshape(4, 16)
    WINDOW = Window(31.5, 63, "LINEAR_EXACT")

    def shown(self, text):
        viewport = parse_options({"viewport": text}, 1 << 20).viewport
        return picture(self.PIXELS, viewport=viewport, window=self.WINDOW)

    def test_keeps_the_aspect(self):
        assert self.shown("32,32").shape == (8, 32)
        assert self.shown("8,100").shape == (2, 8)

    def test_region_and_elided_values(self):
        assert np.array_equal(self.shown("4,2,,,4,2"), self.shown("4,2,0,0,4,2"))
        assert np.array_equal(self.shown("4,2,8,1,4,2"), picture(self.PIXELS, window=self.WINDOW)[1:3, 8:12])

    def test_negative_sizes_flip(self):
        straight = self.shown("16,4,0,0,16,4")
        assert np.array_equal(self.shown("16,4,0,0,-16,4"), straight[:, ::-1])
        assert np.array_equal(self.shown("16,4,0,0,16,-4"), straight[::-1])

    @pytest.mark.parametrize(
        "text", ["", "1", "a,b", "0,1", "1.5,2", "10,10,1,1,1,1,1", "inf,1", "nan,nan", "99999,99999", "10,10,,,nan"]
    )
    def test_ill_formed(self, text):
        with pytest.raises(BadRequest):
            parse_options({"viewport": text}, 1 << 20)

    def test_outside(self):
        with pytest.raises(BadRequest):
            self.shown("4,4,100,0,4,4")

    def test_a_thumbnail_takes_a_size_only(self):
        def thumbnail(text):
            return Parameters(MultiDict(viewport=text), THUMBNAIL).thumbnail(Viewport(1, 1)).viewport

        assert thumbnail("9,9") == Viewport(9, 9)
        for text in ("9,9,1,1,1,1", "1025,1", "1000000,1000000"):
            with pytest.raises(BadRequest):
                thumbnail(text)


@pytest.mark.parametrize("text", ["1,2", "1,2,cubic", "a,2,linear", "1,0,linear", "nan,1,linear", "1,2,linear,4", ""])
def test_ill_formed_windows(text):
    with pytest.raises(BadRequest):
        parse_options({"window": text}, 1)


@pytest.mark.parametrize("text", ["0", "101", "x", "", "-1", "1.5", "²"])
def test_ill_formed_quality(text):
    with pytest.raises(BadRequest):
        parse_options({"quality": text}, 1)


def test_an_empty_presentation_lut_shape_leaves_the_polarity_to_the_photometric_interpretation():
    named, empty = header(), header(PresentationLUTShape=None)
    assert np.array_equal(picture(RAMP, "MONOCHROME1", empty), picture(RAMP, "MONOCHROME1", named))
    assert picture(RAMP, "MONOCHROME1", empty)[0, 0] == 255
