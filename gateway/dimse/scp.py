"""The DICOM listener: C-ECHO, and C-STORE (PS3.4 Annex B) of every class in every transfer syntax."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping

from dicomweb.ports import Archive
from gateway.config import DicomSettings, Settings
from gateway.dimse.association import Association, Host
from gateway.dimse.command import Field
from gateway.dimse.messages import Memory
from gateway.dimse.services import Service, echo
from gateway.dimse.store import Store

logger = logging.getLogger(__name__)

_DRAIN_TIMEOUT_S = 7.0
_ACCEPT_PAUSE_S = 0.2
#: What one read takes at most. Of 64 KiB, an instance of 0.5 MB needs nine turns of the loop; of this, one or two.
_BUFFER_BYTES = 1 << 20


async def run(listener: socket.socket, settings: Settings, archive_for: Callable[[str], Archive]) -> None:
    """Serve associations until cancelled, then finish the instances under way.

    Parameters
    ----------
    listener : bound, listening and not blocking; it stays open.
    archive_for : gives the archive as the peer with a calling AE title may use it.
    """
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)  # it logs values as they came
    associations = _Associations(settings.dicom, archive_for)
    try:
        await associations.accept(listener)
    finally:
        await associations.drain()


class _Associations:
    """The associations that are open, each served by a task."""

    def __init__(self, settings: DicomSettings, archive_for: Callable[[str], Archive]) -> None:
        self._max = settings.max_associations
        self._open: dict[asyncio.Task[None], Association] = {}
        self._closed = 0  # connections, since one was accepted

        def services(calling_title: str) -> Mapping[int, Service]:
            store = Store(archive_for(calling_title), settings.max_instance_bytes)
            return {Field.ECHO_RQ: echo, Field.STORE_RQ: store}

        self._host = Host(settings, services, self._is_full, memoryview(bytearray(_BUFFER_BYTES)), Memory())

    async def accept(self, listener: socket.socket) -> None:
        """Begin one for each connection. Above the limit they are rejected for now; far above we just close."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0)  # accepting does not wait where many connect: others have their turn in between
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as exc:  # no file descriptors are left, or the peer has gone again
                logger.warning("a connection could not be accepted: %s", exc.strerror)
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            if len(self._open) >= 2 * self._max:
                if not self._closed:
                    logger.warning("connections are closed as they come: there are %d already", len(self._open))
                self._closed += 1
                connection.close()
                continue
            if self._closed:
                logger.warning("%d connections were closed as they came", self._closed)
                self._closed = 0
            association = Association(self._host, address[0])
            task = asyncio.create_task(association.run(connection), name="association")
            self._open[task] = association
            task.add_done_callback(self._open.pop)

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

    def _is_full(self) -> bool:
        return sum(association.counts for association in self._open.values()) > self._max
