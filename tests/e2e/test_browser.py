"""The web application and OHIF in a real browser, against a whole running gateway."""

import os
import subprocess
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from tests.browsers import VIEWER, chromium, module, node

HERE = Path(__file__).parent

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory) -> Path:
    """Where pictures are put: ISTHMUS_SCREENSHOTS, to look at them, else a temporary folder."""
    folder = Path(os.environ.get("ISTHMUS_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("scenario", ["sign_in", "studies", "study", "ohif"])
def test_scenario(scenario, running_gateway, screenshots):
    environment = {
        "BASE_URL": running_gateway.base_url,
        "LOGIN_URL": running_gateway.login_url,
        "TOKEN": running_gateway.token,
        "CHROMIUM": chromium(),
        "SCREENSHOTS": str(screenshots),
        "DICOM_FILE": str(get_testdata_file("CT_small.dcm", download=False)),
    }
    outcome = subprocess.run(
        [node(), HERE / f"{scenario}.mjs"], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, f"{outcome.stdout}\n{outcome.stderr}\npictures: {screenshots}"


def test_parts_of_the_web_application():
    vitest = module("vitest", "vitest.mjs")
    outcome = subprocess.run([node(), vitest, "run"], cwd=VIEWER, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
