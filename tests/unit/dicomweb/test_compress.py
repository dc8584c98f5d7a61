"""Every encoder over every real image, read back by a decoder of other makers: bit-exact where it is lossless."""

import subprocess
import warnings
from io import BytesIO

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID

from dicomweb import offers
from dicomweb.negotiate import LOSSY
from dicomweb.pixels import codecs, compress, transcode
from dicomweb.pixels.compress import FORMATS, Unencodable

JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE = (f"1.2.840.10008.1.2.{number}" for number in ("4.70", "4.80", "4.90", "5"))
BASELINE, NEAR, HTJ2K_LOSSY = (f"1.2.840.10008.1.2.4.{number}" for number in (50, 81, 203))
#: Who reads what we wrote: pydicom's names of decoders, or a program of DCMTK.
OTHERS = {
    BASELINE: ["pillow", "dcmdjpeg"],
    JPEG_LOSSLESS: ["dcmdjpeg"],
    JPEG_LS: ["pyjpegls", "dcmdjpls"],
    NEAR: ["pyjpegls", "dcmdjpls"],
    JPEG_2000: ["pylibjpeg", "pillow"],
    "1.2.840.10008.1.2.4.91": ["pylibjpeg", "pillow"],
    "1.2.840.10008.1.2.4.201": ["pylibjpeg"],
    "1.2.840.10008.1.2.4.202": ["pylibjpeg"],
    HTJ2K_LOSSY: ["pylibjpeg"],
    RLE: ["pydicom", "dcmdrle"],
}
#: Largest and mean error of lossy ones, as parts of the range in use; baseline JPEG halves the resolution of colors.
ERRORS = {BASELINE: (0.9, 0.05), "1.2.840.10008.1.2.4.91": (0.05, 0.005), HTJ2K_LOSSY: (0.05, 0.005)}


@pytest.fixture(autouse=True, scope="module")
def registered():
    codecs.register()


def decoded_images(folder):
    """Name, header, first frame and photometric interpretation of every image that can be decoded."""
    for path in sorted(folder.glob("*.dcm")):
        ds = pydicom.dcmread(path, force=True)
        syntax = ds.file_meta.get("TransferSyntaxUID")
        if syntax in (None, "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.8.1") or "PixelData" not in ds:
            continue
        if syntax.is_encapsulated:
            frame = get_frame(ds.PixelData, 0, number_of_frames=int(ds.get("NumberOfFrames", 1)))
        else:
            syntax, frame = UID("1.2.840.10008.1.2.1"), ds.PixelData
        yield path.stem, ds, *transcode.decode(ds, syntax, frame)


def file_of(header, encoded, syntax, shape):
    """A file with one encoded frame, written by pydicom."""
    ds = pydicom.Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4"
    ds.update({tag: header[tag] for tag in header.keys() if tag.group == 0x28 and tag.element < 0x200})  # noqa: SIM118
    ds.pop("NumberOfFrames", None)
    ds.PhotometricInterpretation = encoded.photometric
    if len(shape) == 3:
        ds.PlanarConfiguration = FORMATS[syntax].planar
    ds.PixelData = encapsulate([encoded.data])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


def read_by(other, ds, syntax, folder):
    """The pixels as another decoder reads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not other.startswith("dcmd"):
            return get_decoder(UID(syntax)).as_array(ds, raw=syntax != BASELINE, decoding_plugin=other)[0]
        ds.save_as(folder / "in.dcm", enforce_file_format=True)
        colors = ["+cn"] if syntax == JPEG_LOSSLESS else []
        subprocess.run([other, *colors, folder / "in.dcm", folder / "out.dcm"], check=True, capture_output=True)
        return pixel_array(folder / "out.dcm", raw=True)


@pytest.mark.parametrize("syntax", FORMATS)
def test_real_images_are_read_back_by_others(syntax, data_folder, tmp_path):
    checked = 0
    for name, header, pixels, photometric in decoded_images(data_folder / "transfer-syntaxes"):
        try:
            compress.check(header, syntax)
            encoded = compress.encode(header, pixels, photometric, syntax)
        except Unencodable:
            continue
        for other in OTHERS[syntax]:
            found = read_by(other, file_of(header, encoded, syntax, pixels.shape), syntax, tmp_path)
            assert found.shape == pixels.shape, (name, other)
            error = np.abs(found.astype(np.int64) - pixels.astype(np.int64))
            used = int(pixels.max()) - int(pixels.min())
            largest, mean = (used * part for part in ERRORS.get(syntax, (0, 0)))
            assert error.max() <= (compress.NEAR if syntax == NEAR else largest), (name, other)
            assert error.mean() <= (compress.NEAR if syntax == NEAR else mean), (name, other)
        checked += 1
    assert checked >= (9 if syntax == BASELINE else 20)


def test_the_tables_agree():
    assert set(FORMATS) == set(offers.ENCODED)
    assert {syntax for syntax, form in FORMATS.items() if form.method} == LOSSY & set(FORMATS)


def header(**attributes):
    ds = pydicom.Dataset()
    plain = {"BitsAllocated": 16, "BitsStored": 12, "SamplesPerPixel": 1, "PixelRepresentation": 0}
    for keyword, value in (plain | {"PhotometricInterpretation": "MONOCHROME2"} | attributes).items():
        setattr(ds, keyword, value)
    return ds


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([syntax for syntax in FORMATS if syntax not in LOSSY]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([("u1", 8), ("u1", 3), ("<u2", 16), ("<u2", 12), ("<i2", 16), ("<i2", 12)]),
    st.booleans(),
    st.integers(0, 1 << 32),
)
def test_any_pixels_come_back(syntax, rows, columns, kind, color, seed):
    """Of any size, sign and depth, also where values go beyond Bits Stored, as overlays in the upper bits make them."""
    dtype, stored = np.dtype(kind[0]), kind[1]
    color = color and dtype == np.uint8
    shape = (rows, columns, 3) if color else (rows, columns)
    limits = np.iinfo(dtype)
    pixels = np.random.default_rng(seed).integers(limits.min, limits.max, shape, dtype, endpoint=True)
    pixels >>= seed % 5
    ds = header(
        Rows=rows, Columns=columns, BitsAllocated=8 * dtype.itemsize, BitsStored=stored, HighBit=stored - 1,
        PixelRepresentation=int(dtype.kind == "i"), SamplesPerPixel=3 if color else 1, PlanarConfiguration=0,
        PhotometricInterpretation="RGB" if color else "MONOCHROME2",
    )  # fmt: skip
    encoded = compress.encode(ds, pixels, ds.PhotometricInterpretation, syntax)
    ds.PhotometricInterpretation, ds.BitsStored, ds.HighBit = (
        encoded.photometric,
        8 * dtype.itemsize,
        8 * dtype.itemsize - 1,
    )
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    found, _ = transcode.decode(ds, syntax, encoded.data)
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize(
    ("syntax", "attributes"),
    [
        (BASELINE, {}),
        (BASELINE, {"BitsAllocated": 8, "PhotometricInterpretation": "PALETTE COLOR"}),
        (JPEG_2000, {"BitsAllocated": 32}),
        (JPEG_2000, {"BitsAllocated": 1}),
        (RLE, {"BitsAllocated": 1}),
        (JPEG_LS, {"SamplesPerPixel": 2}),
        (JPEG_2000, {"BitsAllocated": 8, "SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL"}),
    ],
)
def test_what_does_not_fit(syntax, attributes):
    with pytest.raises(Unencodable):
        compress.check(header(**attributes), syntax)


@pytest.mark.parametrize(
    ("dtype", "stored", "value"), [("<u2", 12, 4095), ("<i2", 12, -2048), ("<i2", 12, 2047), ("<i2", 16, 32767)]
)
def test_an_error_must_not_wrap_a_value_around(dtype, stored, value):
    pixels = np.full((8, 8), value, dtype)
    with pytest.raises(Unencodable):
        compress.encode(header(BitsStored=stored), pixels, "MONOCHROME2", NEAR)
    compress.encode(header(BitsStored=stored), pixels - np.sign(value).astype(dtype) * 2, "MONOCHROME2", NEAR)


def test_resolutions_of_rpcl_begin_with_64_pixels():
    data = compress.encode(header(), np.zeros((1000, 300), "<u2"), "MONOCHROME2", "1.2.840.10008.1.2.4.202").data
    cod = data.index(b"\xff\x52")
    assert data[cod + 5] == 2  # progression order RPCL
    assert data[cod + 9] == 4  # 1000 pixels halved four times are 63
    assert b"\xff\x55" in data  # tile-part lengths


def test_a_lossy_file_says_so():
    ds = header(Rows=64, Columns=64, BitsAllocated=8, BitsStored=8, HighBit=7)
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4"
    ds.LossyImageCompression, ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod = "01", "3.5", "ISO_15444_1"
    ds.set_original_encoding(False, True, "ISO_IR 192")
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.91"
    frame = compress.encode(ds, np.zeros((64, 64), np.uint8), "MONOCHROME2", BASELINE)
    data = transcode.encoded_part10_head(ds, frame, BASELINE) + transcode.item(frame.data) + transcode.SEQUENCE_END
    read = pydicom.dcmread(BytesIO(data))
    assert read.file_meta.TransferSyntaxUID == BASELINE
    assert read.LossyImageCompression == "01"
    assert list(read.LossyImageCompressionMethod) == ["ISO_15444_1", "ISO_10918_1"]
    assert [float(ratio) for ratio in read.LossyImageCompressionRatio] == [3.5, pytest.approx(frame.ratio, abs=0.01)]
    assert ds.LossyImageCompressionMethod == "ISO_15444_1"
