"""Reading requests: bounded JSON bodies and query parameters, every fault one sentence that names the parameter."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from aiohttp import web

from dicomweb.errors import BadRequest, TooLarge

MAX_BODY_BYTES = 64 << 10


async def read_object(request: web.Request) -> dict[str, Any]:
    """Read a JSON object of at most `MAX_BODY_BYTES` that MongoDB can hold; raise BadRequest or TooLarge."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"The body may have at most {MAX_BODY_BYTES} bytes.")
    try:
        value = json.loads(body, parse_int=_int64, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()  # an unpaired surrogate can be escaped, but not be stored
    except (ValueError, RecursionError) as exc:
        raise BadRequest("The body is not valid JSON.") from exc
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.")
    return value


def integer(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    """Read a whole number from the query; raise BadRequest if it is none from `low` to `high`."""
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise BadRequest(f"{name} must be a whole number from {low} to {high}.")
    return int(text)


def _int64(text: str) -> int:
    value = int(text)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("beyond 64 bits")
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
