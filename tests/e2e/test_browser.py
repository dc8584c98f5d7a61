"""The web application and OHIF in a real browser, against a whole running gateway."""

import subprocess

import pytest
from pydicom.data import get_testdata_file

from tests.browsers import VIEWER, module, node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.mark.parametrize("scenario", ["sign_in", "studies", "study", "ohif"])
def test_scenario(scenario, running_gateway, play):
    play(scenario, running_gateway, DICOM_FILE=str(get_testdata_file("CT_small.dcm", download=False)))


def test_parts_of_the_web_application():
    vitest = module("vitest", "vitest.mjs")
    outcome = subprocess.run([node(), vitest, "run"], cwd=VIEWER, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
