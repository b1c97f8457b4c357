"""One request asked again: of the catalogue of odd requests, or that by which a verdict speaks against a target."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from edgeship.errors import ConstraintInvalid, EdgeshipError, EvidenceUnknown, PromptInvalid
from edgeship.system.fields import Fields
from edgeship.validate.apis import APIS
from edgeship.validate.conformance.bounds import ConformanceBounds
from edgeship.validate.edges.catalogue import ROWS, row_of
from edgeship.validate.edges.evidence import PREFIX, surface_in
from edgeship.validate.edges.looking import EdgeBounds
from edgeship.validate.edges.row import Row, Surface
from edgeship.validate.edges.target import Outcome, Unasked, ask_everywhere, is_ours, sides
from edgeship.validate.over_http import Request, exchange, request_in
from edgeship.validate.requests import ask_again, shortened
from edgeship.validate.server import Server
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import Outcome as Verdict

_HINT = "A verdict lists its evidence with ids; docs/validate-edges.md lists the odd requests, which are edges/ROW."
_SAME = "the answer is the one that the verdict speaks of"
_ANOTHER = "whether the answer is right, its check says; in the verdict it is another"
_TIMES = 10
"""A request may take so many times as long as a server may say nothing: nobody knows here how fast it is."""
_UNASKED: Mapping[Unasked | None, str] = {
    "gone": "the target is gone",
    "slow": "the same has taken long by another API",
    None: "the target's answers do not let it be made",
}
_CANNOT = "Validate the target again: `edgeship validate TARGET --only CHECK`."


@dataclass(frozen=True)
class Replayed:
    """A request that was asked again. wrong: what is wrong with the answer, in words, or why nobody can tell."""

    id: str
    outcome: Verdict
    request: str
    answer: str
    expected: str
    wrong: str | None = None


def replay(
    subject: Subject, name: str, kept: Mapping[str, Any] | None = None, bounds: EdgeBounds | None = None
) -> Iterator[Replayed]:
    """Asks the request of an evidence's id again, on each surface on which it is asked where the id names none.

    kept: a verdict's document, for ids that are not of the catalogue. Raises EvidenceUnknown, and what opening the
    target raises.
    """
    if name.startswith(PREFIX):
        row_name, _, surface_name = name.removeprefix(PREFIX).partition("/")
        row, surface = row_of(row_name), surface_in(surface_name)
        if row is None or (surface_name and (surface is None or surface not in row.surfaces)):
            raise EvidenceUnknown(f"no odd request has the id {name!r}", hint=_HINT)
        yield from _edges(subject, row, (surface,) if surface else row.surfaces, bounds or EdgeBounds())
        return
    if kept is None:
        raise EvidenceUnknown(
            f"{name!r} is none of the {len(ROWS)} odd requests, and no verdict is named that has it",
            hint=f"Name the verdict that has it: --verdict FILE. {_HINT}",
        )
    yield _kept(subject, name, evidence_in(kept, name))


def evidence_in(document: Mapping[str, Any], name: str) -> Fields:
    """The evidence of that id in a verdict's document. Raises EvidenceUnknown where there is none, or it is damaged."""

    def refuse(what: str) -> EdgeshipError:
        return EvidenceUnknown(f"the verdict {what}", hint=_HINT)

    ids: list[str] = []
    for check in Fields(document, refuse).part("checks").values.values():
        for finding in _listed(check, "findings"):
            for evidence in _listed(finding, "evidence"):
                if isinstance(evidence, Mapping) and evidence.get("id") == name:
                    return Fields(evidence, refuse)
                ids.append(str(evidence.get("id")) if isinstance(evidence, Mapping) else "?")
    has = f"it has {', '.join(ids[:5])}" if ids else "it has no evidence"
    raise EvidenceUnknown(f"the verdict has no evidence {name!r}: {has}", hint=_HINT)


def _listed(value: Any, name: str) -> Iterable[Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, list | tuple) else ()


def _edges(subject: Subject, row: Row, surfaces: tuple[Surface, ...], bounds: EdgeBounds) -> Iterator[Replayed]:
    ours = is_ours(subject)
    reached, findings = sides(subject, bounds.max_answer_s, surfaces=surfaces, ours=ours)
    for finding in findings:
        yield Replayed(f"{PREFIX}{row.id}", finding.outcome, "the plain question", "", "an answer", finding.told)
    asked = [_told(outcome) for one in reached for outcome in ask_everywhere(one, row, surfaces, ours=ours)]
    yield from asked
    if not asked and not findings:
        told = f"it is asked by {', '.join(surfaces)}, by none of which this target is reached"
        yield Replayed(f"{PREFIX}{row.id}", "skipped", row.told, "", "", told)


def _told(outcome: Outcome) -> Replayed:
    row, surface, heard = outcome.row, outcome.surface, outcome.heard
    name = f"{PREFIX}{row.id}/{surface}"
    request = f"{row.told}: {outcome.asked}"
    if heard is None:
        why = _UNASKED[outcome.unasked]
        failed = outcome.unasked == "gone"
        return Replayed(name, "fail" if failed else "skipped", request, "", outcome.expected, why)
    status = f"{heard.status} " if heard.status is not None else f"nothing ({heard.end}) "
    answer = f"{status}{heard.refused_as or heard.text or heard.said}".strip()
    return Replayed(name, "fail" if outcome.wrong else "pass", request, answer, outcome.expected, outcome.wrong)


def _kept(subject: Subject, name: str, evidence: Fields) -> Replayed:
    got, expected = evidence.required_text("got"), evidence.required_text("expected")
    request = evidence.part("request")
    try:
        again = request_in(request) if request.values.get("kind") == "http" else ask_again(request.values)
    except (KeyError, TypeError, ValueError, EdgeshipError) as error:
        raise EvidenceUnknown(f"the request of {name!r} cannot be asked again by itself", hint=_CANNOT) from error
    if isinstance(again, Request):
        return _by_http(subject.server, again, Replayed(name, "undecided", "", "", expected), got)
    found = Replayed(name, "undecided", _shown(request.values), "", expected)
    try:
        answer = "".join(step.text for step in subject.chat.converse(*again))
    except EdgeshipError as error:
        if isinstance(error, PromptInvalid | ConstraintInvalid) and not got.startswith(error.code):
            what = f"the request of {name!r} is not one that was asked: {error.what}"
            raise EvidenceUnknown(what, hint=_CANNOT) from error
        return replace(found, outcome="fail", answer=f"{error.code}: {error.what}", wrong="it fails")
    found, short = replace(found, answer=answer), shortened(answer).strip()
    if short == expected.strip():
        return replace(found, outcome="pass")
    if short == got.strip():
        return replace(found, outcome="fail", wrong=_SAME)
    return replace(found, wrong=f"{_ANOTHER}: {got}")


def _by_http(server: Server, request: Request, found: Replayed, got: str) -> Replayed:
    """A request over HTTP, for the model that is served now."""
    body = request.body
    if isinstance(body, Mapping) and "model" in body:
        body = {**body, "model": server.model}
    request = replace(request, body=body)
    api = next((api for api in APIS if api.path == request.path), None)
    silent_s = ConformanceBounds().max_silence_s
    over = api.is_over if api else lambda _: False
    reply = exchange(server.place, request, _TIMES * silent_s, silent_s=silent_s, over=over)
    faults = [reply.fault] if reply.fault else []
    if api and isinstance(body, Mapping):
        faults = api.told(reply, stream=body.get("stream") is True, tells="logprobs" in body).faults
    found = replace(found, request=_shown(request.as_evidence()), answer="; ".join([*faults[:1], reply.said]))
    if got.endswith(reply.said) or any(got.startswith(fault) for fault in faults):
        return replace(found, outcome="fail", wrong=_SAME)
    if reply.fault or (faults and reply.status == HTTPStatus.OK):
        return replace(found, outcome="fail", wrong=f"{faults[0]}; in the verdict it is: {got}")
    return replace(found, wrong=f"{_ANOTHER}: {got}")


def _shown(request: Mapping[str, Any]) -> str:
    return shortened(json.dumps(request, ensure_ascii=False))
