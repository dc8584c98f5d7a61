"""Peers of the DICOM listener that are slow, rude, too many or gone, and an archive that cannot take what they send."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import replace

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.sop_class import Verification

from dicomweb.errors import Unavailable
from dicomweb.ports import StoreOutcome
from gateway.dimse.pdu import abort, data_pdus, release_rp
from tests.integration.dimse_support import (
    Sender,
    associations,
    count,
    dcmtk,
    listen,  # noqa: F401
    listening,
    split,
    until,
    watched_unread,
)
from tests.samples import CT_IMAGE_STORAGE, ct, part10
from tests.unit.dimse.conversations import element, fragment, pdu, store_rq
from tests.unit.dimse.test_negotiation import asked

MIB = 1 << 20
RELEASE_RQ = pdu(5, bytes(4))


class Peer:
    """A peer that says what it is told to, byte for byte."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, *pdus):
        self.writer.write(b"".join(pdus))
        await self.writer.drain()

    async def pdu(self):
        """Kind and body of the next PDU; (0, b"") when the connection ends."""
        try:
            kind, length = struct.unpack(">BxL", await asyncio.wait_for(self.reader.readexactly(6), 10))
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, b""
        return kind, await self.reader.readexactly(length)

    async def status(self):
        """The status of the next response, a short one."""
        kind, body = await self.pdu()
        assert kind == 4
        at = body.index(struct.pack("<HHL", 0, 0x0900, 2)) + 8
        return int.from_bytes(body[at : at + 2], "little")


@contextlib.asynccontextmanager
async def connected(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Peer(reader, writer)
    finally:
        if writer.transport.get_write_buffer_size():
            writer.transport.abort()  # nobody reads what is left
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def associated(port, **changes):
    """A peer with an association: context 1 is for CT images in Explicit VR Little Endian."""
    async with connected(port) as peer:
        await peer.send(pdu(1, asked([(CT_IMAGE_STORAGE, [ExplicitVRLittleEndian])], **changes)))
        kind, _ = await peer.pdu()
        assert kind == 2
        yield peer


def store(content, *, piece=16384):
    """The PDUs of the C-STORE of a Part 10 file."""
    meta, encoded = split(content)
    uid = meta.MediaStorageSOPInstanceUID.encode()
    sent = [pdu(4, fragment(store_rq(uid + b"\0" * (len(uid) % 2)), command=True, last=True))]
    sent += [
        pdu(4, fragment(encoded[at : at + piece], last=at + piece >= len(encoded)))
        for at in range(0, len(encoded), piece)
    ]
    return sent


@pytest.mark.parametrize("size", [1, 5, 11, 12, 13, 4096])
async def test_any_split_over_reads_is_stored(core, listen, size):  # noqa: F811
    listener = await listen(core)
    async with associated(listener.port) as peer:
        sent = b"".join(store(part10(ct()), piece=700))
        for at in range(0, len(sent), size):
            await peer.send(sent[at : at + size])
            await asyncio.sleep(0)
        assert await peer.status() == 0
        await peer.send(RELEASE_RQ)
        assert await peer.pdu() == (6, release_rp()[6:])
    assert await count(core) == 1


async def test_fragments_may_share_a_pdu(core, listen):  # noqa: F811
    listener = await listen(core)
    meta, encoded = split(part10(ct()))
    command = store_rq(meta.MediaStorageSOPInstanceUID.encode().ljust(64, b"\0"))
    fragments = [fragment(command[:9], command=True), fragment(command[9:], command=True, last=True)]
    fragments += [fragment(encoded[:100]), fragment(b""), fragment(encoded[100:], last=True)]
    async with associated(listener.port) as peer:
        await peer.send(pdu(4, b"".join(fragments)))
        assert await peer.status() == 0


async def test_requests_ahead_of_their_answers_are_answered_in_order(core, listen):  # noqa: F811
    listener = await listen(core)
    requests = [b"".join(store(part10(ct()))) for _ in range(12)]
    async with associated(listener.port) as peer, asyncio.TaskGroup() as group:
        group.create_task(peer.send(*requests, RELEASE_RQ))
        assert [await peer.status() for _ in requests] == [0] * 12
        assert (await peer.pdu())[0] == 6
    assert await count(core) == 12


async def test_responses_fit_what_the_peer_takes(core, listen):  # noqa: F811
    listener = await listen(core)
    async with associated(listener.port, max_bytes=64) as peer:
        await peer.send(*store(part10(ct())))
        lengths, last = [], 0
        while not last & 2:
            kind, body = await peer.pdu()
            assert kind == 4
            lengths.append(len(body))
            last = body[5]
    assert len(lengths) > 1
    assert max(lengths) <= 64


@pytest.mark.parametrize(
    "rude",
    [
        pdu(4, fragment(b"data", last=True)),
        pdu(4, fragment(store_rq(), command=True, last=True, context=3)),
        pdu(4, fragment(store_rq(), command=True, last=True) + fragment(b"x") + fragment(store_rq(), command=True)),
        pdu(4, struct.pack(">LBB", 1000, 1, 3)),
        pdu(4, fragment(store_rq()[:-1], command=True, last=True)),
        pdu(4, fragment(element(0x0100, b"\1\x80") + element(0x0800, b"\1\1"), command=True, last=True)),
        pdu(4, fragment(element(0x0800, b"\1\1"), command=True, last=True)),
        pdu(4, fragment(store_rq(), command=True)) + RELEASE_RQ,
        pdu(1, asked([(CT_IMAGE_STORAGE, [ExplicitVRLittleEndian])])),
        pdu(6, bytes(4)),
        pdu(99, bytes(4)),
    ],
    ids=[
        "data without a command",
        "a context that was not accepted",
        "a command within a data set",
        "a fragment longer than its PDU",
        "a command set that ends early",
        "a response to no request",
        "a command set without a command",
        "a release within a message",
        "another association",
        "a release response",
        "what is no PDU",
    ],
)
async def test_rude_peers_are_aborted_without_a_traceback(core, listen, caplog, rude):  # noqa: F811
    listener = await listen(core)
    async with associated(listener.port) as peer:
        await peer.send(rude)
        kind, body = await peer.pdu()
        assert kind == 7
        assert body[2] == 2  # by the provider
    await until(lambda: not associations())
    assert not [record for record in caplog.records if record.exc_info]


async def test_peers_that_abort_are_let_go(core, listen, caplog):  # noqa: F811
    caplog.set_level("INFO", "gateway")
    listener = await listen(core)
    async with associated(listener.port) as peer:
        await peer.send(abort())
        assert await peer.pdu() == (0, b"")
    await until(lambda: not associations())
    assert "aborted: 0 instances stored, 0 not" in caplog.text


@pytest.mark.parametrize("field", [0x0020, 0x0021, 0x0010, 0x0130])
async def test_other_operations_are_not_recognised_and_the_association_goes_on(core, listen, field):  # noqa: F811
    listener = await listen(core)
    elements = element(0x0002, b"1.2\0") + element(0x0100, struct.pack("<H", field)) + element(0x0110, b"\1\0")
    asks = fragment(elements + element(0x0800, b"\0\0"), command=True, last=True)
    async with associated(listener.port) as peer:
        await peer.send(pdu(4, asks + fragment(bytes(5000)) + fragment(bytes(5000), last=True)))
        assert await peer.status() == 0x0211
        await peer.send(*store(part10(ct())))
        assert await peer.status() == 0


@pytest.mark.parametrize("size", [0, 9 * MIB])
async def test_a_cancel_of_nothing_is_passed_over(core, listen, size):  # noqa: F811
    """Also one with a data set, which none may have."""
    listener = await listen(core)
    cancel = element(0x0100, b"\xff\x0f") + element(0x0120, b"\1\0")
    cancel += element(0x0800, b"\0\0" if size else b"\1\1")
    data = [pdu(4, fragment(bytes(MIB // 2), last=at + MIB // 2 >= size)) for at in range(0, size, MIB // 2)]
    async with associated(listener.port) as peer:
        await peer.send(data_pdus(1, cancel, 0), *data, *store(part10(ct())))
        assert await peer.status() == 0


async def test_a_store_without_a_data_set_or_a_name(core, listen):  # noqa: F811
    listener = await listen(core)
    async with associated(listener.port) as peer:
        await peer.send(data_pdus(1, store_rq(data_set_type=0x0101), 0))
        assert await peer.status() == 0xC000
        await peer.send(data_pdus(1, store_rq(b""), 0), pdu(4, fragment(b"data", last=True)))
        assert await peer.status() == 0xC000
        await peer.send(*store(part10(ct())))
        assert await peer.status() == 0


@pytest.mark.parametrize(
    "said",
    [b"", pdu(1, bytes(100))[:50], None, store(part10(ct()))[0] + b"\4"],
    ids=["nothing", "part of a request", "nothing in an association", "part of an instance"],
)
async def test_peers_that_fall_silent_are_given_up(core, listen, said):  # noqa: F811
    listener = await listen(core, network_timeout_s=0.3)
    within = said is None or said[:1] == b"\4"
    async with associated(listener.port) if within else connected(listener.port) as peer:
        await peer.send(said or b"")
        assert (await peer.pdu())[0] == (7 if within else 0)
        await until(lambda: not associations())


async def test_a_peer_that_dribbles_its_request_is_given_up(core, listen):  # noqa: F811
    """The timer before an association runs on whatever comes (ARTIM, PS3.8 section 9.1.5)."""
    listener = await listen(core, network_timeout_s=0.5)
    async with connected(listener.port) as peer:
        ended = asyncio.ensure_future(peer.reader.read())
        request = pdu(1, asked([(CT_IMAGE_STORAGE, [ExplicitVRLittleEndian])]))
        sent = 0
        while not ended.done():
            sent += 1
            with contextlib.suppress(ConnectionError):
                await peer.send(request[sent - 1 : sent])
            await asyncio.wait([ended], timeout=0.05)
        assert 2 < sent < len(request)
        with contextlib.suppress(ConnectionError):
            assert await ended == b""


async def test_slow_peers_are_waited_for(core, listen):  # noqa: F811
    listener = await listen(core, network_timeout_s=1.0)
    sent = b"".join(store(part10(ct())))
    begin = asyncio.get_running_loop().time()
    async with associated(listener.port) as peer:
        piece = len(sent) // 15
        for at in range(0, len(sent), piece):
            await peer.send(sent[at : at + piece])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.1)
        assert await peer.status() == 0
    assert asyncio.get_running_loop().time() - begin > 1.0


async def test_peers_that_vanish_leave_nothing(core, listen):  # noqa: F811
    listener = await listen(core)
    content = part10(ct(Rows=2048, Columns=2048, PixelData=bytes(8 * MIB)))
    for amount in (10, 300, 3 * MIB, 7 * MIB):
        async with associated(listener.port) as peer:
            await peer.send(b"".join(store(content))[:amount])
            peer.writer.transport.abort()
    await until(lambda: not associations())
    assert await count(core) == 0
    assert [info async for info in core.archive.objects.list()] == []


async def test_an_instance_that_has_come_is_stored_though_its_sender_has_gone(core, listen, monkeypatch):  # noqa: F811
    listener = await listen(core)
    unread = watched_unread(monkeypatch)
    sent = store(part10(ct()))
    async with associated(listener.port) as peer:
        await peer.send(*sent)
        await until(lambda: len(unread) >= 1)
    await until(lambda: not associations())
    assert await count(core) == 1


async def test_a_peer_that_reads_no_answers_is_given_up_and_bounded(core, listen):  # noqa: F811
    listener = await listen(core, network_timeout_s=1.0)
    echo = (
        element(0x0100, b"\x30\0")
        + element(0x0110, b"\1\0")
        + element(0x0800, b"\1\1")
        + element(0x0002, b"1." * 9_000)
    )
    async with associated(listener.port) as peer:
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.reader._transport.pause_reading()
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(20):
                while True:
                    await peer.send(*[data_pdus(1, echo, 0)] * 50)
        await until(lambda: not associations())


async def test_many_that_say_nothing_keep_nobody_out(core, listen):  # noqa: F811
    """Up to the limit of associations connections may wait; more are closed, and those that waited too long."""
    listener = await listen(core, max_associations=20, network_timeout_s=1.0)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(30):
            await stack.enter_async_context(connected(listener.port))
        async with associated(listener.port) as peer:
            await peer.send(*store(part10(ct())))
            assert await peer.status() == 0
        for _ in range(300):
            await stack.enter_async_context(connected(listener.port))
        assert len(associations()) <= 40
        await until(lambda: not associations())
    code, output = await dcmtk("echoscu", "-aec", "ISTHMUS", "127.0.0.1", listener.port)
    assert code == 0, output


class FullArchive:
    """An archive that has no room for the first instances, and says so before it has read them."""

    def __init__(self, failures):
        self.failures = failures
        self.stored = 0

    async def store(self, part, *, study_uid=None):
        if self.failures:
            self.failures -= 1
            raise Unavailable("Too many large headers are on their way in; try again shortly.")
        self.stored += sum([len(chunk) async for chunk in part])
        return StoreOutcome()


@pytest.mark.parametrize("size", [1000, 9 * MIB])
async def test_an_archive_without_room_fails_the_instance_and_the_association_goes_on(core, size):
    archive = FullArchive(2)
    content = part10(ct(PixelData=bytes(size)))
    async with listening(core.settings, lambda _: archive) as listener, associated(listener.port) as peer:
        for expected in (0xA700, 0xA700, 0):
            await peer.send(*store(content))
            assert await peer.status() == expected
    assert archive.stored > size


class StuckArchive:
    """An archive that never answers, after it has read so much."""

    def __init__(self, reads):
        self.reads = reads
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def store(self, part, *, study_uid=None):
        self.begun.set()
        async for chunk in part:
            if len(chunk) > self.reads:
                break
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@pytest.mark.parametrize("size", [1000, 20 * MIB])
async def test_an_archive_that_does_not_answer_in_time(core, size):
    archive = StuckArchive(100)
    settings = replace(core.settings, dicom=replace(core.settings.dicom, network_timeout_s=0.5))
    async with listening(settings, lambda _: archive) as listener, associated(listener.port) as peer:
        await peer.send(*store(part10(ct(PixelData=bytes(size)))))
        assert await peer.status() == 0xA700
        assert archive.cancelled.is_set()
        await peer.send(RELEASE_RQ)
        assert (await peer.pdu())[0] == 6


async def test_an_archive_that_does_not_answer_after_the_peer_has_gone(core):
    archive = StuckArchive(100)
    settings = replace(core.settings, dicom=replace(core.settings.dicom, network_timeout_s=0.5))
    async with listening(settings, lambda _: archive) as listener:
        async with associated(listener.port) as peer:
            await peer.send(*store(part10(ct())))
            await archive.begun.wait()
        await until(lambda: not associations())
        assert archive.cancelled.is_set()


async def test_a_flood_of_large_instances_is_held_in_bounded_memory(core, monkeypatch):
    """Twelve senders whose archive does not read: what is unread stays below the share of each."""
    monkeypatch.setattr("gateway.dimse.scp._DRAIN_TIMEOUT_S", 0.3)
    unread = watched_unread(monkeypatch)
    archive = StuckArchive(100)
    sent = b"".join(store(part10(ct(PixelData=bytes(24 * MIB))), piece=MIB // 2))
    async with contextlib.AsyncExitStack() as stack:
        listener = await stack.enter_async_context(listening(core.settings, lambda _: archive))
        peers = [await stack.enter_async_context(associated(listener.port)) for _ in range(12)]
        sending = [asyncio.create_task(peer.send(sent)) for peer in peers]
        await until(lambda: sum(amount >= 4 * MIB for amount in unread) >= 12)
        await asyncio.wait(sending, timeout=0.5)
        assert not any(task.done() for task in sending)
        assert max(unread) < 6 * MIB
        for task in sending:
            task.cancel()


async def test_stopping_ends_what_never_ends(core, monkeypatch):
    monkeypatch.setattr("gateway.dimse.scp._DRAIN_TIMEOUT_S", 0.3)
    archive = StuckArchive(100)
    async with contextlib.AsyncExitStack() as stack:
        listener = await stack.enter_async_context(listening(core.settings, lambda _: archive))
        await stack.enter_async_context(connected(listener.port))
        peer = await stack.enter_async_context(associated(listener.port))
        await peer.send(*store(part10(ct())), RELEASE_RQ)
        await archive.begun.wait()
        assert len(associations()) == 2
        await listener.stop()
        assert associations() == []
        assert archive.cancelled.is_set()


async def test_dcmsend_and_pynetdicom_take_turns(core, listen, data_folder):  # noqa: F811
    listener = await listen(core)
    files = sorted((data_folder / "ct-chest").glob("*.dcm"))[:10]
    code, output = await dcmtk("dcmsend", "-aec", "ISTHMUS", "127.0.0.1", listener.port, *files)
    assert code == 0, output

    def verify():
        with Sender(listener.port, [(Verification, None)]) as sender:
            return sender.association.send_c_echo().Status

    assert await asyncio.to_thread(verify) == 0
    assert await count(core) == 10
