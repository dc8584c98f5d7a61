"""Every error that Isthmus answers with: one class per meaning, with its HTTP and DIMSE status."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import ClassVar


class IsthmusError(Exception):
    """The gateway failed to do what was asked."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    #: C-STORE status (PS3.4 Table B.2-1) and STOW Failure Reason (PS3.18 Table I.2-2); 0x0110 is a processing failure.
    dimse_status: ClassVar[int] = 0x0110
    #: Whether the same request may succeed later, unchanged.
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None) -> None:
        """Say `message`, one sentence without patient data, or the docstring of the class."""
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])

    @property
    def message(self) -> str:
        """The sentence shown to the caller."""
        return str(self.args[0])

    @property
    def headers(self) -> Mapping[str, str]:
        """Header fields that the answer must carry."""
        return MappingProxyType({})


class BadRequest(IsthmusError):
    """The request is malformed."""

    status = HTTPStatus.BAD_REQUEST
    dimse_status = 0xC000


class Unauthenticated(IsthmusError):
    """Sign in first: a valid bearer token or session is needed."""

    status = HTTPStatus.UNAUTHORIZED
    dimse_status = 0x0124

    @property
    def headers(self) -> Mapping[str, str]:
        """The challenge that a 401 must carry (RFC 9110 section 15.5.2)."""
        return MappingProxyType({"WWW-Authenticate": 'Bearer realm="isthmus"'})


class Forbidden(IsthmusError):
    """The caller may not do this."""

    status = HTTPStatus.FORBIDDEN
    dimse_status = 0x0124


class NotFound(IsthmusError):
    """There is no such resource."""

    status = HTTPStatus.NOT_FOUND
    dimse_status = 0x0112


class NotAcceptable(IsthmusError):
    """None of the media types in Accept can be produced for this resource."""

    status = HTTPStatus.NOT_ACCEPTABLE


class RequestTimeout(IsthmusError):
    """The request body stopped arriving."""

    status = HTTPStatus.REQUEST_TIMEOUT
    retryable = True


class Conflict(IsthmusError):
    """The resource exists with other content, or its state does not allow this."""

    status = HTTPStatus.CONFLICT
    dimse_status = 0xC001


class Gone(IsthmusError):
    """The resource was deleted."""

    status = HTTPStatus.GONE
    dimse_status = 0x0112


class TooLarge(IsthmusError):
    """The request or its result exceeds a configured limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    dimse_status = 0xA700


class UnsupportedMediaType(IsthmusError):
    """The Content-Type of the request is not supported here."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    dimse_status = 0xC000


class RangeNotSatisfiable(IsthmusError):
    """The requested byte range lies outside the resource."""

    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE

    def __init__(self, size: int) -> None:
        """Say how many bytes the resource has."""
        super().__init__(f"The resource has {size} bytes.")
        self._size = size

    @property
    def headers(self) -> Mapping[str, str]:
        """The length of the resource (RFC 9110 section 15.5.17)."""
        return {"Content-Range": f"bytes */{self._size}"}


class NotDicom(BadRequest):
    """The data cannot be read as DICOM."""


class Refused(IsthmusError):
    """Policy refuses this object."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    dimse_status = 0xC002


class Unavailable(IsthmusError):
    """A part of the gateway is not available now; try again shortly."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    dimse_status = 0xA700
    retryable = True


class OutOfSpace(IsthmusError):
    """The storage is full; nothing was kept."""

    status = HTTPStatus.INSUFFICIENT_STORAGE
    dimse_status = 0xA700
    retryable = True
