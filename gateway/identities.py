"""Who is behind a pseudonym: looked up in the sealed originals, for callers with the right, each time audited before.

Nothing else opens a seal: a table of names and pseudonyms is kept nowhere.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicomweb.errors import Conflict, NotFound
from gateway.audit import Audit, Caller, What
from gateway.deid.original import BIRTH_DATE, ISSUER, PATIENT_ID, PATIENT_NAME, STUDY_UID, Original, context_of
from gateway.deid.reidentify import NotInVault, Truth
from gateway.deid.uids import Pseudonyms, UidMap
from gateway.deid.vault import Vault
from gateway.errors import VaultError
from gateway.store.seals import Seal, Seals
from gateway.workers import Workers


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

    def __init__(self, seals: Seals, vault: Vault, deid_key: bytes, audit: Audit, workers: Workers) -> None:
        self._seals = seals
        self._vault = vault
        self._audit = audit
        self._workers = workers
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
        """Whose study it is, by the UID issued for it or by its own; raise NotFound, or Conflict if of several."""
        issued = self.uids(study_uid)
        people: dict[str, Person] = {}
        for seal, original in await self._opened(await self._seals.of_groups([issued, study_uid])):
            name = self._patient_of(seal, original)
            if name:
                people.setdefault(name, Person(name, (Study(seal.study_uid, original),)))
        if len(people) > 1:
            await self._audit.record("identify", "ambiguous", caller, {"study_uid": issued})
            raise Conflict("The study holds objects of several patients; ask for the pseudonym in the object.")
        return await self._told(next(iter(people.values()), None), caller, {"study_uid": issued})

    async def truth_of(self, ds: Dataset, caller: Caller, issued: Collection[str]) -> Truth:
        """What re-identifying an object of the archive takes; `issued` are all UIDs in it that were issued here.

        Raises
        ------
        NotInVault : the archive does not hold the original of its study.
        Conflict : originals of its study, all with the ID of its patient, are of several people.
        """
        study_uid, instance_uid = str(ds.StudyInstanceUID), str(ds.SOPInstanceUID)
        what: What = {"study_uid": self.uids(study_uid), "instance_uid": self.uids(instance_uid)}
        pseudonym = str(ds.get("PatientID") or "").strip().upper()
        known: dict[str, str] = {}
        fitting: dict[str, Original] = {}
        for look_up, more in ((self._seals.of_instances, instance_uid), (self._seals.of_groups, study_uid)):
            found = await self._of_patient(await look_up(sorted({more, *(set(issued) - known.keys())})), pseudonym)
            known |= {self.uids(uid): uid for _, original in found for uid in original.all_uids}
            if not fitting:  # what it refers to says more than what else is in its study
                fitting = {
                    seal.instance_uid: original
                    for seal, original in found
                    if seal.study_uid == study_uid and self._patient_of(seal, original)
                }
        is_own = instance_uid in fitting
        is_one = is_own or len({_person_in(original) for original in fitting.values()}) == 1
        outcome = "found" if is_one else "ambiguous" if fitting else "unknown"
        await self._audit.record("reidentify", outcome, caller, what)
        if not fitting:
            raise NotInVault
        if not is_one:
            raise Conflict("The originals of the study disagree on who the patient is.")
        return Truth(known, fitting[instance_uid] if is_own else next(iter(fitting.values())), is_own=is_own)

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
        for seal, original in await self._opened(await self._seals.of_groups(uids)):
            if self._patient_of(seal, original) == pseudonym:
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

    async def _opened(self, seals: list[Seal]) -> list[tuple[Seal, Original]]:
        """What is sealed, opened in a thread: there may be thousands."""

        def opened() -> list[tuple[Seal, Original]]:
            contexts = [context_of(seal.instance_uid) for seal in seals]
            plain = [self._vault.open(seal.sealed, context) for seal, context in zip(seals, contexts, strict=True)]
            return list(zip(seals, map(Original.unpack, plain), strict=True))

        return await self._workers.run(opened)

    async def _of_patient(self, seals: list[Seal], pseudonym: str) -> list[tuple[Seal, Original]]:
        """Seals, opened, that are of a patient, or of results in studies of theirs."""
        opened = await self._opened(seals)
        names = [self._patient_of(seal, original) for seal, original in opened]
        theirs = set(await self._seals.studies_of(pseudonym)) if "" in names else set()
        return [
            one
            for one, name in zip(opened, names, strict=True)
            if name == pseudonym or (not name and one[0].study_uid in theirs)
        ]

    def _patient_of(self, seal: Seal, original: Original) -> str:
        """The pseudonym of the patient of an original, as `Deidentifier.subject` works it out; empty if it names none.

        Who sends a pseudonym, or adds to a study by the UID that we gave it, knows no more than anybody here: what
        such an object says of its patient is nobody's word.
        """
        patient_id = original.texts.get(PATIENT_ID)
        if patient_id is None or (STUDY_UID not in original.texts and self.uids.is_issued(seal.study_uid)):
            return ""
        normal = patient_id.strip().upper()
        if not normal:
            return self._pseudonyms.of_study(self.uids(original.texts.get(STUDY_UID, seal.study_uid)))
        if self._pseudonyms.is_issued(normal):
            return ""
        return self._pseudonyms.of_patient(normal, original.texts.get(ISSUER, ""))


def _person_in(original: Original) -> tuple[str, str]:
    """Name and birth date of an original, as far as the ways to write them tell people apart."""
    name = original.texts.get(PATIENT_NAME, "").partition("=")[0]
    return " ".join(name.replace("^", " ").split()).upper(), original.texts.get(BIRTH_DATE, "").strip()
