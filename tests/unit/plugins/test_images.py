"""Derived series: the values that a plugin gave where it gave some, the source's own bits elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Annotated

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLSLossless

from ray_plugins.outputs import images as writing
from ray_plugins.sdk import Accepts, Context, Param, Result, Volume, plugin
from ray_plugins.task import DicomSeries, RunFailed
from ray_plugins.testing import Phantom, run, validate
from ray_plugins.volume import read

SHAPE = (5, 24, 24)
CHANGED = np.zeros(SHAPE, np.bool_)
CHANGED[:, 6:18, 4:12] = True

Change = Callable[[Dataset, int], None]


@plugin(name="lift", title="Lift", version="1.0.0", category="Test", accepts=Accepts("CT"))
def lift(
    volume: Volume,
    context: Context,
    title: Annotated[str, Param("Lifted")],
    by: Annotated[float, Param(100)],
    defaced: Annotated[bool, Param(False)],
) -> Result:
    """Adds a number to a block of values."""
    values = volume.array.astype(np.float64) + by
    return Result().images(title, values, CHANGED, defaced=defaced)


def stored(bits: int, *, signed: bool, allocated: int = 16, slope: float = 1, intercept: float = 0) -> Change:
    """Store the values otherwise."""

    def change(ds: Dataset, number: int) -> None:
        hu = np.frombuffer(ds.PixelData, "<i2").astype(np.float64)
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        pixels = np.clip(np.rint((hu - intercept) / slope), low, high)
        ds.PixelData = pixels.astype(f"<{'i' if signed else 'u'}{allocated // 8}").tobytes()
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = allocated, bits, bits - 1, int(signed)
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
        ds["PixelData"].VR = "OW" if allocated == 16 else "OB"

    return change


def another_scale_in_each_slice(ds: Dataset, number: int) -> None:
    stored(12, signed=False, slope=1 + number / 2, intercept=-1024 - 10 * number)(ds, number)


def overlay_in_unused_bits(ds: Dataset, number: int) -> None:
    stored(12, signed=False, intercept=-1024)(ds, number)
    ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") | 0x5000).tobytes()


def signed_12_bits_as_jpeg_ls(ds: Dataset, number: int) -> None:
    stored(12, signed=True)(ds, number)
    plane = np.frombuffer(ds.PixelData, "<u2").reshape(SHAPE[1:])
    ds.PixelData = encapsulate([bytes(imagecodecs.jpegls_encode(plane, 0))])
    ds.file_meta.TransferSyntaxUID = JPEGLSLossless
    ds["PixelData"].VR = "OB"


def without_rescaling(ds: Dataset, number: int) -> None:
    del ds.RescaleSlope, ds.RescaleIntercept


def empty_rescaling(ds: Dataset, number: int) -> None:
    ds.RescaleSlope = ds.RescaleIntercept = None


def inverted(ds: Dataset, number: int) -> None:
    ds.PhotometricInterpretation = "MONOCHROME1"


def big_endian(ds: Dataset, number: int) -> None:
    ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian


def implicit(ds: Dataset, number: int) -> None:
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def padded(ds: Dataset, number: int) -> None:
    pixels = np.frombuffer(ds.PixelData, "<i2").copy().reshape(SHAPE[1:])
    pixels[:, :3] = -2000
    ds.PixelData = pixels.tobytes()
    ds.add_new("PixelPaddingValue", "SS", -2000)


def padded_and_implicit(ds: Dataset, number: int) -> None:
    padded(ds, number)
    implicit(ds, number)


def as_an_enhanced_image(ds: Dataset, number: int) -> None:
    ds.NumberOfFrames = 1
    group, scale = Dataset(), Dataset()
    scale.RescaleSlope, scale.RescaleIntercept = 2, -1024
    group.PixelValueTransformationSequence = [scale]
    ds.SharedFunctionalGroupsSequence = [group]


def in_a_high_bit(ds: Dataset, number: int) -> None:
    ds.BitsStored, ds.HighBit = 12, 14


def scaled_by_nothing(ds: Dataset, number: int) -> None:
    ds.RescaleSlope = 0


WAYS: dict[str, Change] = {
    "12 bits": stored(12, signed=False, intercept=-1024),
    "12 bits, signed": stored(12, signed=True),
    "12 bits, signed, JPEG-LS": signed_12_bits_as_jpeg_ls,
    "16 bits": stored(16, signed=False, intercept=-1024),
    "8 bits": stored(8, signed=False, allocated=8, slope=8, intercept=-1024),
    "8 bits of 16": stored(8, signed=False, slope=8, intercept=-1024),
    "a fraction": stored(12, signed=False, slope=0.37, intercept=-1000.5),
    "another scale in each slice": another_scale_in_each_slice,
    "an overlay in unused bits": overlay_in_unused_bits,
    "without rescaling": without_rescaling,
    "empty rescaling": empty_rescaling,
    "inverted": inverted,
    "padded": padded,
    "padded and implicit": padded_and_implicit,
    "big endian": big_endian,
    "implicit": implicit,
}


def write(folder: Path, change: Change = lambda ds, number: None) -> tuple[str, ...]:
    """A series whose slices lie in another order than their files."""
    uris = Phantom(shape=SHAPE).write(folder)
    for uri in uris:
        ds = dcmread(uri.removeprefix("file://"))
        ds.PatientPosition, ds.BodyPartExamined = "HFS", "HEAD"
        change(ds, int(ds.InstanceNumber) - 1)
        dcmwrite(uri.removeprefix("file://"), ds, enforce_file_format=True)
    return uris


def again(series: DicomSeries, folder: Path) -> tuple[str, ...]:
    """Keep what was made, so that it can be read."""
    folder.mkdir()
    for number, (_, data) in enumerate(series.instances):
        (folder / f"{number}.dcm").write_bytes(data)
    return tuple(path.as_uri() for path in sorted(folder.iterdir()))


def of_source(uris: tuple[str, ...]) -> dict[str, Dataset]:
    """The source's instances, by their UIDs."""
    return {str(one.SOPInstanceUID): one for one in (dcmread(uri.removeprefix("file://")) for uri in uris)}


@pytest.mark.parametrize("way", WAYS)
def test_values_are_as_given_and_bits_as_they_were(way: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    uris = write(tmp_path / "source", WAYS[way])
    (series,) = run(lift, uris).series
    before, after = read(uris), read(again(series, tmp_path / "made"))
    assert np.allclose(after.affine, before.affine)
    slopes = np.array([float(header.get("RescaleSlope") or 1) for header in before.headers])[:, None, None]
    wanted = np.where(CHANGED, before.array.astype(np.float64) + 100, before.array)
    top = before.array.max(axis=(1, 2), keepdims=True)  # beyond what the bits can hold, their end is taken
    assert (np.abs(after.array - wanted) <= np.where(CHANGED, slopes / 2 + 1e-3, 0))[wanted <= top].all()
    sources = of_source(uris)
    for index, (_, data) in enumerate(series.instances):
        made = dcmread(BytesIO(data))
        source = sources[made.SourceImageSequence[0].ReferencedSOPInstanceUID]
        unused = 16 - int(source.BitsStored) if source.BitsAllocated == 16 else 0
        raw = pixel_array(source, raw=True) << unused >> unused
        assert (pixel_array(made, raw=True)[~CHANGED[index]] == raw[~CHANGED[index]]).all()
        assert made.PhotometricInterpretation == source.PhotometricInterpretation
        assert int(made.InstanceNumber) == int(source.InstanceNumber) == index + 1
    assert set(validate(series.instances[0][1])) <= set(validate(Path(uris[0].removeprefix("file://")).read_bytes()))


@pytest.mark.parametrize("change", [as_an_enhanced_image, in_a_high_bit, scaled_by_nothing])
def test_what_cannot_be_written_back_is_refused(change: Change, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"multi-frame images|cannot be written back"):
        run(lift, write(tmp_path, change))


def test_a_series_that_is_too_large_is_made_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MAX_SERIES_BYTES", 100)
    monkeypatch.setattr(writing, "MAX_THREADS", 1)
    encoded, encode = [], writing._encode

    def counting(instance: Dataset, pixels: object) -> None:
        encoded.append(instance)
        encode(instance, pixels)

    monkeypatch.setattr(writing, "_encode", counting)
    with pytest.raises(RunFailed, match="larger than"):
        run(lift, write(tmp_path))
    assert len(encoded) < SHAPE[0]


@pytest.mark.parametrize("described", ["", "Head native", "x" * 64])
@pytest.mark.parametrize("title", ["Lifted", "y" * 90])
def test_a_description_fits(described: str, title: str, tmp_path: Path) -> None:
    def change(ds: Dataset, number: int) -> None:
        ds.SeriesDescription = described

    (series,) = run(lift, write(tmp_path, change), title=title).series
    text = dcmread(BytesIO(series.instances[0][1])).SeriesDescription
    assert len(text) <= 64
    assert text.startswith(described[:20])
    assert title[:30].lower() in text.lower()


def of_a_person(ds: Dataset, number: int) -> None:
    """As an object comes that was de-identified, and has all that may show the pixels as they were."""
    icon, step = Dataset(), Dataset()
    icon.Rows = 1
    step.SpecificCharacterSet, step.RequestedProcedureDescription = "ISO_IR 100", "Schädel"
    ds.SpecificCharacterSet, ds.SeriesDescription, ds.PatientName = "ISO_IR 100", "Schädel nativ", "P-7"
    ds.PatientIdentityRemoved, ds.DeidentificationMethod = "YES", "Isthmus research"
    ds.LongitudinalTemporalInformationModified = "MODIFIED"
    ds.IconImageSequence, ds.RequestAttributesSequence = [icon], [step]
    ds.add_new("LargestImagePixelValue", "SS", 900)
    ds.add_new(0x60003000, "OW", bytes(72))
    ds.add_new(0x00091001, "LO", "private")


KEPT = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "InstanceNumber", "KVP", "PatientName",
        "FrameOfReferenceUID", "StudyInstanceUID", "AcquisitionDate")  # fmt: skip


@pytest.mark.parametrize("defaced", [True, False])
def test_an_instance_says_what_became_of_it(defaced: bool, tmp_path: Path) -> None:
    uris = write(tmp_path, of_a_person)
    (series,) = run(lift, uris, defaced=defaced).series
    sources = of_source(uris)
    for number, (uid, data) in enumerate(series.instances, 1):
        made = dcmread(BytesIO(data))
        (reference,) = made.SourceImageSequence
        source = sources.pop(reference.ReferencedSOPInstanceUID)
        assert uid == made.SOPInstanceUID == made.file_meta.MediaStorageSOPInstanceUID != source.SOPInstanceUID
        assert (made.SeriesInstanceUID, made.InstanceNumber) == (series.series_uid, number)
        assert all(made.get(keyword) == source.get(keyword) for keyword in KEPT)
        assert list(made.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert made.DerivationCodeSequence[0].CodeValue == "113077"
        assert made.SeriesDescription == "Schädel nativ lifted"
        assert made.RequestAttributesSequence[0].RequestedProcedureDescription == "Schädel"
        assert made.ContentDate == source.AcquisitionDate, "the day of the run would give the shift of dates away"
        assert not {"IconImageSequence", "LargestImagePixelValue"} & set(made.dir())
        assert not [one for one in made if one.tag.is_private or one.tag.group == 0x6000]
        codes = [item.CodeValue for item in made.get("DeidentificationMethodCodeSequence", [])]
        assert codes == (["113102"] if defaced else [])
        assert made.get("RecognizableVisualFeatures") == ("NO" if defaced else None)
        methods = made["DeidentificationMethod"].value
        assert methods == (["Isthmus research", "lift 1.0.0"] if defaced else "Isthmus research")
    assert sources == {}


def test_of_a_person_who_is_known_no_method_is_claimed(tmp_path: Path) -> None:
    (series,) = run(lift, write(tmp_path), defaced=True).series
    made = dcmread(BytesIO(series.instances[0][1]))
    assert made.RecognizableVisualFeatures == "NO"
    assert not {"PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"} & set(
        made.dir()
    )
