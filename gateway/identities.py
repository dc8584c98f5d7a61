"""Who is behind a pseudonym: looked up in the sealed originals, for callers with the right, each time audited before.

Nothing else opens a seal: a table of names and pseudonyms is kept nowhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicomweb.errors import NotFound
from gateway.audit import Audit, Caller, What
from gateway.deid.original import ISSUER, PATIENT_ID, STUDY_UID, Original, context_of
from gateway.deid.reidentify import NotInVault, Truth
from gateway.deid.uids import Pseudonyms, UidMap
from gateway.deid.vault import Vault
from gateway.errors import VaultError
from gateway.store.seals import Seal, Seals


@dataclass(frozen=True, slots=True)
class Study:
    """A study by its stored UID, and what it said of itself and of the patient."""

    study_uid: str
    original: Original


@dataclass(frozen=True, slots=True)
class Person:
    """A pseudonym and the studies under it."""

    pseudonym: str
    studies: tuple[Study, ...]


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many seals are of today's key now, and how many no key opens."""

    renewed: int
    unreadable: int


class Identities:
    """The way back from pseudonyms and issued UIDs, as far as the archive holds the objects."""

    def __init__(self, seals: Seals, vault: Vault, deid_key: bytes, audit: Audit) -> None:
        self._seals = seals
        self._vault = vault
        self._audit = audit
        #: Tells UIDs that were issued here from others.
        self.uids = UidMap(deid_key)
        self._pseudonyms = Pseudonyms(deid_key)

    async def of_pseudonym(self, pseudonym: str, caller: Caller) -> Person:
        """Who a pseudonym stands for; raise NotFound."""
        name = pseudonym.strip().upper()
        return await self._answered(name if self._pseudonyms.is_issued(name) else "", caller)

    async def of_patient(self, patient_id: str, issuer: str, caller: Caller) -> Person:
        """The pseudonym of a patient, of whom there are studies; raise NotFound. The ID is recorded nowhere."""
        return await self._answered(self._pseudonyms.of_patient(patient_id, issuer), caller)

    async def of_study(self, study_uid: str, caller: Caller) -> Person:
        """Whose study it is, by the UID that was issued for it or by its own; raise NotFound."""
        issued = self.uids(study_uid)
        person = None
        async for seal, original in self._opened(await self._seals.of_groups([issued, study_uid])):
            if person is None and PATIENT_ID in original.texts:
                person = Person(self._pseudonym(seal, original), (Study(seal.study_uid, original),))
        return await self._told(person, caller, {"study_uid": issued})

    async def truth_of(self, ds: Dataset, caller: Caller, issued: Collection[str]) -> Truth:
        """What re-identifying an object of the archive takes; `issued` are all UIDs in it that were issued here.

        Raises
        ------
        NotInVault : the archive does not hold the original of its study.
        """
        study_uid, instance_uid = str(ds.StudyInstanceUID), str(ds.SOPInstanceUID)
        what: What = {"study_uid": self.uids(study_uid), "instance_uid": self.uids(instance_uid)}
        known: dict[str, str] = {}
        fitting: list[tuple[str, Original]] = []
        for seals in (self._seals.of_instances, self._seals.of_groups):
            async for seal, original in self._opened(await seals(sorted({study_uid, *(set(issued) - known.keys())}))):
                known |= {self.uids(uid): uid for uid in original.all_uids}
                if seal.study_uid == study_uid and self._is_of(seal, original, ds):
                    fitting.append((seal.instance_uid, original))
        await self._audit.record("reidentify", "found" if fitting else "unknown", caller, what)
        if not fitting:
            raise NotInVault
        own = next((original for name, original in fitting if name == instance_uid), None)
        moved = own is not None and ds.get("LongitudinalTemporalInformationModified") == "MODIFIED"
        years = self._pseudonyms.years(_pseudonym_in(ds)) if moved else 0
        return Truth(known, own or fitting[0][1], years, is_own=own is not None)

    async def reseal(self) -> Resealed:
        """Seal with today's key whatever is sealed with another; to be done again if it was interrupted."""
        unreadable = 0

        def renewed(seal: Seal) -> bytes | None:
            nonlocal unreadable
            if self._vault.is_current(seal.sealed):
                return None
            context = context_of(seal.instance_uid)
            try:
                return self._vault.seal(self._vault.open(seal.sealed, context), context)
            except VaultError:
                unreadable += 1
                return None

        count = sum([number async for number in self._seals.replace(renewed)])
        return Resealed(count, unreadable)

    async def _answered(self, pseudonym: str, caller: Caller) -> Person:
        """The studies of a pseudonym."""
        studies: dict[str, Study] = {}
        uids = await self._seals.studies_of(pseudonym) if pseudonym else []
        async for seal, original in self._opened(await self._seals.of_groups(uids)):
            if PATIENT_ID in original.texts and self._pseudonym(seal, original) == pseudonym:
                studies.setdefault(seal.study_uid, Study(seal.study_uid, original))
        person = Person(pseudonym, tuple(studies.values())) if studies else None
        return await self._told(person, caller, {"pseudonym": pseudonym})

    async def _told(self, person: Person | None, caller: Caller, what: What) -> Person:
        """Record a look-up, and only then answer it."""
        outcome = "found" if person is not None else "unknown"
        if person is not None:
            what = {**what, "pseudonym": person.pseudonym, "studies": [study.study_uid for study in person.studies]}
        await self._audit.record("identify", outcome, caller, what)
        if person is None:
            raise NotFound("The vault holds nothing of this.")
        return person

    async def _opened(self, seals: list[Seal]) -> AsyncIterator[tuple[Seal, Original]]:
        for seal in seals:
            yield seal, Original.unpack(self._vault.open(seal.sealed, context_of(seal.instance_uid)))

    def _pseudonym(self, seal: Seal, original: Original) -> str:
        """The pseudonym of the patient of an original, as `Deidentifier.subject` works it out."""
        patient_id = original.texts.get(PATIENT_ID, "").strip()
        if patient_id:
            return self._pseudonyms.of_patient(patient_id, original.texts.get(ISSUER, ""))
        return self._pseudonyms.of_study(self.uids(original.texts.get(STUDY_UID, seal.study_uid)))

    def _is_of(self, seal: Seal, original: Original, ds: Dataset) -> bool:
        """Whether an original says of which patient an object is."""
        return PATIENT_ID in original.texts and self._pseudonym(seal, original) == _pseudonym_in(ds)


def _pseudonym_in(ds: Dataset) -> str:
    return str(ds.get("PatientID") or "").strip().upper()
