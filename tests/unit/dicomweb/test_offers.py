"""What is offered for stored frames and files, whatever they are stored in, and what is chosen of it."""

import pytest
from pydicom.uid import UID_dictionary

from dicomweb import offers
from dicomweb.negotiate import COMPRESSED, LOSSY, accepted, choose

NATIVE, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
JPEG = {number: f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)}
NEVER_SENT = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.2"}
STORED = [NATIVE, *COMPRESSED]


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("decodable", [True, False])
def test_every_offer_can_be_had_by_its_name(stored, decodable):
    if stored == NATIVE and not decodable:
        return
    for single in (True, False):
        for found in (offers.frames(stored, decodable, single), offers.files(stored, decodable, True, single)):
            assert {one.multipart for one in found if one.media_type != "application/zip"} <= {True, single is False}
            for one in found:
                name = f'multipart/related; type="{one.media_type}"' if one.multipart else one.media_type
                syntax = f"; transfer-syntax={one.transfer_syntax}" if one.transfer_syntax else ""
                chosen = choose(found, accepted(name + syntax))
                assert chosen is not None
                assert chosen.content_type == one.content_type
                assert one.transfer_syntax not in NEVER_SENT


@pytest.mark.parametrize("stored", STORED)
def test_as_stored_and_uncompressed(stored):
    found = offers.frames(stored, True, True)
    assert choose(found, accepted("application/octet-stream; transfer-syntax=*")).transfer_syntax == stored
    assert choose(found, accepted("application/octet-stream")).transfer_syntax == NATIVE
    assert choose(found, accepted("*/*")).transfer_syntax == NATIVE
    found = offers.files(stored, True, True, True)
    assert choose(found, accepted("application/dicom; transfer-syntax=*")).transfer_syntax == stored
    assert choose(found, accepted("application/dicom")).transfer_syntax == NATIVE


@pytest.mark.parametrize(
    ("stored", "accept", "expected"),
    [
        (NATIVE, "image/jpeg", JPEG[70]),
        (JPEG[57], "image/jpeg", JPEG[70]),
        (JPEG[57], "image/jpeg; transfer-syntax=*", JPEG[57]),
        (JPEG[51], "image/jpeg", JPEG[51]),
        (JPEG[91], "image/jp2", JPEG[91]),
        (JPEG[91], "image/jpeg", JPEG[70]),
        (JPEG[90], "image/jls", JPEG[80]),
        (JPEG[202], "image/jphc", JPEG[201]),
        (JPEG[203], "image/jphc", JPEG[203]),
        (RLE, "image/*", RLE),
        (NATIVE, "image/jpeg; transfer-syntax=*", JPEG[70]),
    ],
)
def test_what_a_media_type_means(stored, accept, expected):
    assert choose(offers.frames(stored, True, True), accepted(accept)).transfer_syntax == expected


@pytest.mark.parametrize("stored", STORED)
def test_nothing_lossy_without_its_name(stored):
    for accept in ("*/*", "image/*", *(f"{name}; transfer-syntax=*" for name in COMPRESSED.values())):
        for build in (offers.frames(stored, True, True), offers.files(stored, True, True, True)):
            chosen = choose(build, accepted(accept))
            assert chosen is None or chosen.transfer_syntax == stored or chosen.transfer_syntax not in LOSSY


def test_every_encapsulated_transfer_syntax_has_a_media_type():
    named = {
        uid
        for uid, entry in UID_dictionary.items()
        if entry[1] == "Transfer Syntax" and ".1.2.4." in uid and not entry[3]
    }
    streams = {uid for uid in named if "JPIP" in UID_dictionary[uid][0] or "SMPTE" in UID_dictionary[uid][0]}
    assert named - streams <= set(COMPRESSED)


def test_what_cannot_be_decoded_is_sent_as_it_is():
    assert {one.transfer_syntax for one in offers.frames(JPEG[90], False, True)} == {JPEG[90]}
    kept = [one for one in offers.files(JPEG[90], False, True, True) if one.media_type == "application/dicom"]
    assert {one.transfer_syntax for one in kept} == {JPEG[90]}
    assert choose(kept, accepted("application/dicom")) is not None
