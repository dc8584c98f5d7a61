"""The DICOM listener in front of a real archive, with DCMTK and pynetdicom as senders."""

import asyncio
import contextlib
import logging
import struct
import time
from collections import Counter
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.sop_class import CTImageStorage, LabelMapSegmentationStorage, Verification

from dicomweb.errors import Conflict, Refused, TooLarge
from dicomweb.query import Query
from dicomweb.resource import Level
from tests.conftest import running
from tests.integration.dimse_support import (
    Sender,
    associations,
    count,
    dcmtk,
    listen,  # noqa: F401
    request,
    send_one,
    split,
    stored,
    until,
    watched_unread,
)
from tests.samples import CT_IMAGE_STORAGE, ct, part10

PRIVATE_SYNTAX = "1.2.840.113619.5.2"
NAME, IDENTIFIER = "ZQXCANARY^WILHELMINA", "ZQX-4711-CANARY"


async def test_echo(core, listen):  # noqa: F811
    listener = await listen(core)
    code, output = await dcmtk("echoscu", "-aec", "ISTHMUS", "127.0.0.1", listener.port)
    assert code == 0, output


async def test_another_called_title_is_rejected(core, listen):  # noqa: F811
    listener = await listen(core)
    code, output = await dcmtk("echoscu", "-v", "-aec", "SOMEBODY", "127.0.0.1", listener.port)
    assert code != 0
    assert "Called AE Title Not Recognized" in output


async def test_storescu_sends_a_series(core, listen, data_folder):  # noqa: F811
    listener = await listen(core)
    files = sorted((data_folder / "ct-chest").glob("*.dcm"))[:20]
    code, output = await dcmtk("storescu", "-xt", "-aec", "ISTHMUS", "127.0.0.1", listener.port, *files)
    assert code == 0, output
    (series,) = (await core.archive.search(Query(Level.SERIES))).items
    assert series["00201209"]["Value"] == [20]


async def test_many_associations_at_once(core, listen, data_folder):  # noqa: F811
    listener = await listen(core)
    files = sorted((data_folder / "ct-chest").glob("*.dcm"))[:32]
    runs = [dcmtk("storescu", "-xt", "-aec", "ISTHMUS", "127.0.0.1", listener.port, *files[n::8]) for n in range(8)]
    assert [code for code, _ in await asyncio.gather(*runs)] == [0] * 8
    assert await count(core) == 32


async def test_every_transfer_syntax_is_stored_as_sent(open_archive, listen, data_folder):  # noqa: F811
    """Real files, sent undecoded: the pixels come back bit for bit, where they are not byte-swapped or inflated."""
    core = await open_archive(ISTHMUS_INGEST__PROFILE="none", ISTHMUS_STORAGE__REPLACE="true")
    listener = await listen(core)
    seen = Counter()
    for path in sorted((data_folder / "transfer-syntaxes").glob("*.dcm")):
        content = path.read_bytes()
        original = dcmread(BytesIO(content), force=True)
        if content[128:132] != b"DICM" or "StudyInstanceUID" not in original:
            continue  # made to test readers of files
        syntax = original.file_meta.TransferSyntaxUID
        assert await asyncio.to_thread(send_one, listener.port, content) == 0, path.name
        instance, kept = await stored(core, original)
        if syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
            assert instance.transfer_syntax_uid == ExplicitVRLittleEndian
        else:
            assert instance.transfer_syntax_uid == syntax
            assert dcmread(BytesIO(kept)).PixelData == original.PixelData, path.name
        seen[syntax] += 1
    assert len(seen) >= 12, seen


@pytest.mark.parametrize(
    "sop_class", [LabelMapSegmentationStorage, "1.3.6.1.4.1.99999.1.2.3", "1.2.840.10008.5.1.4.1.1.999"]
)
async def test_any_storage_class_is_accepted(core, listen, sop_class):  # noqa: F811
    listener = await listen(core)
    ds = ct(SOPClassUID=UID(sop_class))
    assert await asyncio.to_thread(send_one, listener.port, part10(ds)) == 0
    instance, _ = await stored(core, ds)
    assert instance.sop_class_uid == sop_class


async def test_the_senders_first_standard_syntax_is_taken(core, listen):  # noqa: F811
    listener = await listen(core)
    proposed = [UID(PRIVATE_SYNTAX), ImplicitVRLittleEndian, ExplicitVRLittleEndian]

    def negotiate():
        with Sender(listener.port, [(CTImageStorage, proposed)]) as sender:
            (context,) = sender.association.accepted_contexts
            return context.transfer_syntax[0], sender.send(part10(ds, ImplicitVRLittleEndian))

    ds = ct()
    assert await asyncio.to_thread(negotiate) == (ImplicitVRLittleEndian, 0)
    assert (await stored(core, ds))[0].transfer_syntax_uid == ExplicitVRLittleEndian


async def test_large_instances_stream_in_bounded_memory(core, listen, monkeypatch):  # noqa: F811
    listener = await listen(core)
    frames = 48
    ds = ct(Rows=1024, Columns=1024, NumberOfFrames=frames, PixelData=bytes(2 * frames << 20))
    content = part10(ds)
    unread = watched_unread(monkeypatch)
    assert await asyncio.to_thread(send_one, listener.port, content) == 0
    assert 0 < max(unread) < 6 << 20
    assert (await stored(core, ds))[0].size > 2 * frames << 20


async def test_the_same_again_succeeds_and_other_content_conflicts(core, listen):  # noqa: F811
    listener = await listen(core)
    ds = ct()
    assert await asyncio.to_thread(send_one, listener.port, part10(ds)) == 0
    assert await asyncio.to_thread(send_one, listener.port, part10(ds)) == 0
    ds.SeriesDescription = "OTHER"
    assert await asyncio.to_thread(send_one, listener.port, part10(ds)) == Conflict.dimse_status


async def test_an_instance_that_policy_refuses(open_archive, listen, data_folder):  # noqa: F811
    core = await open_archive()
    listener = await listen(core)
    pdf = next((data_folder / "derived" / "encapsulated").glob("*.dcm"))
    assert await asyncio.to_thread(send_one, listener.port, pdf.read_bytes()) == Refused.dimse_status


async def test_what_is_no_data_set_fails_and_the_association_goes_on(core, listen):  # noqa: F811
    listener = await listen(core)
    content = part10(ct())

    def send():
        with Sender(listener.port, [(CT_IMAGE_STORAGE, [ExplicitVRLittleEndian])]) as sender:
            return sender.send(content[:400]), sender.send(content[:-600]), sender.send(content)

    first, second, last = await asyncio.to_thread(send)
    assert first >= 0xC000
    assert second >= 0xC000
    assert last == 0
    assert await count(core) == 1


async def test_an_instance_above_the_limit_fails_and_the_association_goes_on(core, listen):  # noqa: F811
    listener = await listen(core, max_instance_bytes=3 << 20)
    large = part10(ct(Rows=2048, Columns=2048, PixelData=bytes(8 << 20)))

    def send():
        with Sender(listener.port, [(CT_IMAGE_STORAGE, [ExplicitVRLittleEndian])]) as sender:
            return sender.send(large), sender.send(part10(ct()))

    assert await asyncio.to_thread(send) == (TooLarge.dimse_status, 0)
    assert await count(core) == 1


async def test_associations_above_the_limit_are_rejected_transiently(core, listen):  # noqa: F811
    listener = await listen(core, max_associations=2)

    def associate():
        with Sender(listener.port, [(Verification, None)]), Sender(listener.port, [(Verification, None)]):
            third = Sender(listener.port, [(Verification, None)]).association
            assert third.is_rejected
            primitive = third.acceptor.primitive
            return primitive.result, primitive.result_source, primitive.diagnostic

    assert await asyncio.to_thread(associate) == (2, 3, 2)  # PS3.8 Table 9-21: transient, local limit exceeded
    code, output = await dcmtk("echoscu", "-aec", "ISTHMUS", "127.0.0.1", listener.port)
    assert code == 0, output


async def test_the_limits_are_those_of_all_listeners_together(core, listen):  # noqa: F811
    one, other = [await listen(core, max_associations=2) for _ in range(2)]

    def is_rejected(listener):
        return Sender(listener.port, [(Verification, None)]).association.is_rejected

    def associate():
        with Sender(one.port, [(Verification, None)]):
            with Sender(other.port, [(Verification, None)]):
                assert is_rejected(one)
                assert is_rejected(other)
            with Sender(one.port, [(Verification, None)]):  # as soon as one is released
                assert is_rejected(other)

    await asyncio.to_thread(associate)
    async with contextlib.AsyncExitStack() as stack:
        for listener in (one, one, one, other):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            stack.callback(writer.close)
        await until(lambda: len(associations()) == 4)
        for listener in (one, other):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            stack.callback(writer.close)
            assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_connections_far_above_the_limit_are_closed(core, listen):  # noqa: F811
    listener = await listen(core, max_associations=2)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(4):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            stack.callback(writer.close)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        stack.callback(writer.close)
        assert await asyncio.wait_for(reader.read(), 5) == b""


@pytest.mark.parametrize(
    "sent", [b"", b"\x01\x00\x00", b"GET / HTTP/1.1\r\n\r\n"], ids=["nothing", "a part", "garbage"]
)
async def test_connections_that_close_before_a_request_free_their_slots(core, listen, sent):  # noqa: F811
    listener = await listen(core, max_associations=2)
    for _ in range(4):
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(sent)
        writer.close()
        await writer.wait_closed()
    await until(lambda: not associations(), timeout_s=5)
    code, output = await dcmtk("echoscu", "-aec", "ISTHMUS", "127.0.0.1", listener.port)
    assert code == 0, output


async def test_an_association_that_breaks_off_leaves_nothing(core, listen):  # noqa: F811
    listener = await listen(core)
    meta, encoded = split(part10(ct(Rows=2048, Columns=2048, PixelData=bytes(8 << 20))))

    def break_off():
        with Sender(listener.port, [(CT_IMAGE_STORAGE, [ExplicitVRLittleEndian])]) as sender:
            message = C_STORE_RQ()
            message.primitive_to_message(request(meta, encoded))
            for number, data in enumerate(message.encode_msg(1, 1 << 20)):
                if number == 5:
                    break
                sender.association.dul.send_pdu(data)
            sender.association.abort()

    await asyncio.to_thread(break_off)
    await until(lambda: not associations())
    assert await count(core) == 0
    assert [info async for info in core.archive.objects.list()] == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00\xff\xff\xff\xff" + bytes(100),
        b"\x01\x00\x00\x00\x00\x10" + bytes(16),
        b"\x01\x00\x00\x00\x00\xff",
        b"\x04\x00\x00\x00\x00\x06\x00\x00\x00\x02\x01\x03",
        b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00",
    ],
)
async def test_garbage_ends_the_connection_and_nothing_else(core, listen, garbage):  # noqa: F811
    listener = await listen(core, network_timeout_s=2.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(garbage)
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), 10)
    writer.close()
    code, output = await dcmtk("echoscu", "-aec", "ISTHMUS", "127.0.0.1", listener.port)
    assert code == 0, output


@pytest.mark.parametrize(
    "excess",
    [
        struct.pack(">BBL", 4, 0, 0xFFFFFFF0),
        b"".join(struct.pack(">BBLLBB", 4, 0, 60_006, 60_002, 1, 1) + bytes(60_000) for _ in range(3)),
    ],
    ids=["a PDU longer than negotiated", "an endless command"],
)
async def test_excess_within_an_association_aborts_it(core, listen, excess):  # noqa: F811
    listener = await listen(core, max_pdu_bytes=1 << 17)

    def exceed():
        with Sender(listener.port, [(Verification, None)]) as sender:
            sender.association.dul.socket.socket.sendall(excess)
            deadline = time.monotonic() + 5
            while not sender.association.is_aborted:
                assert time.monotonic() < deadline
                time.sleep(0.01)

    await asyncio.to_thread(exceed)
    await until(lambda: not associations())


async def test_stopping_finishes_the_instance_under_way(core, listen, monkeypatch):  # noqa: F811
    """A sender in the middle of an instance gets its answer and then the abort, an idle one the abort alone."""
    listener = await listen(core)
    unread = watched_unread(monkeypatch)
    ds = ct(Rows=2048, Columns=2048, PixelData=bytes(8 << 20))
    meta, encoded = split(part10(ds))
    middle, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def send():
        contexts = [(CT_IMAGE_STORAGE, [ExplicitVRLittleEndian])]
        with Sender(listener.port, contexts) as idle, Sender(listener.port, contexts) as sender:
            message = C_STORE_RQ()
            message.primitive_to_message(request(meta, encoded))
            with sender.paused():
                for number, data in enumerate(message.encode_msg(1, 1 << 20)):
                    sender.association.dul.send_pdu(data)
                    if number == 4:
                        loop.call_soon_threadsafe(middle.set)
                        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
                status = sender.status()
            deadline = time.monotonic() + 5
            while not (idle.association.is_aborted and sender.association.is_aborted):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            return status

    sending = asyncio.create_task(asyncio.to_thread(send))
    await middle.wait()
    await until(lambda: len(unread) > 3)
    stopping = asyncio.create_task(listener.stop())
    await until(lambda: len(associations()) == 1)
    go_on.set()
    assert await sending == 0
    await stopping
    assert associations() == []
    assert (await stored(core, ds))[0].size > 8 << 20


async def test_no_identity_reaches_the_log(core, listen, caplog):  # noqa: F811
    """At any level, also of what cannot be stored."""
    for name in ("gateway", "dicomweb", "pynetdicom", "pydicom", "asyncio"):
        caplog.set_level(logging.DEBUG, name)
    listener = await listen(core)
    ds = ct(PatientName=NAME, PatientID=IDENTIFIER, SOPInstanceUID="1.2.19470312.1", StudyInstanceUID="1.2.19470312.2")
    content = part10(ds)
    other = part10(ct(PatientName=NAME, PatientID=IDENTIFIER, SOPInstanceUID="1.2.19470312.1"))
    invalid = part10(ct(PatientName=NAME, PatientID=IDENTIFIER, SOPInstanceUID=f"1.2.{IDENTIFIER}"))

    def send():
        with Sender(listener.port, [(CT_IMAGE_STORAGE, [ExplicitVRLittleEndian])]) as sender:
            return [sender.send(part) for part in (content, other, invalid, content[:600])]

    statuses = await asyncio.to_thread(send)
    assert statuses[0] == 0
    assert 0 not in statuses[1:]
    await until(lambda: not associations())
    assert "association with 127.0.0.1 released: 1 instances stored, 3 not" in caplog.text
    for canary in ("ZQX", "CANARY", "19470312"):
        assert canary not in caplog.text


@pytest.mark.e2e
def test_the_whole_gateway_keeps_identities_to_itself(tmp_path):
    """Through `isthmus serve` under its default profile, logging all it can: neither log nor disk shows who it was."""
    content = part10(ct(PatientName=NAME, PatientID=IDENTIFIER))
    with running(tmp_path, ISTHMUS_LOG__LEVEL="debug", ISTHMUS_AUTH__MODE="none") as gateway:
        assert send_one(gateway.dicom_port, content) == 0
        assert send_one(gateway.dicom_port, content[:700]) != 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".dcm" for path in files)
    for path in files:
        text = path.read_bytes()
        assert b"ZQX" not in text, path
