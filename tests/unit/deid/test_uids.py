import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from dicomweb.resource import is_uid
from gateway.deid.uids import Pseudonyms, UidMap, is_registered
from tests.unit.deid.objects import KEY, OTHER_KEY

UIDS = st.lists(st.integers(0, 10**9).map(str), min_size=3, max_size=7).map(lambda parts: "1." + ".".join(parts))
TEXTS = st.text(min_size=1, max_size=40)


@given(st.one_of(UIDS, TEXTS))
def test_a_replacement_is_a_uid_that_stays_when_it_comes_back(uid: str) -> None:
    replaced = UidMap(KEY)(uid)
    if is_registered(uid):
        assert replaced == uid
    else:
        assert replaced != uid
        assert is_uid(replaced)
        assert UID(replaced).is_valid
        assert replaced.startswith("2.25.")
        assert UidMap(KEY).is_issued(replaced)
    assert UidMap(KEY)(replaced) == replaced


@given(UIDS)
def test_another_key_gives_other_uids_and_knows_none_of_ours(uid: str) -> None:
    ours, theirs = UidMap(KEY), UidMap(OTHER_KEY)
    assert ours(uid) != theirs(uid)
    assert not theirs.is_issued(ours(uid))


@given(UIDS, st.integers(0, 38))
def test_a_changed_digit_is_no_longer_ours(uid: str, place: int) -> None:
    issued = UidMap(KEY)(uid)
    at = len("2.25.") + place
    changed = issued[:at] + str((int(issued[at]) + 1) % 10) + issued[at + 1 :]
    assert not UidMap(KEY).is_issued(changed)


def test_a_foreign_2_25_uid_is_replaced() -> None:
    foreign = "2.25.329800735698586629295641978511506172918"
    assert UidMap(KEY)(foreign) != foreign


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.840.10008.5.1.4.1.1.66.7",
        "1.2.840.10008.1.4.1.1",
        "1.2.840.10008.2.16.4",
        "2.16.840.1.113883.6.96",
    ],
)
def test_registered_uids_stay(uid: str) -> None:
    assert UidMap(KEY)(uid) == uid


@pytest.mark.parametrize(
    "uid", ["1.2.840.10008.5.1.4.1.1.2.20190304101112", "2.16.840.1.113883.3.1234", "1.2.840.10008x"]
)
def test_instances_under_registered_roots_go(uid: str) -> None:
    assert UidMap(KEY)(uid) != uid


def test_the_mapping_never_changes() -> None:
    """A new release must not orphan what old ones stored."""
    assert UidMap(KEY)("1.2.3") == "2.25.275056351892006351409557500902973908219"
    assert Pseudonyms(KEY).of_patient("1") == "C3GSR-DOLBI-2FQPU-OM3GI"


def test_the_spelling_of_an_id_does_not_matter_but_its_issuer_does() -> None:
    pseudonyms = Pseudonyms(KEY)
    assert pseudonyms.of_patient(" abc1 ") == pseudonyms.of_patient("ABC1")
    assert pseudonyms.of_patient("ABC1", "A") != pseudonyms.of_patient("ABC1", "B")
    assert pseudonyms.of_patient("0123") != pseudonyms.of_patient("123")


@given(st.text(min_size=1).filter(str.strip), st.text(max_size=5))
def test_a_pseudonym_is_recognised_and_kept(patient_id: str, issuer: str) -> None:
    pseudonyms = Pseudonyms(KEY)
    pseudonym = pseudonyms.of_patient(patient_id, issuer)
    assert pseudonyms.is_issued(pseudonym)
    assert pseudonyms.of_patient(pseudonym.lower(), "anyone") == pseudonym
    assert not Pseudonyms(OTHER_KEY).is_issued(pseudonym)
    assert 1 <= pseudonyms.years(pseudonym) <= 10


def test_years_use_the_whole_range() -> None:
    pseudonyms = Pseudonyms(KEY)
    assert {pseudonyms.years(pseudonyms.of_patient(str(number))) for number in range(200)} == set(range(1, 11))
