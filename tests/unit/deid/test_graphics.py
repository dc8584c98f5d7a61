"""Clean Graphics: overlay planes that stay hold drawings and no text."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from gateway.deid.engine import Deidentifier
from gateway.deid.graphics import OverlayCleaner
from gateway.deid.ocr import TextFinder
from gateway.deid.profile import load_profile
from tests.unit.deid.objects import DESCRIPTION, KEY, decode, encode, header, needles_in
from tests.unit.deid.passage import file, taken

ROWS, COLUMNS = 256, 384
RING = (20, 120, 120, 220)
TEXT = "ZEPHYRINA QUIRINALE"

Graphics = Callable[[], Deidentifier]


@pytest.fixture(scope="module")
def graphics(tmp_path_factory: pytest.TempPathFactory) -> Deidentifier:
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "graphics.toml").write_text('options = ["clean-graphics", "clean-descriptors"]\n')
    return Deidentifier(load_profile("graphics", folder), KEY)


def drawn(*, text: str = "", size: int = 20) -> np.ndarray:
    """Bits of an overlay plane with a ring and, above it, a line of text."""
    image = Image.new("1", (COLUMNS, ROWS))
    draw = ImageDraw.Draw(image)
    draw.ellipse(RING, outline=1, width=3)
    draw.text((20, 30), text, fill=1, font=ImageFont.load_default(size))
    return np.asarray(image, np.uint8)


def with_overlay(*planes: np.ndarray, group: int = 0x6000) -> Dataset:
    """A header with one overlay of these planes."""
    ds = header()
    add_overlay(ds, *planes, group=group)
    return decode(encode(ds))


def add_overlay(ds: Dataset, *planes: np.ndarray, group: int = 0x6000) -> None:
    base = group << 16
    rows, columns = planes[0].shape
    packed = np.packbits(np.stack(planes).reshape(-1), bitorder="little").tobytes()
    for element, vr, value in (
        (0x0010, "US", rows),
        (0x0011, "US", columns),
        (0x0015, "IS", len(planes)),
        (0x0022, "LO", "Annotation of Zephyrina"),
        (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]),
        (0x0100, "US", 1),
        (0x0102, "US", 0),
        (0x1500, "LO", DESCRIPTION),
        (0x3000, "OW", packed + b"\0" * (len(packed) % 2)),
        (0x4000, "LT", "drawn by Dr Houseman"),
    ):
        ds.add_new(base | element, vr, value)


def plane_of(ds: Dataset, group: int = 0x6000) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(ds[group, 0x3000].value, np.uint8), bitorder="little")
    return bits[: ROWS * COLUMNS].reshape(ROWS, COLUMNS)


def reads(plane: np.ndarray) -> int:
    """Letters and digits that can be read on a plane, enlarged."""
    picture = np.kron(plane * np.uint8(255), np.ones((2, 2), np.uint8))
    return sum(text.characters for text in TextFinder().find(picture, read=True) if text.confidence > 0.5)


def test_text_is_cleared_and_the_drawing_stays(graphics: Deidentifier) -> None:
    original = drawn(text=TEXT)
    assert reads(original) > 10
    ds = with_overlay(original)
    graphics.apply(ds)
    cleaned = plane_of(ds)
    assert reads(cleaned) == 0
    assert not cleaned[20:60].any()
    assert np.array_equal(cleaned[110:], drawn()[110:])
    assert (ds[0x60000010].value, ds[0x60000011].value, ds[0x60000040].value) == (ROWS, COLUMNS, "G")


def test_texts_beside_it_are_cleaned(graphics: Deidentifier) -> None:
    ds = with_overlay(drawn())
    graphics.apply(ds)
    assert needles_in(encode(ds)) == []
    assert "CT ABD/PEL" in ds[0x60001500].value
    assert np.array_equal(plane_of(ds), drawn())


def test_the_option_is_stated(graphics: Deidentifier) -> None:
    ds = with_overlay(drawn())
    graphics.apply(ds)
    codes = {item.CodeValue for item in ds.DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113103", "113105"}


def test_without_the_option_overlays_go(research: Deidentifier) -> None:
    ds = with_overlay(drawn())
    research.apply(ds)
    assert not [tag for tag in ds.keys() if tag.group >> 8 == 0x60]  # noqa: SIM118 - of undecoded elements


def test_each_frame_and_each_group_is_looked_at(graphics: Deidentifier) -> None:
    ds = header()
    add_overlay(ds, drawn(), drawn(text=TEXT))
    add_overlay(ds, drawn(text="MRN 7788123"), group=0x601E)
    ds = decode(encode(ds))
    graphics.apply(ds)
    bits = np.unpackbits(np.frombuffer(ds[0x60003000].value, np.uint8), bitorder="little")
    assert reads(bits[ROWS * COLUMNS :].reshape(ROWS, COLUMNS)) == 0
    assert reads(plane_of(ds, 0x601E)) == 0


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x60000010, "US", 0),
        (0x60000010, "US", 60000),
        (0x60000015, "IS", "99999"),
        (0x60000011, "LO", "QUIRINALE"),
        (0x60003000, "OW", b""),
    ],
)
def test_an_overlay_that_cannot_be_looked_at_goes_whole(
    graphics: Deidentifier, tag: int, vr: str, value: object
) -> None:
    ds = header()
    add_overlay(ds, drawn(text=TEXT))
    ds.add_new(tag, vr, value)
    ds = decode(encode(ds))
    graphics.apply(ds)
    assert not [tag for tag in ds.keys() if tag.group >> 8 == 0x60]  # noqa: SIM118


def test_without_ocr_overlays_go(graphics: Deidentifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.deid.ocr.is_installed", lambda: False)
    ds = with_overlay(drawn())
    OverlayCleaner().clean(ds)
    assert 0x60003000 not in ds


def test_what_lies_behind_the_last_bit_goes(graphics: Deidentifier) -> None:
    ds = header()
    add_overlay(ds, drawn())
    ds[0x60003000].value += b"QUIRINALE "
    ds = decode(encode(ds))
    graphics.apply(ds)
    assert len(ds[0x60003000].value) == ROWS * COLUMNS // 8


def test_overlays_in_items_go(graphics: Deidentifier) -> None:
    item = Dataset()
    add_overlay(item, drawn(text=TEXT))
    ds = header(ReferencedImageSequence=Sequence([item]))
    ds = decode(encode(ds))
    graphics.apply(ds)
    assert not [tag for tag in ds.ReferencedImageSequence[0].keys() if tag.group >> 8 == 0x60]  # noqa: SIM118


def test_text_annotations_of_a_presentation_state_are_cleaned(graphics: Deidentifier) -> None:
    text = Dataset()
    text.UnformattedTextValue = "Fracture of Zephyrina Quirinale"
    annotation = Dataset()
    annotation.GraphicLayer = "LAYER"
    annotation.TextObjectSequence = Sequence([text])
    ds = header(SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1", GraphicAnnotationSequence=Sequence([annotation]))
    ds = decode(encode(ds))
    graphics.apply(ds)
    value = ds.GraphicAnnotationSequence[0].TextObjectSequence[0].UnformattedTextValue
    assert value.startswith("Fracture of")
    assert needles_in(encode(ds)) == []


def test_a_profile_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('options = ["clean-graphics"]\n')
    assert load_profile("x", tmp_path).options == {"clean-graphics"}


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_on_the_way_in(graphics: Deidentifier, syntax: str) -> None:
    ds = header()
    add_overlay(ds, drawn(text=TEXT))
    stored = taken(graphics, file(ds, syntax=syntax))
    assert stored.found() == []
    assert reads(plane_of(stored.ds)) == 0
    assert np.array_equal(plane_of(stored.ds)[110:], drawn()[110:])


def test_bytes_in_another_order_go(graphics: Deidentifier) -> None:
    """Explicit VR Big Endian was retired in 2006: what lies in its words the other way around is not looked at."""
    ds = header()
    add_overlay(ds, drawn(text=TEXT))
    assert 0x60003000 not in taken(graphics, file(ds, syntax=ExplicitVRBigEndian)).ds
