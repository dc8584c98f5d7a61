"""What a service is: what answers the requests of one command field. And the smallest, verification (PS3.4 Annex A)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.dimse.command import Command
from gateway.dimse.messages import DataSet
from gateway.dimse.negotiation import Context

SUCCESS = 0x0000
UNRECOGNISED_OPERATION = 0x0211  # PS3.7 section C.5.22


@dataclass(frozen=True, slots=True)
class Request:
    """A request and the way to answer it; `send` takes a presentation context and a command set."""

    command: Command
    context: Context
    data: DataSet | None
    send: Callable[[int, bytes], Awaitable[None]]

    async def respond(self, status: int) -> None:
        """Send a response, when all of the request has come: no peer reads before it has sent."""
        if self.data is not None:
            self.data.drop()
            await self.data.ended()
        await self.send(self.context.context_id, self.command.response(status))


#: Does what is requested and returns the status of the final response; may send others before that.
Service = Callable[[Request], Awaitable[int]]


async def echo(_: Request) -> int:
    """Answer a C-ECHO."""
    return SUCCESS
