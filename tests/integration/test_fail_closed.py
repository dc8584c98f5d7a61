"""Whatever fails on the way in, the object is refused, nothing of it is kept, and nobody is told what it held."""

import io
import logging
import sys
import threading
import warnings

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from gateway import logs
from tests import leaks
from tests.dicomweb_support import store
from tests.integration.dimse_support import listen, send_one  # noqa: F401
from tests.person import PERSON, TEXTS
from tests.samples import ct, part10

#: What a part that fails says; as libraries do, it quotes the object.
CANARY = "invalid value 'Quibblethwaite^Zaphodine' of MRNX-90817263"

#: What is made to fail: a part of each stage, from the first byte to the committed row.
STAGES = (
    "gateway.intake.header.HeaderReader.read",
    "gateway.intake.taking.prepare",
    "gateway.intake.stored.quick.read",
    "gateway.deid.engine.Deidentifier.subject",
    "gateway.deid.engine.HeaderRun.run",
    "gateway.deid.header.HeaderRun._learn",
    "gateway.deid.header.HeaderRun._treat",
    "gateway.deid.header.HeaderRun._release",
    "gateway.deid.header.Treatment.carry_out",
    "gateway.deid.header.find_leaks",
    "gateway.deid.header.stamps.stamp",
    "gateway.deid.text.Cleaner.__call__",
    "gateway.deid.uids.Pseudonyms.of_patient",
    "gateway.intake.stored.quick.write",
    "gateway.intake.taking.InstanceDigests",
    "gateway.intake.pixels.PixelScan.feed",
    "gateway.intake.attempt.items.ready_instance",
    "gateway.intake.attempt.Ingest._sealed",
    "gateway.store.scheme.Scheme.search_keys",
)
#: The same of an object that says that text is burned into it.
SUSPECT_STAGES = (
    "gateway.intake.attempt.sent_names",
    "gateway.intake.cleaning.Picture",
    "gateway.intake.cleaning.Cleaning.clean",
    "gateway.deid.pixels.PixelCleaner.examine",
)
FAILURES = (ValueError(CANARY), KeyError(CANARY), RecursionError(CANARY), MemoryError(CANARY))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch):
    """What the gateway's own logging writes at level debug."""
    said, root, factory = io.StringIO(), logging.getLogger(), logging.getLogRecordFactory()
    handlers, level = root.handlers[:], root.level
    for owner, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook"),
                        (warnings, "showwarning"), (logging, "raiseExceptions")):  # fmt: skip
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(sys, "stderr", said)
    logs.configure("debug", "test")
    yield said
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.setLogRecordFactory(factory)


def person(**changes: object) -> Dataset:
    return ct(**PERSON | changes)


def failing(exc: BaseException):
    def fail(*_: object, **__: object) -> None:
        raise exc

    return fail


async def assert_nothing_is_kept(core) -> None:
    db = core.catalogue.db
    for name in await db.list_collection_names():
        if name in ("instances", "series", "studies", "metadata", "tombstones"):
            assert await db[name].count_documents({}) == 0, name
    assert not [file for file in core.settings.data.dir.rglob("*") if file.is_file() and "objects" in file.parts]


def assert_nothing_is_said(*texts: str) -> None:
    needles = leaks.Needles([*TEXTS, "invalid value"])
    for text in texts:
        assert not needles.found(text.encode())


@pytest.mark.parametrize("stage", [*STAGES, *SUSPECT_STAGES])
async def test_a_stage_fails(open_archive, serve, listen, monkeypatch, log, stage: str) -> None:  # noqa: F811
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    client, listener = await serve(core), await listen(core)
    for exc in FAILURES:
        with monkeypatch.context() as patch:
            patch.setattr(stage, failing(exc))
            changes = {"BurnedInAnnotation": "YES"} if stage in SUSPECT_STAGES else {}
            ds = person(**changes)
            answer = await store(client, ds)
            said = (await answer.text()).replace(ds.SOPInstanceUID, "") + str(answer.headers)
            assert answer.status >= 400, (stage, exc, said)
            if exc is FAILURES[0]:
                status = await core.workers.run(send_one, listener.port, part10(person(**changes)))
                assert 0xA700 <= status < 0xD000 or status == 0x0110, hex(status)
            assert_nothing_is_said(said, log.getvalue())
    assert "instances stored, 1 not" in log.getvalue()
    await assert_nothing_is_kept(core)
    assert (await store(client, person())).status == 200, "afterwards all is well"


def nested(depth: int) -> Dataset:
    ds = person()
    for _ in range(depth):
        outer = Dataset()
        outer.PatientName, outer.ReferencedStudySequence = PERSON["PatientName"], [ds]
        ds = outer
    whole = person()
    whole.ReferencedStudySequence = [ds]
    return whole


REFUSED = {
    "nesting": lambda: nested(70),
    "private class": lambda: person(SOPClassUID="1.2.826.0.1.3680043.9.7777"),
    "no storage class": lambda: person(SOPClassUID="1.2.840.10008.1.1"),
    "raw data": lambda: person(SOPClassUID="1.2.840.10008.5.1.4.1.1.66"),
    "a document": lambda: person(SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1"),
    "a label": lambda: person(ImageType=["ORIGINAL", "PRIMARY", "LABEL"]),
    "a large header": lambda: person(PatientComments="Quibblethwaite " * 300_000),
    "no UID": lambda: person(StudyInstanceUID="Quibblethwaite"),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_what_cannot_be_answered_for_is_refused(open_archive, serve, listen, log, kind: str) -> None:  # noqa: F811
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research", ISTHMUS_INGEST__MAX_HEADER_BYTES=str(1 << 20))
    client, listener = await serve(core), await listen(core)
    ds = REFUSED[kind]()
    answer = await store(client, ds)
    said = (await answer.text()).replace(ds.SOPInstanceUID, "") + str(answer.headers)
    assert answer.status in (409, 413), said
    assert await core.workers.run(send_one, listener.port, part10(ds)) != 0
    assert_nothing_is_said(said, log.getvalue())
    await assert_nothing_is_kept(core)


async def test_an_element_count_beyond_the_limit(open_archive, serve, monkeypatch, log) -> None:
    monkeypatch.setattr("gateway.deid.policy._MAX_ELEMENTS", 4)
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    ds = person()
    ds.ReferencedStudySequence = [Dataset() for _ in range(8)]
    for item in ds.ReferencedStudySequence:
        item.ReferencedSOPInstanceUID, item.PatientName = generate_uid(None), PERSON["PatientName"]
    answer = await store(await serve(core), ds)
    assert answer.status == 409
    assert "more than 4 elements" in answer.headers["Warning"]
    await assert_nothing_is_kept(core)


async def test_a_row_that_cannot_be_written_leaves_no_identity(open_archive, serve, monkeypatch, log) -> None:
    """Whether it was committed is not known, so the file stays for the sweeper; it is de-identified."""
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    client = await serve(core)
    with monkeypatch.context() as patch:
        patch.setattr("gateway.store.catalogue.Catalogue.insert", failing(ValueError(CANARY)))
        answer = await store(client, person())
        assert answer.status >= 500
        assert_nothing_is_said(await answer.text(), log.getvalue())
    assert await core.catalogue.db.instances.count_documents({}) == 0
    places = leaks.folder(core.settings.data.dir, "files")
    assert not leaks.Needles(TEXTS).leaks(places)
