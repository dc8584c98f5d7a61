"""What stored pixel data and files can be sent as: the representations to negotiate about (PS3.18 section 8.7.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from aiohttp import web

from dicomweb.negotiate import (
    COMPRESSED,
    DICOM,
    EXPLICIT_LITTLE_ENDIAN,
    LOSSY,
    OCTET_STREAM,
    ZIP,
    Offer,
    accepted,
    choose,
)
from dicomweb.pixels.codecs import can_decode
from dicomweb.pixels.compress import Unencodable
from dicomweb.ports import StoredInstance
from dicomweb.stored import Reader

#: What a single media type of compressed frames means without a transfer syntax (Table 8.7.3-5), and the other syntaxes
#: that frames can be encoded in; lossy ones are sent only to those who name them.
_DEFAULTS = tuple(f"1.2.840.10008.1.2.{number}" for number in ("4.70", "4.80", "4.90", "4.201", "5"))
ENCODED = (*_DEFAULTS, *(f"1.2.840.10008.1.2.4.{number}" for number in (202, 50, 81, 91, 203)))

Kind = tuple[str, bool]  # the stored transfer syntax, and whether there are frames that can be decoded


def kind_of(instance: StoredInstance) -> Kind:
    """What the offers for an instance depend on."""
    frames = instance.frames.count > 0 and can_decode(instance.transfer_syntax_uid)
    return instance.transfer_syntax_uid, frames


def frames(stored: str, decodable: bool, single: bool) -> list[Offer]:
    """How frames can be sent: as they are stored under either name, decoded, or encoded anew.

    An octet-stream without transfer syntax means Explicit VR Little Endian (section 8.7.3.3.1); `*` prefers what is
    stored. A compressed media type without one means what is stored if that is lossy, else its default.
    """
    name = COMPRESSED.get(stored)
    as_stored = stored in LOSSY or stored in _DEFAULTS or not decodable
    offers = [] if stored == EXPLICIT_LITTLE_ENDIAN else [Offer(OCTET_STREAM, stored, default=not decodable)]
    offers += [Offer(OCTET_STREAM, EXPLICIT_LITTLE_ENDIAN)] if decodable or stored == EXPLICIT_LITTLE_ENDIAN else []
    offers += [Offer(name, stored, default=as_stored)] if name else []
    offers += _encoded(stored) if decodable else []
    offers += [Offer(name, stored)] if name and not as_stored else []  # where it cannot be encoded as the default
    return _packed(offers, single)


def stream(stored: str) -> list[Offer]:
    """How a stream that is not cut into frames, such as a video, can be sent: bare first, for players."""
    types = [COMPRESSED[stored], OCTET_STREAM] if stored in COMPRESSED else [OCTET_STREAM]
    return [Offer(name, stored, multipart=multiple) for name in types for multiple in (False, True)]


def value(media_type: str = "") -> list[Offer]:
    """How a value that is no pixel data can be sent; a document also as what it is."""
    names = dict.fromkeys([media_type or OCTET_STREAM, OCTET_STREAM])
    return [Offer(name, multipart=multiple) for name in names for multiple in (False, True)]


def files(stored: str, decodable: bool, has_pixels: bool, single: bool) -> list[Offer]:
    """How a file can be sent: as it is, as Explicit VR Little Endian if it can be decoded, or encoded anew.

    After these come the bulk data of it, which the section means by octet-stream (Note 2 of Table 10.4.4-1), and a zip.
    """
    offers = [Offer(DICOM, EXPLICIT_LITTLE_ENDIAN)]
    if stored != EXPLICIT_LITTLE_ENDIAN:
        native = offers if decodable or not has_pixels else []
        offers = [Offer(DICOM, stored, default=not native), *native]
    if decodable:
        offers += [replace(one, media_type=DICOM, default=False) for one in _encoded(stored)[::2]]
    syntaxes = dict.fromkeys((stored, EXPLICIT_LITTLE_ENDIAN, *ENCODED))
    return [*_packed(offers, single), *(Offer(OCTET_STREAM, one, multipart=True) for one in syntaxes), Offer(ZIP)]


def _encoded(stored: str) -> list[Offer]:
    """Each syntax that is not stored anyway, as an octet-stream and under its own name."""
    held = COMPRESSED.get(stored) if stored in LOSSY or stored in _DEFAULTS else None
    offers: list[Offer] = []
    for syntax in ENCODED:
        if syntax != stored:
            lossy, name = syntax in LOSSY, COMPRESSED[syntax]
            offers.append(Offer(OCTET_STREAM, syntax, default=False, named_only=lossy))
            offers.append(Offer(name, syntax, default=syntax in _DEFAULTS and name != held, named_only=lossy))
    return offers


def _packed(offers: Sequence[Offer], single: bool) -> list[Offer]:
    """Each as parts, and bare where there is only one item (section 10.4.4)."""
    return [*(replace(one, multipart=True) for one in offers), *(offers if single else ())]


def pick(
    request: web.Request, build: Callable[..., list[Offer]], *kind: object, without: frozenset[str] = frozenset()
) -> Offer | None:
    """The offer of `build(*kind)` that the caller wants, None if there is none; not in the transfer syntaxes `without`.

    What a client accepts, and what is stored, are the same for thousands of requests: the answer is remembered.
    """
    return _pick(request.headers.get("Accept"), request.query.get("accept"), build, kind, without)


async def settle(
    request: web.Request, reader: Reader, build: Callable[..., list[Offer]], *kind: object
) -> Offer | None:
    """The same, but for transfer syntaxes that the pixels of an instance do not fit into, which costs its header."""
    refused: frozenset[str] = frozenset()
    native = (None, EXPLICIT_LITTLE_ENDIAN, reader.instance.transfer_syntax_uid)
    while (offer := pick(request, build, *kind, without=refused)) and offer.transfer_syntax not in native:
        syntax = offer.transfer_syntax or ""
        try:
            await reader.check_encodable(syntax)
        except Unencodable:
            refused |= {syntax}
        else:
            break
    return offer


@lru_cache(maxsize=1024)
def _pick(
    header: str | None,
    parameter: str | None,
    build: Callable[..., list[Offer]],
    kind: tuple[object, ...],
    without: frozenset[str],
) -> Offer | None:
    offers = [one for one in build(*kind) if one.transfer_syntax not in without]
    return choose(offers, accepted(header, parameter))
