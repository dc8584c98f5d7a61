"""Who is behind a pseudonym, for callers with the right to know. What is asked is in the body, never in a URL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web
from pydicom.datadict import keyword_for_tag

from dicomweb.errors import BadRequest
from dicomweb.resource import checked_uid
from gateway.api.request import read_object
from gateway.api.rights import require_right
from gateway.api.services import SERVICES
from gateway.audit import Caller
from gateway.deid.original import PATIENT, STUDY, STUDY_UID, Original
from gateway.identities import Identities, Person

_MAX_CHARACTERS = 64
_FORMS = (
    frozenset({"pseudonym"}),
    frozenset({"study_uid"}),
    frozenset({"patient_id"}),
    frozenset({"patient_id", "issuer"}),
)


async def search_identities(request: web.Request) -> web.Response:
    """Tell who a pseudonym or a study stands for, or the pseudonym of a patient, as far as objects of it are stored."""
    caller = await require_right(request, "reidentify")
    person = await _found(request.app[SERVICES].identities, _asked(await read_object(request)), caller)
    return web.json_response(_described(person), headers={"Cache-Control": "no-store"})


def _asked(body: Mapping[str, Any]) -> Mapping[str, str]:
    """A body of one of the forms; raise BadRequest without quoting it."""
    if body.keys() not in _FORMS:
        raise BadRequest("The body must hold pseudonym, study_uid, or patient_id with or without issuer, and no more.")
    for name, value in body.items():
        if not isinstance(value, str) or len(value) > _MAX_CHARACTERS or (not value.strip() and name != "issuer"):
            raise BadRequest(f"{name} must be a text of 1 to {_MAX_CHARACTERS} characters.")
    return body


async def _found(identities: Identities, asked: Mapping[str, str], caller: Caller) -> Person:
    if "pseudonym" in asked:
        return await identities.of_pseudonym(asked["pseudonym"], caller)
    if "study_uid" in asked:
        return await identities.of_study(checked_uid(asked["study_uid"], "study_uid"), caller)
    return await identities.of_patient(asked["patient_id"], asked.get("issuer", ""), caller)


def _described(person: Person) -> dict[str, Any]:
    return {
        "pseudonym": person.pseudonym,
        "studies": [
            {
                "study_uid": study.study_uid,
                "patient": _texts(study.original, PATIENT),  # who share an ID may be several people
                "original": _texts(study.original, (STUDY_UID, *STUDY)),
            }
            for study in person.studies
        ],
    }


def _texts(original: Original, tags: Iterable[int]) -> dict[str, str]:
    return {keyword_for_tag(tag): original.texts[tag] for tag in tags if tag in original.texts}
