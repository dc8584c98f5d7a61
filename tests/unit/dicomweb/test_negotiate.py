"""Which representation is chosen for the Accept headers that real clients send."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.errors import BadRequest
from dicomweb.negotiate import Offer, accepted, accepts_coding, choose, parse_media_type

ELE = "1.2.840.10008.1.2.1"
J2K = "1.2.840.10008.1.2.4.90"
OCTETS = "application/octet-stream"

FRAME = [
    Offer(OCTETS, J2K, multipart=True, default=False),
    Offer(OCTETS, ELE, multipart=True),
    Offer("image/jp2", J2K, multipart=True),
    Offer(OCTETS, ELE),
    Offer("image/jp2", J2K),
]


def pick(accept, offers=FRAME, parameter=None):
    offer = choose(offers, accepted(accept, parameter))
    return offer and (offer.media_type, offer.transfer_syntax, offer.multipart)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ('multipart/related; type="application/octet-stream"; transfer-syntax="*"', (OCTETS, J2K, True)),
        ("multipart/related; type=application/octet-stream; transfer-syntax=*", (OCTETS, J2K, True)),
        ("multipart/related;type=application/octet-stream", (OCTETS, ELE, True)),
        ("multipart/related; type=image/jp2", ("image/jp2", J2K, True)),
        (f"multipart/related; type=image/jp2; transfer-syntax={J2K}", ("image/jp2", J2K, True)),
        (f"multipart/related; type=application/octet-stream; transfer-syntax={J2K}", (OCTETS, J2K, True)),
        (OCTETS, (OCTETS, ELE, False)),
        ("image/jp2; transfer-syntax=*", ("image/jp2", J2K, False)),
        (None, (OCTETS, ELE, True)),
        ("", (OCTETS, ELE, True)),
        ("*/*", (OCTETS, ELE, True)),
        ("image/*", ("image/jp2", J2K, False)),
        ("text/html, nonsense, */*;q=0.1", (OCTETS, ELE, True)),
        ("*/*, application/octet-stream;q=0, multipart/related; type=application/octet-stream; q=0.2",
         ("image/jp2", J2K, True)),
        ("application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*",
         (OCTETS, J2K, True)),
        ("multipart/related; type=application/octet-stream; transfer-syntax=1.2.3", None),
        ("image/png", None),
        ("application/octet-stream;q=0", None),
    ],
)  # fmt: skip
def test_frames(accept, expected):
    assert pick(accept) == expected


def test_the_query_parameter_comes_first_and_may_hold_a_bare_plus():
    offers = [Offer("image/jpeg"), Offer("application/dicom+json")]
    assert pick("image/jpeg", offers, "application/dicom json") == ("application/dicom+json", None, False)
    assert pick("*/*", offers, "video/mp4") == ("image/jpeg", None, False)


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        (
            'multipart/related; type="application/dicom"; boundary="a;b,c=\\"d"',
            "multipart/related",
            {"type": "application/dicom", "boundary": 'a;b,c="d'},
        ),
        ("Multipart/Related;TYPE=application/dicom;boundary=x", "multipart/related",
         {"type": "application/dicom", "boundary": "x"}),
        ("application/dicom", "application/dicom", {}),
        ("", "", {}),
        (";;;", "", {}),
    ],
)  # fmt: skip
def test_media_types(text, name, parameters):
    assert parse_media_type(text) == (name, parameters)


@pytest.mark.parametrize("header", ["application/dicom, image/png", "text/html, application/dicom+json;q=0.1"])
def test_dicom_and_rendered_media_types_do_not_mix(header):
    with pytest.raises(BadRequest):
        accepted(header)
    with pytest.raises(BadRequest):
        accepted("application/dicom", "image/gif")
    accepted("application/octet-stream, image/jpeg, */*")  # both may be frames


@pytest.mark.parametrize("parameter", ["*/*", "image/*", "application/dicom, */*;q=0.1"])
def test_the_query_parameter_has_no_wildcards(parameter):
    with pytest.raises(BadRequest):
        accepted("*/*", parameter)
    assert accepted("*/*", "application/dicom;transfer-syntax=*")


def test_what_loses_something_must_be_named():
    offers = [Offer("image/jls", "1.2.840.10008.1.2.4.81", default=False, named_only=True)]
    assert pick("image/jls", offers) is None
    assert pick("image/jls; transfer-syntax=*", offers) is None
    assert pick("image/jls; transfer-syntax=1.2.840.10008.1.2.4.81", offers) is not None


@pytest.mark.parametrize(
    ("header", "welcome"),
    [
        ("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("*;q=0", False), ("gzip;q=0, *", False), ("", False),
        (None, False), ("GZIP", True), ("identity", False),
    ],
)  # fmt: skip
def test_content_codings(header, welcome):
    assert accepts_coding(header, "gzip") is welcome


@given(st.text(max_size=200), st.text(max_size=60) | st.none())
def test_any_header_is_read(header, parameter):
    with contextlib.suppress(BadRequest):
        choose(FRAME, accepted(header, parameter))
    accepts_coding(header, "gzip")
