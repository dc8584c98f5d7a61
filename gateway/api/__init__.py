"""The REST API of all that is not DICOMweb: plugins, runs, meshes, events, the change feed; described by OpenAPI."""

from gateway.api.events import EventHub
from gateway.api.info import describe
from gateway.api.routes import add_routes
from gateway.api.services import ApiServices

__all__ = ["ApiServices", "EventHub", "add_routes", "describe"]
