"""What is remembered is given again only while it is true, and takes no more than it may."""

from hypothesis import given
from hypothesis import strategies as st

from dicomweb.remembered import Remembered

_STEPS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([None, 2, 4]), st.integers(0, 12)), max_size=60)


def test_another_generation_is_another_truth():
    kept = Remembered[str](100)
    kept.put("page", 2, "old", 10)
    assert kept.get("page", 2) == "old"
    assert kept.get("page", 4) is None
    assert kept.get("page", None) is None
    kept.put("page", None, "unsure", 10)
    assert kept.get("page", None) is None


def test_what_was_not_asked_for_longest_goes():
    kept = Remembered[int](40)
    for number in range(4):
        kept.put(number, 2, number, 10)
    assert kept.get(0, 2) == 0
    kept.put(4, 2, 4, 10)
    assert [kept.get(number, 2) for number in range(5)] == [0, None, 2, 3, 4]


@given(_STEPS)
def test_it_gives_what_was_put_last_and_holds_no_more_than_it_may(steps):
    kept, last = Remembered[int](40), {}
    for number, (key, generation, weight) in enumerate(steps):
        kept.put(key, generation, number, weight)
        if generation is not None and weight <= 10:
            last[key] = (generation, number, weight)
    found = {key: kept.get(key, generation) for key, (generation, _, _) in last.items()}
    there = {key: value for key, value in found.items() if value is not None}
    assert all(value == last[key][1] for key, value in there.items())
    assert sum(last[key][2] for key in there) <= 40
