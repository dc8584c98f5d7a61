"""Rendered resources, thumbnails and volumes: PS3.18 sections 8.3.5, 8.7.4, 10.4.1.1.3, .4, .7, .8 and Annex K."""

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.conformance import objects
from tests.conformance.caller import JSON, Caller, value_of
from tests.conformance.objects import uid
from tests.conformance.test_wado_rs import INSTANCE, SERIES, STUDY, document, grey, picture

JPEGS = 'multipart/related; type="image/jpeg"'
PNG = "image/png"
VOLUME = f"/studies/{uid('CONF-VOLUME')}"
VOLUME_SERIES = f"{VOLUME}/series/{uid('volume')}"
STATE = f"{STUDY}/series/{uid('docs state')}/instances/{uid('state')}"
LEVELS = [STUDY, SERIES, INSTANCE, INSTANCE + "/frames/1"]


def opened(content: bytes) -> Image.Image:
    """A picture, all of it read."""
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


async def shown(server: Caller, path: str, accept: str = PNG) -> np.ndarray:
    """The pixels of a rendering: rows x columns, or rows x columns x RGB."""
    answer = await server.get(path, accept)
    assert answer.status == 200, (path, answer.status, answer.body[:300])
    assert answer.media_type == accept
    picture = opened(answer.body)
    return np.asarray(picture.convert("RGB" if picture.mode not in {"L", "I;16"} else "L")).astype(int)


def is_jpeg_baseline(content: bytes) -> bool:
    """Whether a JPEG stream has the frame header of the baseline process, SOF0."""
    return content[:2] == b"\xff\xd8" and b"\xff\xc0" in content and b"\xff\xc2" not in content


@pytest.mark.parametrize("path", [STUDY, SERIES])
async def test_rend_01_studies_and_series_as_several_parts(server, path):
    answer = await server.get(path + "/rendered", JPEGS)
    assert answer.status == 200
    parts = answer.parts()
    assert len(parts) >= 3
    assert {part.media_type for part in parts} == {"image/jpeg"}
    assert all(opened(part.body).size == (16, 16) for part in parts)


@pytest.mark.parametrize("path", [INSTANCE, INSTANCE + "/frames/1"])
async def test_rend_02_instances_and_frames(server, path):
    answer = await server.get(path + "/rendered", "image/jpeg")
    assert (answer.status, answer.media_type) == (200, "image/jpeg")
    assert opened(answer.body).size == (16, 16)


async def test_rend_03_jpeg_baseline_is_the_default(server):
    for accept in ("*/*", "image/*", "image/jpeg"):
        answer = await server.get(INSTANCE + "/rendered", accept)
        assert answer.media_type == "image/jpeg"
        assert is_jpeg_baseline(answer.body)


@pytest.mark.parametrize(("media", "name"), [("image/png", "PNG"), ("image/gif", "GIF")])
async def test_rend_04_png_and_gif(server, media, name):
    answer = await server.get(INSTANCE + "/rendered", media)
    assert (answer.status, answer.media_type, opened(answer.body).format) == (200, media, name)


@pytest.mark.parametrize("path", [STUDY, SERIES])
async def test_rend_05_single_parts_are_for_single_pictures(server, path):
    assert (await server.get(path + "/rendered", "image/jpeg")).status == 406


async def test_rend_06_a_list_of_frames(server):
    answer = await server.get(picture("frames") + "/frames/1,3/rendered", JPEGS)
    assert len(answer.parts()) == 2
    one = await server.get(picture("frames") + "/frames/3/rendered", "image/jpeg")
    assert answer.parts()[1].body == one.body


async def test_rend_07_reports_as_html_by_default(server):
    for accept in ("*/*", "text/html", "text/*"):
        answer = await server.get(document("report") + "/rendered", accept)
        assert (answer.status, answer.media_type) == (200, "text/html")
        assert "Windmills, not giants" in answer.body.decode("utf-8")


@pytest.mark.parametrize("media", ["text/plain", "text/xml"])
async def test_rend_08_reports_as_text_and_xml(server, media):
    answer = await server.get(document("report") + "/rendered", media)
    assert (answer.status, answer.media_type) == (200, media)
    assert "Windmills, not giants" in answer.body.decode("utf-8")


async def test_rend_09_encapsulated_documents_as_they_are(server):
    answer = await server.get(document("pdf") + "/rendered", "application/pdf")
    assert (answer.status, answer.media_type, answer.body.rstrip(b"\0")) == (200, "application/pdf", objects.PDF)


async def test_rend_10_videos_as_they_are(server):
    answer = await server.get(document("film") + "/rendered", "video/mp4")
    assert (answer.status, answer.media_type, answer.body) == (200, "video/mp4", objects.FILM)
    answer = await server.get(document("film") + "/rendered?accept=video/mp4", "*/*")
    assert answer.media_type == "video/mp4"


async def test_rend_11_no_transfer_syntax_on_rendered_types(server):
    answer = await server.get(INSTANCE + "/rendered", "image/jpeg")
    assert "transfer-syntax" not in answer.headers["Content-Type"]


async def test_rend_12_the_viewport_keeps_the_aspect_ratio(server):
    path = picture("grey") + "/rendered"  # 40 columns x 32 rows
    assert (await shown(server, path + "?viewport=80,80")).shape[:2] == (64, 80)
    assert (await shown(server, path + "?viewport=400,16")).shape[:2] == (16, 20)


async def test_rend_13_the_source_region_is_cropped(server):
    path = picture("rgb") + "/rendered"  # red, green, blue, white quarters of 24 x 16
    blue = await shown(server, path + "?viewport=12,8,0,8,12,8")
    assert blue.shape == (8, 12, 3)
    assert (blue == [0, 0, 255]).all()
    white = await shown(server, path + "?viewport=12,8,12,8")
    assert (white == 255).all(), "without sw and sh the region reaches the edges"


async def test_rend_14_negative_sizes_flip(server):
    path = picture("rgb") + "/rendered?viewport=24,16,0,0,"
    plain = await shown(server, path + "24,16")
    assert np.array_equal(plain, objects.colours())
    assert np.array_equal(await shown(server, path + "-24,16"), plain[:, ::-1])
    assert np.array_equal(await shown(server, path + "24,-16"), plain[::-1])


async def test_rend_15_elided_values_have_defaults(server):
    path = picture("rgb") + "/rendered?viewport=12,8"
    assert np.array_equal(await shown(server, path + ",,,12,8"), await shown(server, path + ",0,0,12,8"))


@pytest.mark.parametrize("value", ["", "12", "0,8", "-12,8", "a,b", "12,8,0,0,12,8,9", "12.5,8", "12,8,x"])
async def test_rend_16_viewports_must_be_well_formed(server, value):
    assert (await server.get(picture("rgb") + f"/rendered?viewport={value}", PNG)).status == 400


async def test_rend_17_without_a_viewport_each_pixel_stays(server):
    assert np.array_equal(await shown(server, picture("rgb") + "/rendered"), objects.colours())


async def test_rend_18_windows(server):
    path = picture("grey") + "/rendered?window="
    values = grey("grey")[0].astype(float)
    linear = await shown(server, path + "2000,1000,linear")
    assert (linear[values < 1499] == 0).all()
    assert (linear[values > 2500] == 255).all()
    expected = ((values - 1999.5) / 999 + 0.5) * 255
    inside = (values > 1500) & (values < 2499)
    assert np.abs(linear[inside] - expected[inside]).max() <= 1
    exact = await shown(server, path + "2000,1000,linear-exact")
    assert np.abs(exact[inside] - (((values - 2000) / 1000 + 0.5) * 255)[inside]).max() <= 1
    sigmoid = await shown(server, path + "2000,1000,sigmoid")
    assert np.abs(sigmoid - 255 / (1 + np.exp(-4 * (values - 2000.0) / 1000))).max() <= 1


@pytest.mark.parametrize("value", ["", "40", "40,400", "40,400,", "40,400,cubic", "a,400,linear", "40,0,linear"])
async def test_rend_19_windows_must_be_well_formed(server, value):
    assert (await server.get(INSTANCE + f"/rendered?window={value}", PNG)).status == 400


async def test_rend_20_quality(server):
    path = picture("grey") + "/rendered?quality="
    sizes = [len((await server.get(path + str(one), "image/jpeg")).body) for one in (1, 50, 100)]
    assert all(less < more for less, more in pairwise(sizes))


@pytest.mark.parametrize("value", ["", "0", "101", "-1", "high", "50.5"])
async def test_rend_21_quality_is_from_1_to_100(server, value):
    assert (await server.get(INSTANCE + f"/rendered?quality={value}", "image/jpeg")).status == 400


@pytest.mark.parametrize("keyword", ["patient", "technique", "patient,technique"])
async def test_rend_22_annotations_are_burned_in(server, keyword):
    path = VOLUME_SERIES + f"/instances/{uid('slice 0')}/rendered?viewport=480,400"
    plain = await shown(server, path)
    annotated = await shown(server, path + f"&annotation={keyword}")
    assert plain.shape[:2] == annotated.shape[:2]
    assert not np.array_equal(plain, annotated)
    assert np.array_equal(plain, await shown(server, path)), "none unless asked for"


async def test_rend_23_unknown_annotations(server):
    assert (await server.get(INSTANCE + "/rendered?annotation=", PNG)).status == 400
    assert (await server.get(INSTANCE + "/rendered?annotation=%20,!", PNG)).status == 400
    answer = await server.get(INSTANCE + "/rendered?annotation=patient,weather", PNG)
    if answer.status == 200:  # keywords that exist nowhere may be taken for unsupported ones
        assert f"299 {server.base}: The following annotation values are not supported: weather" in answer.warnings
    else:
        assert answer.status == 400


async def test_rend_24_icc_profiles(server):
    path = picture("rgb") + "/rendered?iccprofile="
    for media in ("image/jpeg", PNG):
        assert "icc_profile" not in opened((await server.get(path + "no", media)).body).info
        for value in ("yes", "srgb", "adobergb", "rommrgb"):
            answer = await server.get(path + value, media)
            assert answer.status == 200, value
            profile = ImageCms.ImageCmsProfile(io.BytesIO(opened(answer.body).info["icc_profile"]))
            assert profile.profile.xcolor_space.strip() == "RGB"


async def test_rend_25_no_icc_profile_where_the_type_has_none(server):
    path = picture("rgb") + "/rendered?iccprofile="
    assert (await server.get(path + "srgb", "image/gif")).status == 400
    assert (await server.get(path + "no", "image/gif")).status == 200
    assert (await server.get(path + "cmyk", PNG)).status == 400


async def test_rend_26_a_presentation_state_shows_what_it_refers_to(server):
    (part,) = (await server.get(STATE + "/rendered", 'multipart/related; type="image/png"')).parts()
    values = np.asarray(opened(part.body).convert("L"))
    stored = np.arange(256).reshape(16, 16)
    assert (values[stored < 127] == 0).all()
    assert (values[stored > 129] == 255).all()


@pytest.mark.parametrize("query", ["window=40,400,linear", "viewport=16,16,0,0,8,8"])
async def test_rend_27_a_presentation_state_has_its_own_window_and_region(server, query):
    assert (await server.get(STATE + "/rendered?" + query)).status == 400


@pytest.mark.parametrize("name", ["rgb", "lossy", "palette", "inverse", "grey", "bits", "floats"])
async def test_rend_28_every_photometric_interpretation(server, name):
    pixels = await shown(server, picture(name) + "/rendered")
    if name in {"rgb", "lossy"}:
        assert np.abs(pixels - objects.colours()).mean() < 10
    if name == "palette":
        assert pixels[0, 0, 0] < pixels[3, 3, 0]
        assert not pixels[..., 1:].any()
    if name == "inverse":
        stored = objects.colours()[..., 0]
        assert pixels[stored == 0].min() > pixels[stored == 255].max()
    assert pixels.max() > pixels.min()


async def test_rend_29_the_window_of_the_image_is_used(server):
    pixels = await shown(server, VOLUME_SERIES + f"/instances/{uid('slice 7')}/rendered")
    # The volume has its window at 0 of 1000: air of -1000 is black, the box of 400 nearly white.
    assert pixels[0, 0] == 0
    assert 225 <= pixels[15, 18] <= 235


async def test_rend_30_the_rendering_says_what_it_shows(server):
    for part in (await server.get(SERIES + "/rendered", JPEGS)).parts():
        assert part.headers["Content-Location"].startswith(f"{server.base}{SERIES}/instances/")
    answer = await server.get(INSTANCE + "/rendered", "image/jpeg")
    assert answer.headers["Content-Location"].startswith(server.base + INSTANCE)


async def test_rend_31_dicom_types_are_not_rendered(server):
    assert (await server.get(INSTANCE + "/rendered", "application/dicom")).status == 406


@pytest.mark.parametrize("path", LEVELS)
async def test_rend_32_thumbnails_of_each_level(server, path):
    for accept in ("*/*", "image/jpeg"):
        answer = await server.get(path + "/thumbnail", accept)
        assert (answer.status, answer.media_type) == (200, "image/jpeg")
        assert is_jpeg_baseline(answer.body)


async def test_rend_33_thumbnails_have_a_viewport_without_region(server):
    path = picture("grey") + "/thumbnail?viewport="
    answer = await server.get(path + "20,20", "image/jpeg")
    assert opened(answer.body).size == (20, 16)
    for value in ("20,20,0,0,4,4", "20", "0,20", ""):
        assert (await server.get(path + value, "image/jpeg")).status == 400


async def test_rend_34_thumbnails_show_nobody(server):
    plain = await server.get(INSTANCE + "/thumbnail", "image/jpeg")
    asked = await server.get(INSTANCE + "/thumbnail?annotation=patient", "image/jpeg")
    assert asked.body == plain.body
    for text in (b"Quixote", b"CONF-A", b"Alonso"):
        assert text not in plain.body


async def test_rend_36_multi_frame_images_as_one_picture_a_frame(server):
    parts = (await server.get(picture("frames") + "/rendered", JPEGS)).parts()
    assert len(parts) == 5


async def test_rend_37_multi_frame_images_as_an_animated_gif(server):
    answer = await server.get(picture("frames") + "/rendered", "image/gif")
    assert answer.media_type == "image/gif"
    assert getattr(opened(answer.body), "n_frames", 1) == 5


async def test_rend_38_character_sets_of_text(server):
    for accept in ("text/html; charset=utf-8", "text/html"):
        answer = await server.get(document("report") + "/rendered?charset=utf-8", accept)
        assert answer.status == 200
        assert "utf-8" in answer.headers["Content-Type"].lower()


MPR_LEVELS = [VOLUME, VOLUME_SERIES]


@pytest.mark.parametrize("path", MPR_LEVELS)
@pytest.mark.parametrize("kind", ["renderedmpr", "rendered3d"])
async def test_rend_40_volumes_of_studies_and_series(server, path, kind):
    answer = await server.get(f"{path}/{kind}?renderingmethod=maximum_ip", "image/jpeg")
    assert (answer.status, answer.media_type) == (200, "image/jpeg")
    assert is_jpeg_baseline(answer.body)


@pytest.mark.parametrize("kind", ["renderedmpr", "rendered3d"])
async def test_rend_41_volumes_of_instances_and_frames(server, kind, fresh):
    path = await keep_enhanced(server, fresh)
    for below in ("", "/frames/1,2,3,4,5,6"):
        answer = await server.get(f"{path}{below}/{kind}?renderingmethod=maximum_ip", "image/jpeg")
        assert answer.status == 200, (below, answer.body)


async def keep_enhanced(server: Caller, name: str) -> str:
    """Store an Enhanced CT of ten frames; its path."""
    body = objects.file_of(objects.enhanced(name))
    answer = await server.send("POST", "/studies", data=body, headers={"Content-Type": "application/dicom"})
    assert answer.status == 200, answer.body
    return f"/studies/{uid(name)}/series/{uid(name)}/instances/{uid(name)}"


async def test_rend_42_orientations_look_from_where_they_say(server):
    path = VOLUME_SERIES + "/rendered3d?renderingmethod=maximum_ip&orientation="
    views = {letter: await shown(server, path + letter) for letter in "aprlhf"}
    centre = {letter: bright(view) for letter, view in views.items()}
    # The bright box lies toward the patient's head, left and back (patient coordinates grow to left, back, head).
    assert centre["a"][0] < 0.5, "from the front the head is up"
    assert centre["a"][1] > 0.5, "from the front the patient's left is at the right"
    assert centre["p"][1] < 0.5, "from the back it is at the left"
    assert centre["r"][0] < 0.5
    assert centre["r"][1] < 0.5, "from the right the back is at the left"
    assert centre["l"][1] > 0.5, "from the left the back is at the right"
    assert centre["h"][0] > 0.5, "from above, anterior is up: the back is below"
    assert centre["h"][1] < 0.5, "and the left is at the left, as one looks down on the head"
    assert centre["f"][0] > 0.5
    assert centre["f"][1] > 0.5, "from below, as an axial slice is shown"


def bright(view: np.ndarray) -> tuple[float, float]:
    """The middle of what is bright as a share of rows and columns."""
    grey = view if view.ndim == 2 else view.mean(axis=2)
    rows, columns = np.nonzero(grey > 0.75 * grey.max())
    return rows.mean() / grey.shape[0], columns.mean() / grey.shape[1]


@pytest.mark.parametrize("method", ["volume_rendered", "maximum_ip", "minimum_ip", "average_ip"])
async def test_rend_43_rendering_methods(server, method):
    answer = await server.get(f"{VOLUME_SERIES}/rendered3d?renderingmethod={method}", PNG)
    assert answer.status == 200
    assert (await server.get(f"{VOLUME_SERIES}/rendered3d?renderingmethod=magic", PNG)).status == 400


async def test_rend_44_projections_differ_as_they_should(server):
    path = VOLUME_SERIES + "/rendered3d?orientation=a&window=0,3000,linear&renderingmethod="
    most, least, mean = [await shown(server, path + one + "_ip") for one in ("maximum", "minimum", "average")]
    assert (least <= mean).mean() > 0.99
    assert (mean <= most).mean() > 0.99
    assert most.max() > mean.max() > least.min()


async def test_rend_45_orientation_and_camera_exclude_each_other(server):
    for kind in ("renderedmpr", "rendered3d"):
        path = f"{VOLUME_SERIES}/{kind}?renderingmethod=maximum_ip&orientation=a&viewpointup=0,0,1"
        assert (await server.get(path, PNG)).status == 400
        path = f"{VOLUME_SERIES}/{kind}?renderingmethod=maximum_ip&orientation=z"
        assert (await server.get(path, PNG)).status == 400


async def test_rend_46_the_camera_can_be_placed(server):
    path = VOLUME_SERIES + "/rendered3d?renderingmethod=maximum_ip&"
    front = await volumetric(server, path + "orientation=a")
    tags = {"viewpointposition": "00701603", "viewpointlookat": "00701604", "viewpointup": "00701605"}
    camera = {name: ",".join(str(one) for one in front[tag]["Value"]) for name, tag in tags.items()}
    query = "&".join(f"{name}={value}" for name, value in camera.items())
    same = await shown(server, path + query)
    assert np.abs(same - await shown(server, path + "orientation=a")).mean() < 4
    for name in camera:
        assert (await server.get(f"{path}{name}=1,2", PNG)).status == 400
        assert (await server.get(f"{path}{name}=a,b,c", PNG)).status == 400


async def volumetric(server: Caller, path: str) -> dict:
    """The Rendered Volume Response Module of a rendering."""
    answer = await server.get(f"{path}&renderedvolumetricmetadata=yes", JSON)
    assert answer.status == 200, (path, answer.body)
    assert answer.media_type == JSON
    found = answer.json()
    return found[0] if isinstance(found, list) else found


async def test_rend_47_the_slab_of_a_reformat(server):
    path = VOLUME_SERIES + "/renderedmpr?orientation=h&renderingmethod=maximum_ip&window=0,2000,linear"
    thin = await shown(server, path)
    thick = await shown(server, path + "&mprslab=20")
    assert thick.mean() > thin.mean(), "the box is only in some slices, so a maximum over all shows more of it"
    for value in ("0", "-3", "x", ""):
        assert (await server.get(f"{path}&mprslab={value}", PNG)).status == 400


async def test_rend_48_what_was_applied_is_told(server):
    mpr = await volumetric(server, VOLUME_SERIES + "/renderedmpr?renderingmethod=average_ip&orientation=a&mprslab=4")
    assert value_of(mpr, "00720510") == "MPR"
    assert value_of(mpr, "0070120D") == "AVERAGE_IP"
    assert value_of(mpr, "00701503") == 4
    for tag in ("00701603", "00701604", "00701605"):
        assert len(mpr[tag]["Value"]) == 3
    for tag in ("00281050", "00281051", "00281056"):
        assert value_of(mpr, tag) is not None
    again = await volumetric(server, VOLUME_SERIES + "/renderedmpr?renderingmethod=average_ip&orientation=a&mprslab=4")
    assert again == mpr
    solid = await volumetric(server, VOLUME_SERIES + "/rendered3d?renderingmethod=volume_rendered")
    assert value_of(solid, "0070120D") == "VOLUME_RENDERED"


async def test_rend_49_the_volume_can_be_picked_by_reference(server):
    path = VOLUME + "/renderedmpr?renderingmethod=maximum_ip&volumeinputreference="
    assert (await server.get(path + uid("slice 3"), PNG)).status == 200
    assert (await server.get(path + "1.2.3", PNG)).status == 400
    assert (await server.get(path + uid("axial 1"), PNG)).status == 400


async def test_rend_50_the_volume_can_be_picked_by_attributes(server):
    path = VOLUME + "/renderedmpr?renderingmethod=maximum_ip&"
    assert (await server.get(path + "Modality=CT", PNG)).status == 200
    assert (await server.get(path + "ImageType=LOCALIZER", PNG)).status == 400
    both = f"Modality=CT&volumeinputreference={uid('slice 3')}"
    assert (await server.get(path + both, PNG)).status == 400


async def test_rend_51_swivels_and_their_steps(server):
    path = VOLUME_SERIES + "/rendered3d?renderingmethod=maximum_ip&swivelrange=60&animationstepsize=20"
    answer = await server.get(path, "image/gif")
    assert answer.media_type == "image/gif"
    assert opened(answer.body).n_frames == 3
    told = await volumetric(server, path)
    assert (value_of(told, "00701A06"), int(value_of(told, "00701A05"))) == (60, 20)
    for query in ("animationstepsize=0", "animationrate=0", "animationrate=x", "animationstepsize=1.5"):
        assert (await server.get(f"{VOLUME_SERIES}/rendered3d?swivelrange=60&{query}", "image/gif")).status == 400


async def test_rend_52_no_volume_no_rendering(server):
    assert (await server.get(f"{document('pdf')}/renderedmpr?renderingmethod=maximum_ip", PNG)).status == 400
    assert (await server.get(f"{INSTANCE}/rendered3d?renderingmethod=maximum_ip", PNG)).status == 400
    assert (await server.get(f"{STATE}/rendered3d?renderingmethod=maximum_ip", PNG)).status == 400


async def test_rend_53_viewport_and_window_of_volumes(server):
    path = VOLUME_SERIES + "/renderedmpr?renderingmethod=maximum_ip&orientation=a"
    assert max((await shown(server, path + "&viewport=200,200")).shape[:2]) == 200
    for value in ("0,10", "a,b", "10"):
        assert (await server.get(f"{path}&viewport={value}", PNG)).status == 400
    assert (await server.get(f"{path}&window=1,2", PNG)).status == 400


async def test_rend_54_conditional_renderings(server):
    for path in (INSTANCE + "/rendered", INSTANCE + "/thumbnail"):
        first = await server.get(path, "image/jpeg")
        again = await server.get(path, "image/jpeg", If_None_Match=first.headers["ETag"])
        assert (again.status, again.body) == (304, b"")


async def test_rend_55_animations_along_a_curve(server):
    path = VOLUME_SERIES + "/renderedmpr?renderingmethod=maximum_ip&animationstepsize=2&animationrate=10"
    answer = await server.get(path + "&volumetriccurvepoint=-5,0,0,5,0,0", "image/gif")
    assert (answer.status, answer.media_type) == (200, "image/gif")
    assert sum(durations(answer.body)) == 5 * 100, "the length of the curve by the size of a step, 100 ms each"
    for points in ("0,0,0", "0,0", "a,b,c,0,0,0"):
        assert (await server.get(f"{path}&volumetriccurvepoint={points}", "image/gif")).status == 400


def durations(content: bytes) -> list[int]:
    """How long each picture of a GIF is shown, in ms; pictures that are alike may have been made one."""
    image = Image.open(io.BytesIO(content))
    found = []
    for number in range(image.n_frames):
        image.seek(number)
        found.append(image.info["duration"])
    return found
