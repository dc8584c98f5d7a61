"""What is refused, over HTTP and DIMSE: kept sealed where there is a quarantine, nowhere else, answered the same."""

import asyncio
import logging
import os
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, EncapsulatedPDFStorage, JPEGBaseline8Bit

from gateway.archive import Source
from gateway.deid.keys import derive
from gateway.deid.quarantine import Quarantine
from gateway.deid.vault import Vault
from gateway.errors import VaultError
from tests.conftest import KEY
from tests.derived import document
from tests.dicomweb_support import store
from tests.integration.dimse_support import dcmtk, listen  # noqa: F401
from tests.samples import ct, part10, stream

NAME = "Quixote^Alonso"
CANARIES = [b"Quixote", b"MRN-4711", b"Confidential finding"]


def letter() -> bytes:
    """An encapsulated document, which the profile refuses."""
    return part10(document(ct(), "Confidential finding"))


async def kept(core):
    """What is in the quarantine, opened."""

    def look():
        found = []
        for entry in core.archive.quarantine.entries():
            with core.archive.quarantine.open(entry.id) as reader:
                found.append((entry, b"".join(reader.pieces())))
        return found

    return await asyncio.to_thread(look)


def leaking(folder: Path) -> list[tuple[Path, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [(path, canary) for path in files for canary in CANARIES if canary in path.read_bytes()]


@pytest.fixture
async def guarded(open_archive, tmp_path):
    """An archive with a quarantine."""
    return await open_archive(
        ISTHMUS_INGEST__PROFILE="research",
        ISTHMUS_QUARANTINE__DIR=str(tmp_path / "quarantine"),
        ISTHMUS_QUARANTINE__MAX_MB="30",
    )


async def test_stow(guarded, open_archive, serve, tmp_path):
    plain = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    content = letter()
    answers = []
    for core in (plain, guarded):
        client = await serve(core)
        answer = await store(client, content, b"no DICOM at all, of Quixote")
        said = await answer.text()
        answers.append((answer.status, said, answer.headers.getall("Warning", [])[0].split(": ")[-1]))
        assert "Quixote" not in said
    assert answers[0] == answers[1]
    assert answers[0][0] == 409
    (other_entry, other), (letter_entry, sealed) = sorted(await kept(guarded), key=lambda one: one[0].size)
    assert (sealed, other) == (content, b"no DICOM at all, of Quixote")
    assert letter_entry.source == "stow:local"
    assert letter_entry.reason == "Encapsulated documents cannot be de-identified."
    assert "not a DICOM file" in other_entry.reason
    assert leaking(tmp_path) == []
    assert len(list((tmp_path / "quarantine").iterdir())) == 2


async def test_c_store_arrives_as_a_file(guarded, open_archive, listen, tmp_path):  # noqa: F811
    sent = tmp_path / "sent"
    sent.mkdir()
    (sent / "letter.dcm").write_bytes(letter())
    plain = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    said = []
    for core in (plain, guarded):
        listener = await listen(core)
        code, output = await dcmtk(
            "storescu", "-v", "-aet", "CT1", "-aec", "ISTHMUS", "127.0.0.1", listener.port, sent / "letter.dcm"
        )
        said.append([line for line in output.splitlines() if "Store Response" in line])
        assert code != 0
        await listener.stop()
    assert said[0] == said[1]
    assert "Error" in said[0][0] or "Refused" in said[0][0]
    ((entry, sealed),) = await kept(guarded)
    assert entry.source == "dimse:CT1"
    back = dcmread(BytesIO(sealed))
    assert back.file_meta.MediaStorageSOPClassUID == EncapsulatedPDFStorage
    assert (back.PatientName, back.PatientID) == (NAME, "MRN-4711")
    assert b"Confidential finding" in back.EncapsulatedDocument
    (sent / "letter.dcm").unlink()
    assert leaking(tmp_path) == []


async def test_without_the_setting_nothing_is_kept_anywhere(open_archive, tmp_path):
    core = await open_archive(ISTHMUS_INGEST__PROFILE="research")
    assert core.archive.quarantine is None
    for content in (letter(), b"no DICOM of Quixote", part10(ct())[:-300]):
        assert (await core.archive.ingest(stream(content), Source("import"))).failure is not None
    assert leaking(tmp_path) == []
    assert not list(tmp_path.rglob("*.sealed"))
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("size", [3 << 20, 9 << 20])
async def test_large_ones_come_whole_however_the_pieces_fall(guarded, size):
    content = b"Quixote" * (size // 7)
    for piece in (1 << 20, 65_536, len(content)):
        outcome = await guarded.archive.ingest(stream(content, piece), Source("import", "disk"))
        assert outcome.failure is not None
    found = await kept(guarded)
    assert [(one.size, one.source) for one, _ in found] == [(len(content), "import:disk")] * 3
    assert all(sealed == content for _, sealed in found)


async def test_what_is_taken_leaves_nothing(guarded, tmp_path):
    large = ct(PatientComments="x" * 100)
    large.add_new(0x00091001, "OB", b"\1" * (6 << 20))  # a header of more than is held in memory
    for ds in (ct(), large):
        assert (await guarded.archive.ingest(stream(part10(ds)), Source("import"))).stored
    assert list((tmp_path / "quarantine").iterdir()) == []


async def test_what_is_stored_differently_is_no_refusal(open_archive, tmp_path):
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_QUARANTINE__DIR=str(tmp_path / "quarantine"))
    ds = ct()
    assert (await core.archive.ingest(stream(part10(ds)), Source("import"))).stored
    ds.PixelData = bytes(512)
    assert (await core.archive.ingest(stream(part10(ds)), Source("import"))).status == 409
    assert list((tmp_path / "quarantine").iterdir()) == []


async def test_deflated_ones_are_kept_as_they_came(guarded):
    content = part10(document(ct(), "Confidential finding"), DeflatedExplicitVRLittleEndian)
    assert (await guarded.archive.ingest(stream(content), Source("import"))).failure is not None
    ((_, sealed),) = await kept(guarded)
    assert sealed == content


async def test_pictures_that_nobody_can_look_into(guarded):
    """Refused after all of it had come, when its picture was to be looked at."""
    ds = ct(BurnedInAnnotation="YES", PixelData=encapsulate([os.urandom(6 << 20)]))
    ds["PixelData"].is_undefined_length = True
    content = part10(ds, JPEGBaseline8Bit)
    outcome = await guarded.archive.ingest(stream(content), Source("dimse", "US1"))
    assert outcome.status == 422, outcome
    ((entry, sealed),) = await kept(guarded)
    assert (entry.reason, sealed) == (outcome.reason, content)


async def test_headers_that_are_too_large(open_archive, tmp_path):
    core = await open_archive(
        ISTHMUS_INGEST__MAX_HEADER_BYTES="100000", ISTHMUS_QUARANTINE__DIR=str(tmp_path / "quarantine")
    )
    ds = ct()
    ds.add_new(0x00091001, "OB", b"\1" * 200_000)
    content = part10(ds)
    assert (await core.archive.ingest(stream(content), Source("import"))).status == 413
    ((entry, sealed),) = await kept(core)
    assert "larger than this gateway accepts" in entry.reason
    assert sealed == content


async def test_one_that_does_not_come_whole_is_not_kept(guarded, tmp_path):
    async def broken():
        async for chunk in stream(b"Quixote" * 2_000_000):
            yield chunk
        raise ConnectionResetError

    async def refused():
        async for chunk in stream(letter(), 1000):
            yield chunk
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await guarded.archive.ingest(refused(), Source("import"))
    assert (await guarded.archive.ingest(broken(), Source("import"))).failure is not None
    assert list((tmp_path / "quarantine").iterdir()) == []


async def test_cancelled_senders_leave_nothing(guarded, tmp_path):
    sent = asyncio.Event()

    async def stalling():
        for _ in range(8):
            yield b"Quixote" * 150_000
        sent.set()
        await asyncio.Event().wait()
        yield b""

    taking = asyncio.create_task(guarded.archive.ingest(stalling(), Source("import")))
    await sent.wait()
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert list((tmp_path / "quarantine").iterdir()) == []


async def test_a_full_quarantine_refuses_all_the_same(open_archive, tmp_path, caplog):
    core = await open_archive(ISTHMUS_QUARANTINE__DIR=str(tmp_path / "quarantine"), ISTHMUS_QUARANTINE__MAX_MB="1")
    content = b"Quixote" * 100_000
    with caplog.at_level(logging.DEBUG):
        for _ in range(4):
            outcome = await core.archive.ingest(stream(content), Source("import"))
            assert outcome.status == 409
    assert len(await kept(core)) == 1
    said = [record.getMessage() for record in caplog.records if "quarantine" in record.getMessage()]
    assert said == ["what was refused could not be kept in the quarantine: The quarantine is full."]
    assert not any("Quixote" in record.getMessage() for record in caplog.records)


async def test_a_folder_that_is_gone_refuses_all_the_same(guarded, tmp_path, caplog):
    (tmp_path / "quarantine").rmdir()
    outcome = await guarded.archive.ingest(stream(letter()), Source("import"))
    assert outcome.reason == "Encapsulated documents cannot be de-identified."
    assert "could not be kept in the quarantine: FileNotFoundError" in caplog.text


async def test_what_can_be_taken_later_is_tried_again(guarded, open_archive, tmp_path):
    content = letter()
    await guarded.archive.ingest(stream(content), Source("dimse", "CT1"))
    refused = await guarded.archive.retry(stream(content), Source("dimse", "CT1"))
    assert refused.failure is not None
    assert len(await kept(guarded)) == 1, "it is not kept twice"
    other = await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_QUARANTINE__DIR=str(tmp_path / "quarantine"))
    ((_, sealed),) = await kept(other)
    assert (await other.archive.retry(stream(sealed), Source("dimse", "CT1"))).stored


async def test_the_key_of_the_de_identification_does_not_open_it(guarded, tmp_path):
    """Who may pseudonymise must not be able to look into the quarantine."""
    await guarded.archive.ingest(stream(letter()), Source("import"))
    ((entry, _),) = await kept(guarded)
    for key in (KEY, derive(KEY, "vault")):
        other = Quarantine(tmp_path / "quarantine", Vault(key), max_bytes=1 << 20, keep_days=0)
        with pytest.raises(VaultError):
            await asyncio.to_thread(other.open, entry.id)
