"""Logging: one line a record, the request's id in each, and never a value from a DICOM object.

What libraries say may quote what they choke on: header values, query strings, documents, credentials. Of their records,
warnings and exceptions only where and of what kind they are is written, whatever handler writes it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
import warnings
from contextvars import ContextVar
from pathlib import PurePath
from types import TracebackType
from typing import Any

from dicomweb.errors import IsthmusError

logger = logging.getLogger(__name__)
#: The id of the request being served, "-" outside of one.
request_id: ContextVar[str] = ContextVar("request_id", default="-")

#: Loggers of our own packages, whose messages hold no value; all others are libraries'.
_OURS = frozenset({"gateway", "dicomweb", "ray_plugins", "viewer", "__main__"})
#: What these libraries say below a level is of no use without its text, or says what is answered anyway.
_SILENCED = {
    "pydicom": logging.CRITICAL,
    "pynetdicom": logging.CRITICAL,
    "pymongo": logging.ERROR,
    "aiohttp.access": logging.CRITICAL,
    "asyncio": logging.WARNING,
    "PIL": logging.WARNING,
    "botocore": logging.WARNING,
    "aiobotocore": logging.WARNING,
    "highdicom": logging.CRITICAL,
    "ray": logging.ERROR,
}


class Record(logging.LogRecord):
    """A record that says nothing in the words of others: one of a library's logger tells only where it was made."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.name.partition(".")[0] in _OURS:
            return
        kind = self.exc_info[0] if self.exc_info else None
        failed = f" ({kind.__qualname__})" if kind else ""
        self.msg = f"what it says is withheld, see {PurePath(self.pathname).name}:{self.lineno}{failed}"
        self.args, self.exc_info, self.exc_text, self.stack_info = None, None, None, None


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
    """Have what nobody caught in a loop logged like the rest; by default asyncio prints the text of exceptions."""

    def report(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        exc = context.get("exception")
        logger.error("a task failed unseen", exc_info=exc if isinstance(exc, BaseException) else None)

    loop.set_exception_handler(report)


def configure(level: str, process: str) -> None:
    """Log to standard error from now on; `process` names this process in each line.

    Warnings, and exceptions that nobody caught, are logged too: by default Python prints their text.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(f"%(asctime)s %(levelname)-7s {process} %(request_id)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.setLogRecordFactory(Record)
    logging.raiseExceptions = False  # a record that cannot be formatted would be printed with its arguments
    logging.captureWarnings(capture=False)
    warnings.showwarning = _warn
    sys.excepthook = lambda *found: logger.critical("the process failed", exc_info=found)
    threading.excepthook = lambda found: logger.error("a thread failed", exc_info=found.exc_value)
    sys.unraisablehook = lambda found: logger.error("what was let go of failed", exc_info=found.exc_value)
    for name, threshold in _SILENCED.items():
        logging.getLogger(name).setLevel(threshold)


def _warn(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any) -> None:
    """Say that there is a warning; it may quote a value."""
    del message
    logger.warning("a %s at %s:%d", category.__qualname__, PurePath(filename).name, lineno)
