"""Plugins and runs by the REST API, from the question what there is to the end of a log."""

import asyncio

import pytest
from aiohttp.test_utils import TestClient, TestServer

from dicomweb.resource import Resource
from gateway.jobs.model import State
from tests.integration.api_support import api, application, services_of  # noqa: F401
from tests.integration.jobs_support import dispatching, until


async def error_of(answer, status):
    assert answer.status == status, await answer.text()
    return (await answer.json())["error"]


async def test_plugins_are_listed_and_described(api):  # noqa: F811
    listed = await (await api.client.get("/api/v1/plugins")).json()
    assert [(plugin["name"], plugin["title"]) for plugin in listed] == [
        ("act", "Acts as told"),
        ("hurry", "Has little time"),
    ]
    assert "parameters" not in listed[0]
    described = await (await api.client.get("/api/v1/plugins/act")).json()
    level = described["parameters"]["properties"]["level"]
    assert (level["minimum"], level["maximum"], level["default"], level["x-unit"]) == (0, 1000, 100, "HU")
    assert "act" in await error_of(await api.client.get("/api/v1/plugins/unknown"), 404)


async def test_a_study_says_which_plugins_accept_its_series(api):  # noqa: F811
    listed = await (await api.client.get(f"/api/v1/studies/{api.study}/plugins")).json()
    assert {plugin["name"]: plugin["series"] for plugin in listed} == {"act": [api.series], "hurry": [api.series]}
    await error_of(await api.client.get("/api/v1/studies/1.2.3/plugins"), 404)
    await error_of(await api.client.get("/api/v1/studies/one/plugins"), 400)
    await api.core.archive.delete(Resource(api.study))
    await error_of(await api.client.get(f"/api/v1/studies/{api.study}/plugins"), 410)


async def test_a_run_is_queued_shown_listed_and_cancelled(api):  # noqa: F811
    answer = await api.client.post("/api/v1/plugins/act/runs", json=api.body(how="slowly"))
    assert answer.status == 202
    run = await answer.json()
    assert answer.headers["Location"] == f"/api/v1/runs/{run['id']}"
    assert run["state"] == "queued"
    assert run["parameters"] == {"how": "slowly", "level": 100, "number": 0, "grave": ""}
    assert await (await api.client.get(answer.headers["Location"])).json() == run
    other = await api.start(number=1)
    for question, expected in [
        (f"?study={api.study}", [other, run]),
        (f"?study={api.study}&limit=1", [other]),
        ("", [other, run]),
        ("?study=1.2.3", []),
    ]:
        assert (await (await api.client.get(f"/api/v1/runs{question}")).json())["runs"] == expected
    cancelled = await api.client.delete(answer.headers["Location"])
    assert (cancelled.status, (await cancelled.json())["state"]) == (202, "cancelled")


async def test_the_same_run_is_joined(api):  # noqa: F811
    assert (await api.start(number=1))["id"] == (await api.start(level=100, number=1))["id"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"level": 1001}, ["level", "from 0 to 1000"]),
        ({"level": "high"}, ["level", "whole number"]),
        ({"number": 1e30}, ["number", "whole number"]),
        ({"how": "badly"}, ["how", "well"]),
        ({"colour": "red"}, ["colour", "level"]),
        ([], ["parameters"]),
    ],
)
async def test_a_wrong_parameter_is_named_with_what_is_allowed(api, parameters, words):  # noqa: F811
    answer = await api.client.post("/api/v1/plugins/act/runs", json=api.body() | {"parameters": parameters})
    sentence = await error_of(answer, 400)
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"", 400),
        (b"\xff\xfe", 400),
        (b"[" * 50_000, 400),
        (b'{"study": NaN}', 400),
        (b'{"study": "\\ud800", "series": ["1"]}', 400),
        (b'{"study": 123456789012345678901234567890}', 400),
        (b'{"study": "1.2", "series": []}', 400),
        (b'{"study": "1.2", "series": ["1", "2"]}', 400),
        (b'{"study": "1.2", "series": [1]}', 400),
        (b'{"study": "abc", "series": ["1.2"]}', 400),
        (b'{"study": "1.2", "series": ["1.2"], "more": 1}', 400),
        (b'{"study": "1.2", "series": ["1.2"]}', 404),
        (b'{"study": "' + b"1" * 70_000 + b'"}', 413),
    ],
)
async def test_a_body_that_is_not_as_described_is_refused(api, body, status):  # noqa: F811
    answer = await api.client.post("/api/v1/plugins/act/runs", data=body, headers={"Content-Type": "application/json"})
    assert await error_of(answer, status)


async def test_unknown_things_are_not_found(api):  # noqa: F811
    for path in ("runs/abc", f"runs/{'0' * 32}", f"runs/{'0' * 32}/log", f"meshes/{'0' * 32}"):
        await error_of(await api.client.get(f"/api/v1/{path}"), 404)
    await error_of(await api.client.delete(f"/api/v1/runs/{'0' * 32}"), 404)
    await error_of(await api.client.post("/api/v1/plugins/unknown/runs", json=api.body()), 404)
    body = api.body() | {"series": ["1.2.3"]}
    await error_of(await api.client.post("/api/v1/plugins/act/runs", json=body), 404)
    for question in ("study=x", "limit=0", "limit=501", "limit=many"):
        await error_of(await api.client.get(f"/api/v1/runs?{question}"), 400)


async def test_a_series_that_the_plugin_does_not_take_is_refused_with_the_reason(api, data_folder):  # noqa: F811
    archive = api.core.archive
    instances = await archive.instances(Resource(api.study, api.series))
    for instance in instances[2:]:
        await archive.delete(instance.resource)
    sentence = await error_of(await api.client.post("/api/v1/plugins/act/runs", json=api.body()), 422)
    assert sentence == ("Acts as told does not take this series. It needs at least 3 instances; this series has 2.")
    await archive.delete(Resource(api.study))
    await error_of(await api.client.post("/api/v1/plugins/act/runs", json=api.body()), 410)


async def test_a_full_queue_asks_to_come_again(api):  # noqa: F811
    for number in range(3):
        await api.start(number=number)
    answer = await api.client.post("/api/v1/plugins/act/runs", json=api.body(number=3))
    await error_of(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0


async def test_without_a_dispatcher_no_run_is_taken(core, api):  # noqa: F811
    async with TestClient(TestServer(application(services_of(core, runs_enabled=False)))) as client:
        sentence = await error_of(await client.post("/api/v1/plugins/act/runs", json=api.body()), 503)
    assert "ray.enabled" in sentence


async def test_a_run_that_ended_cannot_be_cancelled(api):  # noqa: F811
    run = await api.start()
    await api.services.queue.finish(await api.services.queue.claim("a"), State.SUCCEEDED)
    assert "succeeded" in await error_of(await api.client.delete(f"/api/v1/runs/{run['id']}"), 409)


async def test_from_the_request_to_the_results(api):  # noqa: F811
    async with dispatching(api.core):
        run = await api.start(how="well")

        async def done():
            now = await (await api.client.get(f"/api/v1/runs/{run['id']}")).json()
            return now if now["state"] not in ("queued", "running") else None

        done = await until(done)
    assert (done["state"], done["error"], done["progress"]) == ("succeeded", None, 1.0)
    assert [output["kind"] for output in done["outputs"]] == ["seg", "sr", "mesh"]
    assert done["measurements"][0]["unit"] == "mL"
    for output in done["outputs"][:2]:
        assert await api.core.archive.instances(Resource(output["study"], output["series"], output["instance"]))
    assert (await api.client.get(done["outputs"][2]["url"])).status == 200


async def test_a_log_is_streamed_until_the_run_ends(api):  # noqa: F811
    run = await api.start(how="slowly")
    url = f"/api/v1/runs/{run['id']}/log"
    async with dispatching(api.core), api.client.get(url) as answer:
        assert answer.content_type == "text/plain"
        first = await asyncio.wait_for(answer.content.readline(), 20)
        assert first.startswith(b"act 1.0.0 on 20 slices")
        await api.client.delete(f"/api/v1/runs/{run['id']}")
        rest = await asyncio.wait_for(answer.content.read(), 20)
    assert b"acts slowly, number 0\n" in rest
    again = await (await api.client.get(url)).read()
    assert again == first + rest


async def test_who_reads_a_log_may_leave(api):  # noqa: F811
    run = await api.start()
    answer = await api.client.get(f"/api/v1/runs/{run['id']}/log")
    answer.close()
    claimed = await api.services.queue.claim("a")
    await api.services.queue.report(claimed, lines=["nobody reads this"])
    await api.services.queue.finish(claimed, State.SUCCEEDED)
    assert await (await api.client.get(f"/api/v1/runs/{run['id']}/log")).text() == "nobody reads this\n"
