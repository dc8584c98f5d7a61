"""Sending to remotes: DCMTK's storescp and pynetdicom as the other side, and peers that misbehave."""

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, Verification

from gateway.config import Address, Remote
from gateway.dimse.scu import ECHO, Offer, associated
from gateway.errors import RemoteUnavailable
from gateway.workers import Workers
from tests.integration.dimse_support import storescp
from tests.samples import ct

#: pynetdicom leaves a socket open when the other side is gone.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
NATIVE = Offer(CTImageStorage, ExplicitVRLittleEndian)


@pytest.fixture
async def workers():
    made = Workers()
    yield made
    await made.close()


def sending(port, offers, workers, title="STORESCP", timeout_s=20.0):
    remote = Remote(title, Address("127.0.0.1", port))
    return associated(remote, "ISTHMUS", offers, workers, timeout_s=timeout_s)


def encoded(ds, syntax=ExplicitVRLittleEndian):
    """The data set alone, as C-STORE sends it."""
    out = BytesIO()
    dcmwrite(out, ds, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return out.getvalue()


async def pieces(data, size=100_000):
    for start in range(0, len(data), size):
        yield data[start : start + size]


@contextlib.contextmanager
def scp(status=0x0000, on_store=lambda event: None, title="STORESCP", syntaxes=(ExplicitVRLittleEndian,), **options):
    """pynetdicom as a remote; what it was sent."""
    received = []

    def take(event):
        on_store(event)
        received.append(event.encoded_dataset(include_meta=False))
        return status

    ae = AE(title)
    for name, value in options.items():
        setattr(ae, name, value)
    ae.add_supported_context(CTImageStorage, list(syntaxes))
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    try:
        yield server.socket.getsockname()[1], received
    finally:
        server.shutdown()


async def test_echo(workers, tmp_path):
    async with storescp(tmp_path) as port, sending(port, [ECHO], workers) as peer:
        assert await peer.echo() == 0


@pytest.mark.parametrize("option", ["+xe", "+xi"])
async def test_storescp_gets_what_was_sent_in_a_syntax_that_it_takes(workers, tmp_path, option):
    ds = ct()
    async with storescp(tmp_path, option) as port, sending(port, [NATIVE], workers) as peer:
        syntax = peer.syntax_for(NATIVE)
        assert syntax == (ExplicitVRLittleEndian if option == "+xe" else ImplicitVRLittleEndian)
        assert await peer.store(NATIVE, ds.SOPInstanceUID, pieces(encoded(ds, syntax), 1000)) == 0
    (file,) = tmp_path.iterdir()
    back = await asyncio.to_thread(dcmread, file)
    assert back.file_meta.TransferSyntaxUID == syntax
    assert (back.PatientName, back.PixelData) == (ds.PatientName, ds.PixelData)


async def test_contexts_are_told_apart(workers):
    offers = [Offer(CTImageStorage, JPEGBaseline8Bit), NATIVE, Offer(CTImageStorage, JPEG2000Lossless), NATIVE, ECHO]
    with scp(syntaxes=[JPEG2000Lossless, ExplicitVRLittleEndian]) as (port, _):
        async with sending(port, offers, workers) as peer:
            assert peer.syntax_for(offers[0]) is None
            assert peer.syntax_for(offers[1]) == ExplicitVRLittleEndian
            assert peer.syntax_for(offers[2]) == JPEG2000Lossless
            assert await peer.echo() == 0


@pytest.mark.parametrize("maximum_pdu_size", [0, 4096, 16_382])
async def test_several_in_one_association_and_large_ones(workers, maximum_pdu_size):
    sizes = [10, 2_000_000, 1, 300_000]
    sent = []
    with scp(maximum_pdu_size=maximum_pdu_size) as (port, received):
        async with sending(port, [NATIVE], workers) as peer:
            for size in sizes:
                ds = ct(PatientComments="x" * 10, PixelData=os.urandom(2 * size))
                sent.append(encoded(ds))
                assert await peer.store(NATIVE, ds.SOPInstanceUID, pieces(sent[-1])) == 0
    assert received == sent


async def test_no_more_waits_to_be_sent_than_a_few_pieces(workers):
    """A peer that does not read is noticed by whoever makes the data set."""
    made = 0
    reached, go_on = asyncio.Event(), threading.Event()

    async def endless():
        nonlocal made
        while True:
            made += 1 << 20
            yield bytes(1 << 20)

    with deaf(go_on) as port:
        async with sending(port, [NATIVE], workers) as peer:
            task = asyncio.create_task(peer.store(NATIVE, "1.2.3", endless()))
            before = -1
            while made != before:  # until it stands
                before = made
                await asyncio.sleep(0.5)
            reached.set()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        go_on.set()
    assert 0 < made < 40 << 20


@contextlib.contextmanager
def deaf(go_on):
    """A remote that accepts an association and reads no more."""
    with scp(on_store=lambda _: go_on.wait(30)) as (port, _), socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def relay():
            here, _ = listener.accept()
            with here, socket.create_connection(("127.0.0.1", port)) as there:
                there.sendall(here.recv(1 << 16))
                here.sendall(there.recv(1 << 16))
                ended.wait(30)

        thread = threading.Thread(target=relay)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join()


async def test_a_status_is_given_back(workers):
    with scp(status=0xA700) as (port, _):
        async with sending(port, [NATIVE], workers) as peer:
            ds = ct()
            for _ in range(2):
                assert await peer.store(NATIVE, ds.SOPInstanceUID, pieces(encoded(ds))) == 0xA700


async def test_who_cannot_be_reached(workers):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(RemoteUnavailable, match="cannot be reached"):
        async with sending(port, [ECHO], workers):
            pass


async def test_a_title_that_is_not_taken(workers):
    with scp(title="OTHER", require_called_aet=True) as (port, _), pytest.raises(RemoteUnavailable, match="AE titles"):
        async with sending(port, [ECHO], workers):
            pass


async def test_a_peer_that_takes_nothing_of_it(workers):
    offer = Offer("1.2.840.10008.5.1.4.1.1.66.4", ExplicitVRLittleEndian)
    with scp() as (port, _), pytest.raises(RemoteUnavailable, match="takes nothing"):
        async with sending(port, [offer], workers):
            pass


async def test_a_peer_that_aborts(workers):
    with scp(on_store=lambda event: event.assoc.abort()) as (port, _):
        async with sending(port, [NATIVE], workers) as peer:
            ds = ct()
            with pytest.raises(RemoteUnavailable):
                await peer.store(NATIVE, ds.SOPInstanceUID, pieces(encoded(ds)))
            with pytest.raises(RemoteUnavailable):
                await peer.store(NATIVE, ds.SOPInstanceUID, pieces(encoded(ds)))


async def test_a_peer_that_never_answers(workers):
    silent = threading.Event()
    with scp(on_store=lambda _: silent.wait(30)) as (port, _):
        async with sending(port, [NATIVE], workers, timeout_s=0.5) as peer:
            ds = ct()
            with pytest.raises(RemoteUnavailable, match="in time"):
                await peer.store(NATIVE, ds.SOPInstanceUID, pieces(encoded(ds)))
        silent.set()


async def test_an_object_that_cannot_be_made_is_not_stored(workers):
    async def broken():
        yield encoded(ct())[:1000]
        raise ValueError("made up")

    with scp() as (port, received):
        with pytest.raises(ValueError, match="made up"):
            async with sending(port, [NATIVE], workers) as peer:
                await peer.store(NATIVE, "1.2.3", broken())
        assert received == []


async def test_who_is_cancelled_leaves_no_thread(workers):
    waiting, go_on = threading.Event(), threading.Event()

    def hold(_):
        waiting.set()
        go_on.wait(30)

    before = set(threading.enumerate())
    with scp(on_store=hold) as (port, _):

        async def send():
            async with sending(port, [NATIVE], workers) as peer:
                ds = ct()
                await peer.store(NATIVE, ds.SOPInstanceUID, pieces(encoded(ds)))

        task = asyncio.create_task(send())
        await asyncio.to_thread(waiting.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
    deadline = time.monotonic() + 30
    while left := [one for one in set(threading.enumerate()) - before if not one.name.startswith(("io_", "asyncio_"))]:
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.05)


async def test_nothing_of_it_is_logged(workers, caplog):
    with caplog.at_level(logging.DEBUG), scp() as (port, _):
        logging.getLogger("pynetdicom").setLevel(logging.DEBUG)
        async with sending(port, [NATIVE], workers) as peer:
            ds = ct()
            assert await peer.store(NATIVE, ds.SOPInstanceUID, pieces(encoded(ds))) == 0
    assert "Quixote" not in caplog.text
    assert ds.SOPInstanceUID not in caplog.text
