"""The DICOM listener: C-ECHO, and C-STORE (PS3.4 Annex B) of every class in every transfer syntax."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping

from dicomweb.ports import Archive
from gateway.config import Settings
from gateway.dimse.association import Association, Host
from gateway.dimse.command import Field
from gateway.dimse.messages import Memory
from gateway.dimse.services import Service, echo
from gateway.dimse.store import Store
from gateway.shares import Shares, accepted

logger = logging.getLogger(__name__)

_DRAIN_TIMEOUT_S = 7.0
#: Associations last, and a process that stores may take some ms to wake up: with one courtesy 95 of 410 groups of four
#: associations were shared out unevenly, with ten none of 289.
_COURTESIES = 10
#: What one read takes at most. Of 64 KiB, an instance of 0.5 MB needs nine turns of the loop; of this, one or two.
_BUFFER_BYTES = 1 << 20
#: What the associations of all processes hold before they have to wait; each process has its part.
_MAX_UNREAD_BYTES = 192 << 20


async def run(
    listener: socket.socket,
    settings: Settings,
    archive_for: Callable[[str], Archive],
    is_looking: Callable[[], bool] = lambda: False,
) -> None:
    """Serve associations until cancelled, then finish the instances under way.

    Parameters
    ----------
    listener : bound, listening and not blocking; it stays open. As many processes share it as there are HTTP workers.
    archive_for : gives the archive as the peer with a calling AE title may use it.
    is_looking : tells whether pictures are looked at, for which a request may take longer.
    """
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)  # it logs values as they came
    data, processes = settings.data.dir, settings.http.workers
    with (
        contextlib.closing(Shares(data / "dicom.connections", processes)) as connections,
        contextlib.closing(Shares(data / "dicom.associations", processes)) as counted,
    ):
        associations = _Associations(settings, archive_for, is_looking, connections, counted)
        try:
            await associations.accept(listener)
        finally:
            await associations.drain()


class _Associations:
    """The associations of this process, each served by a task.

    There may be `max_associations` in all processes together that count, and twice as many connections.
    """

    def __init__(
        self,
        settings: Settings,
        archive_for: Callable[[str], Archive],
        is_looking: Callable[[], bool],
        connections: Shares,
        counted: Shares,
    ) -> None:
        self._max = settings.dicom.max_associations
        self._connections = connections
        self._counted = counted
        self._open: dict[asyncio.Task[None], Association] = {}
        self._closed = 0  # connections, since one was accepted

        def services(calling_title: str) -> Mapping[int, Service]:
            store = Store(archive_for(calling_title), settings.dicom.max_instance_bytes)
            return {Field.ECHO_RQ: echo, Field.STORE_RQ: store}

        buffer, memory = memoryview(bytearray(_BUFFER_BYTES)), Memory(_MAX_UNREAD_BYTES // settings.http.workers)
        self._host = Host(settings.dicom, services, self._is_full, self._count, buffer, memory, is_looking)

    async def accept(self, listener: socket.socket) -> None:
        """Begin one for each connection. Above the limit they are rejected for now; far above we just close."""
        async for connection, (address, *_) in accepted(listener, self._connections, _COURTESIES):
            there = self._connections.total()
            if there >= 2 * self._max:
                if not self._closed:
                    logger.warning("connections are closed as they come: there are %d already", there)
                self._closed += 1
                connection.close()
                continue
            if self._closed:
                logger.warning("%d connections were closed as they came", self._closed)
                self._closed = 0
            association = Association(self._host, address)
            task = asyncio.create_task(association.run(connection), name="association")
            self._open[task] = association
            self._connections.update(len(self._open))
            task.add_done_callback(self._ended)

    async def drain(self) -> None:
        """Abort each association as soon as it is not in the middle of an instance, and all of them after a while."""
        for at_once, timeout_s in ((False, _DRAIN_TIMEOUT_S), (True, 0.0)):
            for association in self._open.values():
                association.end(at_once=at_once)
            if self._open:
                await asyncio.wait(self._open, timeout=timeout_s)
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._open[task]
        self._connections.update(len(self._open))

    def _count(self) -> None:
        self._counted.update(sum(association.counts for association in self._open.values()))

    def _is_full(self) -> bool:
        return self._counted.total() > self._max
