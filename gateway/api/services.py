"""What the handlers of the REST API work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from dicomweb.ports import Archive
from gateway.api.events import EventHub
from gateway.audit import Audit
from gateway.identities import Identities
from gateway.jobs.meshes import MeshStore
from gateway.jobs.queue import Database, RunQueue
from gateway.returns import Returns
from gateway.store.keystate import Progress
from ray_plugins.registry import Registry


@dataclass(frozen=True, slots=True)
class ApiServices:
    """What `add_routes` binds the handlers to.

    Attributes
    ----------
    archive : gives the archive as the caller of a request sees it.
    search_keys : what can be searched by, and how far it is built.
    series_summary : what decides which plugins accept the series of a study; empty for an unknown study.
    db : the catalogue's database, for its change feed.
    complete : has the change feed hold all that was stored before.
    events : not started; it runs while the application does.
    audit : where asking for identity is recorded.
    identities : who is behind a pseudonym.
    returns : sends results to remotes.
    info : the answer of `GET /api/v1/info`.
    runs_enabled : whether there is a dispatcher; without one no run is taken.
    prefix : the path before ours as callers see it, empty unless a proxy strips one.
    """

    archive: Callable[[web.Request], Archive]
    search_keys: Callable[[], Awaitable[Sequence[Progress]]]
    series_summary: Callable[[str], Awaitable[Sequence[Mapping[str, Any]]]]
    db: Database
    complete: Callable[[], Awaitable[None]]
    queue: RunQueue
    meshes: MeshStore
    registry: Registry
    events: EventHub
    audit: Audit
    identities: Identities
    returns: Returns
    info: Mapping[str, Any]
    runs_enabled: bool = True
    prefix: str = ""


SERVICES = web.AppKey("api_services", ApiServices)
