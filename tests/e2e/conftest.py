"""What the end-to-end tests share: a scenario of the browser, played by Node.js, and where its pictures go."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browsers import chromium, node
from tests.conftest import Gateway

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures are put: ISTHMUS_SCREENSHOTS, to look at them, else a temporary folder."""
    folder = Path(os.environ.get("ISTHMUS_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def play(screenshots: Path) -> Callable[..., None]:
    """Play a scenario against a gateway: `play("studies", gateway, DICOM_FILE=path)`."""

    def run(scenario: str, gateway: Gateway, **environment: str) -> None:
        values = {
            "BASE_URL": gateway.base_url,
            "LOGIN_URL": gateway.login_url,
            "TOKEN": gateway.token,
            "CHROMIUM": chromium(),
            "SCREENSHOTS": str(screenshots),
        }
        command = [node(), HERE / f"{scenario}.mjs"]
        outcome = subprocess.run(
            command, env=os.environ | values | environment, capture_output=True, text=True, check=False
        )
        assert outcome.returncode == 0, f"{outcome.stdout}\n{outcome.stderr}\npictures: {screenshots}"

    return run
