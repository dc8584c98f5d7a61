"""The head of the file that a C-STORE becomes, as pydicom reads it."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread

from dicomweb.errors import BadRequest
from gateway.dimse.store import file_head
from tests.unit.dimse.conversations import CT, EXPLICIT

uids = st.from_regex(rb"[0-9.]{1,64}", fullmatch=True)


@given(uids, uids)
def test_pydicom_reads_it(sop_class, instance):
    head = file_head(sop_class, instance, EXPLICIT)
    meta = dcmread(BytesIO(head)).file_meta
    assert meta.MediaStorageSOPClassUID == sop_class.decode()
    assert meta.MediaStorageSOPInstanceUID == instance.decode()
    assert meta.TransferSyntaxUID == EXPLICIT.decode()
    assert meta.FileMetaInformationGroupLength == len(head) - 144
    assert len(head) % 2 == 0


@pytest.mark.parametrize(("sop_class", "instance"), [(b"", b"1.2"), (CT, b""), (CT, b"1" * 65), (b"1" * 65, b"1.2")])
def test_names_that_cannot_be(sop_class, instance):
    with pytest.raises(BadRequest):
        file_head(sop_class, instance, EXPLICIT)
