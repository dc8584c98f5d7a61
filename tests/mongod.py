"""A private mongod for a test run, as a process of its own: prints its URI, ends when standard input closes."""

import asyncio
import sys
from pathlib import Path

from gateway.config import MongoSettings
from gateway.store.embedded import EmbeddedMongo
from gateway.store.mongod import ENGINE

#: A test run makes and drops hundreds of databases of a hundred files each. A dropped file stays open until no snapshot
#: may read it and a checkpoint was made: with the usual five minutes of history 20,000 open files were not enough.
FORGETFUL = (
    "--setParameter=minSnapshotHistoryWindowInSeconds=0",
    "--setParameter=syncdelay=5",
    f"--wiredTigerEngineConfigString={ENGINE},"
    "file_manager=(close_handle_minimum=100,close_idle_time=5,close_scan_interval=2)",
)


async def main(folder: Path) -> None:
    async with EmbeddedMongo(MongoSettings(), folder, FORGETFUL) as mongo:
        print(mongo.uri, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
