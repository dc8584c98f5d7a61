"""Gray frames shown as they are stored: the same shades, bit by bit, as decoded first and then shown pixel by pixel."""

from itertools import product

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from dicomweb.errors import NotAcceptable
from dicomweb.pixels import picture_header, transcode
from dicomweb.rendering import renderer
from dicomweb.rendering.grayscale import shading_of
from dicomweb.rendering.native import native
from dicomweb.rendering.options import Window
from dicomweb.rendering.render import display
from tests.samples import part10

ROWS, COLUMNS = 260, 257  # of an odd number of pixels, more than there are values of 16 bits
WINDOWS = [
    Window(40, 400),
    Window(100.25, 1),
    Window(-3.5, 77.5, "LINEAR_EXACT"),
    Window(0, 0.01, "LINEAR_EXACT"),
    Window(1000, 300, "SIGMOID"),
    Window(1e6, 3e7),
]


def header(**attributes) -> Dataset:
    ds = Dataset()
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", ROWS, COLUMNS
    ds.BitsAllocated, ds.BitsStored, ds.PixelRepresentation = 16, 16, 0
    ds.WindowCenter, ds.WindowWidth = 40, 400
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def stored(allocated: int) -> bytes:
    """Every value there may be, unused bits and all, as often as it takes."""
    values = np.resize(np.arange(1 << allocated), ROWS * COLUMNS)
    return values.astype(f"<u{allocated // 8}").tobytes() + b"\0" * (allocated // 8 % 2)


def decoded(ds: Dataset, frame: bytes, window: Window | None = None) -> np.ndarray:
    """As it is shown without any table of stored values."""
    pixels, photometric = transcode.decode(ds, ExplicitVRLittleEndian, frame, rgb=True)
    return shading_of(photometric, ds, 1, window).shade(pixels.astype(np.int32))


def check(ds: Dataset, window: Window | None = None) -> np.ndarray:
    frame = stored(ds.BitsAllocated)
    found = native(ds, ExplicitVRLittleEndian, 1, window)
    shown = found.shades(memoryview(frame))
    assert np.array_equal(shown, decoded(ds, frame, window))
    pixels, photometric = transcode.decode(ds, ExplicitVRLittleEndian, frame, rgb=True)
    assert np.array_equal(shown, display(pixels, photometric, ds, 1, window))
    return shown


def lut(first_mapped: int, bits: int, values: list[int]) -> Sequence:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(values), first_mapped, bits], values
    return Sequence([item])


@pytest.mark.parametrize(
    ("allocated", "bits"), [*product([16], range(1, 17)), *product([8], range(1, 9))], ids=lambda number: str(number)
)
@pytest.mark.parametrize("representation", [0, 1])
def test_whatever_is_stored(allocated: int, bits: int, representation: int) -> None:
    """Unused bits may hold anything (PS3.5 section 8.1.1)."""
    kind = {"BitsAllocated": allocated, "BitsStored": bits, "PixelRepresentation": representation}
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        top = 1 << bits
        window = {"WindowCenter": 0 if representation else top / 2, "WindowWidth": max(top / 2, 1)}
        shown = check(header(**kind, PhotometricInterpretation=photometric, **window))
        assert bits == 1 or len(np.unique(shown)) > 1


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_and_rescaling(window: Window) -> None:
    for slope, intercept in ((1, -1024), (0.37, 12.5), (-2, 5), (1e-4, 0), (3e4, -7e8)):
        for representation in (0, 1):
            check(header(RescaleSlope=slope, RescaleIntercept=intercept, PixelRepresentation=representation), window)
            own = {"WindowCenter": window.center, "WindowWidth": window.width, "VOILUTFunction": window.function}
            check(header(RescaleSlope=slope, RescaleIntercept=intercept, PixelRepresentation=representation, **own))


def test_padding_is_black_in_either_polarity() -> None:
    for value, limit, representation in ((-2000, None, 1), (0xF830, None, 1), (63536, 65535, 0), (-100, -3, 1)):
        padding = {
            "PixelPaddingValue": value,
            "PixelRepresentation": representation,
            "PhotometricInterpretation": "MONOCHROME1",
        }
        ds = header(**padding, **({} if limit is None else {"PixelPaddingRangeLimit": limit}))
        shown = check(ds)
        assert shown.reshape(-1)[value % 65536] == 0


def test_tables_of_the_object() -> None:
    check(header(VOILUTSequence=lut(100, 12, [0, 1000, 2000, 4095])))
    check(header(ModalityLUTSequence=lut(0, 16, [10, 20, 900]), WindowCenter=20, WindowWidth=2000))
    check(header(ModalityLUTSequence=lut(5, 16, [3, 2, 1]), VOILUTSequence=lut(0, 8, [255, 7, 8, 9]), BitsStored=12))
    check(header(PresentationLUTShape="INVERSE", PixelRepresentation=1, BitsStored=12))


@pytest.mark.parametrize(
    "attributes",
    [
        {"WindowCenter": None},
        {"Rows": 255, "Columns": 257},
        {"BitsAllocated": 32, "BitsStored": 32},
        {"BitsAllocated": 12, "BitsStored": 12},
        {"BitsStored": 17},
        {"BitsStored": 0},
        {"PixelRepresentation": 2},
        {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"Rows": None},
        {"Columns": 0},
        {"BitsStored": [12, 12]},
    ],
)
def test_what_is_decoded_first(attributes: dict) -> None:
    assert native(header(**attributes), ExplicitVRLittleEndian, 1, None) is None


def test_what_is_compressed_is_decoded_first() -> None:
    assert native(header(), RLELossless, 1, None) is None


def test_too_few_bytes_are_not_shown() -> None:
    frame = stored(16)
    found = native(header(), ExplicitVRLittleEndian, 1, None)
    assert found.shades(frame[:-2]) is None
    assert found.shades(frame + b"\0\0") is not None
    with pytest.raises(NotAcceptable):
        renderer._displayed(frame[:-2], header(), ExplicitVRLittleEndian, 1, None)


def test_malformed_attributes_are_the_callers_error() -> None:
    ds = header(VOILUTSequence=Sequence([Dataset()]))
    with pytest.raises(NotAcceptable):
        renderer._displayed(stored(16), ds, ExplicitVRLittleEndian, 1, None)


def test_slices_of_one_kind_share_what_was_found_and_windows_do_not() -> None:
    def parsed(**attributes) -> picture_header.PictureHeader:
        ds = header(**attributes)
        ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
        content = part10(ds)
        return picture_header.parsed(picture_header.relevant(memoryview(content), len(content)))

    def found(header: Dataset, window: Window | None = None):
        return native(header, ExplicitVRLittleEndian, 1, window)

    one, other = parsed(), parsed(RescaleSlope=2)
    assert found(one) is found(parsed())
    assert found(one) is not found(one, Window(40, 401))
    assert not np.array_equal(found(one).table, found(other).table)
    assert np.array_equal(found(other).table, found(header(RescaleSlope=2)).table)
