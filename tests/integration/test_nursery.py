"""What children of a gateway are forked from: nothing heavy is imported, no thread runs."""

import json
import subprocess
import sys

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
