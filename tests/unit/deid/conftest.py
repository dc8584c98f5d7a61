"""De-identifiers with a key of the tests."""

import pytest

from gateway.deid.engine import Deidentifier
from tests.unit.deid.objects import KEY


@pytest.fixture(scope="session")
def research() -> Deidentifier:
    return Deidentifier.load("research", KEY)


@pytest.fixture(scope="session")
def basic() -> Deidentifier:
    return Deidentifier.load("basic", KEY)
