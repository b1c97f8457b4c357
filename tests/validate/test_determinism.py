"""What the check of determinism says of engines that are, and that are not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeship import targets
from edgeship.engine.answer import Answer
from edgeship.engine.api import Chat, Sampling, ToolCall, Usage
from edgeship.engine.decoders import Chunk, Floats
from edgeship.errors import DeadlinePassed, EngineFailed, PromptInvalid
from edgeship.measure.cases import evalset
from edgeship.progress import silent
from edgeship.settings import Settings
from edgeship.validate import determinism, requests
from edgeship.validate.determinism import DeterminismBounds, differs
from edgeship.validate.subject import Against, Subject
from edgeship.validate.verdict import Finding
from tests import scripted
from tests.measure.evaluation.test_target import Server
from tests.scripted import ScriptedDecoder, ScriptedEngine
from tests.validate.faulty import faulty, faulty_chat, faulty_process
from tests.validate.subjects import Opened, found_by

USAGE = Usage(1, 1, 0.0, 0.0)
EVAL = Path(__file__).parents[2] / "examples" / "triage" / "eval.jsonl"


def found(
    bounds: DeterminismBounds | None = None, make: Callable[[], Chat] = lambda: ScriptedEngine({})
) -> dict[str, Finding]:
    with Opened(make, Against(effort="quick")) as subject:
        return found_by(determinism.CHECK, subject, bounds)


def failed(findings: dict[str, Finding]) -> set[str]:
    return {name for name, each in findings.items() if each.outcome == "fail"}


def test_an_engine_that_repeats_itself_passes_wherever_it_is_asked() -> None:
    findings = found()

    seeds = findings.pop("seeds")
    assert (seeds.outcome, "no difference" in seeds.told, "temperature of 2 " in seeds.told) == ("skipped", True, True)
    assert {each.outcome for each in findings.values()} == {"pass"}
    assert set(findings) == {
        f"{place}-{what}"
        for place in ("again", "beside-others", "restarted")
        for what in ("greedy", "sampled", "logprobs")
    }


class IsUnsure(ScriptedDecoder):
    """The likeliest token is one among many: its logit is so much above theirs."""

    above = 6.0

    def step(self, chunks: Sequence[Chunk], *, invariant: bool = False) -> list[Floats]:
        return [row * np.float32(self.above / 100) for row in super().step(chunks, invariant=invariant)]


class IsSure(IsUnsure):
    """At a temperature of 1 there is nothing else to say."""

    above = 16.0


@pytest.mark.parametrize(("decoder", "temperature"), [(IsUnsure, 1.0), (IsSure, 2.0)])
def test_answers_are_sampled_as_hot_as_it_takes_for_seeds_to_make_a_difference(
    decoder: type[ScriptedDecoder], temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripted, "ScriptedDecoder", decoder)

    findings = found()
    assert {each.outcome for each in findings.values()} == {"pass"}
    assert f"at a temperature of {temperature:g} " in findings["seeds"].told

    ignoring = found(make=lambda: faulty_chat(ScriptedEngine({}), "ignores-seed"))
    assert {"again-sampled", "beside-others-sampled", "restarted-sampled"} <= failed(ignoring)
    assert all(name.endswith("-sampled") for name in failed(ignoring))
    _, sampling = requests.ask_again(ignoring["again-sampled"].evidence[0].request)
    assert sampling.temperature == temperature


def test_a_server_that_ignores_seeds_fails(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(scripted, "ScriptedDecoder", IsUnsure)

    with (
        faulty("ignores-seed") as url,
        Subject(targets.resolve(url, settings), Against(effort="quick")) as subject,
    ):
        assert {"again-sampled", "not-streamed-sampled"} <= failed(found_by(determinism.CHECK, subject))


def test_a_target_that_takes_no_high_temperature_is_asked_with_a_lower_one() -> None:
    def say(_: str, sampling: Sampling) -> str:
        if sampling.temperature and sampling.temperature > most:
            raise PromptInvalid(f"temperature is more than {most:g}")
        return "Always the same."

    most = 1.5
    findings = found(make=lambda: Server(say))
    assert (findings["seeds"].outcome, findings["again-sampled"].outcome) == ("skipped", "pass")
    assert "at a temperature of 1.5 " in findings["seeds"].told
    most = 0.5
    with pytest.raises(PromptInvalid, match=r"more than 0\.5"):
        found(make=lambda: Server(say))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["none", "ignores-seed"])
def test_the_example_is_unsure_enough_to_see_whether_seeds_are_heeded(
    fault: str, example: Path, tmp_path: Path, settings: Settings
) -> None:
    cases = evalset.read_evalset(EVAL)
    with (
        faulty_process(fault, tmp_path, example) as (url, _),
        Subject(targets.resolve(url, settings), Against(cases, effort="quick")) as subject,
    ):
        findings = found_by(determinism.CHECK, subject)
    assert findings["seeds"].outcome == "pass"
    sampled = {name for name in findings if name.endswith("-sampled")}
    # Where few questions are asked, other seeds may give the same answers by chance, though hardly each time.
    assert failed(findings) <= (sampled if fault == "ignores-seed" else set())
    assert bool(failed(findings)) == (fault == "ignores-seed")


class SeesNeighbours(ScriptedDecoder):
    """Another token is likely for those that are answered beside others."""

    def step(self, chunks: Sequence[Chunk], *, invariant: bool = False) -> list[Floats]:
        rows = super().step(chunks, invariant=invariant)
        return [np.roll(row, 1, axis=1) for row in rows] if len(chunks) > 1 else rows


class IsLessSure(ScriptedDecoder):
    """The same token is likeliest beside others, and less likely than alone."""

    def step(self, chunks: Sequence[Chunk], *, invariant: bool = False) -> list[Floats]:
        rows = super().step(chunks, invariant=invariant)
        return [row * np.float32(0.12) for row in rows] if len(chunks) > 1 else rows


def test_logits_that_depend_on_neighbours_fail_beside_others_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "ScriptedDecoder", SeesNeighbours)

    findings = found()

    assert {"beside-others-greedy", "beside-others-sampled"} <= failed(findings)
    assert all(name.startswith("beside-others") for name in failed(findings))
    evidence = findings["beside-others-greedy"].evidence[0]
    assert evidence.id.startswith("determinism/beside-others-greedy-")
    assert evidence.got != evidence.expected
    conversation, sampling = requests.ask_again(evidence.request)
    assert conversation.messages[-1]["role"] == "user"
    assert sampling.seed == 0


def test_neighbours_that_turn_no_token_are_seen_by_log_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "ScriptedDecoder", IsLessSure)

    findings = found()

    assert "beside-others-logprobs" in failed(findings)
    assert "beside-others-greedy" not in failed(findings)
    assert (findings["beside-others-logprobs"].figure or 0) > 0.001


def test_a_gate_file_may_give_servers_a_part_of_answers_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "ScriptedDecoder", SeesNeighbours)

    findings = found(
        DeterminismBounds(max_greedy_differing_share=1.0, max_sampled_differing_share=1.0, max_logprob_change_nats=1e9)
    )

    assert failed(findings) == set()
    assert (findings["beside-others-greedy"].figure or 0) > 0


def test_a_process_that_answers_otherwise_after_a_restart_fails() -> None:
    starts = itertools.count()

    def make() -> ScriptedEngine:
        return ScriptedEngine({}, default=f"I was started {next(starts)} times.")

    findings = found(make=make)

    assert {name for name in failed(findings) if not name.endswith("logprobs")} == {
        "restarted-greedy",
        "restarted-sampled",
    }


def test_a_process_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(determinism, "DEADLINE_S", 0.05)
    with (
        Opened(lambda: ScriptedEngine({}, delay_s=0.05), Against(effort="quick")) as subject,
        pytest.raises(DeadlinePassed),
    ):
        list(determinism.CHECK.run(subject, DeterminismBounds(), silent))


def test_answers_differ_by_their_tokens_or_texts_and_not_by_the_ids_of_calls() -> None:
    def answer(text: str, tokens: tuple[int, ...] = (), call: str = "") -> Answer:
        calls = (ToolCall(call, "look", "{}"),) if call else ()
        return Answer(text, tokens, "stop", USAGE, tool_calls=calls)

    assert not differs(answer("a", (1,)), answer("a", (1,)))
    assert differs(answer("a", (1,)), answer("a", (2,)))
    assert not differs(answer("a", (1,)), answer("a"))
    assert differs(answer("a"), answer("b"))
    assert not differs(answer("", call="one"), answer("", call="two"))
    assert differs(answer("a"), EngineFailed("gone"))
