"""Looks for strings in the bytes of a file, in whatever they are encoded: no reader of DICOM is in between."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping

#: Charsets that DICOM writes text in, UTF-16 for what others wrote into private bytes.
_ENCODINGS = "utf-8 utf-16-le utf-16-be latin-1 iso2022_jp iso2022_kr euc_kr gb18030 iso8859_5 iso8859_7".split()
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")
_ESCAPES = re.compile(rb"\x1b(?:\$[@AB]|\$\)C|\([BJ])|[\x0e\x0f]")
#: Shorter numbers occur in longer ones by chance; dates are in date times, and MRNs beside other numbers.
_MIN_DIGITS = 8
_MAX_INFLATED = 1 << 24
_DEFLATED = b"1.2.840.10008.1.2.1.99"


def leaks(raw: bytes, needles: Mapping[str, str]) -> list[str]:
    """The kinds of needles that bytes spell, in any case and encoding; short numbers not as parts of longer ones."""
    layers = [layer.lower() for layer in (raw, *_inner(raw))]
    return [
        kind for kind, text in needles.items() if any(_occurs(form, layer) for form in _forms(text) for layer in layers)
    ]


def spelt(raw: bytes, texts: Iterable[str]) -> list[str]:
    """Which of some texts bytes spell, as they are written in ASCII: UIDs, canaries."""
    layers = [raw, *_inner(raw)]
    return [text for text in texts if any(_occurs(text.encode(), layer) for layer in layers)]


def _forms(text: str) -> set[bytes]:
    forms = set()
    for encoding in _ENCODINGS:
        try:
            form = text.lower().encode(encoding)
        except UnicodeEncodeError:
            continue
        if encoding.startswith("iso2022"):  # without the escapes, which need not be next to it
            form = _ESCAPES.sub(b"", form)
        if len(form) > 1:
            forms.add(form.lower())
    return forms


def _occurs(form: bytes, layer: bytes) -> bool:
    """Whether bytes are in others; of a short number, not as a part of a longer one."""
    if form not in layer:
        return False
    if sum(48 <= byte <= 57 for byte in form) >= _MIN_DIGITS:
        return True
    before = rb"(?<![\d.])" if form[:1].isdigit() else b""
    after = rb"(?!\.?\d)" if form[-1:].isdigit() else b""
    return re.search(before + re.escape(form) + after, layer) is not None


def _inner(raw: bytes) -> Iterator[bytes]:
    """What is wrapped in bytes: deflated, or in base64."""
    if _DEFLATED in raw[:1024]:
        yield from _inflated(raw, _end_of_meta(raw), -zlib.MAX_WBITS)
    for match in _ZLIB.finditer(raw):
        yield from _inflated(raw, match.start(), zlib.MAX_WBITS)
    for match in _BASE64.finditer(raw):
        text = match.group().rstrip(b"=")
        try:
            yield base64.b64decode(text[: len(text) // 4 * 4])
        except binascii.Error:
            continue


def _inflated(raw: bytes, start: int, bits: int) -> Iterator[bytes]:
    try:
        yield zlib.decompressobj(bits).decompress(raw[start:], _MAX_INFLATED)
    except zlib.error:
        return


def _end_of_meta(raw: bytes) -> int:
    """Where the data set begins (PS3.10 section 7.1: group 0002 begins with its length)."""
    return 144 + int.from_bytes(raw[140:144], "little")
