"""A DICOM listener in this process, and peers for it: DCMTK's programs, pynetdicom, and bytes on a connection."""

import asyncio
import contextlib
import socket
import time
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from dicomweb.query import Query
from dicomweb.resource import Level, Resource
from gateway.archive import Source
from gateway.dimse import messages, scp
from tests.programs import program


@contextlib.asynccontextmanager
async def listening(settings, archive_for):
    """Serve an archive over DIMSE in this process until the block ends; the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        serving = asyncio.create_task(scp.run(listener, settings, archive_for))
        try:
            yield Listener(listener.getsockname()[1], serving)
        finally:
            await cancelled(serving)


@pytest.fixture
async def listen():
    """Serve a core over DIMSE in this process: `listener = await listen(core)`; `listener.stop()` drains."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(core, **dicom):
            settings = replace(core.settings, dicom=replace(core.settings.dicom, **dicom))
            served = listening(settings, lambda title: core.archive.for_source(Source("dimse", title)))
            return await stack.enter_async_context(served)

        yield make


class Listener:
    def __init__(self, port, serving):
        self.port = port
        self._serving = serving

    async def stop(self):
        await cancelled(self._serving)


async def cancelled(task):
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def dcmtk(name, *arguments):
    """Run a DCMTK program; its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        program(name, "dcmtk"),
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"TCP_NODELAY": "1"},
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


class Sender:
    """pynetdicom as the peer: sends data sets as they are encoded, in one association."""

    def __init__(self, port, contexts, **options):
        self.ae = AE("SENDER")
        for sop_class, syntaxes in contexts:
            self.ae.add_requested_context(sop_class, syntaxes)
        self.association = self.ae.associate("127.0.0.1", port, ae_title="ISTHMUS", **options)

    def __enter__(self):
        assert self.association.is_established
        return self

    def __exit__(self, *_):
        if self.association.is_established:
            self.association.release()

    def send(self, content, sop_class=None):
        """The status of the C-STORE of a Part 10 file; its data set is sent undecoded."""
        meta, encoded = split(content)
        context = next(
            c
            for c in self.association.accepted_contexts
            if c.abstract_syntax == (sop_class or meta.MediaStorageSOPClassUID)
        )
        with self.paused():
            self.association.dimse.send_msg(request(meta, encoded, sop_class), context.context_id)
            return self.status()

    @contextlib.contextmanager
    def paused(self):
        """Keep pynetdicom's own thread from taking the response."""
        self.association._reactor_checkpoint.clear()
        while not self.association._is_paused:
            time.sleep(0.001)
        yield
        self.association._reactor_checkpoint.set()

    def status(self):
        _, response = self.association.dimse.get_msg(block=True)
        return response.Status if response else None


def split(content):
    file = BytesIO(content)
    ds = dcmread(file, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
    offset = 132 + 12 + ds.file_meta.FileMetaInformationGroupLength
    return ds.file_meta, content[offset:]


def request(meta, encoded, sop_class=None):
    message = C_STORE()
    message.MessageID = 1
    message.AffectedSOPClassUID = sop_class or meta.MediaStorageSOPClassUID
    message.AffectedSOPInstanceUID = meta.MediaStorageSOPInstanceUID
    message.Priority = 2
    message.DataSet = BytesIO(encoded)
    return message


def send_one(port, content, syntax=None):
    meta, _ = split(content)
    with Sender(port, [(meta.MediaStorageSOPClassUID, [syntax or meta.TransferSyntaxUID])]) as sender:
        return sender.send(content)


async def stored(core, ds):
    """The one stored instance of a data set that was sent, and its file."""
    (instance,) = await core.archive.instances(Resource(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID))
    return instance, await core.archive.open(instance).read()


async def count(core):
    return len((await core.archive.search(Query(Level.INSTANCE, limit=1000))).items)


async def until(condition, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def watched_unread(monkeypatch):
    """A list that grows with each piece of a data set that is received: how much of the data set is unread by then."""
    unread = []
    write = messages.DataSet.write

    def watched(data_set, data):
        write(data_set, data)
        unread.append(data_set.unread)

    monkeypatch.setattr(messages.DataSet, "write", watched)
    return unread


def associations():
    """The listener's associations that are alive."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "association"]


@contextlib.asynccontextmanager
async def storescp(folder, *options):
    """DCMTK's storescp, which writes what it gets to a folder; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [program("storescp", "dcmtk"), *options, "-od", str(folder), str(port)]
    process = await asyncio.create_subprocess_exec(*command, env={"TCP_NODELAY": "1"}, stderr=asyncio.subprocess.STDOUT)
    try:
        await listens(port)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def listens(port, within_s=30):
    """Wait until somebody listens on a port of this machine."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
