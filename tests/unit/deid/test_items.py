"""Items encoded again must be what pydicom writes, whatever they came as."""

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from gateway.deid.items import MAX_ITEMS_BYTES, ItemEncoder, NotEncodable
from gateway.deid.values import elements_of, make
from tests.samples import BUNDLED
from tests.unit.deid.objects import decode, encode, header, open_header


def define_lengths(items: list[Dataset]) -> None:
    for item in items:
        item.is_undefined_length_sequence_item = False
        for tag, element in list(elements_of(item).items()):
            if element.VR == "SQ":
                item[tag].is_undefined_length = False
                define_lengths(item[tag].value)


def written(items: list[Dataset], implicit: bool, little: bool) -> bytes:
    """What pydicom writes with explicit lengths."""
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = implicit, little
    for item in items:
        content = DicomBytesIO()
        content.is_implicit_VR, content.is_little_endian = implicit, little
        write_dataset(content, item)
        out.write_tag(0xFFFEE000)
        out.write_UL(content.tell())
        out.write(content.getvalue())
    return out.getvalue()


def test_what_comes_out_is_what_pydicom_writes() -> None:
    compared = 0
    for path in BUNDLED:
        if open_header(path) is None:
            continue
        ds = dcmread(path, stop_before_pixels=True)
        implicit, little = ds.original_encoding
        for tag, element in list(elements_of(ds).items()):
            if element.VR != "SQ" or tag.is_private:
                continue
            items = list(ds[tag].value or ())
            try:
                encoded = ItemEncoder(implicit, little, cleaned=False).items(items)
            except NotEncodable:
                continue
            define_lengths(items)
            assert encoded == written(items, implicit, little), (path, tag)
            compared += 1
    assert compared > 60


def test_text_that_was_cleaned_is_written_in_utf_8() -> None:
    item = Dataset()
    item[0x00081030] = make(0x00081030, "LO", ["Schädel", "CT"])
    encoded = ItemEncoder(implicit=False, little=True, cleaned=True).items([item])
    assert encoded == b"\xfe\xff\x00\xe0\x14\0\0\0\x08\0\x30\x10LO\x0c\0" + "Schädel\\CT ".encode()
    with pytest.raises(NotEncodable):  # as bytes it could be taken for what was sent so
        ItemEncoder(implicit=False, little=True, cleaned=False).items([item])


def test_what_pydicom_must_write_is_left_to_it() -> None:
    numbers = Dataset()
    numbers.Rows = 512
    long = Dataset()
    long[0x00204000] = make(0x00204000, "LT", "x" * 70_000)
    many = [decode(encode(header(PatientName=None)))] * (MAX_ITEMS_BYTES // 100)
    for items in ([numbers], [long], many):
        with pytest.raises(NotEncodable):
            ItemEncoder(implicit=False, little=True, cleaned=True).items(items)
