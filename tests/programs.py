"""Programs that tests need and that pip does not install."""

import os
import shutil

import pytest

#: Where they are, beside where the user's shell looks.
USUAL = "/usr/bin:/usr/sbin:/usr/local/bin"


def program(name: str, package: str) -> str:
    """The path of a program; without it the test is skipped, except in CI, where it must be there."""
    if found := shutil.which(name, path=USUAL) or shutil.which(name):
        return found
    reason = f"no {name}: install the Debian package {package}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
