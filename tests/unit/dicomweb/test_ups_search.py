"""Searching workitems: what matches, what is returned, what a filter may be."""

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.errors import BadRequest
from dicomweb.ports import Limits
from dicomweb.worklist.search import filter_pairs, matches, parsed, regex, result, tree_of
from dicomweb.worklist.table import RETURNED
from tests.ups_support import coded, element, workitem

ITEM = workitem(
    t00404018=element("SQ", coded("ct-bone", "99ISTHMUS", "Bone"), coded("110001", "DCM", "Image Processing")),
    t00100010=element("PN", {"Alphabetic": "Müller^Jörg"}),
    t00404005=element("DT", "20240102030405+0100"),
    t0020000D=element("UI", "1.2.3"),
)
_CODES = "ScheduledWorkitemCodeSequence"


def found(*pairs: tuple[str, str]) -> bool:
    query = parsed(pairs, Limits()).query
    return matches(tree_of(ITEM), query.matches, fuzzy=query.fuzzy)


@pytest.mark.parametrize(
    "pairs",
    [
        [("ProcedureStepState", "SCHEDULED")],
        [("00741000", "SCHEDULED,IN PROGRESS")],
        [("ProcedureStepLabel", "Bone*")],
        [("WorklistLabel", "A?")],
        [("PatientName", "müller^jörg")],
        [("PatientName", "mueller"), ("fuzzymatching", "true")],
        [("StudyInstanceUID", "1.2.4,1.2.3")],
        [("ScheduledProcedureStepStartDateTime", "20240102-20240102")],
        [("ScheduledProcedureStepStartDateTime", "20240102020405")],
        [("ScheduledProcedureStepStartDateTime", "-2025")],
        [(f"{_CODES}.CodeValue", "ct-bone"), (f"{_CODES}.CodingSchemeDesignator", "99ISTHMUS")],
        [("PatientID", '""'), ("emptyvaluematching", "true")],
        [("AdmissionID", "")],
    ],
)
def test_what_matches(pairs) -> None:
    assert found(*pairs)


@pytest.mark.parametrize(
    "pairs",
    [
        [("ProcedureStepState", "COMPLETED")],
        [("ProcedureStepLabel", "bone*")],
        [("PatientName", "Schulz"), ("fuzzymatching", "true")],
        [("ScheduledProcedureStepStartDateTime", "20240103-")],
        [(f"{_CODES}.CodeValue", "ct-bone"), (f"{_CODES}.CodingSchemeDesignator", "DCM")],
        [("StudyInstanceUID", '""'), ("emptyvaluematching", "true")],
        [("InputInformationSequence.SeriesInstanceUID", "1.2")],
    ],
)
def test_what_does_not(pairs) -> None:
    assert not found(*pairs)


def test_what_is_returned() -> None:
    shown = result(ITEM, parsed([("includefield", "CommentsOnTheScheduledProcedureStep")], Limits()).query)
    assert shown.keys() >= RETURNED
    assert "00400400" in shown
    assert "00741216" not in shown
    assert list(shown) == sorted(shown)
    assert result(ITEM, parsed([("includefield", "all")], Limits()).query) == ITEM


def test_the_transaction_uid_is_neither_matched_nor_returned() -> None:
    parsed_ = parsed([("TransactionUID", "1.2"), ("includefield", "TransactionUID")], Limits())
    assert parsed_.warnings
    assert "00081195" not in result(ITEM | {"00081195": element("UI", "1.2")}, parsed_.query)


def test_filters() -> None:
    assert filter_pairs("ProcedureStepState=SCHEDULED,WorklistLabel=AI") == [
        ("ProcedureStepState", "SCHEDULED"),
        ("WorklistLabel", "AI"),
    ]
    assert filter_pairs("StudyInstanceUID=1.2,1.3") == [("StudyInstanceUID", "1.2,1.3")]
    for bad in ("", "SCHEDULED", "Nonsense=1", "WorklistLabel=", "limit=1"):
        with pytest.raises(BadRequest):
            filter_pairs(bad)


@given(st.text("ab*?\\.", max_size=12), st.text("ab\\.", max_size=20))
def test_a_pattern_means_what_it_means_elsewhere(pattern: str, value: str) -> None:
    assert bool(re.match(regex(pattern), value)) == fnmatchcase(value, pattern)
