"""What is logged never carries the text of libraries, foreign exceptions or warnings, which may quote a value."""

import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from dicomweb.errors import NotDicom
from gateway import logs

NAME = "DOE^JANE"
HOOKS = (
    (sys, "excepthook"),
    (sys, "unraisablehook"),
    (threading, "excepthook"),
    (warnings, "showwarning"),
    (logging, "raiseExceptions"),
)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is written once logging is set up, at level debug."""
    stream, root, factory = io.StringIO(), logging.getLogger(), logging.getLogRecordFactory()
    handlers, level = root.handlers[:], root.level
    for owner, name in HOOKS:
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("debug", "test")
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.setLogRecordFactory(factory)


def failed() -> BaseException:
    try:
        try:
            int(NAME)
        except ValueError as exc:
            raise NotDicom("The data set cannot be parsed.") from exc
    except NotDicom as exc:
        return exc


def test_foreign_text_is_left_out(said: io.StringIO) -> None:
    exc = failed()
    logging.getLogger("gateway.x").error("failed", exc_info=exc)
    assert NAME not in said.getvalue()
    assert "ValueError" in said.getvalue()
    assert "The data set cannot be parsed." in said.getvalue()


@pytest.mark.parametrize("name", ["aiohttp.server", "pymongo.command", "asyncio", "PIL.Image", "a.library", "root"])
def test_a_library_says_only_where_it_has_something_to_say(said: io.StringIO, name: str) -> None:
    library = logging.getLogger(name if name != "root" else None)
    own = io.StringIO()
    handler = logging.StreamHandler(own)  # as some libraries have one of their own
    library.addHandler(handler)
    try:
        library.critical("value %r", NAME, exc_info=failed(), stack_info=True)
        library.critical(f"value {NAME}")
    finally:
        library.removeHandler(handler)
    for text in (said.getvalue(), own.getvalue()):
        assert "DOE" not in text
        assert "what it says is withheld, see test_logs.py:" in text
        assert "NotDicom" in text


def test_our_own_packages_are_heard(said: io.StringIO) -> None:
    for name in ("gateway.x", "dicomweb.x", "ray_plugins.x", "viewer.x", "__main__"):
        logging.getLogger(name).info("heard of %s", name)
        assert f"heard of {name}" in said.getvalue()


def test_a_record_that_cannot_be_formatted_is_not_printed(said: io.StringIO) -> None:
    logging.getLogger("gateway.x").error("two %d numbers %d", NAME)
    assert "DOE" not in said.getvalue()


def test_warnings_say_where_and_of_what_kind(said: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = logs._warn
        warnings.warn(f"Invalid value for VR DA: '{NAME}'", UserWarning, stacklevel=1)
    assert "a UserWarning at test_logs.py:" in said.getvalue()
    assert "DOE" not in said.getvalue()


def test_what_nobody_caught_is_logged_without_its_text(said: io.StringIO) -> None:
    def fail() -> None:
        raise ValueError(NAME)

    class Loud:
        def __del__(self) -> None:
            fail()

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    loud = Loud()
    del loud
    sys.excepthook(ValueError, ValueError(NAME), None)
    text = said.getvalue()
    assert "DOE" not in text
    for what in ("a thread failed", "what was let go of failed", "the process failed"):
        assert what in text
