"""What can be known of an evaluation before anything is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from edgeship.checkpoint import Checkpoint, open_checkpoint
from edgeship.engine.api import Chat, Conversation, Prompt
from edgeship.errors import ContextFull, EvalInvalid, TemplateInvalid
from edgeship.measure.cases.askable import require_askable, require_askable_by, require_judgeable
from edgeship.measure.cases.evalset import EvalCase

IGNORING = "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]{% endif %}{% endfor %}"
REFUSING = "{{ raise_exception('no') }}"


@pytest.fixture
def checkpoint(tiny: Path) -> Checkpoint:
    return open_checkpoint(str(tiny))


def case(name: str, question: str, *, expected: str = "yes", system: str | None = None) -> EvalCase:
    first = [{"role": "system", "content": system}] if system else []
    return EvalCase.model_validate(
        {"id": name, "messages": [*first, {"role": "user", "content": question}], "expected": expected}
    )


def test_cases_that_fit_are_left_as_they_are(checkpoint: Checkpoint) -> None:
    cases = [case("a", "hello", system="Go."), case("b", "x" * 100)]
    assert require_askable(cases, checkpoint) == tuple(cases)
    assert require_askable((), checkpoint) == ()


def test_cases_longer_than_the_context_are_named(checkpoint: Checkpoint) -> None:
    words = "order " * checkpoint.context_tokens
    with pytest.raises(EvalInvalid, match=r"2 of 3 cases are longer than the context of \d+ tokens.*'a' has .*'c' has"):
        require_askable([case("a", words), case("b", "hello"), case("c", "hello", expected=words)], checkpoint)


def test_a_template_without_a_system_role(tiny: Path) -> None:
    (tiny / "chat_template.jinja").write_text(IGNORING, encoding="utf-8")
    said: list[str] = []
    opened = open_checkpoint(str(tiny))

    def tell(message: str, fraction: float | None = None) -> None:
        del fraction
        said.append(message)

    (found,) = require_askable([case("a", "hello", system="Go.")], opened, tell)
    assert found.conversation == [{"role": "user", "content": "Go.\n\nhello"}]
    assert "no system role" in said[0]


def test_a_case_that_the_template_refuses_is_named(tiny: Path) -> None:
    (tiny / "chat_template.jinja").write_text(REFUSING, encoding="utf-8")
    with pytest.raises(EvalInvalid, match="case 'a' cannot be asked"):
        require_askable([case("a", "hello")], open_checkpoint(str(tiny)))


class Words:
    """A codec whose tokens are words. Raises for a conversation that says "no"."""

    def render(self, conversation: Conversation) -> Prompt:
        texts = [str(message["content"]) for message in conversation.messages]
        if texts[-1] == "no":
            raise TemplateInvalid("it says no", where="chat template")
        if len(texts[-1]) > 1000:
            raise ContextFull("too long")
        return self.encode(" ".join(texts))

    def encode(self, text: str, *, special: bool = True) -> Prompt:
        assert special or text is not None
        return Prompt(tuple(range(len(text.split()))))


@dataclass
class Target:
    """As much of a Chat as is asked."""

    codec: Words | None
    context_tokens: int | None


def test_any_target_with_a_tokenizer_is_asked_beforehand() -> None:
    cases = [case("a", "one two three", expected="four"), case("b", "one two"), case("c", "x" * 2000)]
    target = cast(Chat, Target(Words(), 4))
    with pytest.raises(EvalInvalid, match=r"2 of 3 cases are longer than .* 4 tokens.*'a' has 4, 'c' has 4"):
        require_askable_by(target, cases)
    require_askable_by(target, cases[1:2])
    with pytest.raises(EvalInvalid, match="case 'd' cannot be asked: it says no"):
        require_askable_by(target, [case("d", "no")])


@pytest.mark.parametrize("target", [Target(None, 4), Target(Words(), None)])
def test_of_a_target_without_tokens_nothing_is_known_beforehand(target: Target) -> None:
    require_askable_by(cast(Chat, target), [case("a", "one two three four five")])


def test_cases_without_a_right_answer_are_counted_by_their_question(checkpoint: Checkpoint) -> None:
    values = {"id": "a", "messages": [{"role": "user", "content": "hello"}], "assert": [{"type": "is-json"}]}
    made = EvalCase.model_validate(values)
    assert require_askable([made], checkpoint) == (made,)


def test_what_is_compared_by_meaning_needs_a_model_to_do_it() -> None:
    asserted = [{"type": "not-similar", "value": "x"}]
    values = {"id": "a", "messages": [{"role": "user", "content": "hello"}], "assert": asserted}
    made = EvalCase.model_validate(values)
    with pytest.raises(EvalInvalid, match="no embedding model for the assertion similar of 'a'"):
        require_judgeable([made], embeds=False)
    require_judgeable([made], embeds=True)
    require_judgeable([case("b", "hello")], embeds=False)
