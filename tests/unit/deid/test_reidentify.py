"""Results as the PACS knows their patient."""

import pytest
from pydicom.dataset import Dataset

from gateway.deid.original import Original
from gateway.deid.reidentify import Truth, reidentified


def result(**attributes: str) -> Dataset:
    """A result of a study of 29 February 2020, moved back by three years."""
    ds = Dataset()
    for keyword, value in {"StudyDate": "20170228", "PatientID": "PSEUDONYM", **attributes}.items():
        setattr(ds, keyword, value)
    return ds


TRUTH = Truth({}, Original({0x00080020: "20200229", 0x00100020: "MRN-1"}, ()))


@pytest.mark.parametrize(
    ("keyword", "stored", "true"),
    [
        ("StudyDate", "20170228", "20200229"),
        ("SeriesDate", "20170301", "20200301"),
        ("AcquisitionDateTime", "20170227235959.5+0100", "20200227235959.5+0100"),
        ("ContentDate", "20261123", "20261123"),  # the day on which somebody stored it
        ("ContentDate", "2017", "2017"),
        ("ContentDate", "", ""),
    ],
)
def test_dates_that_moved_with_the_study_move_back(keyword: str, stored: str, true: str) -> None:
    ds = reidentified(result(**{keyword: stored}), TRUTH, lambda uid: False)
    assert str(ds[keyword].value or "") == true
    assert ds.PatientID == "MRN-1"


def test_dates_that_did_not_move_stay() -> None:
    truth = Truth({}, Original({0x00100020: "MRN-1"}, ()))
    assert reidentified(result(SeriesDate="20170301"), truth, lambda uid: False).SeriesDate == "20170301"
