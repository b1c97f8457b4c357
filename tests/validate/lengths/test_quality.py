"""Cases in longer prompts and facts in texts, held against an original that can or cannot do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship import settings
from edgeship.engine.api import Chat
from edgeship.measure.cases.evalset import EvalCase, EvalMessage
from edgeship.progress import silent
from edgeship.targets import Target
from edgeship.validate import requests
from edgeship.validate.lengths import quality
from edgeship.validate.lengths.bounds import LengthBounds
from edgeship.validate.subject import Against
from edgeship.validate.verdict import Finding
from tests.scripted import ScriptedEngine
from tests.validate.subjects import Opened

CASES = tuple(
    EvalCase(id=f"case {number}", messages=(EvalMessage(role="user", content=f"Say {number}"),), expected=str(number))
    for number in range(8)
)


class Rule(dict[str, str]):
    """Answers of a function of the question."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        super().__init__()
        self._rule = rule

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ARG002 - there is an answer to everything
        return self._rule(key)


def chat(rule: Callable[[str], str]) -> Chat:
    engine = ScriptedEngine({}, context_tokens=4096)
    engine._decoder.answers = Rule(rule)  # type: ignore[attr-defined]
    return engine


def attentive(text: str) -> str:
    """Finds whatever it is asked for, in any text."""
    if " is the number of " in text or "What is the number of the " in text:
        thing = text.rpartition("What is the number of the ")[2].rstrip("?")
        return text.partition(f"The number of the {thing} is ")[2].partition(".")[0]
    return text.rpartition("Say ")[2]


def sees_the_end(text: str) -> str:
    """Knows only the last part of a text."""
    return attentive(text[-600:])


def knows_its_length(text: str) -> str:
    """Answers only what is no longer than what it has learnt."""
    return attentive(text) if len(text) < 40 else "What?"


@dataclass(frozen=True)
class Original(Target):
    """A target that answers by a rule."""

    rule: Callable[[str], str] = attentive

    def open(self, **_: Any) -> Chat:
        """See Target."""
        return chat(self.rule)


def findings(
    rule: Callable[[str], str], original: Callable[[str], str] | None = None, **bounds: float
) -> dict[str, Finding]:
    target = Original("folder", "original", settings.resolve(), original) if original else None
    against = Against(cases=CASES, original=target)
    with Opened(lambda: chat(rule), against) as subject:
        return {each.name: each for each in quality.look(subject, LengthBounds(**bounds), silent)}


def test_what_finds_facts_as_the_original_does_passes() -> None:
    found = findings(attentive, attentive)

    assert {name: each.outcome for name, each in found.items()} == {"quality": "pass", "facts": "pass"}
    assert "9 of 9 are found early, 9 by the original" in found["facts"].told


def test_a_text_whose_beginning_is_lost_fails_where_the_original_finds_it() -> None:
    found = findings(sees_the_end, attentive)

    assert found["facts"].outcome == "fail"
    assert found["quality"].outcome == "pass"
    conversation, sampling = requests.ask_again(found["facts"].evidence[0].request)
    assert "What is the number of the" in conversation.messages[0]["content"]
    assert sampling.temperature == 0.0
    assert found["facts"].evidence[0].id.startswith("lengths/facts-")


def test_cases_that_the_original_answers_in_longer_prompts_are_to_be_answered() -> None:
    assert findings(knows_its_length, attentive)["quality"].outcome == "fail"


def test_what_the_original_cannot_do_either_is_no_fault() -> None:
    found = findings(knows_its_length, knows_its_length)

    assert {each.outcome for each in found.values()} == {"pass"}


def test_without_an_original_figures_are_told_and_nothing_is_held_to_them() -> None:
    found = findings(knows_its_length)

    assert {each.outcome for each in found.values()} == {"skipped"}
    assert "8 of 8 at their own length, 0 of 8 at 205 tokens" in found["quality"].told


def test_a_gate_file_may_hold_a_model_to_itself() -> None:
    assert findings(knows_its_length, least_kept_alone=0.5)["quality"].outcome == "fail"
    assert findings(attentive, least_kept_alone=0.5)["quality"].outcome == "pass"


def test_an_original_that_is_a_file_cannot_be_asked() -> None:
    against = Against(cases=CASES, original=Path("before.json"))
    with Opened(lambda: chat(attentive), against) as subject:
        found = {each.name: each.outcome for each in quality.look(subject, LengthBounds(), silent)}

    assert found == {"quality": "skipped", "facts": "skipped"}
