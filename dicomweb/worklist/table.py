"""What each attribute of a workitem must be, as data: PS3.4 Table CC.2.5-3 and the macros that it includes.

Columns: type when a workitem is created (N-CREATE) and updated (N-SET), what a final state needs, type as return key.
Types are those of PS3.5 section 7.4, and
    2E  present and empty: the performer fills it
    3+  optional, but never empty, since the server must hold a value
    N   not allowed
    -   not the caller's to give; ignored where it occurs
Final state codes are those of Table CC.2.5-1: R for both, P for COMPLETED, X for CANCELED, P0 for COMPLETED without the
need of items, O for neither. Conditions that only the sender can judge (1C, 2C, RC) are optional here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

UPS_PUSH = "1.2.840.10008.5.1.4.34.6.1"

_CODE = """
00080100  3  3  O -  CodeValue
00080102  3  3  O -  CodingSchemeDesignator
00080104  1  1  O -  CodeMeaning
"""
_CONTENT = """
0040A040  1  1  O -  ValueType
0040A043  1  1  O -  ConceptNameCodeSequence  @code
0040A168  3+ 3+ O -  ConceptCodeSequence  @code
004008EA  3+ 3+ O -  MeasurementUnitsCodeSequence  @code
"""
_REFERENCES = """
0040E020  1  1  O -  TypeOfInstances
0020000D  3+ 3+ O -  StudyInstanceUID
0020000E  3+ 3+ O -  SeriesInstanceUID
00081199  3+ 3+ O -  ReferencedSOPSequence
>00081150 1  1  O -  ReferencedSOPClassUID
>00081155 1  1  O -  ReferencedSOPInstanceUID
0040E021  3+ 3+ O -  DICOMRetrievalSequence
>00080054 1  1  O -  RetrieveAETitle
0040E022  3+ 3+ O -  DICOMMediaRetrievalSequence
>00880140 1  1  O -  StorageMediaFileSetUID
0040E023  3+ 3+ O -  WADORetrievalSequence
>0040E010 1  1  O -  RetrieveURI
0040E024  3+ 3+ O -  XDSRetrievalSequence
>0040E030 1  1  O -  RepositoryUniqueID
0040E025  3+ 3+ O -  WADORSRetrievalSequence
>00081190 1  1  O -  RetrieveURL
"""
_SHARED = {"@code": _CODE, "@content": _CONTENT, "@references": _REFERENCES}

_TABLE = """
00080016  -  N  O 1  SOPClassUID
00080018  -  N  O 1  SOPInstanceUID
00081195  2E 3+ O -  TransactionUID
00741200  1  3+ R 1  ScheduledProcedureStepPriority
00404010  -  -  R 3  ScheduledProcedureStepModificationDateTime
00741204  1  3+ R 1  ProcedureStepLabel
00741202  2  3+ R 1  WorklistLabel
00741210  2  3  O 2  ScheduledProcessingParametersSequence  @content
00404025  2  3  O 2  ScheduledStationNameCodeSequence  @code
00404026  2  3  O 2  ScheduledStationClassCodeSequence  @code
00404027  2  3  O 2  ScheduledStationGeographicLocationCodeSequence  @code
00404034  3  3  O 1C ScheduledHumanPerformersSequence
>00404009 1  1  O -  HumanPerformerCodeSequence  @code
>00404037 1  1  O -  HumanPerformerName
>00404036 1  1  O -  HumanPerformerOrganization
00404005  1  3+ R 1  ScheduledProcedureStepStartDateTime
00404011  3  3+ O 1C ExpectedCompletionDateTime
00404008  3  3  O 3  ScheduledProcedureStepExpirationDateTime
00404018  2  3+ O 2  ScheduledWorkitemCodeSequence  @code
00400400  2  3  O 3  CommentsOnTheScheduledProcedureStep
00404041  1  3+ R 1  InputReadinessState
00404021  2  3  O 2  InputInformationSequence  @references
0020000D  3  3  O 2  StudyInstanceUID
00100010  2  N  O 2  PatientName
00100020  2  N  O 2  PatientID
00100021  2  N  O 2  IssuerOfPatientID
00100024  2  N  O 2  IssuerOfPatientIDQualifiersSequence
00101002  2  3  O 2  OtherPatientIDsSequence
>00100020 1  1  O -  PatientID
00100030  2  N  O 2  PatientBirthDate
00100040  2  N  O 2  PatientSex
00380010  2  N  O 2  AdmissionID
00380014  2  N  O 2  IssuerOfAdmissionIDSequence
00081080  2  N  O 2  AdmittingDiagnosesDescription
00081084  2  N  O 2  AdmittingDiagnosesCodeSequence  @code
0040A370  2  N  O 2  ReferencedRequestSequence
>0020000D 1  N  O -  StudyInstanceUID
>00080050 2  N  O -  AccessionNumber
>00080051 2  N  O -  IssuerOfAccessionNumberSequence
>00400026 2  N  O -  OrderPlacerIdentifierSequence
>00400027 2  N  O -  OrderFillerIdentifierSequence
>00401001 2  N  O -  RequestedProcedureID
>00321060 2  N  O -  RequestedProcedureDescription
>00321064 2  N  O -  RequestedProcedureCodeSequence  @code
00741224  3  N  O 1C ReplacedProcedureStepSequence
>00081150 1  N  O -  ReferencedSOPClassUID
>00081155 1  N  O -  ReferencedSOPInstanceUID
00102000  3  3  O 2  MedicalAlerts
001021C0  3  3  O 2  PregnancyStatus
00380050  3  3  O 2  SpecialNeeds
00741000  1  N  R 1  ProcedureStepState
00741002  2E 3  X 2  ProcedureStepProgressInformationSequence
>00741004 N  3+ O -  ProcedureStepProgress
>00741006 N  3+ O -  ProcedureStepProgressDescription
>00741007 N  3  O -  ProcedureStepProgressParametersSequence  @content
>00741008 N  3+ O -  ProcedureStepCommunicationsURISequence
>>0074100A N 1  O -  ContactURI
>>0074100C N 3+ O -  ContactDisplayName
>00404052 N  3+ X -  ProcedureStepCancellationDateTime
>00741238 N  3+ O -  ReasonForCancellation
>0074100E N  3+ X -  ProcedureStepDiscontinuationReasonCodeSequence  @code
00741216  2E 3  P -  UnifiedProcedureStepPerformedProcedureSequence
>00404035 N  3+ O -  ActualHumanPerformersSequence
>00404028 N  3  P -  PerformedStationNameCodeSequence  @code
>00404029 N  3  O -  PerformedStationClassCodeSequence  @code
>00404030 N  3  O -  PerformedStationGeographicLocationCodeSequence  @code
>00404050 N  3+ P -  PerformedProcedureStepStartDateTime
>00400254 N  3+ O -  PerformedProcedureStepDescription
>00400280 N  3+ O -  CommentsOnThePerformedProcedureStep
>00404019 N  3+ P -  PerformedWorkitemCodeSequence  @code
>00741212 N  3+ O -  PerformedProcessingParametersSequence  @content
>00404051 N  3+ P -  PerformedProcedureStepEndDateTime
>00404033 N  2  P0 - OutputInformationSequence  @references
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table; `items` are the rules for the items of a sequence."""

    tag: str
    keyword: str
    create: str
    update: str
    final: str
    returned: str
    items: tuple[Rule, ...] = ()
    is_code: bool = False


def _read(text: str) -> tuple[Rule, ...]:
    rows = [line.split() for line in text.strip().splitlines()]
    rules, _ = _level(rows, 0, 0)
    return rules


def _level(rows: list[list[str]], start: int, depth: int) -> tuple[tuple[Rule, ...], int]:
    """The rows of one level of nesting from `start` on, and where they end."""
    rules: list[Rule] = []
    while start < len(rows) and (level := rows[start][0].count(">")) >= depth:
        if level > depth:
            items, start = _level(rows, start, level)
            rules[-1] = replace(rules[-1], items=items)
            continue
        tag, create, update, final, returned, keyword, *included = rows[start]
        shared = _read(_SHARED[included[0]]) if included else ()
        rule = Rule(tag.lstrip(">"), keyword, create, update, final, returned, shared, included == ["@code"])
        rules.append(rule)
        start += 1
    return tuple(rules), start


RULES = _read(_TABLE)
BY_TAG = {rule.tag: rule for rule in RULES}
#: Attributes that every search result has, with or without a value, and those that it has if they have one.
RETURNED = frozenset(rule.tag for rule in RULES if rule.returned in ("1", "2"))
RETURNED_IF_SET = frozenset(rule.tag for rule in RULES if rule.returned == "1C")
