"""Log lines never carry the text of a foreign exception, which may quote a value."""

import io
import logging

from dicomweb.errors import NotDicom
from gateway import logs


def formatted(exc: BaseException) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs._Formatter("%(message)s"))
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", (), (type(exc), exc, exc.__traceback__))
    handler.emit(record)
    return stream.getvalue()


def test_foreign_text_is_left_out() -> None:
    name = "DOE^JANE"
    try:
        try:
            int(name)
        except ValueError as exc:
            raise NotDicom("The data set cannot be parsed.") from exc
    except NotDicom as exc:
        text = formatted(exc)
    assert "DOE" not in text
    assert "ValueError" in text
    assert "The data set cannot be parsed." in text
