"""What this server is and how it is reached."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway import __version__
from gateway.api.services import SERVICES
from gateway.config import Settings


def describe(settings: Settings, dicom_address: str) -> dict[str, Any]:
    """The answer of `GET /api/v1/info`; `dicom_address` is HOST:PORT of the DICOM listener as it was bound."""
    ae_title = settings.dicom.ae_title
    return {
        "name": "Isthmus",
        "version": __version__,
        "ae_title": ae_title,
        "dicom": f"{ae_title}@{dicom_address}",
        "profile": settings.ingest.profile,
        "auth": settings.auth.mode,
    }


async def get_info(request: web.Request) -> web.Response:
    """Show name, version, DICOM address, de-identification profile and sign-in of this server."""
    return web.json_response(dict(request.app[SERVICES].info))
