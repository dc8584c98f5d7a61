"""What the catalogue keeps of an instance: its whole DICOM JSON, and which attributes of it belong to which level."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import orjson

from dicomweb.resource import Level

Attributes = Mapping[str, Any]  # DICOM JSON of a data set

# The Patient, Study and Clinical Trial attributes that a study is described by (PS3.18 Table 10.6.3-3 and beyond).
_STUDY = """
00080020 00080030 00080050 00080051 00080061 00080090 00080201 00081030 00081032 00081048 00081060 00081080
00100010 00100020 00100021 00100030 00100032 00100040 00101001 00101010 00101020 00101030 00102160 001021B0 00104000
0020000D 00200010 00120010 00120020 00120040 00120062 00120063 00120064 00280303 00321060 00324000
""".split()
# The series, equipment and frame of reference attributes (PS3.18 Table 10.6.3-4 and beyond).
_SERIES = """
00080021 00080031 00080060 00080064 00080068 00080070 00080080 00081010 0008103E 0008103F 00081050 00081070 00081090
00081111 00180015 00180010 00181030 00185100 00181020 0020000E 00200011 00200052 00200060 00201040 00400244 00400245
00400253 00400254 00400275 00540220
""".split()
# The attributes of single instances that are kept ready (PS3.18 Table 10.6.3-5 and beyond).
_INSTANCE = """
00080008 00080016 00080018 00080012 00080013 00080022 00080023 00080032 00080033 00200012 00200013 00200032 00200037
00201041 00280002 00280004 00280008 00280010 00280011 00280030 00280100 00280301 0040A032 0040A043 0040A491 0040A493
00420010 00420012 00700080 00700081 00700082
""".split()

LEVEL_ATTRIBUTES: dict[Level, frozenset[str]] = {
    Level.STUDY: frozenset(_STUDY),
    Level.SERIES: frozenset(_SERIES),
    Level.INSTANCE: frozenset(_INSTANCE),
}
#: What an answer holds without includefield (PS3.18 Tables 10.6.3-3 to 10.6.3-5), besides derived attributes.
DEFAULT_ATTRIBUTES: dict[Level, frozenset[str]] = {
    Level.STUDY: frozenset(
        "00080020 00080030 00080050 00080056 00080061 00080090 00080201 00081030 00081190 00100010 00100020 00100030 "
        "00100040 0020000D 00200010 00201206 00201208".split()
    ),
    Level.SERIES: frozenset(
        "00080056 00080060 00080201 0008103E 00081190 0020000E 00200011 00201209 00400244 00400245 00400275".split()
    ),
    Level.INSTANCE: frozenset(
        "00080016 00080018 00080056 00080201 00081190 00083002 00200013 00280008 00280010 00280011 00280100".split()
    ),
}
#: Default attributes that are left out when they have no value.
CONDITIONAL = frozenset(
    "00080201 00081190 0008103E 00280008 00280010 00280011 00280100 00400244 00400245 00400275".split()
)


def json_of(row: Mapping[str, Any]) -> bytes:
    """The DICOM JSON of an instance, from its row."""
    return zlib.decompress(row["json_gzip"], wbits=31)  # 31: with the header of gzip


def data_set_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same as data."""
    data_set: dict[str, Any] = orjson.loads(json_of(row))
    return data_set
