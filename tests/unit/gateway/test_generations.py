"""Numbers in shared memory: what one process writes outdates what another one remembers."""

import subprocess
import sys

import pytest

from dicomweb.remembered import Remembered
from gateway.store.generations import Generations

STUDY = "1.2.3"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made" / "generations"


def test_a_write_of_another_process_is_seen_at_once(path):
    here = Generations(path)
    before, all_before = here.of(STUDY), here.of(None)
    program = (
        "import sys, pathlib; from gateway.store.generations import Generations\n"
        f"with Generations(pathlib.Path(sys.argv[1])).writing(['{STUDY}']): pass"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert here.of(STUDY) not in (None, before)
    assert here.of(None) not in (None, all_before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_is_current_while_a_write_is_under_way(path):
    here, other = Generations(path), Generations(path)
    before = here.of("1.2.4")
    with here.writing([STUDY]):
        assert other.of(STUDY) is None
        assert other.of(None) is None
        assert other.of("1.2.4") == before  # of another study
    assert other.of(STUDY) == here.of(STUDY) is not None


def fail_to_write(generations):
    with pytest.raises(OSError, match="lost"), generations.writing([STUDY]):
        raise OSError("lost")
    assert generations.of(STUDY) is None


def test_after_a_failure_nothing_is_current_until_the_next_write(path):
    here = Generations(path)
    before = here.of(STUDY)
    fail_to_write(here)
    with here.writing([STUDY]):
        assert here.of(STUDY) is None
    assert here.of(STUDY) not in (None, before)


def test_a_start_settles_what_a_failure_left_unclear(path):
    here = Generations(path)
    before = here.of(STUDY)
    fail_to_write(here)
    Generations(path).settle()
    assert here.of(STUDY) not in (None, before)


def test_after_it_is_closed_nothing_is_current(path):
    generations = Generations(path)
    generations.close()
    generations.close()
    assert generations.of(STUDY) is None


def test_without_a_file_nothing_is_current():
    nothing = Generations()
    with nothing.writing([STUDY]):
        pass
    nothing.settle()
    assert nothing.of(STUDY) is None


def test_what_is_remembered_is_given_while_it_is_current_and_bounded():
    remembered = Remembered[str](max_weight=8)
    remembered.put("a", None, "not to be kept", 1)
    assert remembered.get("a", None) is None
    remembered.put("a", 2, "old", 2)
    assert remembered.get("a", 2) == "old"
    assert remembered.get("a", 4) is None
    remembered.put("a", 4, "new", 2)
    for key in "bcd":
        remembered.put(key, 4, key, 2)
    assert remembered.get("a", 4) == "new"  # used last: what is dropped for one more is the next
    remembered.put("e", 4, "e", 2)
    assert [remembered.get(key, 4) for key in "abcde"] == ["new", None, "c", "d", "e"]
    remembered.put("f", 4, "too heavy", 3)
    assert remembered.get("f", 4) is None
