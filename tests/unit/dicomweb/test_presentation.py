"""Presentation states: values, shutters, geometry and graphics, each by a picture small enough to be worked out."""

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomweb.errors import TooLarge
from dicomweb.rendering.graphics import Placement
from dicomweb.rendering.options import Viewport
from dicomweb.rendering.presentation import picture, references
from tests.samples import ct

IMAGE = ct(Rows=8, Columns=12)
PIXELS = np.arange(96, dtype=np.int16).reshape(8, 12)


def item(**attributes) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def shown(viewport=None, **attributes) -> np.ndarray:
    window = item(WindowCenter=47.5, WindowWidth=95, VOILUTFunction="LINEAR_EXACT")
    state = item(**({"SoftcopyVOILUTSequence": Sequence([window])} | attributes))
    return np.asarray(picture(state, IMAGE, PIXELS, "MONOCHROME2", 1, viewport)).astype(int)


def area(left, top, right, bottom, mode="SCALE TO FIT", **more) -> Sequence:
    corners = {"DisplayedAreaTopLeftHandCorner": [left, top], "DisplayedAreaBottomRightHandCorner": [right, bottom]}
    return Sequence([item(PresentationSizeMode=mode, **corners, **more)])


PLAIN = np.rint(PIXELS / 95 * 255).astype(int)


def test_values_are_those_of_the_state_alone():
    assert np.array_equal(shown(), PLAIN)  # not of the image, which has a rescale intercept of -1024
    rescaled = shown(RescaleSlope=1, RescaleIntercept=-1000)
    assert rescaled.max() == 0
    assert np.array_equal(shown(PresentationLUTShape="INVERSE"), 255 - PLAIN)


def test_a_presentation_lut():
    lut = item(LUTDescriptor=[256, 0, 8], LUTData=np.arange(255, -1, -1, dtype="<u2").tobytes())
    assert np.array_equal(shown(PresentationLUTSequence=Sequence([lut])), 255 - PLAIN)


def test_a_window_may_be_for_another_image():
    other = item(ReferencedSOPInstanceUID="1.2.3")
    wrong = item(WindowCenter=5000, WindowWidth=1, ReferencedImageSequence=Sequence([other]))
    right = item(WindowCenter=47.5, WindowWidth=95, VOILUTFunction="LINEAR_EXACT")
    assert np.array_equal(shown(SoftcopyVOILUTSequence=Sequence([wrong, right])), PLAIN)


class TestGeometry:
    @pytest.mark.parametrize("turns", range(4))
    @pytest.mark.parametrize("flip", ["N", "Y"])
    def test_rotation_is_clockwise_and_comes_before_the_flip(self, turns, flip):
        expected = np.rot90(PLAIN, -turns)
        expected = expected[:, ::-1] if flip == "Y" else expected
        assert np.array_equal(shown(ImageRotation=90 * turns, ImageHorizontalFlip=flip), expected)

    def test_the_displayed_area(self):
        assert np.array_equal(shown(DisplayedAreaSelectionSequence=area(3, 2, 6, 5)), PLAIN[1:5, 2:6])
        beyond = shown(DisplayedAreaSelectionSequence=area(-1, 1, 12, 8))
        assert np.array_equal(beyond[:, 2:], PLAIN)
        assert (beyond[:, :2] == 0).all()

    def test_it_fits_the_viewport(self):
        assert shown(Viewport(120, 120)).shape == (80, 120)
        assert shown(Viewport(120, 120), ImageRotation=90).shape == (120, 80)
        stretched = area(1, 1, 12, 8, PresentationPixelAspectRatio=[2, 1])
        assert shown(Viewport(120, 160), DisplayedAreaSelectionSequence=stretched).shape == (160, 120)

    def test_magnified_and_cropped(self):
        magnified = area(1, 1, 12, 8, mode="MAGNIFY", PresentationPixelMagnificationRatio=3)
        assert shown(DisplayedAreaSelectionSequence=magnified).shape == (24, 36)
        assert shown(Viewport(30, 10), DisplayedAreaSelectionSequence=magnified).shape == (10, 30)

    def test_areas_are_bounded(self):
        huge = area(1, 1, 60000, 60000, mode="MAGNIFY", PresentationPixelMagnificationRatio=16)
        with pytest.raises(TooLarge):
            shown(DisplayedAreaSelectionSequence=huge)

    @pytest.mark.parametrize("turns", range(4))
    @pytest.mark.parametrize("is_flipped", [False, True])
    def test_places_move_as_pixels_do(self, turns, is_flipped):
        pixels = np.zeros((8, 12), np.uint8)
        pixels[2, 9] = 255
        placement = Placement(1, 1, 10, 6, turns, is_flipped=is_flipped, scale_x=3, scale_y=3)
        row, column = np.argwhere(np.asarray(placement.applied(Image.fromarray(pixels))) > 200).mean(axis=0)
        assert placement.of_pixel(9.5, 2.5) == pytest.approx((column + 0.5, row + 0.5))


class TestShutter:
    def test_rectangle(self):
        edges = {
            "ShutterLeftVerticalEdge": 3,
            "ShutterRightVerticalEdge": 6,
            "ShutterUpperHorizontalEdge": 2,
            "ShutterLowerHorizontalEdge": 5,
        }
        covered = shown(ShutterShape="RECTANGULAR", **edges)
        assert np.array_equal(covered[1:5, 2:6], PLAIN[1:5, 2:6])
        covered[1:5, 2:6] = 0
        assert not covered.any()

    def test_circle_and_polygon(self):
        circle = shown(ShutterShape=["CIRCULAR"], CenterOfCircularShutter=[4, 6], RadiusOfCircularShutter=2)
        assert circle[3, 5] == PLAIN[3, 5]
        assert circle[7, 11] == 0
        polygon = shown(ShutterShape="POLYGONAL", VerticesOfThePolygonalShutter=[1, 1, 1, 12, 4, 1])
        assert polygon[0, 8] == PLAIN[0, 8]
        assert polygon[7].max() == 0


class TestGraphics:
    def annotated(self, viewport=None, units="PIXEL", **graphic) -> np.ndarray:
        drawn = item(GraphicAnnotationUnits=units, **graphic)
        annotation = item(GraphicObjectSequence=Sequence([drawn]))
        return shown(viewport, GraphicAnnotationSequence=Sequence([annotation])) != shown(viewport)

    def test_lines(self):
        changed = self.annotated(GraphicType="POLYLINE", GraphicData=[0, 0, 11, 0])
        assert changed[0].sum() >= 11
        assert not changed[1:].any()

    def test_in_parts_of_the_area(self):
        changed = self.annotated(
            Viewport(120, 80), "DISPLAY", GraphicType="CIRCLE", GraphicData=[0.5, 0.5, 0.6, 0.5], GraphicFilled="Y"
        )
        rows, columns = np.nonzero(changed)
        assert (rows.mean(), columns.mean()) == pytest.approx((40, 60), abs=2)

    def test_for_another_image(self):
        other = Sequence([item(ReferencedSOPInstanceUID="1.2.3")])
        drawn = item(GraphicType="POLYLINE", GraphicData=[0, 0, 11, 7], GraphicAnnotationUnits="PIXEL")
        annotation = item(GraphicObjectSequence=Sequence([drawn]), ReferencedImageSequence=other)
        assert np.array_equal(shown(GraphicAnnotationSequence=Sequence([annotation])), PLAIN)

    def test_text(self):
        words = item(
            UnformattedTextValue="HERE",
            BoundingBoxAnnotationUnits="DISPLAY",
            BoundingBoxTopLeftHandCorner=[0.1, 0.1],
            BoundingBoxBottomRightHandCorner=[0.5, 0.3],
        )
        annotation = item(TextObjectSequence=Sequence([words]))
        viewport = Viewport(240, 160)
        changed = shown(viewport, GraphicAnnotationSequence=Sequence([annotation])) != shown(viewport)
        assert changed[:60, :120].any()
        assert not changed[80:].any()


def test_references():
    image = item(ReferencedSOPInstanceUID="1.2", ReferencedFrameNumber=[2, 3])
    series = item(ReferencedImageSequence=Sequence([image, item(ReferencedSOPInstanceUID="1.3")]))
    found = references(item(ReferencedSeriesSequence=Sequence([series])))
    assert [(one.instance_uid, one.frames) for one in found] == [("1.2", (2, 3)), ("1.3", ())]
    assert references(Dataset()) == []
