"""Other tools with their defaults, on a folder of files: `.venv-peers/bin/python peers.py convert TOOL FROM TO`.

Runs by itself, in an environment that has these tools and nothing of ours. A file on which a tool raises is not
written; the type of the error is told in `outcomes.json`: its caller would have to turn the file away.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pydicom

Tool = Callable[[Path, Path], None]


def dicognito() -> Tool:
    """One anonymizer for all files, as its command line has it."""
    from dicognito.anonymizer import Anonymizer

    anonymizer = Anonymizer()

    def run(source: Path, target: Path) -> None:
        with pydicom.dcmread(source, force=False) as dataset:
            anonymizer.anonymize(dataset)
            dataset.save_as(target, enforce_file_format=True)

    return run


def dicom_anonymizer() -> Tool:
    """The newest table that it comes with, without private attributes: the default but for the table."""
    from dicomanonymizer.simpledicomanonymizer import anonymize_dicom_file, initialize_actions

    def newest() -> dict:
        return initialize_actions("dicomfields_2026c")

    def run(source: Path, target: Path) -> None:
        anonymize_dicom_file(str(source), str(target), base_rules_gen=newest)

    return run


def deid() -> Tool:
    """Its default recipe, of the command `identifiers --action put`."""
    from deid.dicom import replace_identifiers

    def run(source: Path, target: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            replace_identifiers([str(source)], save=True, overwrite=True, output_folder=folder)
            (made,) = Path(folder).iterdir()
            target.write_bytes(made.read_bytes())

    return run


TOOLS: dict[str, Callable[[], Tool]] = {"dicognito": dicognito, "dicom-anonymizer": dicom_anonymizer, "deid": deid}


def convert(name: str, source: Path, target: Path) -> None:
    """Every file of a folder."""
    run, outcomes = TOOLS[name](), {}
    for path in sorted(source.glob("*.dcm")):
        try:
            run(path, target / path.name)
            outcomes[path.name] = ""
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - a tool may raise whatever it likes
            outcomes[path.name] = f"raised {type(exc).__name__}"
            (target / path.name).unlink(missing_ok=True)
    (target / "outcomes.json").write_text(json.dumps(outcomes))


def measure(name: str, source: Path, target: Path) -> None:
    """Wait for numbers on standard input; for each run over all files that often and print the seconds of CPU."""
    run, paths = TOOLS[name](), sorted(source.glob("*.dcm"))
    for line in sys.stdin:
        done, started = 0, time.process_time()
        for _ in range(int(line)):
            for number, path in enumerate(paths):
                try:
                    run(path, target / f"{number}.dcm")
                    done += 1
                except (Exception, SystemExit):  # noqa: BLE001
                    continue
        print(json.dumps([time.process_time() - started, done]), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    what, tool, *folders = sys.argv[1:]
    {"convert": convert, "measure": measure}[what](tool, *map(Path, folders))
