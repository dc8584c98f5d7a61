"""The web application and OHIF in a real browser, against a whole running gateway."""

import pytest
from pydicom.data import get_testdata_file

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.mark.parametrize("scenario", ["sign_in", "studies", "study", "ohif"])
def test_scenario(scenario, running_gateway, play):
    play(scenario, running_gateway, DICOM_FILE=str(get_testdata_file("CT_small.dcm", download=False)))
