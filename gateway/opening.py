"""What is done once before a gateway serves: its key is checked, its sign-in link made, its demo studies loaded."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

from gateway import demo
from gateway.assignment import Keys
from gateway.auth.tokens import Tokens
from gateway.config import Settings
from gateway.deid import ocr
from gateway.deid.keys import check_value
from gateway.errors import ConfigurationError
from gateway.store import driver
from gateway.wiring import Core, named_profiles

logger = logging.getLogger(__name__)

_LINK_VALID = timedelta(hours=12)
#: Options that look for text in pictures.
_READING = frozenset({"clean-pixel-data", "clean-graphics"})


async def open_archive(core: Core, keys: Keys, *, with_demo: bool) -> str:
    """Make an archive ready for the processes that serve it; return the one-time link, empty with auth.mode none."""
    await check_keys(core, keys)
    await asyncio.to_thread(_say_what_is_off, core.settings)
    link = await _sign_in_link(core)
    if with_demo:
        await demo.load(core.archive)
    return link


def _say_what_is_off(settings: Settings) -> None:
    """Warn that profiles ask for OCR, if it is not there."""
    profiles = [profile.name for profile in named_profiles(settings) if profile.options & _READING]
    if profiles and not ocr.is_installed():
        logger.warning(
            "%s The profiles %s refuse pictures that are likely to show text, and remove overlays.",
            ocr.INSTALL,
            ", ".join(profiles),
        )


async def check_keys(core: Core, keys: Keys) -> None:
    """Refuse keys that this catalogue was not filled under: pseudonyms would no longer agree, nor seals open."""
    async with driver.wrapped():
        known = await _known_check(core, "deid", check_value(keys.deid))
        if not hmac.compare_digest(known["check"], check_value(keys.deid)):
            raise ConfigurationError(
                "The de-identification key is not the one this archive was filled under; restore secrets/deid.key from "
                "its backup, or set deid.key."
            )
        await _check_vault_key(core, keys)


async def _check_vault_key(core: Core, keys: Keys) -> None:
    """Note the vault key, and those before it until `isthmus vault rekey` finds nothing that they sealed any more."""
    current, previous = check_value(keys.vault), {check_value(key) for key in keys.previous}
    known = await _known_check(core, "vault", current)
    needed = {known["check"], *known.get("former", [])}
    if not needed <= {current, *previous}:
        raise ConfigurationError(
            "The vault key is not the one this archive was sealed with; restore secrets/vault.key from its backup, or "
            "name the former key in vault.previous_key_files."
        )
    changed = {"check": current, "former": sorted(needed - {current})}
    if known["check"] != current:
        await core.catalogue.db.keys.update_one({"_id": "vault", "check": known["check"]}, {"$set": changed})


async def forget_former_keys(core: Core) -> None:
    """Note that nothing is sealed any more with keys before the one of today."""
    async with driver.wrapped():
        await core.catalogue.db.keys.update_one({"_id": "vault"}, {"$set": {"former": []}})


async def _known_check(core: Core, name: str, value: str) -> dict[str, Any]:
    """What the catalogue knows of a key; a new catalogue takes this one."""
    await core.catalogue.db.keys.update_one({"_id": name}, {"$setOnInsert": {"check": value}}, upsert=True)
    known: dict[str, Any] = await core.catalogue.db.keys.find_one({"_id": name})
    return known


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
