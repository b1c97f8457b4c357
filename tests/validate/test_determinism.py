"""What the check of determinism says of engines that are, and that are not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from edgeship.engine.answer import Answer
from edgeship.engine.api import ToolCall, Usage
from edgeship.engine.decoders import Chunk, Floats
from edgeship.errors import DeadlinePassed, EngineFailed
from edgeship.progress import silent
from edgeship.validate import determinism, requests
from edgeship.validate.determinism import DeterminismBounds, differs
from edgeship.validate.subject import Against
from edgeship.validate.verdict import Finding
from tests import scripted
from tests.scripted import ScriptedDecoder, ScriptedEngine
from tests.validate.subjects import Opened

USAGE = Usage(1, 1, 0.0, 0.0)


def found(bounds: DeterminismBounds | None = None) -> dict[str, Finding]:
    with Opened(lambda: ScriptedEngine({}), Against(effort="quick")) as subject:
        return {each.name: each for each in determinism.CHECK.run(subject, bounds or DeterminismBounds(), silent)}


def failed(findings: dict[str, Finding]) -> set[str]:
    return {name for name, each in findings.items() if each.outcome == "fail"}


def test_an_engine_that_repeats_itself_passes_wherever_it_is_asked() -> None:
    findings = found()

    assert {each.outcome for each in findings.values()} == {"pass"}
    assert set(findings) == {
        f"{place}-{what}"
        for place in ("again", "beside-others", "restarted")
        for what in ("greedy", "sampled", "logprobs")
    }


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

    findings = found(DeterminismBounds(most_greedy_differing=1.0, most_sampled_differing=1.0, most_logprob_change=1e9))

    assert failed(findings) == set()
    assert (findings["beside-others-greedy"].figure or 0) > 0


def test_a_process_that_answers_otherwise_after_a_restart_fails() -> None:
    starts = itertools.count()

    def make() -> ScriptedEngine:
        return ScriptedEngine({}, default=f"I was started {next(starts)} times.")

    with Opened(make, Against(effort="quick")) as subject:
        findings = {each.name: each for each in determinism.CHECK.run(subject, DeterminismBounds(), silent)}

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
