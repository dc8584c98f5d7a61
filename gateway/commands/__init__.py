"""The subcommands of `isthmus`, imported when one is given. All of them share exit codes, and how faults are said."""

from __future__ import annotations

import sys
from typing import Final

DONE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2


def complain(sentence: str, code: int) -> int:
    """Say what is wrong, and return the exit code."""
    print(f"isthmus: {sentence}", file=sys.stderr)
    return code
