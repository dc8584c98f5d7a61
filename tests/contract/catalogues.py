"""A catalogue on a real mongod, and rows for it."""

import gzip
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from dicomweb.pixels.frames import FrameTable
from gateway.config import MongoSettings
from gateway.store import driver
from gateway.store.catalogue import Catalogue
from gateway.store.row_writer import InstanceRow
from tests.conftest import Databases


@asynccontextmanager
async def opened(
    mongod_uri: str,
    databases: Databases,
    driver_name: Literal["pymongo", "motor"] = "pymongo",
    *,
    replace: bool = False,
) -> AsyncIterator[Catalogue]:
    connection = driver.connect(MongoSettings(driver=driver_name), mongod_uri)
    with databases.one() as name:
        catalogue = Catalogue(connection, name, replace=replace)
        await catalogue.start()
        yield catalogue
        await catalogue.close()
    await driver.close(connection)


def row(number: int = 1, study: str = "1.2.1", series: str = "1.2.1.1", digest: bytes = b"d") -> InstanceRow:
    attributes = {
        "study": {"0020000D": {"vr": "UI", "Value": [study]}, "00100020": {"vr": "LO", "Value": ["P1"]}},
        "series": {"0020000E": {"vr": "UI", "Value": [series]}, "00080060": {"vr": "CS", "Value": ["CT"]}},
        "instance": {"00200013": {"vr": "IS", "Value": [number]}},
    }
    data_set = attributes["study"] | attributes["series"] | attributes["instance"]
    return InstanceRow(
        study_uid=study,
        series_uid=series,
        instance_uid=f"{series}.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        key=f"20260101/0000/{secrets.token_hex(16)}.dcm",
        size=10 * number,
        checksum=bytes(32),
        digest=digest,
        stored_digest=b"s" + digest,
        frames=FrameTable(2, 1000, 4096),
        pixel_offset=988,
        keys={"00080018": [f"{series}.{number}"], "00080016": ["1.2.840.10008.5.1.4.1.1.2"], "00200013": [str(number)]},
        number=number,
        item=b"{}",
        json_gzip=gzip.compress(json.dumps(data_set).encode()),
        source="test",
    )
