"""A private mongod for a test run, as a process of its own: prints its URI, ends when standard input closes."""

import asyncio
import sys
from pathlib import Path

from gateway.config import MongoSettings
from gateway.store.embedded import EmbeddedMongo


async def main(folder: Path) -> None:
    async with EmbeddedMongo(MongoSettings(), folder) as mongo:
        print(mongo.uri, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
