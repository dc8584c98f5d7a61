"""What pictures depend on of a header, found by walking over it: compared with pydicom, and with arbitrary bytes."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import as_pixel_options
from pydicom.sequence import Sequence

from dicomweb.pixels.picture_header import parsed, relevant
from tests.samples import ct, part10


def beginning(ds: Dataset) -> memoryview:
    """The file up to its pixel data."""
    content = part10(ds)
    return memoryview(content[: content.rindex(b"\xe0\x7f\x10\x00O")])


PLAIN = bytes(beginning(ct()))


def nest(ds: Dataset, keyword: str, *, undefined: bool, depth: int) -> None:
    """Give a data set a sequence with such sequences in it, of undefined lengths or defined ones."""
    item = Dataset()
    item.CodeValue = "1"
    if depth:
        nest(item, "ContentSequence", undefined=undefined, depth=depth - 1)
    item.is_undefined_length_sequence_item = undefined
    setattr(ds, keyword, Sequence([item, Dataset()]))
    ds[keyword].is_undefined_length = undefined


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 5])
def test_what_is_found_is_what_pydicom_finds(undefined, depth):
    ds = ct(WindowCenter=[40, 50], WindowWidth=[400, 500], BurnedInAnnotation="NO", ConversionType="WSD")
    nest(ds, "ReferencedImageSequence", undefined=undefined, depth=depth)
    nest(ds, "ModalityLUTSequence", undefined=undefined, depth=depth)
    ds.add_new(0x60003000, "OW", bytes(64))
    ds.PresentationLUTShape = "INVERSE"
    header = beginning(ds)
    assert (b"\xfe\xff\xdd\xe0" in bytes(header)) == undefined
    found = parsed(relevant(header, len(header)))
    whole = dcmread(io.BytesIO(header), stop_before_pixels=True)
    groups = (0x0028, 0x2050, 0x6000)
    wanted = [one.tag for one in whole if one.tag.group in groups or one.keyword in ("Modality", "ConversionType")]
    assert [one.tag for one in found] == wanted
    assert all(found[tag] == whole[tag] for tag in wanted)
    assert as_pixel_options(found, number_of_frames=1) == as_pixel_options(whole, number_of_frames=1)


def test_slices_that_differ_in_place_time_and_range_are_alike():
    shared = ct()
    other = ct(ImagePositionPatient=[1, 2, 3], ContentTime="120000", LargestImagePixelValue=7)
    headers = [beginning(ds) for ds in (shared, other)]
    first, second = (relevant(header, len(header)) for header in headers)
    assert first == second
    changed = beginning(ct(RescaleSlope=3))
    assert first != relevant(changed, len(changed))


@pytest.mark.parametrize("cut", [1, 7, 60])
def test_nothing_is_told_of_what_ends_elsewhere(cut):
    header = beginning(ct())
    assert relevant(header[:-cut], len(header)) is None
    assert relevant(header, len(header) - cut) is None


def test_nothing_is_told_of_what_is_encoded_otherwise():
    """An UN of undefined length is implicit within; nesting has a limit; file meta begins with its length."""
    ds = ct()
    nest(ds, "ReferencedImageSequence", undefined=True, depth=30)
    header = beginning(ds)
    assert relevant(header, len(header)) is None
    unknown = b"\x09\x00\x01\x10UN\0\0\xff\xff\xff\xff\xfe\xff\xdd\xe0\0\0\0\0"
    plain = bytes(beginning(ct()))
    end = 144 + int.from_bytes(plain[140:144], "little")
    assert relevant(memoryview(plain[:end] + unknown), end + len(unknown)) is None
    assert relevant(memoryview(b"\0" * 400), 400) is None


@given(st.binary(max_size=200), st.integers(0, 200))
def test_arbitrary_bytes_are_none_or_elements(data, surplus):
    head = PLAIN[: 144 + int.from_bytes(PLAIN[140:144], "little")]
    found = relevant(memoryview(head + data), len(head) + len(data) - min(surplus, len(data)))
    assert found is None or all(piece in head + data for piece in [found[:8]])


@given(st.data())
def test_a_damaged_header_is_none_or_elements(data):
    header = np.frombuffer(PLAIN, np.uint8).copy()
    for position in data.draw(st.lists(st.integers(144, len(header) - 1), min_size=1, max_size=5)):
        header[position] = data.draw(st.integers(0, 255))
    found = relevant(memoryview(header.tobytes()), len(header))
    assert found is None or len(found) <= len(header)
