"""One association: is negotiated, then hands each request to the service of its command and sends the answers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dicomweb.errors import IsthmusError, Unavailable
from gateway.config import DicomSettings
from gateway.dimse.command import CANCEL, RESPONSE, Field
from gateway.dimse.messages import Memory, Message
from gateway.dimse.negotiation import Accepted, negotiate
from gateway.dimse.pdu import UNEXPECTED, ProtocolError
from gateway.dimse.services import UNRECOGNISED_OPERATION, Request, Service
from gateway.dimse.store import STORED
from gateway.dimse.upper_layer import State, UpperLayer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Host:
    """What the associations of a process have in common.

    `services_for` gives the services of a peer with a calling AE title, by command field; `is_full` says whether there
    are more associations than there may be; `count` is called when there may be more or fewer that count; `is_looking`
    tells whether pictures are looked at, for which a request may take longer than `network_timeout_s`.
    """

    settings: DicomSettings
    services_for: Callable[[str], Mapping[int, Service]]
    is_full: Callable[[], bool]
    count: Callable[[], None]
    buffer: memoryview
    memory: Memory
    is_looking: Callable[[], bool] = lambda: False


class Association:
    """One connection of a peer, from its first byte to its last."""

    def __init__(self, host: Host, address: str) -> None:
        settings = host.settings
        self._host = host
        self._address = address
        self._limit: asyncio.Timeout | None = None
        self._connected = False
        self._ending = False
        self._answered: Counter[tuple[int, bool]] = Counter()  # by command, and whether that was a success
        self._upper = UpperLayer(
            host.buffer,
            host.memory,
            max_pdu_bytes=settings.max_pdu_bytes,
            timeout_s=settings.network_timeout_s,
            on_stall=self._give_up,
            on_state=host.count,
        )

    @property
    def counts(self) -> bool:
        """Whether it was asked for and has not ended: connections of which nothing came yet do not keep others out."""
        return self._upper.state in (State.NEGOTIATING, State.ESTABLISHED)

    async def run(self, connection: socket.socket) -> None:
        """Serve until it ends, however that comes."""
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self._upper, connection)
        self._connected = True
        if self._ending:
            self._upper.abort()
        try:
            await self._serve()
            await self._upper.closed.wait()
        except ProtocolError as exc:
            self._upper.refuse(exc)
            await self._upper.closed.wait()
        except Exception:
            logger.exception("an association failed")
        finally:
            self._upper.close()
            stored, failed = self._answered[Field.STORE_RQ, True], self._answered[Field.STORE_RQ, False]
            text = "association with %s %s: %d instances stored, %d not"
            logger.info(text, self._address, self._upper.outcome, stored, failed)

    def end(self, *, at_once: bool) -> None:
        """Abort it, or do so when what it is in the middle of has been answered."""
        self._ending = True
        if self._connected and (at_once or not self._upper.busy):
            self._upper.abort()

    async def _serve(self) -> None:
        body = await self._upper.next()
        if not isinstance(body, bytes):
            return
        settings = self._host.settings
        answer = await asyncio.to_thread(
            negotiate,
            body,
            title=settings.ae_title,
            max_pdu_bytes=settings.max_pdu_bytes,
            full=self._host.is_full(),
        )
        self._upper.answer(answer)
        if isinstance(answer, Accepted):
            await self._answer_all(self._host.services_for(answer.calling_title))

    async def _answer_all(self, table: Mapping[int, Service]) -> None:
        while isinstance(message := await self._upper.next(), Message):
            await self._answer(message, table)
            if self._ending and not self._upper.pending:
                self._upper.abort()
        self._upper.release()

    async def _answer(self, message: Message, table: Mapping[int, Service]) -> None:
        field = message.command.field
        if field & RESPONSE:
            raise ProtocolError(UNEXPECTED, "a response to no request")
        if field == CANCEL:  # of what is answered already
            if message.data is not None:
                message.data.drop()
            return
        request = Request(message.command, message.context, message.data, self._upper.send)
        service = table.get(field)
        status = UNRECOGNISED_OPERATION if service is None else await self._status(service, request)
        self._answered[field, status in STORED] += 1
        await request.respond(status)

    async def _status(self, service: Service, request: Request) -> int:
        """Have a service do what is requested; errors become statuses here and nowhere else."""
        try:
            async with asyncio.timeout(None) as self._limit:
                return await service(request)
        except IsthmusError as exc:
            logger.warning("a request failed: %s", exc.message)
            return exc.dimse_status
        except TimeoutError:
            logger.warning("a request was not answered within %.0f s", self._host.settings.network_timeout_s)
            return Unavailable.dimse_status
        except Exception:
            logger.exception("a request failed")
            return IsthmusError.dimse_status
        finally:
            self._limit = None

    def _give_up(self) -> None:
        """End the request that takes too long, unless pictures are looked at and its peer still waits."""
        if self._limit is not None and not (self.counts and self._host.is_looking()):
            self._limit.reschedule(asyncio.get_running_loop().time())
