"""Which images form a volume, and what is said of those that form none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from dicomweb.errors import BadRequest
from dicomweb.volumetric.options import Animation, Reformatting, Selection, View, parse
from dicomweb.volumetric.planes import planes_of
from dicomweb.volumetric.selection import affine, select


def element(*values):
    return {"vr": "DS", "Value": list(values)}


def image(number=0, *, series="1.2", uid=None, step=2.0, **tags) -> dict:
    """A slice of a stack along z, as DICOM JSON."""
    item = {
        "00080018": element(uid or f"{series}.{number + 1}"),
        "0020000E": element(series),
        "00200052": element("1.9"),
        "00200032": element(-10, -20, 5 + step * number),
        "00200037": element(1, 0, 0, 0, 1, 0),
        "00280030": element(0.5, 0.75),
        "00280010": element(4),
        "00280011": element(6),
        "7FE00010": {"vr": "OW", "BulkDataURI": "x"},
    }
    return item | {tag.lstrip("t"): value for tag, value in tags.items()}


def planes(*items):
    return [plane for item in items for plane in planes_of(item)]


STACK = [image(number) for number in range(5)]
SETS = [image(n, t00200100=element(t), uid=f"1.2.{n}.{t}") for n in range(4) for t in (1, 2)]


class TestSelect:
    def test_sorted_along_the_normal(self):
        found = select(planes(*[STACK[number] for number in (3, 0, 4, 1, 2)]), Selection())
        assert [one.instance_uid for one in found] == ["1.2.1", "1.2.2", "1.2.3", "1.2.4", "1.2.5"]
        assert np.allclose(affine(found), [[0, 0, 0.75, -10], [0, 0.5, 0, -20], [2, 0, 0, 5], [0, 0, 0, 1]])

    def test_a_tilted_gantry(self):
        tilted = [image(n, t00200032=element(0, 0.6 * n, 2.0 * n)) for n in range(5)]
        assert np.allclose(affine(select(planes(*tilted), Selection()))[:3, 0], [0, 0.6, 2])

    @pytest.mark.parametrize(
        ("items", "words"),
        [
            ([], "no two parallel"),
            ([image(0)], "no two parallel"),
            ([STACK[0], STACK[1], STACK[3]], "evenly spaced"),
            ([*STACK, image(2, uid="1.7")], "same place"),
            ([*STACK, image(9, t00200037=element(0, 1, 0, 0, 0, 1))], "several orientations"),
            ([*STACK, *(image(n, series="1.3") for n in range(5))], "More than one series"),
            ([image(n, t00200032=element(0, n % 2 * 2, 2.0 * n)) for n in range(5)], "one line"),
            (
                [image(n, t00200100=element(t), uid=f"1.2.{n}.{t}") for n in range(4) for t in (1, 2)],
                "temporal positions",
            ),
            ([image(n, t00180081=element(t), uid=f"1.2.{n}.{t}") for n in range(4) for t in (1, 2)], "echoes"),
        ],
    )
    def test_what_is_no_volume(self, items, words):
        with pytest.raises(BadRequest) as refused:
            affine(select(planes(*items), Selection()))
        assert words in refused.value.message

    def test_a_reference_chooses(self):
        items = [image(n, t00200100=element(t), uid=f"1.2.{n}.{t}") for n in range(4) for t in (1, 2)]
        found = select(planes(*items), Selection("1.2.3.2"))
        assert [one.instance_uid for one in found] == ["1.2.0.2", "1.2.1.2", "1.2.2.2", "1.2.3.2"]
        other = [image(n, series="1.3") for n in range(3)]
        assert len(select(planes(*STACK, *other), Selection("1.3.1"))) == 3
        with pytest.raises(BadRequest):
            select(planes(*STACK), Selection("1.2.3.4"))

    def test_a_localizer_beside_the_stack_of_a_study_does_not_count(self):
        localizer = image(0, series="1.5", t00200037=element(0, 1, 0, 0, 0, -1))
        assert len(select(planes(*STACK, localizer), Selection())) == 5

    @pytest.mark.parametrize(
        ("tag", "stored", "wanted", "is_found"),
        [
            ("00189070", 200, "140-260", True),
            ("00189070", 300, "140-260", False),
            ("00189070", 200.0, "200", True),
            ("00080008", "ORIGINAL", "ORIG*", True),
            ("00080008", "ORIGINAL", "LOCALIZER,ORIGINAL", True),
            ("00080008", "ORIGINAL", "orig*", False),
            ("00080022", "20210304", "20210101-20211231", True),
            ("00080022", "20200304", "20210101-", False),
        ],
    )
    def test_attributes_choose(self, tag, stored, wanted, is_found):
        stack = [image(n) | {tag: element(stored)} for n in range(3)]
        if is_found:
            assert len(select(planes(*stack), Selection(matches=((tag, wanted),)))) == 3
        else:
            with pytest.raises(BadRequest):
                select(planes(*stack), Selection(matches=((tag, wanted),)))


class TestPlanes:
    def test_frames_have_their_own_places(self):
        def place(z):
            return {"00209113": {"vr": "SQ", "Value": [{"00200032": element(0, 0, z)}]}}

        item = image() | {"00280008": element(3)}
        shared = {"00209116": {"Value": [{"00200037": element(0, 1, 0, 0, 0, 1)}]}}
        item |= {"52009229": {"Value": [shared]}, "52009230": {"Value": [place(z) for z in (5, 7, 9)]}}
        found = list(planes_of(item))
        assert [one.position[2] for one in found] == [5, 7, 9]
        assert np.allclose(found[0].normal, [1, 0, 0])
        assert [one.frame for one in planes_of(item, [3, 1])] == [3, 1]

    def test_a_dose_says_offsets(self):
        item = image() | {"00280008": element(3), "3004000C": element(0, 3, 6), "3004000E": element(0.001)}
        found = list(planes_of(item))
        assert [one.position[2] for one in found] == [5, 8, 11]
        assert found[0].slope == 0.001

    @pytest.mark.parametrize(
        "change",
        [
            {"00280002": element(3)},
            {"00200032": element(0, 0)},
            {"00200032": element("a", 0, 0)},
            {"00200037": element(1, 0, 0, 1, 0, 0)},
            {"00200037": element(0, 0, 0, 0, 0, 0)},
            {"00280030": element(0, 1)},
            {"00280010": element(0)},
            {"00280008": element(2_000_000_000)},
        ],
    )
    def test_what_has_no_place(self, change):
        with pytest.raises(BadRequest):
            list(planes_of(image() | change))

    def test_what_has_no_pixels_has_no_planes(self):
        item = image()
        del item["7FE00010"]
        assert list(planes_of(item)) == []


def options(reformatting=Reformatting.MPR, **query):
    return parse(MultiDict(query), reformatting, 1 << 20)[0]


class TestOptions:
    def test_the_example_of_the_standard(self):
        """B.34, one phase of a series as a slab; and B.33, whose up direction is zero."""
        found = options(
            volumeinputreference="1.2.250.1,3",
            renderingmethod="maximum_ip",
            mprslab="20",
            viewpointposition="100,101,200",
            viewpointlookat="100,100,200",
            viewpointup="0,0,0",
        )
        assert found.selection == Selection("1.2.250.1", 3)
        assert found.method == "MAXIMUM_IP"
        assert found.slab_mm == 20
        assert found.view == View(None, (100, 101, 200), (100, 100, 200), None)

    def test_animations(self):
        assert options(Reformatting.RENDERING_3D, swivelrange="180").animation == Animation(36, 5, 10, 180.0)
        found = options(volumetriccurvepoint="0,0,0,0,0,30", animationstepsize="10", animationrate="20").animation
        assert found == Animation(3, 10, 20, None, ((0, 0, 0), (0, 0, 30)))
        query = MultiDict([("volumetriccurvepoint", "0,0,0"), ("volumetriccurvepoint", "0,0,30")])
        assert parse(query, Reformatting.MPR, 1)[0].animation.curve == ((0, 0, 0), (0, 0, 30))

    def test_parameters_of_the_other_resource_are_ignored_aloud(self):
        found, warnings = parse(MultiDict(mprslab="20"), Reformatting.RENDERING_3D, 1)
        assert found.slab_mm is None
        assert "mprslab" in warnings[0]

    def test_attributes_are_matches(self):
        found, warnings = parse(MultiDict({"CardiacRRIntervalSpecified": "140-260", "x": "1"}), Reformatting.MPR, 1)
        assert found.selection.matches == (("00189070", "140-260"),)
        assert "x" in warnings[0]
        assert "CardiacRRIntervalSpecified" not in warnings[0]

    @pytest.mark.parametrize(
        "query",
        [
            {"orientation": "x"},
            {"orientation": "a", "viewpointup": "0,0,1"},
            {"renderingmethod": "volume_rendered"},
            {"renderingmethod": ""},
            {"mprslab": "0"},
            {"mprslab": "1e99"},
            {"viewpointposition": "1,2"},
            {"viewpointposition": "1,2,nan"},
            {"volumetriccurvepoint": "1,2,3"},
            {"volumetriccurvepoint": "1,2,3,1,2,3"},
            {"volumetriccurvepoint": "0,0,0,0,0,1000", "animationstepsize": "1"},
            {"animationstepsize": "1.5"},
            {"animationrate": "0"},
            {"renderedvolumetricmetadata": "no"},
            {"volumeinputreference": "1.2,0"},
            {"volumeinputreference": "x"},
            {"volumeinputreference": "1.2", "Modality": "CT"},
            {"Modality": "CT", "00080060": "CT"},
        ],
    )
    def test_refused(self, query):
        with pytest.raises(BadRequest):
            options(**query)

    @given(st.dictionaries(st.sampled_from(Reformatting.MPR.parameters) | st.text(max_size=12), st.text(max_size=30)))
    def test_anything_is_read_or_refused(self, query):
        for reformatting in Reformatting:
            try:
                _, warnings = parse(MultiDict(query), reformatting, 1 << 20)
            except BadRequest:
                continue
            assert all(one.isprintable() for one in warnings)
