"""Turns: of many who have something to send, some at a time go on, in the order in which they came.

A turn of the event loop in which hundreds of connections are sent to takes tenths of a second, and whatever else is
asked for, such as a row of the catalogue, takes several such turns: who needed one waited for seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque

from aiohttp import web

#: Who goes on in one turn of the event loop: sending 0.5 MB takes 0.2 ms.
_AT_ONCE = 8


class Turns:
    """Lets `at_once` go on in each turn of the event loop."""

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._at_once = at_once
        self._left = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_counting = False

    async def take(self) -> None:
        """Go on, at once or after those who came earlier."""
        loop = asyncio.get_running_loop()
        if not self._is_counting:
            self._is_counting = True
            loop.call_soon(self._begin, loop)
        if self._left > 0:
            self._left -= 1
        else:
            mine = loop.create_future()
            self._waiting.append(mine)
            await mine

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a turn of the event loop: first come those who wait, unless they were cancelled meanwhile."""
        self._left = self._at_once
        self._is_counting = bool(self._waiting)
        if self._is_counting:
            loop.call_soon(self._begin, loop)
        while self._waiting and self._left > 0:
            mine = self._waiting.popleft()
            if not mine.done():
                mine.set_result(None)
                self._left -= 1


#: Those of an application.
TURNS = web.AppKey("turns", Turns)
