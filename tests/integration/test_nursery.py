"""What children of a gateway are forked from: nothing heavy is imported, no thread runs."""

import asyncio
import json
import os
import socket
import subprocess
import sys

import pytest

from gateway.assignment import Assignment, Keys
from gateway.config import load
from gateway.errors import CatalogueUnavailable
from gateway.nursery import Nursery
from tests.conftest import ROOT

#: Each takes tens of MB or a second, and is imported by whoever needs it first.
HEAVY = ["ray", "trimesh", "scipy", "skimage", "highdicom", "cv2", "onnxruntime", "rapidocr", "aiobotocore", "botocore"]
_TOLD = """
import json, os, sys
from pathlib import Path
from gateway.nursery import _import
_import(Path(sys.argv[1]))
print(json.dumps([sorted(sys.modules), len(os.listdir("/proc/self/task"))]))
"""


def test_what_is_imported_once_for_all(tmp_path):
    (tmp_path / "metrics").mkdir()
    told = subprocess.run([sys.executable, "-c", _TOLD, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True)
    modules, threads = json.loads(told.stdout)
    assert {"gateway.app", "gateway.dimse.scp", "gateway.jobs.dispatcher"} <= set(modules)
    assert [name for name in HEAVY if name in modules] == []
    assert threads == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_nursery_that_ended_is_not_waited_for(when):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    nursery = Nursery(ours, 0)
    assignment = Assignment("jobs", load(None, {}, {}), "", Keys(b"", b""), "", demo=False)
    if when == "before":
        theirs.close()
    else:
        asyncio.get_running_loop().call_later(0.05, theirs.close)  # with an order that it has not read
    ready = os.open(os.devnull, os.O_WRONLY)
    try:
        with pytest.raises(CatalogueUnavailable):
            await asyncio.wait_for(nursery.bear(assignment, ready), 10)
        await asyncio.wait_for(nursery.lost.wait(), 10)
    finally:
        os.close(ready)
        ours.close()
