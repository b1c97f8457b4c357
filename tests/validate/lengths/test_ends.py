"""What is said of the context's end, of engines that keep to it and of answers that do not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from edgeship.engine.api import Chat, Conversation, Prompt, Sampling, Token
from edgeship.errors import ContextFull, EngineFailed, TemplateMissing
from edgeship.measure.load.records import Arrival, Failure, Reply
from edgeship.measure.load.workload import Question
from edgeship.validate import requests
from edgeship.validate.lengths import ends
from edgeship.validate.lengths.prompts import Prompts
from edgeship.validate.verdict import Finding
from tests.scripted import ByteCodec, ScriptedEngine
from tests.validate.chat_faults import Fault, FaultyChat

CONTEXT = 64


def of(prompts: object, context: int | None = CONTEXT) -> dict[str, Finding]:
    return {each.name: each for each in ends.look(cast(Prompts, prompts), context)}


def test_an_engine_fills_its_context_to_the_last_token_and_refuses_one_more() -> None:
    with ScriptedEngine({}, context_tokens=CONTEXT) as engine:
        findings = of(ends.in_words(Prompts(engine)))

    assert {name: each.outcome for name, each in findings.items()} == dict.fromkeys(
        ("last-token", "runs-to-the-end", "one-token-too-many", "answers-after"), "pass"
    )


class ForgetsRoom(Fault):
    """An answer ends a token before the context does."""

    def step(self, step: Token, number: int) -> Token:  # noqa: ARG002 - see Fault
        return replace(step, finish="stop") if step.finish == "length" else step


def test_what_fails_at_an_engines_end_is_a_conversation_that_can_be_asked_again() -> None:
    with cast(Chat, FaultyChat(ScriptedEngine({}, context_tokens=CONTEXT), ForgetsRoom)) as chat:
        prompts = ends.in_words(Prompts(chat))
        found = of(prompts)["runs-to-the-end"]
        assert found.outcome == "fail"
        conversation, sampling = requests.ask_again(found.evidence[0].request)
        *_, last = chat.converse(conversation, sampling)

    assert last.finish == "stop"
    assert last.usage is not None
    assert last.usage.prompt_tokens + last.usage.completion_tokens == CONTEXT


def test_an_engine_without_a_template_is_asked_token_ids() -> None:
    class NoTemplate(ByteCodec):
        def render(self, conversation: Conversation) -> Prompt:  # noqa: ARG002 - it takes none
            raise TemplateMissing("there is none")

    with ScriptedEngine({}, context_tokens=CONTEXT) as engine:
        engine.codec = NoTemplate()
        prompts = ends.in_words(Prompts(engine))
        assert {each.outcome for each in of(prompts).values()} == {"pass"}
        assert prompts.make(20, 4).tokens


def test_a_context_that_the_template_alone_fills_is_a_reason() -> None:
    assert "no prompt" in of(Server(least_tokens=CONTEXT))["context-end"].told


@dataclass
class Server:
    """Replies like a server that keeps to its context; `changes` are what it does wrong, by the room that is left."""

    changes: dict[int, dict[str, object]] = field(default_factory=dict)
    broken: bool = False
    exact: bool = True
    goes_on: bool = True
    least_tokens: int = 4

    def make(self, tokens: int, new_tokens: int | None) -> Question:
        messages = ({"role": "user", "content": "word " * tokens},)
        return Question(messages=messages, prompt_tokens=tokens, new_tokens=new_tokens, ignore_eos=True)

    def sampling_of(self, question: Question) -> Sampling:
        return Sampling(max_tokens=question.new_tokens)

    def ask(self, question: Question) -> Reply:
        tokens = question.prompt_tokens or 0
        room = CONTEXT - tokens
        if room <= 0:
            reply = Reply((), 0.0, failure=Failure(ContextFull.code, "too long"))
            self.broken = self.broken and bool(self.changes.setdefault(CONTEXT - 16, {"failure": Failure("x", "gone")}))
        else:
            made = min(room, question.new_tokens or room)
            arrivals = (Arrival(0.0, ("text",), made),)
            reply = Reply(arrivals, 0.0, "length", tokens, made, counted_output_tokens=made)
        return replace(reply, **self.changes.get(room, {}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "which", "said"),
    [
        ({1: {"finish": "stop"}}, "last-token", "ended with stop instead of length"),
        ({1: {"failure": Failure(ContextFull.code, "no room")}}, "last-token", "it was refused: no room"),
        ({8: {"output_tokens": 9}}, "runs-to-the-end", "usage tells 9 tokens of answer"),
        ({8: {"prompt_tokens": 40}}, "runs-to-the-end", "usage tells 40 tokens of prompt"),
        ({8: {"counted_output_tokens": 7}}, "runs-to-the-end", "7 tokens came and usage tells 8"),
        (
            {0: {"failure": None, "output_tokens": 4, "prompt_tokens": 50}},
            "one-token-too-many",
            "something of it was left out",
        ),
        (
            {0: {"failure": Failure(EngineFailed.code, "it broke")}},
            "one-token-too-many",
            "not refused for that: it broke",
        ),
    ],
)
def test_what_is_wrong_at_the_end_is_named_with_its_request(
    changes: dict[int, dict[str, object]], which: str, said: str
) -> None:
    findings = of(Server(changes))

    assert [name for name, each in findings.items() if each.outcome == "fail"] == [which]
    assert said in findings[which].told
    assert findings[which].evidence[0].id == f"lengths/{which}"


def test_an_engine_that_breaks_by_what_it_refuses_fails_afterwards() -> None:
    findings = of(Server(broken=True))

    assert findings["answers-after"].outcome == "fail"
    assert findings["answers-after"].evidence[0].id == "lengths/answers-after"
    assert "gone" in findings["answers-after"].told


def test_a_model_may_end_its_answer_where_that_cannot_be_left_aside() -> None:
    changes: dict[int, dict[str, object]] = {8: {"finish": "stop", "output_tokens": 3, "counted_output_tokens": 3}}

    assert of(Server(changes, goes_on=False))["runs-to-the-end"].outcome == "pass"
    assert of(Server(changes, goes_on=True))["runs-to-the-end"].outcome == "fail"


def test_what_a_server_does_not_tell_is_a_reason() -> None:
    assert [each.outcome for each in of(Server(), None).values()] == ["skipped"]
    assert "how many tokens" in of(Server(exact=False))["context-end"].told
