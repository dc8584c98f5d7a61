"""What is done once before a gateway serves: its key is checked, its sign-in link made, its demo studies loaded."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import secrets
from datetime import timedelta
from pathlib import Path

from gateway import demo
from gateway.auth.tokens import Tokens
from gateway.deid.keys import check_value
from gateway.errors import ConfigurationError
from gateway.store import driver
from gateway.wiring import Core

_LINK_VALID = timedelta(hours=12)


async def open_archive(core: Core, key: bytes, *, with_demo: bool) -> str:
    """Make an archive ready for the processes that serve it; return the one-time link, empty with auth.mode none."""
    await check_key(core, key)
    link = await _sign_in_link(core)
    if with_demo:
        await demo.load(core.archive)
    return link


async def check_key(core: Core, key: bytes) -> None:
    """Refuse a key that is not the one this catalogue was filled under: pseudonyms would no longer agree."""
    value = check_value(key)
    async with driver.wrapped():
        await core.catalogue.db.keys.update_one({"_id": "deid"}, {"$setOnInsert": {"check": value}}, upsert=True)
        known = await core.catalogue.db.keys.find_one({"_id": "deid"})
    if not hmac.compare_digest(known["check"], value):
        raise ConfigurationError(
            "The de-identification key is not the one this archive was filled under; restore secrets/deid.key from its "
            "backup, or set deid.key."
        )


async def _sign_in_link(core: Core) -> str:
    """Register the token in the data folder and make a one-time link; nothing with auth.mode none."""
    settings = core.settings
    if settings.auth.mode != "token":
        return ""
    tokens = Tokens(core.catalogue.db)
    await tokens.start()
    await tokens.adopt(await asyncio.to_thread(local_token, settings.data.dir), "admin")
    code = await tokens.create("once", "admin", _LINK_VALID)
    here = f"{'https' if settings.http.tls_cert else 'http'}://{settings.http.bind}"
    return f"{settings.http.public_url.rstrip('/') or here}/login?once={code}"


def local_token(data_dir: Path) -> str:
    """The bearer token for scripts on this machine: `secrets/token` below the data folder, made at first start."""
    path = data_dir / "secrets" / "token"
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="ascii").strip()
    secret = secrets.token_urlsafe(32)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret + "\n")
    return secret
