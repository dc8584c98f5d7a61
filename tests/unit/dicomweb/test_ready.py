"""Items that were encoded before they are asked for."""

import json

from hypothesis import given
from hypothesis import strategies as st

from dicomweb.ready import ReadyItems, ready_text

tags = st.builds("00{}1{:03}".format, st.sampled_from(["00", "08", "10", "18"]), st.integers(0, 999)).filter(
    lambda tag: tag != "00081190"
)
items = st.lists(st.dictionaries(tags, st.fixed_dictionaries({"vr": st.just("LO"), "Value": st.lists(st.text())})))


@given(items, st.text(alphabet='ab/:"\\\0é'))
def test_ready_items_are_the_items_with_a_url_each(found, root):
    texts = [ready_text(dict(sorted(item.items())), f"studies/1.{number}") for number, item in enumerate(found)]
    ready = ReadyItems(texts)
    assert ready == found
    answered = json.loads(ready.at(root).json())
    assert answered == list(ready.at(root))
    for number, (item, one) in enumerate(zip(found, answered, strict=True)):
        assert list(one) == sorted(one)
        assert one == item | {"00081190": {"vr": "UR", "Value": [f"{root}/studies/1.{number}"]}}


def test_slices_are_ready_too():
    ready = ReadyItems([ready_text({"0020000D": {"vr": "UI", "Value": [str(one)]}}, "studies/1") for one in range(4)])
    assert [item["0020000D"]["Value"] for item in ready[1:3]] == [["1"], ["2"]]
    assert isinstance(ready[1:3], ReadyItems)
