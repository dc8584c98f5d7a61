"""Text as the profile reads it: in every character set it is what a person would read."""

import pytest
from pydicom.dataset import Dataset

from gateway.deid.values import DEFAULT_ENCODINGS, encodings_of, read


@pytest.mark.parametrize(
    ("declared", "value", "text"),
    [
        (["", "ISO 2022 IR 58"], b"Wang^XiaoDong=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
        (["", "ISO 2022 IR 149"], b"Hong=\x1b$)C\xfb\xf3=", "Hong=洪="),
        (["", "ISO 2022 IR 87"], b"Yamada=\x1b$B;3ED\x1b(B=", "Yamada=山田="),
    ],
)
def test_code_extensions(declared, value, text):
    """No escape sequence is left, which would hide a name from those who look for it."""
    ds = Dataset()
    ds.SpecificCharacterSet = declared
    ds.add_new(0x00100010, "PN", None)
    ds[0x00100010]._value = value
    assert read(ds, 0x00100010, encodings_of(ds, DEFAULT_ENCODINGS)) == text
