"""Plugin workers read their input straight from S3, with the credentials of the place they run in."""

from __future__ import annotations

from pathlib import Path

import botocore.session
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from ray_plugins.sdk import PluginError
from ray_plugins.testing import Phantom
from ray_plugins.volume import read


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield
    server.stop()


def test_a_series_in_a_bucket(server, tmp_path: Path) -> None:
    phantom = Phantom(shape=(5, 16, 16))
    client = botocore.session.get_session().create_client("s3")
    client.create_bucket(Bucket="pixels")
    uris = []
    for uri in phantom.write(tmp_path):
        path = Path(uri.removeprefix("file://"))
        client.put_object(Bucket="pixels", Key=f"a b/{path.name}", Body=path.read_bytes())
        uris.append(f"s3://pixels/a b/{path.name}")
    assert np.array_equal(read(uris).array, phantom.array())
    with pytest.raises(PluginError, match=r"^An instance of the series cannot be fetched from the object store\.$"):
        read(["s3://pixels/absent"])
    client.close()
