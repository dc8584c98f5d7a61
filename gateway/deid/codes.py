"""Which code strings, code values and coding schemes are vocabulary rather than identity."""

from __future__ import annotations

import re
from typing import Final

from gateway.deid.identity import Identity
from gateway.deid.text import Cleaner

#: What stands for a masked Code String: a term that PS3.3 itself uses where none of the defined ones fits.
OTHER: Final = "OTHER"
#: The designator of a scheme that is not in the list below: local ones bear the names of those who made them.
LOCAL_SCHEME: Final = "99LOCAL"
#: Coding schemes of PS3.16 Table 8-1, and private ones of public software.
SCHEMES: Final = frozenset(
    """
    ACR AIRBASE ASTM-sigpurpose BARI BI BIRADS BRAINLEX CADSR CD10 CD11 CDA CDI CD9 CPT C4 C5 CVX DC DCM DCMUID
    DCT DOCLE FDAR FDDC FDDX FDK FMA HB HCPCS HCPT HI HIBC HL7 HPC HUGO I10 I10P I11 I9 I9C IBSI ICD10 ICD10CM
    ICDO ICDO3 ICNP ICSD IC2 ISO ISO639_1 ISO639_2 ISO3166_1 IVC IVD IVR LB LN LOINC MCD MDC MDDX MDNS MEDR MESH
    MGI MSH MVX NAICS NCDR NCIt NDA NDC NEU NEURONAMES NIC NICIP NND NYUMCCG O301 OHP OTS PATHLEX POS PNDS
    PUBCHEM_CID RADELEMENT RADLEX RC RFC3066 RFC5646 RO RXNORM SCPECG SCT SDM SNM3 SRT SNT SOPS TSE UBERON UC UCUM UMD
    UMLS UML UNS UPC VANDF W1-W2 W4 WHO ITIS_TSN ADL ITIS MAYO 99DCMJS 99dcmjs CORNERSTONEJS 99HIGHDICOM 99QIICR
    99OFFIS_DCMTK 99_OFFIS_DCMTK 99PMP 99IHE 99SDM 99NCI 99MONAI 99ISTHMUS 99LOCAL
    """.split()
)
_CODE_VALUE: Final = re.compile(r"[A-Za-z]{0,4}[-_]?[0-9A-Fa-f.:/+-]{1,18}|[A-Z]-[0-9A-F]{3,6}", re.ASCII)
_UNIT: Final = re.compile(r"[A-Za-z0-9%'\[\]{}()*/.^_-]{1,16}", re.ASCII)
#: Languages and countries (PS3.16 CID 5000 and 5001).
_LANGUAGES: Final = frozenset({"RFC5646", "RFC3066", "ISO639_1", "ISO639_2", "ISO3166_1"})
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(?:-[A-Z]{2})?", re.ASCII)
_COMPRESSION: Final = re.compile(r"ISO_\d{5}_\d{1,2}", re.ASCII)
_CODE_STRING: Final = re.compile(r"[A-Za-z0-9 _.+/-]*", re.ASCII)
_PART: Final = re.compile(r"[A-Za-z0-9]+")
_MAX_SHORT_CHARACTERS: Final = 3
_MAX_DIGITS: Final = 3


class Codes:
    """Checks Code Strings and coded entries."""

    def __init__(self, cleaner: Cleaner) -> None:
        self._cleaner = cleaner

    def code_string(self, value: str, identity: Identity) -> str:
        """Return a CS value, or OTHER if it says more than a term would.

        Known words stay even if the patient is called so: Head is a body part before it is a name.
        """
        term = value.strip()
        if not term or self._cleaner.knows(term) or (self._is_term(term) and not identity.is_in(term)):
            return value
        return OTHER

    def _is_term(self, term: str) -> bool:
        """Whether all words are known, or so short that they say nothing; with more digits they would."""
        if _COMPRESSION.fullmatch(term):
            return True
        if sum(map(str.isdigit, term)) > _MAX_DIGITS:
            return False
        return _CODE_STRING.fullmatch(term) is not None and all(
            (len(part) <= _MAX_SHORT_CHARACTERS and not part.isdigit()) or self._cleaner.knows(part)
            for part in _PART.findall(term)
        )

    def scheme(self, designator: str) -> str:
        """Return a coding scheme designator, or the one for schemes that are not public."""
        return designator if not designator or designator.strip() in SCHEMES else LOCAL_SCHEME

    def value(self, code: str, designator: str, identity: Identity) -> str:
        """Return a code value: of a public scheme if it has the shape of one, else if its words are known."""
        bare, scheme = code.strip(), designator.strip()
        shape = _UNIT if scheme == "UCUM" else _LANGUAGE if scheme in _LANGUAGES else _CODE_VALUE
        if scheme in SCHEMES and shape.fullmatch(bare) and not identity.is_in(bare):
            return code
        return self._cleaner(identity.mask(code))

    def meaning(self, text: str, designator: str, identity: Identity) -> str:
        """Return the meaning of a code: known words of a public scheme stay, the rest is a descriptor."""
        if designator.strip() in SCHEMES and self._cleaner.knows(text):
            return text
        return self._cleaner(identity.mask(text))
