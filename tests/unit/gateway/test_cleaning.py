"""Pictures that are cleaned on their way in, in every form: what is stored is blanked there and the same elsewhere."""

from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import (
    JPEG2000,
    MPEG4HP41,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicomweb.errors import Refused
from dicomweb.pixels import codecs, compress, transcode
from gateway.deid import ocr
from gateway.deid.engine import Deidentifier
from gateway.deid.ocr import Box, Text
from gateway.deid.pixels import PixelCleaner
from gateway.deid.vault import Vault
from gateway.intake.cleaning import Cleaning
from gateway.intake.elements import Elements
from gateway.intake.picture import Picture
from gateway.intake.source import ByteSource
from gateway.intake.suspicion import Suspect
from gateway.intake.taking import IngestLimits, Taking, Treatment
from gateway.workers import Workers
from tests.samples import ct, part10, stream

KEY = bytes(range(32))
ROWS, COLUMNS, FRAMES = 40, 60, 3
BOX = Box(10, 5, 30, 15)
#: It, and the margin around it that a line of its height gets.
BLANKED = (slice(3, 17), slice(8, 32))
TREATMENT = Treatment(
    Deidentifier.load("research", KEY), Elements(), KEY, IngestLimits(1 << 30, 1 << 28), Vault(KEY), looks=True
)
US = "1.2.840.10008.5.1.4.1.1.3.1"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
RESULTS = {
    ExplicitVRLittleEndian: ExplicitVRLittleEndian,
    ImplicitVRLittleEndian: ExplicitVRLittleEndian,
    ExplicitVRBigEndian: HTJ2KLossless,
    RLELossless: RLELossless,
    JPEGBaseline8Bit: HTJ2KLossless,
    JPEGLosslessSV1: JPEGLosslessSV1,
    JPEGLSLossless: JPEGLSLossless,
    JPEG2000: HTJ2KLossless,
    JPEG2000Lossless: JPEG2000Lossless,
    HTJ2KLossless: HTJ2KLossless,
}
codecs.register()


class Finder:
    """Finds one line, at the first look of all."""

    def __init__(self, *boxes: Box) -> None:
        self.boxes = list(boxes)
        self.looks = 0

    def find(self, picture: np.ndarray, *, read: bool, turn: int) -> list[Text]:
        self.looks += 1
        found, self.boxes = self.boxes, []
        return [Text(box, 8, 0.9) for box in found]


def pixels(kind: str) -> np.ndarray:
    """Frames: a gradient, light enough that black is nowhere but where something is blanked."""
    values = np.arange(FRAMES * ROWS * COLUMNS).reshape(FRAMES, ROWS, COLUMNS) % 200 + 50
    if kind == "RGB":
        return np.stack([values, values[:, ::-1], 255 - values // 2], axis=-1).astype(np.uint8)
    return (values * 100 if kind == "16" else values).astype(np.uint16 if kind == "16" else np.uint8)


def us(kind: str, syntax: str, **changes: object) -> Dataset:
    """An ultrasound cine that is lossless in `syntax` unless that cannot be."""
    ds = ct(Modality="US", SOPClassUID=US, ImageType=["ORIGINAL", "PRIMARY"], Rows=ROWS, Columns=COLUMNS)
    frames = pixels(kind)
    ds.NumberOfFrames, ds.PixelRepresentation = FRAMES, 0
    ds.BitsAllocated = ds.BitsStored = 8 * frames.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    if kind == "RGB":
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    if kind == "PALETTE":
        ds.PhotometricInterpretation = "PALETTE COLOR"
        for colour in ("Red", "Green", "Blue"):
            setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(ds, f"{colour}PaletteColorLookupTableData", (np.arange(256, dtype="<u2") * 257).tobytes())
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    if syntax in compress.FORMATS:
        encoded = [compress.encode(ds, frame, str(ds.PhotometricInterpretation), syntax) for frame in frames]
        items = b"".join(transcode.item(one.data) for one in encoded)
        ds.PixelData = transcode.EMPTY_OFFSET_TABLE + items + transcode.SEQUENCE_END
        ds["PixelData"].is_undefined_length = True
        ds.PhotometricInterpretation = encoded[0].photometric
        if kind == "RGB":
            ds.PlanarConfiguration = compress.FORMATS[syntax].planar
    else:
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        ds.PixelData = frames.astype(frames.dtype.newbyteorder(order)).tobytes()
        ds["PixelData"].VR = "OB" if frames.dtype == np.uint8 else "OW"
    return ds


def file(ds: Dataset, syntax: str, value: bytes = b"") -> bytes:
    """As a file, whose encapsulated pixel data may be given."""
    if syntax not in compress.FORMATS:
        return part10(ds, syntax)
    value = value or ds.PixelData
    bare = Dataset(ds)
    del bare.PixelData
    return part10(bare, syntax) + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + value


async def cleaned(content: bytes, finder: Finder | None, *, max_bytes: int = 1 << 20) -> tuple[Taking, bytes]:
    """The way of a suspect instance from its bytes to those of its file."""
    workers = Workers()
    try:
        cleaning = Cleaning(PixelCleaner(workers.run, finder), workers, max_bytes=max_bytes)
        picture = await opened(content, cleaning)
        taking, source = await cleaning.clean(picture)
        data = b""
        while not taking.done:
            await source.fill(1 << 20)
            data += b"".join(taking.advance())
        return taking, data
    finally:
        await workers.close()


async def opened(content: bytes, cleaning: Cleaning) -> Picture:
    source = ByteSource(stream(content), max_bytes=1 << 30)
    await source.fill(1 << 30)
    with pytest.raises(Suspect) as suspect:
        Taking(source, TREATMENT, None).advance()
    return await cleaning.picture(suspect.value.header, source, TREATMENT, None)


def decoded(data: bytes) -> tuple[Dataset, np.ndarray]:
    """A stored file and its frames, in color as RGB."""
    ds = dcmread(BytesIO(data))
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        frames = list(generate_frames(ds.PixelData, number_of_frames=int(ds.NumberOfFrames)))
    else:
        size = len(ds.PixelData) // int(ds.NumberOfFrames)
        frames = [ds.PixelData[start : start + size] for start in range(0, size * int(ds.NumberOfFrames), size)]
    return ds, np.stack([transcode.decode(ds, syntax, frame, rgb=True)[0] for frame in frames])


FORMS = [
    *((kind, syntax) for kind in ("8", "RGB") for syntax in RESULTS if (kind, syntax) != ("RGB", ExplicitVRBigEndian)),
    *(("16", syntax) for syntax in RESULTS if syntax != JPEGBaseline8Bit),
    *(("PALETTE", syntax) for syntax in (ExplicitVRLittleEndian, RLELossless, JPEGLSLossless)),
]


@pytest.mark.parametrize(("kind", "syntax"), FORMS)
async def test_what_is_found_is_blanked_on_every_frame_and_nothing_else_changes(kind: str, syntax: str) -> None:
    content = file(us(kind, syntax), syntax)
    _, before = decoded(content)
    taking, data = await cleaned(content, Finder(BOX))
    ds, after = decoded(data)
    assert ds.file_meta.TransferSyntaxUID == RESULTS[syntax]
    assert after.shape == before.shape
    assert after.dtype == before.dtype
    inside = np.zeros(before.shape, bool)
    inside[:, *BLANKED] = True
    assert (after[~inside] == before[~inside]).all()
    darkest = before.min() if kind != "RGB" else 0
    assert (after[inside] == darkest).all()
    assert ds.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in ds.DeidentificationMethodCodeSequence]
    assert (ds.get("LossyImageCompression") == "01") == (syntax == JPEGBaseline8Bit)
    assert b"Quixote" not in data
    assert taking.frames.count == FRAMES
    assert (await cleaned(content, Finder(BOX)))[1] == data


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, JPEGBaseline8Bit, JPEG2000])
async def test_a_picture_on_which_nothing_is_found_stays_as_it_came(syntax: str) -> None:
    content = file(us("8", syntax), syntax)
    _, data = await cleaned(content, Finder())
    ds, after = decoded(data)
    assert (after == decoded(content)[1]).all()
    if syntax != ExplicitVRBigEndian:
        assert ds.file_meta.TransferSyntaxUID == syntax
        comment = b"Created by OpenJPEG version " + imagecodecs.jpeg2k_version().split()[-1].encode()
        assert ds.PixelData == dcmread(BytesIO(content)).PixelData.replace(comment, bytes(len(comment)))
    assert ds.BurnedInAnnotation == "NO"


@pytest.mark.parametrize(
    ("changes", "is_blanked"),
    [
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", *["X" * 16] * 100], "Modality": "CT", "SOPClassUID": SEGMENTATION},
            False,
        ),
        (
            {
                "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
                "Modality": "CT",
                "ManufacturerModelName": "LightSpeed VCT",
            },
            True,
        ),
    ],
)
async def test_where_no_text_was_looked_for_nothing_is_said_of_it(
    changes: dict[str, object], is_blanked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No mask is looked at; and without what finds text only the places where a device writes are blanked."""
    monkeypatch.setattr(ocr, "is_installed", lambda: False)
    content = file(us("8", ExplicitVRLittleEndian, **changes), ExplicitVRLittleEndian)
    ds, after = decoded((await cleaned(content, None))[1])
    assert (after != decoded(content)[1]).any() == is_blanked
    assert "BurnedInAnnotation" not in ds
    assert "113101" not in [item.CodeValue for item in ds.DeidentificationMethodCodeSequence]


async def test_subsampled_color_becomes_rgb_of_the_same_values() -> None:
    rng = np.random.default_rng(1)
    ds = us("RGB", ExplicitVRLittleEndian, PhotometricInterpretation="YBR_FULL_422")
    ds.PixelData = rng.integers(60, 200, FRAMES * ROWS * COLUMNS * 2, np.uint8).tobytes()
    content = part10(ds)
    _, before = decoded(content)
    stored, after = decoded((await cleaned(content, Finder(BOX)))[1])
    inside = np.zeros(before.shape, bool)
    inside[:, *BLANKED] = True
    assert stored.PhotometricInterpretation == "RGB"
    assert (after[~inside] == before[~inside]).all()
    assert not after[inside].any()


async def test_bytes_after_the_last_frame_are_let_go() -> None:
    ds = us("8", ExplicitVRLittleEndian)
    ds.PixelData += b"MORE"
    ds["PixelData"].VR = "OB"
    _, data = await cleaned(part10(ds), Finder())
    assert len(dcmread(BytesIO(data)).PixelData) == FRAMES * ROWS * COLUMNS


@pytest.mark.parametrize("boxes", [(), (BOX,)])
async def test_native_frames_of_an_odd_length_are_padded(boxes: tuple[Box, ...]) -> None:
    ds = us("8", ExplicitVRLittleEndian, NumberOfFrames=1, Rows=39, Columns=59)
    ds.PixelData = bytes(range(1, 60)) * 39 + b"\0"
    ds["PixelData"].VR = "OB"
    taking, data = await cleaned(part10(ds), Finder(*boxes))
    stored = dcmread(BytesIO(data))
    assert len(stored.PixelData) == 39 * 59 + 1
    assert stored.PixelData[-60:] == ds.PixelData[-60:]
    assert taking.size == len(data)


def lying(**changes: object) -> bytes:
    return part10(us("8", ExplicitVRLittleEndian, **changes))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lying(NumberOfFrames=4), "told apart"),
        (lying(Rows=60000, Columns=60000), "told apart|too large"),
        (lying(BitsAllocated=None), "malformed|told apart"),
        (file(us("8", RLELossless, Rows=8000, Columns=8000), RLELossless), "decoded|malformed"),
        (file(us("8", JPEGLSLossless, NumberOfFrames=1), JPEGLSLossless), "told apart"),
        (file(us("8", RLELossless), MPEG4HP41), "video"),
        (part10(us("8", ExplicitVRLittleEndian, SOPClassUID="1.2.3.4")), "storage class"),
    ],
)
async def test_what_nobody_can_look_into_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        await cleaned(content, Finder(BOX))


async def test_an_object_larger_than_may_be_held_is_refused_before_all_of_it_has_come() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        async for chunk in stream(lying()):
            yield chunk
        while True:
            taken += 1
            yield bytes(1000)

    workers = Workers()
    cleaning = Cleaning(PixelCleaner(workers.run, Finder()), workers, max_bytes=100_000)
    source = ByteSource(endless(), max_bytes=1 << 30)
    await source.fill(5000)
    with pytest.raises(Suspect) as suspect:
        Taking(source, TREATMENT, None).advance()
    with pytest.raises(Refused, match="max_cleaning_mb"):
        await cleaning.picture(suspect.value.header, source, TREATMENT, None)
    assert taken < 110
    await workers.close()


@pytest.mark.parametrize(
    ("changes", "syntax"),
    [
        ({}, ExplicitVRLittleEndian),
        ({}, ImplicitVRLittleEndian),
        ({"Modality": "MR"}, ExplicitVRLittleEndian),
        ({"Modality": "CT", "BurnedInAnnotation": "NO"}, ExplicitVRLittleEndian),
    ],
)
async def test_slices_pass_at_once_and_say_nothing_of_their_pixels(changes: dict[str, object], syntax: str) -> None:
    source = ByteSource(stream(part10(ct(**changes), syntax)), max_bytes=1 << 30)
    await source.fill(1 << 20)
    taking = Taking(source, TREATMENT, None)
    ds = dcmread(BytesIO(b"".join(taking.advance())))
    assert "113101" not in [item.CodeValue for item in ds.DeidentificationMethodCodeSequence]
    assert ds.get("BurnedInAnnotation") == changes.get("BurnedInAnnotation")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize(
    "changes",
    [
        {"Modality": "US"},
        {"BurnedInAnnotation": "YES"},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
        {"Modality": None},
        {"ImageType": ["ORIGINAL", "PRIMARY", *["X" * 16] * 100]} | {"Modality": "US"},
        {
            "Manufacturer": "GE MEDICAL",
            "ManufacturerModelName": "LightSpeed VCT",
            "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
        },
    ],
)
async def test_these_are_looked_at_first(changes: dict[str, object], syntax: str) -> None:
    source = ByteSource(stream(part10(ct(**changes), syntax)), max_bytes=1 << 30)
    await source.fill(1 << 20)
    with pytest.raises(Suspect):
        Taking(source, TREATMENT, None).advance()


async def test_where_pictures_are_not_cleaned_none_is_looked_at() -> None:
    treatment = replace(TREATMENT, looks=False)
    source = ByteSource(stream(lying()), max_bytes=1 << 30)
    await source.fill(1 << 20)
    taking = Taking(source, treatment, None)
    taking.advance()
    assert taking.done
