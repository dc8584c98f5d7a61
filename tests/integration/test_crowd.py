"""Many connections at once: none is served much less than the others, and those that vanish leave nothing."""

import asyncio
import os
import socket
import struct
import time
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from tests.dicomweb_support import bodies, path_of, store
from tests.samples import ct

CONNECTIONS = 200
ANSWERS = 8
SERIES, INSTANCES = 10, 20
SIDE = 256
_ACCEPT = 'multipart/related; type="application/octet-stream"'


@pytest.fixture
async def requests(client):
    """A request for a frame of each instance of a study that nobody asked for yet."""
    study_uid, host = generate_uid(None), f"127.0.0.1:{client.server.port}"
    found = []
    for _ in range(SERIES):
        series = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": generate_uid(None)}
        pixels = {"Rows": SIDE, "Columns": SIDE, "PixelData": os.urandom(2 * SIDE * SIDE)}
        stored = [ct(**series, **pixels, InstanceNumber=number) for number in range(INSTANCES)]
        assert (await store(client, *stored)).status == 200
        paths = [f"{path_of(one)}/frames/1" for one in stored]
        found += [f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {_ACCEPT}\r\n\r\n".encode() for path in paths]
    return found


class Crowd:
    """Viewers that ask for one frame after the other, each over its connection."""

    def __init__(self, port, requests):
        self.served = [0] * CONNECTIONS
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        self._port = port
        self._requests = requests

    async def view(self):
        """Look until it ended."""
        opened = [await asyncio.open_connection("127.0.0.1", self._port) for _ in self.served]
        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            for viewer, streams in enumerate(opened):
                group.create_task(self._one(viewer, *streams))

    async def _one(self, viewer, reader, writer):
        while not self.ended.is_set():
            writer.write(self._requests[(7 * viewer + self.served[viewer]) % len(self._requests)])
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 200 ")
            await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
            self.served[viewer] += 1
            if min(self.served):
                self.begun.set()
            if sum(self.served) >= ANSWERS * CONNECTIONS:
                self.ended.set()
        writer.close()


async def test_a_crowd_is_served_evenly_though_nothing_is_known_at_first(client, requests):
    crowd = Crowd(client.server.port, requests)
    await crowd.view()
    assert min(crowd.served) >= ANSWERS // 2


async def test_a_crowd_lets_others_through(client, requests):
    """What takes several turns of the event loop, as a question to the database does, is not held in each by all."""
    crowd = Crowd(client.server.port, requests)
    assert await bodies(client, "/dicomweb/studies?PatientName=None") == []  # what is derived is complete now
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.view())
        await crowd.begun.wait()
        before = sum(crowd.served)
        assert await bodies(client, "/dicomweb/studies?PatientName=Nobody") == []
        meanwhile = sum(crowd.served) - before
        assert not crowd.ended.is_set()
        crowd.ended.set()
    assert meanwhile < 1.5 * CONNECTIONS


async def test_a_crowd_that_vanishes_leaves_nothing(client, requests):
    def held():
        return len(asyncio.all_tasks()), len(list(Path("/proc/self/fd").iterdir()))

    loop, before = asyncio.get_running_loop(), held()
    crowd = []
    for request in requests:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", client.server.port))
        await loop.sock_sendall(connection, request)
        crowd.append(connection)
    await loop.sock_recv(crowd[-1], 1)
    for connection in crowd:  # reset, without a farewell: some wait for their turn, some are in the middle
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    end = time.monotonic() + 20
    while any(now > then for now, then in zip(held(), before, strict=True)):
        assert time.monotonic() < end, f"{held()} are left of {before}"
        await asyncio.sleep(0.02)
