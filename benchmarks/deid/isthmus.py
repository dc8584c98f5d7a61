"""Files through an archive of Isthmus, as an import stores them: `python -m benchmarks.deid.isthmus FROM TO KEY`.

Each file that is stored is written out as the archive keeps it, under the name that it came with. What became of each
is told in `outcomes.json`, empty for those that were released.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.archive import Source
from gateway.assignment import Keys
from gateway.config import MongoSettings, load
from gateway.deid.keys import derive
from gateway.deid.profile import SHIPPED
from gateway.store.embedded import EmbeddedMongo
from gateway.wiring import Core, open_core

OUTCOMES = "outcomes.json"
_AT_ONCE = 4
#: The default profile with one more option, as whoever needs diffusion weights of private attributes would have it.
SAFE_PRIVATE = "research-safe-private"


def profile_text(name: str) -> str:
    """The file of a profile that does not ship; empty for one that does."""
    if name != SAFE_PRIVATE:
        return ""
    text = (SHIPPED / "research.toml").read_text(encoding="utf-8")
    return text.replace("options = [", 'options = [\n    "retain-safe-private",', 1)


@asynccontextmanager
async def opened(profile: str, key: bytes) -> AsyncIterator[Core]:
    """An archive on new folders, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="isthmus-deid-") as scratch:
        folder = Path(scratch)
        if text := profile_text(profile):
            (folder / f"{profile}.toml").write_text(text, encoding="utf-8")
        environment = {
            "ISTHMUS_DATA__DIR": str(folder / "data"),
            "ISTHMUS_AUTH__MODE": "none",
            "ISTHMUS_DEID__PROFILES_DIR": str(folder),
            "ISTHMUS_INGEST__PROFILE": profile,
        }
        (folder / "data").mkdir()
        settings = load(None, environment)
        keys = Keys(key, derive(key, "vault of the benchmark"))
        async with (
            EmbeddedMongo(MongoSettings(), folder / "data") as mongo,
            open_core(settings, mongo.uri, keys) as core,
        ):
            yield core


async def take(core: Core, source: Path, target: Path) -> dict[str, str]:
    """Store every file of a folder, write what is kept of it into another, and tell what became of each."""
    outcomes: dict[str, str] = {}
    waiting = iter(sorted(source.glob("*.dcm")))  # noqa: ASYNC240 - nothing else runs

    async def work() -> None:
        for path in waiting:
            outcomes[path.name] = await _take(core, path, target)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(work())
    (target / OUTCOMES).write_text(json.dumps(outcomes, ensure_ascii=False))
    return outcomes


async def _take(core: Core, path: Path, target: Path) -> str:
    """Store one file and write what is kept of it; return why it is not, if so."""
    data = path.read_bytes()  # noqa: ASYNC240 - nothing else runs
    outcome = await core.archive.ingest(_content(data), Source("import"))
    if outcome.stored is None:
        return outcome.reason
    (instance,) = await core.archive.instances(outcome.stored)
    (target / path.name).write_bytes(await core.archive.open(instance).read())
    return ""


async def _content(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def main() -> None:
    """Take all files of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("key", type=bytes.fromhex)
    parser.add_argument("--profile", default="research")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    async with opened(options.profile, options.key) as core:
        await take(core, options.source, options.target)


if __name__ == "__main__":
    asyncio.run(main())
