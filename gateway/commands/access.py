"""Commands on who may do what, who did, and the keys that it takes: token, audit, vault."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
from contextlib import closing

from gateway.auth.tokens import Tokens, revocations
from gateway.commands import DONE, FAILED, WRONG_USAGE, complain
from gateway.commands.opened import opened, operator
from gateway.config import Settings
from gateway.opening import forget_former_keys
from gateway.wiring import Core


def token(settings: Settings, options: argparse.Namespace) -> int:
    """Make a token, or end all of a user."""
    if options.action == "revoke" and options.user is None:
        return complain("token revoke takes --user NAME.", WRONG_USAGE)

    async def created(core: Core, user: str) -> None:
        if options.right:
            await core.audit.record("grant", "done", operator(), {"user": user, "rights": options.right})
        print(await Tokens(core.catalogue.db).create("bearer", user, rights=options.right))

    async def revoked(core: Core, user: str) -> None:
        with closing(await asyncio.to_thread(revocations, settings.data.dir)) as told:
            await core.audit.record("revoke", "begun", operator(), {"user": user})
            count = await Tokens(core.catalogue.db, told).revoke_all(user)
        print(f"{count} tokens and sessions ended")

    async def work() -> int:
        async with opened(settings) as core:
            await (created if options.action == "create" else revoked)(core, options.user or "admin")
        return DONE

    return asyncio.run(work())


def audit(settings: Settings, options: argparse.Namespace) -> int:
    """List the audit, or verify it."""

    async def listed(core: Core) -> int:
        async for entry in core.audit.entries():
            print(json.dumps(dataclasses.asdict(entry) | {"at": entry.at.isoformat()}))
        return DONE

    async def verified(core: Core) -> int:
        flaws = [flaw async for flaw in core.audit.verify()]
        for flaw in flaws:
            print(f"{flaw.kind} {flaw.number}")
        print(f"{len(flaws)} flaws in the audit")
        return FAILED if flaws else DONE

    async def work() -> int:
        async with opened(settings) as core:
            return await (listed(core) if options.action == "list" else verified(core))

    return asyncio.run(work())


def vault(settings: Settings, _: argparse.Namespace) -> int:
    """Seal anew what is sealed with former keys."""

    async def work() -> int:
        async with opened(settings) as core:
            await core.audit.record("rekey", "begun", operator())
            done = await core.identities.reseal()
            if not done.unreadable:
                await forget_former_keys(core)
        print(f"{done.renewed} rows sealed anew, {done.unreadable} that no key opens")
        return FAILED if done.unreadable else DONE

    return asyncio.run(work())
