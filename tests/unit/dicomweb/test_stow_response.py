"""The status and the data set of a store response, by PS3.18 Table 10.5.3-1 and Annex I."""

import pytest

from dicomweb.ports import StoreOutcome
from dicomweb.resource import Resource
from dicomweb.stow import response_data_set, response_status

STORED = StoreOutcome("1.1", "1.2", Resource("1", "2", "3"))
WARNED = StoreOutcome("1.1", "1.2", Resource("1", "2", "3"), warning=0xB000)
CONFLICT = StoreOutcome("1.1", "1.2", failure=0xC001, status=409)
UNREADABLE = StoreOutcome(failure=0xC000, status=400)
TOO_LARGE = StoreOutcome(failure=0xA700, status=413)
FULL = StoreOutcome(failure=0xA700, status=507)
REFUSED = StoreOutcome("1.1", "1.2", failure=0xC002, status=422)


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([STORED], 200),
        ([STORED, WARNED], 202),
        ([WARNED], 202),
        ([STORED, CONFLICT], 202),
        ([CONFLICT], 409),
        ([UNREADABLE], 400),
        ([UNREADABLE, UNREADABLE], 400),
        ([UNREADABLE, CONFLICT], 400),
        ([TOO_LARGE], 413),
        ([FULL], 507),
        ([REFUSED], 409),
    ],
)
def test_status(outcomes, status):
    assert response_status(outcomes) == status


def test_data_set():
    answered = response_data_set([STORED, WARNED, CONFLICT, UNREADABLE], "http://x", "")
    assert answered["00081190"] == {"vr": "UR"}
    stored, warned = answered["00081199"]["Value"]
    assert "00081196" not in stored
    assert warned["00081196"] == {"vr": "US", "Value": [0xB000]}
    assert stored["00081190"]["Value"] == ["http://x/studies/1/series/2/instances/3"]
    assert answered["00081198"]["Value"][0]["00081197"] == {"vr": "US", "Value": [0xC001]}
    assert answered["0008119A"]["Value"] == [{"00081197": {"vr": "US", "Value": [0xC000]}}]
    for items in (answered[tag]["Value"] for tag in ("00081198", "00081199")):
        assert all(list(item) == sorted(item) for item in items)


def test_sequences_without_items_are_absent():
    assert list(response_data_set([STORED], "http://x", "http://x/studies/1")) == ["00081190", "00081199"]
    assert list(response_data_set([CONFLICT], "http://x", "")) == ["00081190", "00081198"]
