"""An S3 server on this machine: nanio, a small one in Python."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

from benchmarks import processes
from benchmarks.servers import await_http, free_port

_ACCESS_KEY, _SECRET_KEY = "benchmark", "benchmark-secret"
_BUCKET, _REGION = "pixels", "us-east-1"


@contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """The settings of Isthmus for a store that runs until the block ends."""
    (folder / "data").mkdir(parents=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "nanio", "serve", "--data-dir", folder / "data", "--no-access-log"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    keys = {"NANIO_ACCESS_KEY": _ACCESS_KEY, "NANIO_SECRET_KEY": _SECRET_KEY}
    with processes.running(command, folder / "nanio.log", **keys):
        await_http(url, folder / "nanio.log")
        credentials = {"aws_access_key_id": _ACCESS_KEY, "aws_secret_access_key": _SECRET_KEY}
        boto3.client("s3", endpoint_url=url, region_name=_REGION, **credentials).create_bucket(Bucket=_BUCKET)
        yield {
            "ISTHMUS_STORAGE__BACKEND": "s3",
            "ISTHMUS_STORAGE__S3__ENDPOINT_URL": url,
            "ISTHMUS_STORAGE__S3__BUCKET": _BUCKET,
            "ISTHMUS_STORAGE__S3__REGION": _REGION,
            "ISTHMUS_STORAGE__S3__ACCESS_KEY_ID": _ACCESS_KEY,
            "ISTHMUS_STORAGE__S3__SECRET_ACCESS_KEY": _SECRET_KEY,
        }
