"""Errors of configuration and storage, on the base that the DICOMweb services answer with."""

from __future__ import annotations

from http import HTTPStatus

from dicomweb.errors import IsthmusError, NotFound, Unavailable


class ConfigurationError(IsthmusError):
    """The configuration is not valid."""


class ObjectNotFound(NotFound):
    """The object store does not hold this object."""


class StoreUnavailable(Unavailable):
    """The object store cannot be reached."""


class CatalogueUnavailable(Unavailable):
    """The catalogue cannot be reached; try again shortly."""


class VaultError(IsthmusError):
    """What is sealed cannot be opened: it was sealed with another key, belongs elsewhere, or was changed."""


class RemoteUnavailable(Unavailable):
    """The remote DICOM node cannot be reached."""

    status = HTTPStatus.BAD_GATEWAY
