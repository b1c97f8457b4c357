"""Asks by one API, and what its answers come to: their form, and that they agree with each other."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from edgeship.validate.apis.api import Api
from edgeship.validate.apis.told import Told
from edgeship.validate.conformance.bounds import ConformanceBounds
from edgeship.validate.conformance.wanted import Wanted
from edgeship.validate.over_http import Reply, Request, exchange
from edgeship.validate.server import Server
from edgeship.validate.verdict import Evidence, Finding

NOT_SPOKEN = (404, 405, 501)
_REFUSALS = range(400, 500)
_BUSY, _TRIES, _PAUSE_S = (429, 503), 5, 1.0
_TIMES, _HASTY_S = 10, 1.0
"""A request may take so many times as long as a plain answer takes for as many tokens, and so long besides."""
_AGAIN = 2
"""What could be chance is asked for so often again."""
_FORCED = "né 漢字 🙂 ñandú"
_FORCED_TOKENS = 96
_LEAST_STOP, _USUAL_STOP = 2, 4


@dataclass(frozen=True)
class Answered:
    """A request, and what was said to it. said: of a stream or a whole, as it was wanted."""

    wanted: Wanted
    asked: Request
    said: Reply
    told: Told

    @property
    def refused(self) -> bool:
        """Whether the server takes no such request."""
        return self.said.status in _REFUSALS or self.said.status in NOT_SPOKEN


class Looking:
    """What one API comes to, finding by finding.

    hasty: something came to no end, so that nothing is waited for any more than in proportion to a plain answer.
    """

    def __init__(self, api: Api, server: Server, bounds: ConformanceBounds, *, hasty: bool = False) -> None:
        self._api, self._server, self._bounds, self.hasty = api, server, bounds, hasty
        self._token_s = 0.0

    def answer(self, wanted: Wanted) -> Answered:
        """Asks. A server that has no room for it now is asked again a little later."""
        asked = self._api.request({"model": self._server.model, **wanted.body}, stream=wanted.stream)
        for _ in range(_TRIES):
            said = self._said(asked, wanted.most_tokens)
            if said.status not in _BUSY:
                break
            time.sleep(_PAUSE_S)
        told = self._api.told(said, stream=wanted.stream, tells=wanted.tells)
        if said.end == "whole" and said.status == HTTPStatus.OK and not self._token_s:
            self._token_s = said.took_s / (told.completion_tokens or 1)
        return Answered(wanted, asked, said, told)

    def _said(self, asked: Request, most_tokens: int) -> Reply:
        """What is said within so many times what a plain answer takes, and silent_s besides, or little where hasty."""
        spare_s, end_s = self._bounds.max_silence_s, self._bounds.max_close_s
        if self.hasty and self._token_s:
            spare_s, end_s = _HASTY_S, min(_HASTY_S, end_s)
        within_s = spare_s + _TIMES * self._token_s * most_tokens
        silent_s, over = self._bounds.max_silence_s, self._api.is_over
        said = exchange(self._server.place, asked, within_s, silent_s=silent_s, over=over, end_s=end_s)
        self.hasty = self.hasty or said.end == "late"
        return said

    def of(self, name: str, what: str, found: Sequence[tuple[Answered, str]]) -> Finding:
        """A finding. what: is so where nothing is found. found: what is not as it is to be, with the answer."""
        name = f"{self._api.name}-{name}"
        if not found:
            return Finding(name, "pass", f"{self._api.title}: {what}.")
        return Finding(
            name,
            "fail",
            f"{self._api.title}: not so that {what}: {found[0][1]}.",
            figure=len(found),
            bound=0,
            unit="faults",
            evidence=tuple(_evidence(f"{name}-{number}", *each, what) for number, each in enumerate(found, 1)),
        )

    def not_looked_at(self, name: str, why: str) -> Finding:
        """A finding that nothing speaks for or against."""
        return Finding(f"{self._api.name}-{name}", "skipped", f"{self._api.title}: {why}.")

    # --- one thing after another -------------------------------------------------------------------------------------

    def forms(self, *answers: Answered) -> Iterator[Finding]:
        """Whether answers have the form that they are to have: one in one piece, one in a stream."""
        for answered in answers:
            name = "stream" if answered.wanted.stream else "whole"
            found = [(answered, fault) for fault in answered.told.faults]
            if answered.said.status == 200 and answered.told.finish is None and not found:
                found.append((answered, "nothing says why it ended"))
            yield self.of(name, f"an answer {_way(answered)} is as its schema says", found)

    def same_text(self, whole: Answered, stream: Answered) -> Finding:
        """Whether a stream makes the text that an answer in one piece has."""
        what = "what a stream's events make is what a whole answer says"
        if not (whole.told.text or stream.told.text):
            return self.not_looked_at("text", "its answers have no text")
        if whole.told.text != stream.told.text:
            if self._agreed(whole) is None or self._agreed(stream) is None:
                return self.not_looked_at("text", "the same question gets another answer each time")
            said = f"the stream makes {_quoted(stream.told.text)}, and the whole is {_quoted(whole.told.text)}"
            return self.of("text", what, [(stream, said)])
        return self.of("text", what, [])

    def usage(self, *answers: Answered) -> Finding:
        """Whether what answers say that they cost can be."""
        found = [(answered, fault) for answered in answers for fault in _costs(answered)]
        found += [(other, fault) for other in answers[1:] for fault in _contradictions(answers[0], other)]
        return self.of("usage", "what answers say that they cost can be true", found)

    def max_tokens(self, whole: Answered, cut: Answered) -> Finding:
        """Whether an answer is cut where it was to be. cut: the same that may have fewer tokens."""
        most, told = cut.wanted.most_tokens, cut.told
        found = []
        for answered in (whole, cut):
            limit, made = answered.wanted.most_tokens, answered.told.completion_tokens
            if made is not None and made > limit:
                found.append((answered, f"it may have {limit} tokens and has {made}"))
        if whole.told.text and len(told.text) >= len(whole.told.text):
            again = self._agreed(cut)
            if again and len(again.told.text) >= len(whole.told.text):
                found.append((cut, f"with {most} tokens at most it is no shorter than with {whole.wanted.most_tokens}"))
        elif told.finish not in ("length", None):
            found.append((cut, f"it was cut after {most} tokens and says that it ended for another reason"))
        return self.of("max-tokens", "an answer has no more tokens than it may, and says where it was cut", found)

    def stop(self, whole: Answered, *, stream: bool) -> Finding:
        """Whether a text that ends an answer ends it where it begins, and is no part of it."""
        text, name = whole.told.text, "stop-stream" if stream else "stop"
        if (stop := stop_in(text)) is None:
            return self.not_looked_at(name, "its answers are too short to be ended by a text")
        before = text[: text.index(stop)]
        answered = self.answer(replace(whole.wanted, stop=stop, stream=stream))
        if answered.refused:
            return self.not_looked_at(name, f"stop texts are refused with {answered.said.status}")
        found = [(answered, fault) for fault in answered.told.faults]
        if not found and answered.told.text.rstrip() != before.rstrip():
            if self._agreed(whole) is None:
                return self.not_looked_at(name, "the same question gets another answer each time")
            said = f"with {stop!r} to end it, it is {_quoted(answered.told.text)} and not {_quoted(before)}"
            found.append((answered, said))
        elif not found and answered.told.finish not in ("stop", None):
            found.append((answered, "it was ended by a stop text and says that it ended for another reason"))
        return self.of(name, "a text that ends an answer ends it where it begins", found)

    def utf8(self, text: str) -> Finding:
        """Whether characters come whole, in an answer that can be nothing but a text of many of them."""
        what = "every character comes whole, in one event"
        wanted = Wanted(text, _FORCED_TOKENS, forced=_FORCED)
        whole = self.answer(wanted)
        if whole.refused:
            return self.not_looked_at("utf8", f"a schema to be kept is refused with {whole.said.status}")
        stream = self.answer(replace(wanted, stream=True))
        found = [(answered, fault) for answered in (whole, stream) for fault in answered.told.faults]
        if not found and whole.told.text.isascii() and stream.told.text.isascii():
            return self.not_looked_at("utf8", "it did not answer with the only text that it was allowed")
        for answered in (whole, stream):
            if not found and "\ufffd" in answered.told.text:
                found.append((answered, f"the answer has halves of characters: {_quoted(answered.told.text)}"))
        if not found and _json(whole.told.text) == _FORCED != _json(stream.told.text):
            found.append((stream, f"the stream makes {_quoted(stream.told.text)}, and {_quoted(_FORCED)} was due"))
        return self.of("utf8", what, found)

    def errors(self) -> Finding:
        """Whether what cannot be meant is refused, in the API's own words."""
        found = []
        tokens = self._bounds.max_answer_tokens
        bodies: tuple[Any, ...] = ({"model": self._server.model, **self._api.wrong}, b'{"model": ')
        for body in bodies:
            asked, told = Request(self._api.path, body, headers=self._api.headers), Told()
            said = self._said(asked, tokens)
            answered = Answered(Wanted("", tokens), asked, said, told)
            if said.status not in _REFUSALS:
                found.append((answered, said.fault or f"it is answered with {said.status} and not with 4xx"))
                continue
            value = _json(said.body.decode("utf-8", "replace"))
            told.hold(self._api.error, value, f"the error of status {said.status}")
            found += [(answered, fault) for fault in told.faults]
        return self.of("error", "what cannot be meant is refused in its words", found)

    def _agreed(self, answered: Answered) -> Answered | None:
        """The same asked again; None where it is answered otherwise: who answers at random proves nothing."""
        for _ in range(_AGAIN):
            again = self.answer(answered.wanted)
            if again.told.text != answered.told.text:
                return None
        return answered


def _costs(answered: Answered) -> Iterator[str]:
    """What of an answer's own figures cannot be."""
    told, most = answered.told, answered.wanted.most_tokens
    made = told.completion_tokens
    if told.total_tokens is not None and told.total_tokens != (told.prompt_tokens or 0) + (made or 0):
        yield f"{told.prompt_tokens} and {made} tokens are not {told.total_tokens}"
    if told.prompt_tokens == 0:
        yield "the prompt is said to have no token"
    if made is None:
        yield "it does not say how many tokens it has"
    elif told.finish == "length" and made != most:
        yield f"it was cut after {most} tokens and says that it has {made}"
    elif told.text and answered.wanted.stream and made + 1 < told.pieces:
        yield f"it came in {told.pieces} parts and says that it has {made} tokens"


def _contradictions(first: Answered, other: Answered) -> Iterator[str]:
    """What two answers to one question cannot both have cost."""
    one, two = first.told, other.told
    prompts, made = (one.prompt_tokens, two.prompt_tokens), (one.completion_tokens, two.completion_tokens)
    if None not in prompts and prompts[0] != prompts[1]:
        yield f"the same prompt has {prompts[0]} tokens one time and {prompts[1]} another"
    if (one.text, one.finish) == (two.text, two.finish) and None not in made and made[0] != made[1]:
        yield f"the same answer has {made[0]} tokens whole and {made[1]} in a stream"


def _way(answered: Answered) -> str:
    return "in a stream" if answered.wanted.stream else "in one piece"


def stop_in(text: str) -> str | None:
    """A text from the middle of an answer, which is there for the first time and has no space at its ends."""
    for length in range(_USUAL_STOP, _LEAST_STOP - 1, -1):
        for place in sorted(range(1, len(text) - length), key=lambda place: abs(place - len(text) // 2)):
            stop = text[place : place + length]
            if stop == stop.strip() and text.index(stop) == place and stop.isprintable():
                return stop
    return None


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _evidence(name: str, answered: Answered, got: str, expected: str) -> Evidence:
    return Evidence(f"conformance/{name}", answered.asked.as_evidence(), f"{got}; {answered.said.said}", expected)
