"""Storage commitment: PS3.18 chapter 13 and Annex J."""

import json
from typing import Any

import pytest

from tests.conformance import native, objects
from tests.conformance.caller import JSON, Answer, Caller, keep, value_of
from tests.conformance.objects import uid
from tests.conformance.test_stow import as_xml, body_of

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDIES, FAILED_STUDIES, REFERENCED, FAILED = "00081110", "0008119B", "00081199", "00081198"
SERIES, BY_CLASS, INSTANCES = "00081115", "00081112", "0008114A"
CLASS, INSTANCE, REASON = "00081150", "00081155", "00081197"


def ui(value: str) -> dict[str, Any]:
    """An attribute with a UID."""
    return {"vr": "UI", "Value": [value]}


def sq(*items: dict[str, Any]) -> dict[str, Any]:
    """An attribute with items."""
    return {"vr": "SQ", "Value": list(items)}


def flat(*instances: str, sop_class: str = CT) -> dict[str, Any]:
    """A request by instances."""
    return {REFERENCED: sq(*({CLASS: ui(sop_class), INSTANCE: ui(one)} for one in instances))}


def deep(study: str, series: str, *instances: str) -> dict[str, Any]:
    """A request by study, series and class."""
    by_class = {CLASS: ui(CT), INSTANCES: sq(*({INSTANCE: ui(one)} for one in instances))}
    return {STUDIES: sq({"0020000D": ui(study), SERIES: sq({"0020000E": ui(series), BY_CLASS: sq(by_class)})})}


async def request(server: Caller, name: str, payload: Any, content_type: str = JSON, accept: str = JSON) -> Answer:
    """Ask under the transaction UID that belongs to a name."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    path = f"/commitment-requests/{uid(name)}"
    return await server.send("POST", path, data=data, accept=accept, headers={"Content-Type": content_type})


def instances_of(result: dict[str, Any], tag: str) -> list[str]:
    """The instances of a sequence of the result."""
    return [value_of(item, INSTANCE) for item in result.get(tag, {}).get("Value", [])]


async def test_com_01_instances_that_are_kept(server, fresh):
    answer = await request(server, fresh, flat(uid("axial 1"), uid("axial 2")))
    assert (answer.status, answer.media_type) == (200, JSON)
    result = answer.json()
    assert instances_of(result, REFERENCED) == [uid("axial 1"), uid("axial 2")]
    assert value_of(result[REFERENCED]["Value"][0], CLASS) == CT
    assert FAILED not in result


async def test_com_02_instances_that_are_not(server, fresh):
    answer = await request(server, fresh, flat(uid("axial 1"), "1.2.3"))
    result = answer.json()
    assert (answer.status, instances_of(result, REFERENCED)) == (200, [uid("axial 1")])
    (item,) = result[FAILED]["Value"]
    assert (value_of(item, INSTANCE), value_of(item, REASON)) == ("1.2.3", 0x0112)


async def test_com_03_nothing_committed_is_still_an_answer(server, fresh):
    answer = await request(server, fresh, flat("1.2.3"))
    assert answer.status == 200
    assert REFERENCED not in answer.json()


async def test_com_04_the_class_must_be_that_of_the_instance(server, fresh):
    answer = await request(server, fresh, flat(uid("axial 1"), sop_class="1.2.840.10008.5.1.4.1.1.4"))
    (item,) = answer.json()[FAILED]["Value"]
    assert value_of(item, REASON) == 0x0119


async def test_com_05_by_study_and_series(server, fresh):
    answer = await request(server, fresh, deep(uid("CONF-A"), uid("A axial"), uid("axial 1"), "1.2.3"))
    assert answer.status == 200
    result = answer.json()
    assert REFERENCED not in result
    for tag, expected in ((STUDIES, uid("axial 1")), (FAILED_STUDIES, "1.2.3")):
        (study,) = result[tag]["Value"]
        (series,) = study[SERIES]["Value"]
        (by_class,) = series[BY_CLASS]["Value"]
        assert value_of(study, "0020000D") == uid("CONF-A")
        assert value_of(by_class, CLASS) == CT
        assert instances_of(by_class, INSTANCES) == [expected]
    assert value_of(by_class[INSTANCES]["Value"][0], REASON) == 0x0112


async def test_com_06_an_instance_of_another_series_is_not_kept_there(server, fresh):
    answer = await request(server, fresh, deep(uid("CONF-B"), uid("B one"), uid("axial 1")))
    assert STUDIES not in answer.json()
    assert FAILED_STUDIES in answer.json()


async def test_com_07_the_result_can_be_asked_for(server, fresh):
    first = await request(server, fresh, flat(uid("axial 1"), "1.2.3"))
    answer = await server.get(f"/commitment-requests/{uid(fresh)}", JSON)
    assert (answer.status, answer.media_type, answer.json()) == (200, JSON, first.json())


async def test_com_08_unknown_requests_are_not_found(server):
    assert (await server.get("/commitment-requests/1.2.3.4", JSON)).status == 404


async def test_com_09_a_transaction_uid_serves_once(server, fresh):
    assert (await request(server, fresh, flat(uid("axial 1")))).status == 200
    assert (await request(server, fresh, flat(uid("axial 2")))).status == 409


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", {}, {REFERENCED: {"vr": "SQ"}}, {REFERENCED: sq({INSTANCE: ui("x y")})}, {STUDIES: sq({})}],
)
async def test_com_10_requests_that_cannot_be(server, fresh, payload):
    assert (await request(server, fresh, payload)).status == 400


async def test_com_11_xml_in_and_out(server, fresh):
    _, _, document = as_xml(flat(uid("axial 1"), "1.2.3"))
    answer = await request(server, fresh, document, "application/dicom+xml", "application/dicom+xml")
    assert (answer.status, answer.media_type) == (200, "application/dicom+xml")
    model = native.read(answer.body)
    assert model[REFERENCED][1][0][INSTANCE] == ("UI", [uid("axial 1")])
    assert model[FAILED][1][0][REASON] == ("US", [str(0x0112)])


@pytest.mark.parametrize("media_type", [JSON, "application/dicom+xml"])
async def test_com_12_multipart_requests(server, fresh, media_type):
    payload = flat(uid("axial 1"))
    part = as_xml(payload) if media_type.endswith("xml") else (media_type, None, json.dumps(payload).encode())
    content_type = f'multipart/related; type="{media_type}"; boundary=XX'
    answer = await request(server, fresh, body_of([part]), content_type)
    assert answer.status == 200, answer.body
    assert instances_of(answer.json(), REFERENCED) == [uid("axial 1")]


async def test_com_13_other_media_types(server, fresh):
    assert (await request(server, fresh, b"text", "text/plain")).status == 415
    assert (await request(server, fresh, flat(uid("axial 1")), JSON, "image/png")).status == 406


async def test_com_14_transaction_uids_are_uids(server):
    data = json.dumps(flat(uid("axial 1"))).encode()
    answer = await server.send("POST", "/commitment-requests/tomorrow", data=data, headers={"Content-Type": JSON})
    assert answer.status in {400, 404}


async def test_com_15_what_was_deleted_is_not_kept(server, fresh):
    await keep(server, objects.file_of(objects.image(fresh, fresh, fresh)))
    assert (await request(server, fresh, flat(uid(fresh)))).json().get(REFERENCED)
    await server.send("DELETE", f"/studies/{uid(fresh)}")
    answer = await request(server, fresh + "again", flat(uid(fresh)))
    assert instances_of(answer.json(), FAILED) == [uid(fresh)]


async def test_com_16_the_transaction_uid_is_not_in_the_answer(server, fresh):
    answer = await request(server, fresh, flat(uid("axial 1")))
    assert answer.status == 200
    assert "00081195" not in answer.json()
