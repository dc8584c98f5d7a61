"""One run over the header of one object: learn what identifies, then do what the plan says, then look for leaks.

Free text can only be cleaned when all names and identifiers are known, for a description may name the patient before
PatientName is reached. What is already known of an element that came before is taken from the memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from gateway.deid import faces, stamps
from gateway.deid.documents import DOCUMENT, Document, is_encapsulated, replace_document
from gateway.deid.graphics import has_hidden_overlay
from gateway.deid.identity import Identity
from gateway.deid.items import MAX_ITEMS_BYTES, ItemEncoder, NotEncodable
from gateway.deid.learning import TEACHING, Lesson, can_teach, learn_traces
from gateway.deid.memory import Context, Mark
from gateway.deid.plan import Action
from gateway.deid.policy import Refusal, check_class, check_pixels
from gateway.deid.release import find_leaks, tells_foreign_uid
from gateway.deid.structured import CONCEPT_NAMES
from gateway.deid.traces import TRACED
from gateway.deid.treatment import Treatment
from gateway.deid.uids import is_registered
from gateway.deid.values import DEFAULT_ENCODINGS, Element, elements_of, encodings_of, read

if TYPE_CHECKING:
    from gateway.deid.engine import Deidentifier

_DIRECTORY_RECORDS: Final = 0x00041220
_CLASS_UID: Final = 0x00080016

#: Longer values, such as tables, are gone through each time.
_MAX_VALUE_BYTES: Final = MAX_ITEMS_BYTES
#: A tag, the element as it came, and what to do with it. A sequence that the reader decoded is encoded again if that is
#: possible, so that it is known again.
_Planned: TypeAlias = tuple[BaseTag, Element, Action, str]

#: What stands for no outcome: None is one, of an element that was taken out.
_UNKNOWN: Final = RawDataElement(BaseTag(0), None, 0, None, 0, False, True)


class HeaderRun:
    """One run over one object."""

    def __init__(self, deidentifier: Deidentifier, ds: Dataset) -> None:
        self._deid = deidentifier
        self._memory = deidentifier.memory
        self._ds = ds
        self._elements = elements_of(ds)
        self._encodings = encodings_of(ds, DEFAULT_ENCODINGS)
        self._subject = deidentifier.subject(ds)
        self._has_concept = CONCEPT_NAMES in ds
        self._shows_no_face = False
        self._identity = Identity()
        #: UIDs of the object, which nothing may spell that leaves. They are of one object: what is remembered for
        #: others spells none, see `_remember`.
        self._uids: set[str] = set()
        self._retains_uids = "retain-uids" in deidentifier.profile.options

    def run(self) -> None:
        """De-identify the data set, or raise Refusal."""
        document = self._document()
        self._check()
        if self._deid.overlays is not None:
            self._deid.overlays.clean(self._ds)
        planned = self._plan()
        circumstances = (self._subject, self._encodings, self._ds.original_encoding, self._has_concept)
        context = self._memory.context(circumstances, self._learn(planned))
        self._treat(self._recall(planned, context), context)
        if document is not None:
            document.put(self._ds)
            self._release([DOCUMENT], context.identity)
        if self._shows_no_face:
            stamps.state_clean_features(self._ds)
        stamps.stamp(self._ds, self._deid.profile, self._subject.pseudonym)

    def _document(self) -> Document | None:
        """What takes the place of an encapsulated document; None if the object is none."""
        return replace_document(self._ds, self._deid.profile.documents) if is_encapsulated(self._ds) else None

    def _check(self) -> None:
        check_class(read(self._ds, _CLASS_UID), has_directory=_DIRECTORY_RECORDS in self._ds)
        check_pixels(
            burned_in=read(self._ds, 0x00280301).strip(),
            image_type=read(self._ds, 0x00080008),
            label_in_image=read(self._ds, 0x00480010).strip(),
            hidden_overlay=has_hidden_overlay(self._ds),
        )
        if faces.OPTION in self._deid.profile.options:
            self._shows_no_face = faces.check_face(self._ds)

    def _plan(self) -> list[_Planned]:
        """What is to be done with each element; private ones without a chance are gone at once."""
        plan, planned = self._deid.plan, []
        for tag, element in list(self._elements.items()):
            if not tag & 0x10000:
                action, vr = plan.resolve(int(tag), element.VR)
            elif plan.keeps_safe_private:
                action, vr = plan.rule(self._ds, tag, element.VR)
            else:
                if element.VR in TRACED:
                    learn_traces(self._identity, element, element.VR)
                del self._elements[tag]
                continue
            if element.VR == "SQ":
                element = self._known_again(element)
            planned.append((tag, element, action, vr))
        return planned

    def _known_again(self, sequence: Element) -> Element:
        """A sequence as bytes if nothing in it is decoded, so that they say all that it holds."""
        if isinstance(sequence, DataElement) and self._memory.remembers:
            return self._encoded(sequence, cleaned=False)
        return sequence

    def _encoded(self, sequence: DataElement, *, cleaned: bool) -> Element:
        """An element as bytes, or as it is if that is not possible."""
        implicit, little = self._ds.original_encoding
        if implicit is None or little is None:
            return sequence
        encoder = ItemEncoder(implicit, little, cleaned=cleaned)
        try:
            value = encoder.value(sequence)
        except NotEncodable:
            return sequence
        return RawDataElement(BaseTag(sequence.tag), str(sequence.VR), len(value), value, 0, implicit, little)

    def _learn(self, planned: list[_Planned]) -> Identity:
        """All that the object says of people, places and days in what is taken out or replaced."""
        identity = self._identity
        if not self._deid.pseudonyms.is_issued(self._subject.patient_id.upper()):
            identity.add_number(self._subject.patient_id)
        for tag, element, action, vr in planned:
            if action in TEACHING and element.value and can_teach(int(tag), action, vr):
                identity.add(self._facts(tag, element, action, vr))
            elif vr in TRACED and action is not Action.TRANSCODE:
                learn_traces(identity, element, vr)
        if not self._deid.hides_days(self._subject):
            identity.days.clear()
        self._uids = identity.take_uids()
        return identity

    def _facts(self, tag: BaseTag, element: Element, action: Action, vr: str) -> Identity:
        """What one element teaches."""
        memory, mark = self._memory, None
        if isinstance(element, RawDataElement) and len(element.value or b"") <= _MAX_VALUE_BYTES:
            mark = (int(tag), element.VR, vr, memory.digest(element.value), self._encodings, *element[5:7])
            known = memory.facts.get(mark)
            if known is not None:
                return known
        lesson = Lesson(self._deid)
        lesson.element(self._ds, element, action, vr, self._encodings)
        if mark is not None:
            memory.learnt(mark, lesson.identity)
        return lesson.identity

    def _recall(self, planned: list[_Planned], context: Context) -> list[_Planned]:
        """Do again what was done with elements before, and return the others."""
        elements, kept, changed, digest = self._elements, context.kept, context.changed, self._memory.digest
        left = []
        for one in planned:
            tag, element, action, _ = one
            if action is Action.REMOVE:
                del elements[tag]
                continue
            if isinstance(element, RawDataElement) and len(element.value or b"") <= _MAX_VALUE_BYTES:
                number, vr, value = int(tag), element.VR, element.value
                if (number, vr, value) in kept:
                    continue
                outcome = changed.get((number, vr, digest(value)), _UNKNOWN)  # another thread may forget all meanwhile
                if outcome is not _UNKNOWN:
                    self._put(tag, outcome)
                    continue
            left.append(one)
        return left

    def _put(self, tag: BaseTag, outcome: Element | None) -> None:
        if outcome is not None:
            self._elements[tag] = outcome
        else:
            del self._elements[tag]

    def _treat(self, planned: list[_Planned], context: Context) -> None:
        """Do what is to be done, make sure that it did what it should, and remember it."""
        tags = sorted((one[0] for one in planned), key=int)
        Treatment(self._deid, self._subject, context.identity).carry_out(self._ds, tags, self._encodings)
        self._release(tags, context.identity)
        for tag, element, action, _ in planned:
            outcome = self._elements.get(tag)
            if isinstance(outcome, DataElement) and (outcome.VR == "SQ" or isinstance(element, RawDataElement)):
                outcome = self._elements[tag] = self._encoded(outcome, cleaned=True)
            if self._recurs(tag, element, action):
                self._remember(element, outcome, context)

    def _recurs(self, tag: BaseTag, element: Element, action: Action) -> bool:
        """Whether what becomes of an element depends on nothing beside it, and may so be remembered."""
        if action is Action.CODE or (self._has_concept and action in {Action.DATE, Action.RECURSE}):
            return False
        return (
            self._memory.remembers
            and isinstance(element, RawDataElement)
            and not tag & 0x10000
            and len(element.value or b"") <= _MAX_VALUE_BYTES
        )

    def _release(self, tags: list[BaseTag], identity: Identity) -> None:
        """Raise Refusal if identity is left: then a rule has a gap."""
        leaks = find_leaks(
            self._ds,
            tags,
            identity,
            self._uids,
            is_term=self._deid.cleaner.knows,
            is_released_uid=self._is_released_uid,
            is_retained=lambda tag: self._deid.plan.action(tag) is Action.TRANSCODE,
        )
        if leaks:
            raise Refusal(
                f"After de-identification ({leaks[0] >> 16:04X},{leaks[0] & 0xFFFF:04X}) still held identity."
            )

    def _is_released_uid(self, uid: str) -> bool:
        return self._retains_uids or not uid or is_registered(uid) or self._deid.uid.is_issued(uid)

    def _remember(self, element: Element, outcome: Element | None, context: Context) -> None:
        if (
            outcome is not None
            and isinstance(outcome.value, bytes)
            and tells_foreign_uid(outcome.value, self._is_released_uid)
        ):
            return  # it is looked at anew in each object, whose own UID that may be
        mark: Mark = (int(element.tag), element.VR, element.value)
        if outcome is element:
            context.keep(mark)
        elif outcome is None or isinstance(outcome, RawDataElement):
            context.change((*mark[:2], self._memory.digest(element.value)), outcome)
