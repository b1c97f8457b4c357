"""Cases in longer prompts and facts in texts, held against an original that can or cannot do it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from edgeship import settings
from edgeship.engine.api import Chat
from edgeship.errors import ContextFull, EngineBusy, EngineFailed, PackageDamaged, PackageNotFound
from edgeship.measure.cases.evalset import EvalCase, EvalMessage
from edgeship.measure.evaluation.evaluate import answer_tokens, greedy
from edgeship.measure.statistics.intervals import least_cases
from edgeship.progress import silent
from edgeship.targets import Target
from edgeship.validate import requests
from edgeship.validate.lengths import longer, quality
from edgeship.validate.lengths.bounds import LengthBounds
from edgeship.validate.lengths.longer import OWN, Amount
from edgeship.validate.subject import Against, Effort
from edgeship.validate.verdict import Finding
from tests.scripted import ScriptedEngine
from tests.validate.chat_faults import Fault, FaultyChat
from tests.validate.subjects import Opened

CASES = tuple(
    EvalCase(id=f"case {number}", messages=(EvalMessage(role="user", content=f"Say {number}"),), expected=str(number))
    for number in range(28)
)
ASKED = {"id", "messages", "expected"}
CONTEXT = 1024
AT_LENGTH = "quality-at-307-tokens"
PLACES = ("facts-early", "facts-in-the-middle", "facts-late")


@pytest.fixture(autouse=True)
def amounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One length, and as much time as it takes."""
    monkeypatch.setitem(longer.ALONE, "default", Amount(8, (0.3,), 3, math.inf))
    monkeypatch.setitem(longer.BESIDE, "default", Amount(28, (0.3,), 27, math.inf))


class Rule(dict[str, str]):
    """Answers of a function of the question."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        super().__init__()
        self._rule = rule

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ARG002 - there is an answer to everything
        return self._rule(key)


def chat(rule: Callable[[str], str]) -> Chat:
    engine = ScriptedEngine({}, context_tokens=CONTEXT)
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
    return attentive(text[-120:])


def knows_its_length(text: str) -> str:
    """Answers only what is no longer than what it has learnt."""
    return attentive(text) if len(text) < 40 else "What?"


@dataclass(frozen=True)
class Original(Target):
    """A target that answers by a rule, or cannot be opened."""

    rule: Callable[[str], str] = attentive
    error: BaseException | None = None

    def open(self, **_: Any) -> Chat:
        """See Target."""
        if self.error:
            raise self.error
        return chat(self.rule)


def original_of(rule: Callable[[str], str] = attentive, error: BaseException | None = None) -> Original:
    return Original("folder", "original", settings.resolve(), rule, error)


def look(make: Callable[[], Chat], against: Against, **bounds: float) -> dict[str, Finding]:
    with Opened(make, against) as subject:
        return {each.name: each for each in quality.look(subject, LengthBounds(**bounds), silent)}


def findings(
    rule: Callable[[str], str],
    original: Callable[[str], str] | None = None,
    cases: Sequence[EvalCase] = CASES,
    **bounds: float,
) -> dict[str, Finding]:
    target = original_of(original) if original else None
    return look(lambda: chat(rule), Against(cases=tuple(cases), original=target), **bounds)


def outcomes(found: dict[str, Finding]) -> dict[str, str]:
    return {name: each.outcome for name, each in found.items()}


# --- beside the original ---------------------------------------------------------------------------------------------


def test_what_answers_and_finds_facts_as_the_original_does_passes() -> None:
    found = findings(attentive, attentive)

    assert outcomes(found) == dict.fromkeys(("quality-at-their-own-length", AT_LENGTH, *PLACES), "pass")
    assert "27 of 27 are found early, 27 by the original" in found["facts-early"].told


def test_a_text_whose_beginning_is_lost_fails_where_the_original_finds_it() -> None:
    found = findings(sees_the_end, attentive)

    assert outcomes(found) == {
        "quality-at-their-own-length": "pass",
        AT_LENGTH: "pass",
        "facts-early": "fail",
        "facts-in-the-middle": "fail",
        "facts-late": "pass",
    }
    conversation, sampling = requests.ask_again(found["facts-early"].evidence[0].request)
    assert "What is the number of the" in conversation.messages[0]["content"]
    assert sampling.temperature == 0.0
    assert found["facts-early"].evidence[0].id.startswith("lengths/facts-")


def test_cases_that_the_original_answers_in_longer_prompts_are_to_be_answered() -> None:
    found = findings(knows_its_length, attentive)

    assert found["quality-at-their-own-length"].outcome == "pass"
    assert (found[AT_LENGTH].outcome, found[AT_LENGTH].figure) == ("fail", -1.0)


def test_what_the_original_cannot_do_either_is_no_fault_and_shows_nothing() -> None:
    found = findings(knows_its_length, knows_its_length)

    assert outcomes(found) == {
        "quality-at-their-own-length": "pass",
        "quality-nothing-to-lose": "skipped",
        "facts-nothing-to-lose": "skipped",
    }
    assert "0 of 28 are answered right at 307 tokens, 0 by the original" in found["quality-nothing-to-lose"].told
    assert found["quality-nothing-to-lose"].noted


def test_a_few_cases_show_nothing_but_that_all_are_lost() -> None:
    same, worse = findings(attentive, attentive, CASES[:8]), findings(knows_its_length, attentive, CASES[:8])

    assert same["quality-not-shown"].outcome == "skipped"
    assert "8 of 8 are answered right at 307 tokens, 8 by the original" in same["quality-not-shown"].told
    assert "25 of which none is would" in same["quality-not-shown"].told
    assert same["quality-not-shown"].noted
    assert worse[AT_LENGTH].outcome == "fail"


def test_evidence_asks_what_was_asked() -> None:
    held = {"schema": {"type": "integer"}, "match": "exact"}
    cases = [EvalCase.model_validate({**case.model_dump(include=ASKED), **held}) for case in CASES]
    evidence = findings(knows_its_length, attentive, cases)[AT_LENGTH].evidence[0]
    with chat(attentive) as engine:
        asked = next(each.case for each in longer.padded(engine, cases, longer.BESIDE["default"]) if each.group != OWN)
        most = answer_tokens(engine, [asked.model_copy(update={"expected": "27"})])

    assert asked.constraint is not None
    assert requests.ask_again(evidence.request) == (asked.asked, greedy(most, asked.constraint))


def test_a_quick_look_does_not_ask_the_original() -> None:
    unasked = original_of(error=AssertionError("it is opened"))
    against = Against(cases=CASES, original=unasked, effort="quick")
    found = look(lambda: chat(attentive), against)

    assert outcomes(found) == {"quality": "skipped", "facts": "skipped"}
    assert "more questions than --quick has time for" in found["quality"].told
    assert "3 of 3 at their own length" in found["quality"].told


@pytest.mark.parametrize("error", [EngineFailed("it is down"), PackageDamaged("a byte is wrong")])
def test_an_original_that_cannot_be_asked_is_no_fault_of_the_target(error: Exception) -> None:
    found = look(lambda: chat(attentive), Against(cases=CASES, original=original_of(error=error)))

    assert outcomes(found) == {"beside-original": "undecided"}
    assert str(error) in found["beside-original"].told
    assert found["beside-original"].decided_by


def test_an_original_that_ends_every_answer_with_an_error_is_none_either() -> None:
    class Down(Original):
        def open(self, **_: Any) -> Chat:
            return broken("", EngineFailed("it is down"))

    against = Against(cases=CASES, original=Down("folder", "original", settings.resolve()))
    assert outcomes(look(lambda: chat(attentive), against)) == {"beside-original": "undecided"}


def test_an_original_that_does_not_exist_was_asked_for_wrongly() -> None:
    with pytest.raises(PackageNotFound):
        look(lambda: chat(attentive), Against(cases=CASES, original=original_of(error=PackageNotFound("no such name"))))


def test_ctrl_c_while_the_original_starts_interrupts() -> None:
    error = EngineFailed("it was no longer wanted")
    error.__cause__ = KeyboardInterrupt()
    with pytest.raises(EngineFailed):
        look(lambda: chat(attentive), Against(cases=CASES, original=original_of(error=error)))


def test_the_build_behind_a_file_of_answers_is_asked() -> None:
    against = Against(cases=CASES, original=Path("before.json"), original_build=original_of())
    assert outcomes(look(lambda: chat(attentive), against))["facts-late"] == "pass"


# --- errors ----------------------------------------------------------------------------------------------------------


def broken(word: str, error: Exception, *, counts: bool = True) -> Chat:
    """A chat that ends with an error where a prompt has a word. counts: whether it has a tokenizer."""

    class Breaks(Fault):
        def asked(self, conversation: Any) -> None:
            if word in str(conversation.messages[-1]["content"]):
                raise error

    found = FaultyChat(chat(attentive), Breaks)
    found.codec = found.codec if counts else None
    return cast(Chat, found)


def test_longer_prompts_that_end_with_an_error_fail_with_and_without_an_original() -> None:
    def make() -> Chat:
        return broken("weather", EngineFailed("it broke"))

    alone = look(make, Against(cases=CASES))
    assert outcomes(alone) == {"longer-prompts-answered": "fail", "quality": "skipped", "facts": "skipped"}
    assert "at 307 tokens: engine-failed: it broke" in alone["longer-prompts-answered"].told
    assert alone["longer-prompts-answered"].evidence[0].got == "engine-failed: it broke"

    beside = look(make, Against(cases=CASES, original=original_of()))
    assert (beside["quality-at-their-own-length"].outcome, beside[AT_LENGTH].outcome) == ("pass", "fail")


def test_an_error_is_not_told_as_a_lack_of_time() -> None:
    found = look(lambda: broken("", EngineFailed("it broke")), Against(cases=CASES))
    assert "none, since what was asked ended with errors" in found["quality"].told


@pytest.mark.parametrize(("error", "counts"), [(ContextFull("too long"), False), (EngineBusy("later"), True)])
def test_a_refusal_that_nobody_can_judge_is_no_fault(
    error: Exception, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeship.measure.evaluation.asking.BUSY_WAIT_S", 0.0)
    found = look(lambda: broken("weather", error, counts=counts), Against(cases=CASES))
    assert "longer-prompts-answered" not in found


def test_a_prompt_that_fits_by_the_targets_own_count_may_not_be_refused() -> None:
    found = look(lambda: broken("weather", ContextFull("too long")), Against(cases=CASES))
    assert found["longer-prompts-answered"].outcome == "fail"


# --- by itself -------------------------------------------------------------------------------------------------------


def test_without_an_original_figures_are_told_and_nothing_is_held_to_them() -> None:
    found = findings(knows_its_length)

    assert set(outcomes(found).values()) == {"skipped"}
    assert "8 of 8 at their own length, 0 of 8 at 307 tokens" in found["quality"].told
    assert [each.noted for each in found.values()] == [True, True]


def forgets_every_other(text: str) -> str:
    """Answers half of what is longer than it has learnt."""
    asked = text.rpartition("Say ")[2]
    return attentive(text) if len(text) < 40 or (asked.isdigit() and int(asked) % 2) else "What?"


@pytest.mark.parametrize(
    ("rule", "outcome"), [(attentive, "pass"), (knows_its_length, "fail"), (forgets_every_other, "undecided")]
)
def test_a_gate_file_may_hold_a_model_to_itself(rule: Callable[[str], str], outcome: str) -> None:
    found = findings(rule, cases=CASES[:8], min_kept_share=0.5)

    assert found["quality"].outcome == outcome
    assert (found["quality"].decided_by is not None) == (outcome == "undecided")


def test_an_original_that_is_a_file_cannot_be_asked() -> None:
    found = look(lambda: chat(attentive), Against(cases=CASES, original=Path("before.json")))
    assert outcomes(found) == {"quality": "skipped", "facts": "skipped"}


REAL = dict(longer.BESIDE)
"""The amounts as they are, which tests replace."""


@pytest.mark.parametrize("effort", ["default", "long"])
def test_enough_is_asked_beside_an_original_to_show_something(effort: Effort) -> None:
    least, amount = least_cases(LengthBounds().max_drop), REAL[effort]
    assert least is not None
    assert amount.cases >= least
    assert amount.facts * len(amount.parts) >= least
