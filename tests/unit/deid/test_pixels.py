"""Clean Pixel Data: which pictures are suspected, what is found on them, what is left."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from dicomweb.pixels.frames import FrameTable
from dicomweb.ports import StoredInstance
from gateway.deid import ocr, risk
from gateway.deid.anonymizer import Anonymizer
from gateway.deid.generate_devices import devices
from gateway.deid.ocr import Box, Text
from gateway.deid.pixels import PixelCleaner, Redaction
from gateway.deid.policy import Refusal
from gateway.deid.risk import Risk, assess
from gateway.deid.views import darkest, views
from tests.burned_in import burn


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("kind", "offset", "step"), [("f4", 0, 1), ("f8", 0, 1e-12), ("f8", 0, 1e300), ("f4", -5, 2)])
def test_a_value_that_is_no_number_hides_no_other(odd: float, kind: str, offset: float, step: float) -> None:
    frame = np.full((40, 60), offset, kind)
    frame[10:20, 10:30] += step
    frame[0, 0] = odd
    full_range = views(frame, "MONOCHROME2", header(BitsAllocated=32, BitsStored=32), 1)[-1]
    assert (full_range[10:20, 10:30] >= 254).all()
    assert not full_range[30:].any()
    assert darkest(frame, "MONOCHROME2", header()) == offset
    assert darkest(frame, "MONOCHROME1", header()) == np.dtype(kind).type(offset + step)


def test_large_numbers_are_told_apart() -> None:
    frame = np.full((40, 60), (1 << 31) - 10, np.int32)
    frame[10:20, 10:30] += 5
    assert views(frame, "MONOCHROME2", header(BitsAllocated=32, BitsStored=32), 1)[-1][15, 20] == 255


async def run(function, *arguments):
    return await asyncio.to_thread(function, *arguments)


def header(**attributes: object) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.Modality, ds.ImageType = "1.2.840.10008.5.1.4.1.1.2", "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Rows, ds.Columns, ds.BitsStored, ds.BitsAllocated = 200, 300, 8, 8
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def source(*frames: np.ndarray, photometric: str = "MONOCHROME2"):
    async def read(number: int):
        return frames[number - 1], photometric

    return read


#: What a slice has, and a capture of a screen has not.
SLICE: dict[str, object] = {
    "BitsAllocated": 16,
    "ImagePositionPatient": [0, 0, 0],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "PixelSpacing": [1, 1],
}


@pytest.mark.parametrize(
    ("attributes", "risk"),
    [
        ({}, Risk.LOW),
        ({"BurnedInAnnotation": "YES"}, Risk.HIGH),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, Risk.HIGH),
        ({"ImageType": ["DERIVED", "PRIMARY", "DOSE_INFO"]}, Risk.HIGH),
        ({"ConversionType": "DF"}, Risk.HIGH),
        ({"ImageType": ["DERIVED", "SECONDARY"]}, Risk.HIGH),
        ({"ImageType": ["DERIVED", "SECONDARY"]} | SLICE, Risk.LOW),
        ({"ImageType": ["DERIVED", "SECONDARY"], "BurnedInAnnotation": "YES"} | SLICE, Risk.HIGH),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]} | SLICE, Risk.HIGH),
        ({"ImageType": ["DERIVED", "SECONDARY"]} | SLICE | {"BitsAllocated": 8}, Risk.HIGH),
        ({"ImageType": ["DERIVED", "SECONDARY"]} | SLICE | {"PixelSpacing": None}, Risk.HIGH),
        ({"Modality": "US"}, Risk.HIGH),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, Risk.HIGH),
        ({"Modality": "CR"}, Risk.MEDIUM),
        ({"Modality": "CR", "BurnedInAnnotation": "YES"}, Risk.HIGH),
        ({"Modality": "CR", "ConversionType": "DF"}, Risk.HIGH),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.6", "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME"]}, Risk.LOW),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.6", "ImageType": ["ORIGINAL", "PRIMARY", "LABEL"]}, Risk.HIGH),
        ({"Modality": "DX", "BurnedInAnnotation": "NO"}, Risk.MEDIUM),
        ({"Modality": "XX", "ImageType": None}, Risk.HIGH),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "SEG"}, Risk.NONE),
    ],
)
def test_rules_tell_which_pictures_are_suspect(attributes: dict[str, object], risk: Risk) -> None:
    assert assess(header(**attributes)).risk is risk


def test_ultrasound_is_kept_inside_its_regions_unless_one_lies_outside_the_picture() -> None:
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 10, 20
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 99, 149
    ds = header(Modality="US", SequenceOfUltrasoundRegions=Sequence([region]))
    assert assess(ds).keep == (Box(10, 20, 100, 150),)
    ds.Rows = 100
    assert assess(ds).keep == ()


def test_known_devices_are_blanked_where_they_write() -> None:
    ds = header(
        Modality="US", Manufacturer="PHILIPS Medical Systems", ManufacturerModelName="EPIQ 7C", Rows=768, Columns=1024
    )
    assert assess(ds).blank == (Box(0, 0, 1024, 24), Box(0, 0, 1024, 49))


def test_a_device_is_told_by_all_of_its_conditions() -> None:
    ds = header(Modality="US", Manufacturer="SIEMENS", ManufacturerModelName="ACUSON S2000", Rows=768, Columns=1024)
    assert Box(0, 0, 1024, 60) in assess(ds).blank
    for keyword, value in (
        ("Rows", 600),
        ("Modality", "CT"),
        ("ManufacturerModelName", "XS2000"),
        ("Manufacturer", ""),
    ):
        other = Dataset(ds)
        setattr(other, keyword, value)
        assert Box(0, 0, 1024, 60) not in assess(other).blank


def test_the_listed_devices_are_what_their_source_says() -> None:
    recipe = """FORMAT dicom
%filter graylist
LABEL one # (CTP)
  contains Modality US
  + contains Manufacturer Maker SA|Maker
  + equals Rows 600
ctpcoordinates 10,0,100,50
LABEL told by text
  contains Manufacturer Maker
  + contains SeriesDescription Dose
  coordinates 0,0,10,10
LABEL no place
  contains Manufacturer Maker
%filter blacklist
LABEL any
  contains Modality OT
  coordinates 0,0,10,10
"""
    expected = {"modality": ["US"], "manufacturer": ["MAKER SA", "MAKER"], "rows": [600], "regions": [[10, 0, 110, 50]]}
    assert devices(recipe) == [expected]
    listed = json.loads((Path(risk.__file__).parent / "devices.json").read_text(encoding="utf-8"))["devices"]
    assert len(listed) == 89
    assert all(left < right and top < bottom for one in listed for left, top, right, bottom in one["regions"])


@pytest.mark.parametrize(
    ("photometric", "shape", "black"),
    [
        ("MONOCHROME2", (4, 5), 3),
        ("MONOCHROME1", (4, 5), 200),
        ("RGB", (4, 5, 3), [0, 0, 0]),
        ("YBR_FULL", (4, 5, 3), [0, 128, 128]),
    ],
)
def test_boxes_become_black_as_displayed_and_nothing_else_changes(photometric, shape, black) -> None:
    pixels = np.full(shape, 200, np.uint8)
    pixels[0, 0] = 3
    before = pixels.copy()
    result = Redaction((Box(-2, 1, 2, 3),)).apply(pixels, photometric, header())
    assert (result[1:3, :2] == black).all()
    changed = np.zeros(shape[:2], bool)
    changed[1:3, :2] = True
    assert (result[~changed] == before[~changed]).all()
    assert (pixels == before).all()


def test_outside_of_what_is_kept_all_is_black() -> None:
    pixels = np.full((4, 5), 9, np.uint8)
    pixels[3, 4] = 1
    assert Redaction(keep=(Box(1, 1, 3, 3),)).apply(pixels, "MONOCHROME2", header()).sum() == 4 * 9 + 16


def test_black_of_a_palette_is_its_darkest_colour(data_folder: Path) -> None:
    file = dcmread(data_folder / "transfer-syntaxes" / "examples_palette.dcm")
    index = darkest(file.pixel_array, "PALETTE COLOR", file)
    entry = int(index) - file.RedPaletteColorLookupTableDescriptor[1]
    assert np.frombuffer(file.RedPaletteColorLookupTableData, "<u2")[max(entry, 0)] < 0x1000


class Scripted:
    """Finds what it is told to find, call by call, and keeps what it was shown."""

    def __init__(self, *found: list[Text]) -> None:
        self.found, self.shown = list(found), list[np.ndarray]()

    def find(self, picture: np.ndarray, *, read: bool, turn: int) -> list[Text]:
        self.shown.append(picture)
        return self.found.pop(0) if self.found else []


async def test_looks_again_until_nothing_is_found() -> None:
    finder = Scripted([Text(Box(0, 0, 40, 10))], [Text(Box(0, 50, 40, 60), 5, 0.9)], [])
    found = await PixelCleaner(run, finder).examine(header(Modality="US"), 1, source(np.zeros((200, 300), np.uint8)))
    assert len(found.blank) == 2
    assert len(finder.shown) == 3


async def test_refuses_a_picture_in_which_text_keeps_turning_up() -> None:
    finder = Scripted(*[[Text(Box(0, 0, 40, 10), 8, 0.9)]] * 20)
    with pytest.raises(Refusal, match="cleaned for sure"):
        await PixelCleaner(run, finder).examine(header(Modality="US"), 1, source(np.zeros((200, 300), np.uint8)))


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("BurnedInAnnotation", "FD", 1.0),
        ("ImageType", "FD", 1.0),
        ("SequenceOfUltrasoundRegions", "LO", "a region"),
        ("Rows", "US", [16, 16]),
    ],
)
async def test_refuses_what_does_not_say_in_order_what_it_is(keyword: str, vr: str, value: object) -> None:
    ds = header()
    ds.add_new(keyword, vr, value)
    with pytest.raises(Refusal, match="malformed"):
        await PixelCleaner(run, Scripted()).examine(ds, 1, source(np.zeros((200, 300), np.uint8)))


async def test_refuses_regions_of_a_picture_without_a_size() -> None:
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 10, 20
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 99, 149
    ds = header(Modality="US", SequenceOfUltrasoundRegions=Sequence([region]))
    del ds.Columns
    with pytest.raises(Refusal, match="malformed"):
        await PixelCleaner(run, Scripted()).examine(ds, 1, source(np.zeros((200, 300), np.uint8)))


async def test_an_object_is_examined_once_however_many_ask_at_once() -> None:
    ds = header(Modality="US", SOPInstanceUID="1.2.3", SeriesInstanceUID="1.2.4", StudyInstanceUID="1.2.5")
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.set_original_encoding(False, True)
    finder = Scripted()
    made = Anonymizer(bytes(range(32)), run, PixelCleaner(run, finder))
    instance = StoredInstance("1", "1", "1", "1", "1", "a key", 1, "a", FrameTable(1), 1)
    read = source(np.zeros((200, 300), np.uint8))
    await asyncio.gather(*[made.copy(instance, ds, read) for _ in range(5)])
    assert len(finder.shown) == 2  # the first look and the second


async def test_of_a_slice_only_what_is_surely_text_is_blanked() -> None:
    unsure = [Text(Box(5, 5, 9, 9), 1, 0.95), Text(Box(50, 5, 90, 9), 4, 0.3)]
    found = await PixelCleaner(run, Scripted(unsure)).examine(header(), 1, source(np.zeros((200, 300), np.uint8)))
    assert found == Redaction(looked=True)


async def test_without_ocr_suspect_pictures_are_refused_and_others_pass_unlooked(monkeypatch) -> None:
    monkeypatch.setattr(ocr, "is_installed", lambda: False)
    cleaner, read = PixelCleaner(run), source(np.zeros((200, 300), np.uint8))
    with pytest.raises(Refusal, match=r"isthmus\[ocr\]"):
        await cleaner.examine(header(Modality="US"), 1, read)
    assert await cleaner.examine(header(), 1, read) == Redaction(looked=False)


@pytest.mark.parametrize(("value", "count"), [(255, 2), (0, 1)])
async def test_finds_real_text_in_either_polarity_on_every_frame(value: int, count: int) -> None:
    frames = [np.full((240, 320), 255 - value, np.uint8) for _ in range(count)]
    marks = [burn(frame, "CANARY ANNA 00417", (20, 40 + 60 * index), 16, value) for index, frame in enumerate(frames)]
    ds = header(Modality="US", Rows=240, Columns=320)
    found = await PixelCleaner(run).examine(ds, count, source(*frames))
    for mark in marks:
        blank = np.zeros((240, 320), bool)
        for box in found.blank:
            blank[max(box.top, 0) : box.bottom, max(box.left, 0) : box.right] = True
        assert blank[mark.mask].all()


@pytest.mark.parametrize("side", ocr._TILES)
def test_large_pictures_are_searched_in_tiles_that_cover_them(side: int) -> None:
    for rows, columns in [(300, 400), (1024, 1025), (2560, 1400), (129, 5000)]:
        seen = np.zeros((rows, columns), bool)
        for tile in ocr._tiles(Box(0, 0, columns, rows), side):
            seen[tile] = True
            assert max(seen[tile].shape) <= side
        assert seen.all()
