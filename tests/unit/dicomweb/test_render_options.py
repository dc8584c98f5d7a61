"""Rendering parameters: whatever a caller sends is either understood or refused with a sentence, never an exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from dicomweb.errors import BadRequest
from dicomweb.rendering.options import RENDERED, THUMBNAIL, Options, Parameters, Viewport, parse_viewport

TEXT = st.text(max_size=40) | st.from_regex(r"-?[0-9.,eE+-]{0,30}", fullmatch=True)
NUMBERS = st.floats(-1e4, 1e4).map(lambda number: f"{number:.3f}")


def options(**query) -> Options:
    return Parameters(MultiDict(query), RENDERED).options(1 << 20)


@pytest.mark.parametrize("known", [RENDERED, THUMBNAIL])
@given(query=st.dictionaries(st.sampled_from(RENDERED) | TEXT, TEXT, max_size=6))
def test_anything_is_read_or_refused(known, query):
    parameters = Parameters(MultiDict(query), known)
    try:
        found = parameters.options(1 << 20) if known is RENDERED else parameters.thumbnail(Viewport(1, 1))
    except BadRequest:
        return
    if found.viewport is not None:
        assert 1 <= found.viewport.width * found.viewport.height <= 1 << 20
    for warning in parameters.warnings:
        assert warning.isascii()
        assert warning.isprintable()


@given(st.integers(1, 900), st.integers(1, 900), st.lists(st.none() | NUMBERS, max_size=4))
def test_viewports_mean_what_they_say(width, height, region):
    while region and region[-1] is None:
        region.pop()
    text = ",".join(["" if one is None else one for one in (str(width), str(height), *region)])
    numbers = [None if one is None else float(one) for one in region] + [None] * (4 - len(region))
    if 0.0 in numbers[2:]:
        with pytest.raises(BadRequest):
            parse_viewport(text, 1 << 20)
        return
    assert parse_viewport(text, 1 << 20) == Viewport(
        width, height, abs(numbers[0] or 0.0), abs(numbers[1] or 0.0), numbers[2], numbers[3]
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("viewport", "1000000000,1000000000"),
        ("viewport", "10,10,"),
        ("viewport", "10,10,0,0,0,5"),
        ("viewport", "1e1,10"),
        ("viewport", "+10,10"),
        ("viewport", "10,10,1_0"),
        ("window", "1,2"),
        ("window", "1,0.5,linear"),
        ("window", "1,2,LINEAR"),
        ("window", "1e999,2,linear"),
        ("quality", ""),
        ("quality", "٣"),
        ("annotation", ""),
        ("annotation", "technique,,"),
        ("annotation", "pa tient"),
        ("iccprofile", ""),
        ("iccprofile", "sRGB"),
    ],
)
def test_ill_formed(name, value):
    with pytest.raises(BadRequest) as refused:
        options(**{name: value})
    assert name in refused.value.message
    assert not value or value not in refused.value.message


def test_a_parameter_counts_once():
    with pytest.raises(BadRequest):
        Parameters(MultiDict([("quality", "5"), ("quality", "6")]), RENDERED).options(1)


def test_annotations_that_are_not_supported_are_named():
    parameters = Parameters(MultiDict(annotation="weather,technique,moon"), RENDERED)
    assert parameters.options(1).annotation == ("technique",)
    assert parameters.warnings == ["The following annotation values are not supported: weather, moon"]


def test_unknown_parameters_are_named_but_never_their_values():
    parameters = Parameters(MultiDict({"zoom": "Quixote", "a\r\nb": "1"}), RENDERED)
    (warning,) = parameters.warnings
    assert "zoom" in warning
    assert "Quixote" not in warning
    assert "\n" not in warning


def test_a_thumbnail_has_no_text():
    parameters = Parameters(MultiDict(annotation="patient", window="1,2,linear"), THUMBNAIL)
    found = parameters.thumbnail(Viewport(64, 64))
    assert found == Options(Viewport(64, 64), overlays=False)
    assert "annotation, window" in parameters.warnings[0]
