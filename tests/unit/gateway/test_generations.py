"""Numbers in shared memory: what one process writes outdates what another one remembers."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

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


def test_who_failed_to_write_one_study_knows_more_once_it_has_written_another(path):
    here, other = Generations(path), Generations(path)
    for _ in range(3):
        fail_to_write(here)
    with other.writing(["1.2.4"]):
        pass
    assert here.of(None) is None  # what that has to do with the lost one, nobody knows
    with here.writing(["1.2.4"]):
        pass
    assert other.of(STUDY) is not None
    assert other.of(None) is not None


def test_a_write_that_began_before_a_failure_says_nothing_of_it(path):
    here = Generations(path)
    with here.writing(["1.2.4"]):
        fail_to_write(here)
    assert here.of(STUDY) is None
    assert here.of(None) is None
    assert here.of("1.2.4") is not None


def killed_while_writing(path):
    program = (
        "import os, sys, pathlib; from gateway.store.generations import Generations\n"
        f"with Generations(pathlib.Path(sys.argv[1])).writing(['{STUDY}']): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)


def test_what_a_killed_writer_left_is_ended_by_the_next_write_of_who_takes_its_place(path):
    here = Generations(path)
    before = here.of(STUDY), here.of(None)
    killed_while_writing(path)
    next_one = Generations(path)
    assert here.of(STUDY) is None
    assert next_one.unsettled()
    with next_one.writing(["1.2.4"]):
        pass
    assert here.of(STUDY) not in (None, before[0])
    assert here.of(None) not in (None, before[1])
    assert not next_one.unsettled()


def test_what_a_killed_writer_left_is_ended_by_any_process(path):
    here, other = Generations(path), Generations(path)
    before = here.of(STUDY), here.of(None)
    killed_while_writing(path)
    assert here.unsettled()
    assert other.unsettled()
    with pytest.raises(OSError, match="lost"), here.settling():
        raise OSError("lost")
    assert other.of(STUDY) is None
    with here.settling():
        assert other.of(STUDY) is None
    assert other.of(STUDY) not in (None, before[0])
    assert other.of(None) not in (None, before[1])
    assert not here.unsettled()
    with Generations(path).writing([STUDY]):  # in the place of the killed one
        assert here.of(STUDY) is None


def test_a_writer_that_lives_is_let_be(path):
    here, other = Generations(path), Generations(path)
    with other.writing([STUDY]):
        assert not here.unsettled()
        with here.settling():
            pass
        assert here.of(STUDY) is None
    assert here.of(STUDY) is not None


def test_writers_at_once_are_counted_each(path):
    """Whatever the order in which threads of several processes begin and end, no write goes by unnoticed."""
    writers = [Generations(path) for _ in range(3)]
    before = writers[0].snapshot()

    def write(number):
        for _ in range(200):
            with writers[number % 3].writing([STUDY]):
                assert writers[0].of(STUDY) is None

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(write, range(6)))
    reader = Generations(path)
    assert reader.of(STUDY) == writers[1].of(STUDY) is not None
    assert not reader.unchanged(before, STUDY)
    assert reader.unchanged(reader.snapshot(), STUDY)


def test_a_snapshot_tells_of_writers_that_came_later(path):
    here = Generations(path)
    before = here.snapshot()
    with Generations(path).writing([]):
        assert not here.unchanged(before, None)
    assert not here.unchanged(before, None)
    assert here.unchanged(before, STUDY)
    assert not here.unchanged(b"", STUDY)


def test_a_file_of_another_version_is_made_anew(path):
    path.parent.mkdir()
    path.write_bytes(b"\xff" * 32768)
    here = Generations(path)
    with Generations(path).writing([STUDY]):
        assert here.of(STUDY) is None
    assert here.of(STUDY) is not None


def test_places_are_used_again(path):
    sizes = set()
    for _ in range(5):
        first, second = Generations(path), Generations(path)
        sizes.add(len(first.snapshot()))
        second.close()
        first.close()
    assert len(sizes) == 1


def test_after_it_is_closed_nothing_is_current(path):
    generations = Generations(path)
    generations.close()
    generations.close()
    assert generations.of(STUDY) is None


def test_without_a_file_nothing_is_current():
    nothing = Generations()
    with nothing.writing([STUDY]):
        pass
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
