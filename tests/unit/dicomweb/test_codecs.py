"""Decoders against the independent ones that pydicom finds by itself, and against lossless originals."""

import warnings

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import get_frame

from dicomweb.errors import TooLarge
from dicomweb.pixels import codecs, transcode

ORIGINAL = "transfer-syntaxes/ct-littleendianexplicit.dcm"


@pytest.fixture(autouse=True, scope="module")
def registered():
    codecs.register()
    codecs.register()


@pytest.fixture
def first_frame(data_folder):
    def decode(name):
        ds = pydicom.dcmread(data_folder / name, force=True)
        frame = get_frame(ds.PixelData, 0, number_of_frames=int(ds.get("NumberOfFrames") or 1))
        return ds, transcode.decode(ds, ds.file_meta.TransferSyntaxUID, frame)

    return decode


@pytest.mark.parametrize(
    "name", ["jpeg2000losslessonly", "jpeglslossless", "jpegprocess14", "jpegprocess14sv1", "rlelossless"]
)
def test_lossless_is_the_original(name, first_frame, data_folder):
    _, (pixels, photometric) = first_frame(f"transfer-syntaxes/ct-{name}.dcm")
    original = pydicom.dcmread(data_folder / ORIGINAL).pixel_array
    assert photometric == "MONOCHROME2"
    assert pixels.dtype == original.dtype
    assert np.array_equal(pixels, original)


@pytest.mark.parametrize("name", ["jpegprocess2_4", "jpegprocess6_8", "jpegprocess10_12"])
def test_twelve_bit_jpeg_processes_agree(name, first_frame):
    """Three processes of one slice; shifted to unsigned and quantised, so near the original but for an offset."""
    _, (pixels, _) = first_frame(f"transfer-syntaxes/ct-{name}.dcm")
    _, (reference, _) = first_frame("transfer-syntaxes/ct-jpegprocess2_4.dcm")
    assert np.array_equal(pixels, reference)
    assert (pixels.min(), pixels.max()) == (497, 2708)


@pytest.mark.parametrize(
    ("name", "plugin"),
    [
        ("transfer-syntaxes/ct-jpeg2000.dcm", "pylibjpeg"),
        ("transfer-syntaxes/gdcmj2k_textgbr.dcm", "pylibjpeg"),
        ("transfer-syntaxes/htj2k_08_rgb.dcm", "pylibjpeg"),
        ("transfer-syntaxes/htj2klossless_08_rgb.dcm", "pylibjpeg"),
        ("transfer-syntaxes/ct-jpeglslossy.dcm", "pyjpegls"),
        ("transfer-syntaxes/jlsl_16_15_1_1f.dcm", "pyjpegls"),
        ("transfer-syntaxes/jlsl_rgb_ilv0.dcm", "pyjpegls"),
        ("transfer-syntaxes/jlsl_rgb_ilv1.dcm", "pyjpegls"),
        ("transfer-syntaxes/jlsl_rgb_ilv2.dcm", "pyjpegls"),
        ("transfer-syntaxes/sc_rgb_rle_32bit_2frame.dcm", "pydicom"),
        ("us/us-rgb-palette-expb.dcm", "pydicom"),
        ("malformed/j2k_pixelrep_mismatch.dcm", "pylibjpeg"),
        ("ct-bone/001.dcm", "pylibjpeg"),
        ("ct-chest/001.dcm", "pyjpegls"),
        ("xa/xa-96f.dcm", "pillow"),
    ],
)
def test_agrees_with_another_decoder(name, plugin, first_frame):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds, (pixels, photometric) = first_frame(name)
        decoder = codecs.find(ds.file_meta.TransferSyntaxUID)
        expected, properties = decoder.as_array(ds, raw=True, index=0, decoding_plugin=plugin)
    assert photometric == properties["photometric_interpretation"]
    assert pixels.dtype == expected.dtype
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("name", ["transfer-syntaxes/sc_rgb_dcmtk__eb_cy_s4.dcm", "us/cine-echo-30f.dcm"])
def test_color_jpeg_is_rgb(name, first_frame):
    ds, (pixels, photometric) = first_frame(name)
    assert photometric == "RGB"
    expected, _ = codecs.find(ds.file_meta.TransferSyntaxUID).as_array(ds, index=0, decoding_plugin="pillow")
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def test_a_broken_codestream_is_an_error_of_ours(first_frame):
    ds, _ = first_frame("transfer-syntaxes/ct-jpeg2000.dcm")
    for syntax in codecs._DECODE:
        with pytest.raises(transcode.Undecodable):
            transcode.decode(ds, syntax, b"\xff\x4f\xff\x51nothing of the kind")
    with pytest.raises(transcode.Undecodable):
        transcode.decode(ds, "1.2.840.10008.1.2.4.102", b"")


def test_a_decoded_file_can_be_read_and_leaves_the_header_alone(first_frame):
    ds, (pixels, photometric) = first_frame("transfer-syntaxes/sc_rgb_dcmtk__eb_cy_s4.dcm")
    length = transcode.native_bytes(ds, 1)
    head = transcode.native_part10_head(ds, photometric, length)
    read = pydicom.dcmread(pydicom.filebase.DicomBytesIO(head + pixels.tobytes()))
    assert np.array_equal(read.pixel_array, pixels)
    assert (read.PhotometricInterpretation, read.PlanarConfiguration) == ("RGB", 0)
    assert ds.PhotometricInterpretation == "YBR_FULL"
    assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"


@pytest.mark.parametrize("skip", range(8))
def test_bits_are_cut_at_any_place(skip):
    bits = np.random.default_rng(skip).integers(0, 2, 64)
    data = np.packbits(bits, bitorder="little").tobytes()
    cut = transcode.shift_bits(data, skip, 41)
    assert np.array_equal(np.unpackbits(np.frombuffer(cut, np.uint8), bitorder="little")[:41], bits[skip : skip + 41])


@pytest.mark.parametrize("name", ["jpeg2000", "jpeglslossless", "jpegprocess1", "jpegprocess14", "jpegprocess10_12"])
def test_the_size_of_a_codestream_is_read_before_it_is_decoded(name, data_folder):
    ds = pydicom.dcmread(data_folder / f"transfer-syntaxes/ct-{name}.dcm")
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    assert codecs.codestream_size(frame) == (512, 512)
    ds.Rows = 511
    with pytest.raises(transcode.Undecodable):
        transcode.decode(ds, ds.file_meta.TransferSyntaxUID, frame)


@given(st.binary(max_size=60), st.sampled_from([b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\xd8\xff\xc0"]))
def test_any_bytes_are_measured(data, head):
    codecs.codestream_size(head + data)


def test_a_frame_of_gigabytes_is_not_begun(data_folder):
    ds = pydicom.dcmread(data_folder / "transfer-syntaxes/ct-rlelossless.dcm")
    ds.Rows = ds.Columns = 65535
    with pytest.raises(TooLarge):
        transcode.decode(ds, ds.file_meta.TransferSyntaxUID, b"")
