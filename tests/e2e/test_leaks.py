"""Nothing of a person leaves their objects: not into logs, answers, metrics, the catalogue, files or what others see.

A gateway at log level debug takes a made-up person in by every way, good and bad; then all that it keeps or says is
searched for their names, numbers, dates and UIDs.
"""

from collections import Counter
from pathlib import Path

import pytest

from tests import leaks
from tests.conftest import Gateway, running
from tests.leaks import Leak, Needles, Place
from tests.person import PERSON
from tests.planting import Drive, drive
from tests.programs import program

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Drive, Gateway]:
    """A gateway into which the person was driven by every way, and what was there to see meanwhile."""
    program("storescu", "dcmtk")
    return drive(tmp_path_factory.mktemp("leaks"))


@pytest.fixture(scope="module")
def found(driven: tuple[Drive, Gateway]) -> list[Leak]:
    """All leaks."""
    return driven[0].needles.leaks(driven[0].places)


CATEGORIES = (
    "answers", "log", "database", "oplog", "indexes", "database log", "files", "files names", "files expanded",
    "files while it runs", "files while it runs names", "process", "open files", "Ray", "Ray names",
)  # fmt: skip


@pytest.mark.parametrize("category", CATEGORIES)
def test_nothing_leaks(driven: tuple[Drive, Gateway], found: list[Leak], category: str) -> None:
    assert [place for place in driven[0].places if place.category == category], "nothing was searched"
    assert not [leak for leak in found if leak.category == category]


def test_what_was_not_let_in_lies_there_meanwhile(driven: tuple[Drive, Gateway]) -> None:
    waiting = [place for place in driven[0].places if "/spool/" in place.name and place.category == "open files"]
    assert max(len(place.content) for place in waiting) > 1_000_000
    assert [place for place in driven[0].places if place.name.startswith("quarantine/")], "nothing was refused"


def test_every_category_is_searched(driven: tuple[Drive, Gateway]) -> None:
    assert set(Counter(place.category for place in driven[0].places)) == set(CATEGORIES)


def test_what_is_kept_is_found_where_it_is_kept(driven: tuple[Drive, Gateway]) -> None:
    """The search itself sees: the UID under which the study is kept is in answers, rows, oplog, journal and files."""
    drive, _ = driven
    with_study = [
        place for place in drive.places if place.name.startswith("GET 200 /dicomweb/studies?includefield=all")
    ]
    stored = with_study[0].content.split(b'"0020000D":{"vr":"UI","Value":["')[1].split(b'"')[0].decode()
    assert stored.startswith("2.25.")
    needles = Needles([stored])
    seen = {place.category for place in drive.places if needles.found(place.content)}
    assert {"answers", "database", "oplog", "files", "files expanded"} <= seen


def test_answers_are_for_their_caller_alone(driven: tuple[Drive, Gateway]) -> None:
    """No cache that several share may keep what was retrieved (RFC 9111 section 5.2.2)."""
    answers = [place for place in driven[0].places if place.name.startswith(("GET 200 /dicomweb", "GET 200 /wado"))]
    assert len(answers) > 20
    for place in answers:
        assert b"'private" in place.content or b"'no-store'" in place.content, place.name


def test_where_identity_is_kept_it_is_not_said(tmp_path: Path) -> None:
    """A gateway that keeps objects as they came has no identity in its log, metrics, names of files and processes."""
    program("storescu", "dcmtk")
    settings = {"ISTHMUS_LOG__LEVEL": "debug", "ISTHMUS_RAY__ENABLED": "false", "ISTHMUS_INGEST__PROFILE": "none"}
    with running(tmp_path, **settings) as gateway:
        drive = Drive(gateway, tmp_path)
        with drive.client() as client:
            drive.by_stow(client)
            drive.by_metadata(client)
            drive.by_dimse()
            drive.by_worklist(client)
            drive.by_commitment(client)
            drive.by_search(client)
            drive.by_retrieval(client)
            metrics = client.get("/metrics").content
            assert client.get("/dicomweb/studies", params={"PatientID": PERSON["PatientID"]}).json()
        drive.by_bad_http()
        outside = [Place("metrics", "metrics", metrics), *leaks.processes(gateway.process.pid)]
        outside += [place for place in leaks.folder(gateway.data, "files") if place.category == "files names"]
        outside += leaks.folder(gateway.data / "metrics", "metrics")
    outside.append(Place("log", "standard error", gateway.log.read_bytes()))
    assert not drive.needles.leaks(outside)
