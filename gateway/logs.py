"""Logging: one line a record, the request's id in each, and never a value from a DICOM object.

Messages of foreign exceptions may quote what they choked on, so tracebacks show where and what kind, not the text.
Loggers of libraries that print identifiers or query strings are silenced here.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from contextvars import ContextVar
from types import TracebackType

from dicomweb.errors import IsthmusError

logger = logging.getLogger(__name__)
#: The id of the request being served, "-" outside of one.
request_id: ContextVar[str] = ContextVar("request_id", default="-")

_SILENCED = {
    "pydicom": logging.CRITICAL,
    "pynetdicom": logging.CRITICAL,
    "pymongo": logging.ERROR,
    "aiohttp.access": logging.CRITICAL,
    "botocore": logging.WARNING,
    "aiobotocore": logging.WARNING,
    "highdicom": logging.CRITICAL,
    "ray": logging.ERROR,
}


class _Formatter(logging.Formatter):
    """Adds the request id; prints exceptions without the text of foreign ones."""

    def format(self, record: logging.LogRecord) -> str:
        record.request_id = request_id.get()
        return super().format(record)

    def formatException(  # noqa: N802 - logging's name
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        exc = ei[1]
        if exc is None:
            return ""
        lines: list[str] = []
        while exc is not None:
            said = f": {exc.message}" if isinstance(exc, IsthmusError) else ""
            lines = [*traceback.format_tb(exc.__traceback__), f"{type(exc).__qualname__}{said}\n", *lines]
            exc = exc.__cause__ or exc.__context__
        return "".join(lines).rstrip()


def keep_texts_out(loop: asyncio.AbstractEventLoop) -> None:
    """Have what nobody caught logged like the rest; by default asyncio and Python print the text of exceptions."""

    def report(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        exc = context.get("exception")
        logger.error("a task failed unseen", exc_info=exc if isinstance(exc, BaseException) else None)

    loop.set_exception_handler(report)
    sys.excepthook = lambda *found: logger.critical("the process failed", exc_info=found)
    threading.excepthook = lambda found: logger.error("a thread failed", exc_info=found.exc_value)


def configure(level: str, process: str) -> None:
    """Log to standard error from now on; `process` names this process in each line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(f"%(asctime)s %(levelname)-7s {process} %(request_id)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=False)
    for name, threshold in _SILENCED.items():
        logging.getLogger(name).setLevel(threshold)
