import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.deid.dates import checked_offset, checked_time, shift_date, shift_datetime

DATES = st.dates(min_value=datetime.date(1900, 1, 1))
YEARS = st.integers(0, 10)


@given(DATES, YEARS)
def test_a_date_goes_back_by_whole_years_and_stays_one(date: datetime.date, years: int) -> None:
    shifted = shift_date(date.strftime("%Y%m%d"), years)
    assert shifted is not None
    moved = datetime.datetime.strptime(shifted, "%Y%m%d").replace(tzinfo=datetime.UTC).date()
    assert moved.year == date.year - years
    assert (moved.month, moved.day) == (date.month, date.day) or (date.month, date.day, moved.day) == (2, 29, 28)


@given(DATES, YEARS)
def test_a_datetime_moves_with_its_date(date: datetime.date, years: int) -> None:
    day = date.strftime("%Y%m%d")
    for tail in ("", "10", "1011", "101112", "101112.123456", "101112.5+0100", "-0500"):
        assert shift_datetime(day + tail, years) == (shift_date(day, years) or "") + tail


@pytest.mark.parametrize(
    ("text", "expected"), [("1947.03.12", "19450312"), ("20200229", "20180228"), (" 20190304 ", "20170304")]
)
def test_forms_of_a_date(text: str, expected: str) -> None:
    assert shift_date(text, 2) == expected


@pytest.mark.parametrize(
    "text", ["", "20190229", "470312", "19471312", "1947-03-12", "DOE^JANE", "00010101", "２０１９０３０４"]
)
def test_what_is_no_date_never_comes_back(text: str) -> None:
    assert shift_date(text, 2) is None


@pytest.mark.parametrize(("text", "expected"), [("2019", "2017"), ("201903", "201703"), ("2019+0100", "2017+0100")])
def test_a_datetime_may_end_early(text: str, expected: str) -> None:
    assert shift_datetime(text, 2) == expected


@pytest.mark.parametrize("text", ["2019030425", "201913", "MRN2019", "2019030410111", "20190304101112.1234567"])
def test_what_is_no_datetime_never_comes_back(text: str) -> None:
    assert shift_datetime(text, 2) is None


@pytest.mark.parametrize("text", ["10", "1011", "101112", "101112.500", "10:11:12"])
def test_times_stay(text: str) -> None:
    assert checked_time(text) == text


@pytest.mark.parametrize("text", ["DOE", "1", "10111", "101112.1234567", "10-11"])
def test_what_is_no_time_never_comes_back(text: str) -> None:
    assert checked_time(text) is None


def test_offsets() -> None:
    assert checked_offset("+0100") == "+0100"
    assert checked_offset("CET") is None
