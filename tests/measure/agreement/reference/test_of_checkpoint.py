from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.engine.api import Conversation
from edgeship.engine.opening import load
from edgeship.errors import CheckpointInvalid, DependencyMissing, MemoryShort, TemplateInvalid, ToolFailed
from edgeship.measure.agreement import reference as references
from edgeship.measure.agreement.predictions import keep, row_bytes
from edgeship.measure.agreement.reference import ScoredText, of_checkpoint
from edgeship.measure.agreement.reference.of_checkpoint import predicted_memory_bytes, reference
from edgeship.system import child
from edgeship.system.shell import our_install
from tests import checkpoints
from tests.builder import test_wrapped
from tests.measure.agreement.reference.test_of_build import log_probs

QUESTION = [{"role": "user", "content": "hello world"}]


def answer(monkeypatch: pytest.MonkeyPatch, outcome: dict[str, Any] | Exception) -> None:
    """Puts an outcome in the place of the child."""

    def run(module: str, job: dict[str, Any], **_: Any) -> dict[str, Any]:
        assert module == "edgeship.measure.agreement.reference.of_checkpoint"
        assert job["checkpoint"]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(child, "run", run)


def test_memory_is_predicted_from_parameters() -> None:
    assert predicted_memory_bytes(236_000_000) == 2_016_000_000


def test_a_child_that_dies_is_reported_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, child.Died(1, ["first", "the last word"]))
    with pytest.raises(ToolFailed, match="ended with status 1; the last it said: the last word") as caught:
        reference(tmp_path, None, [], [], tmp_path / "out.npz")
    assert caught.value.where == str(tmp_path)


def test_a_killed_child_means_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, child.Died(-9, []))
    with pytest.raises(MemoryShort, match="was killed"):
        reference(tmp_path, None, [], [], tmp_path / "out.npz")


def test_success_without_a_file_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, {})
    with pytest.raises(ToolFailed, match="left no predictions"):
        reference(tmp_path, None, [], [], tmp_path / "out.npz")


@pytest.mark.parametrize("library", ["transformers", "torch", "peft"])
def test_missing_libraries(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DependencyMissing, match=f"needs {library}") as caught:
        of_checkpoint._library(library)
    assert our_install("original") in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("gone", "plain", "tuned"), [("peft", True, False), ("torch", False, False), (None, True, True)]
)
def test_whether_it_is_installed(gone: str | None, plain: bool, tuned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> object:
        if name == "transformers":
            return object()
        if name == gone:
            raise ImportError(name)
        return object()

    monkeypatch.setattr("importlib.util.find_spec", find)
    assert (of_checkpoint.is_installed(), of_checkpoint.is_installed(adapter=True)) == (plain, tuned)


# --- with the real libraries -----------------------------------------------------------------------


@pytest.mark.slow
def test_the_original_agrees_with_an_fp32_package(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    checkpoint = checkpoints.make_checkpoint(tmp_path / "tiny")
    texts = [ScoredText(QUESTION, "how are you?"), ScoredText(QUESTION, "hello"), ScoredText(QUESTION, "x " * 600)]
    found = reference(checkpoint, None, [QUESTION], texts, tmp_path / "reference.npz", threads=1)
    engine = load(request.getfixturevalue("fp32_folder"), engine="genai")
    prompt = engine.render(Conversation(QUESTION)).tokens
    assert found.conversation_tokens == (prompt,)
    assert (found.texts_used, found.texts_skipped) == (2, 1)
    assert found.peak_memory_bytes > 10**8
    answered, short = found.texts()
    # The answer is followed by the token that ends a turn, and by nothing more.
    assert answered.tokens == prompt + engine.encode("how are you?").tokens + (2,)
    assert answered.first_scored == len(prompt)
    assert short.first_scored == len(prompt)
    for text in (answered, short):
        ours = keep(engine.score(text.tokens)[text.first_scored - 1 : -1], np.array(text.tokens[text.first_scored :]))
        np.testing.assert_allclose(log_probs(text), log_probs(replace(text, predictions=ours)), atol=2e-5)


@pytest.mark.slow
def test_adapter_template_and_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "PREDICTIONS_BUDGET_BYTES", 8 * row_bytes(checkpoints.VOCAB))
    checkpoint = checkpoints.make_checkpoint(tmp_path / "tiny", template=None)
    adapter = checkpoints.make_adapter(tmp_path / "adapter")
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    texts = [ScoredText([{"role": "user", "content": word}], "four") for word in ("abcdef", "ghijkl", "mnopqr")]
    runs = [
        reference(checkpoint, given, [], texts, tmp_path / f"{given is None}.npz", chat_template=template)
        for given in (None, adapter)
    ]
    assert [(run.texts_used, run.texts_skipped) for run in runs] == [(2, 1), (2, 1)]
    (plain, _), (tuned, _) = ([*run.texts()] for run in runs)
    assert plain.tokens == tuned.tokens
    assert np.abs(log_probs(plain) - log_probs(tuned)).max() > 0.01


@pytest.mark.slow
def test_a_model_that_sees_is_read_whole_by_its_own_class(tmp_path: Path) -> None:
    case = next(case for case in test_wrapped.CASES if case.name == "qwen3.5")
    test_wrapped.made(case, tmp_path / "tiny")
    texts = [ScoredText(QUESTION, "hello")]
    found = reference(tmp_path / "tiny", None, [], texts, tmp_path / "reference.npz", architecture=case.model)
    assert found.texts_used == 1
    with pytest.raises(CheckpointInvalid, match=r"the weights lack lm_head\.weight, as transformers reads them"):
        reference(tmp_path / "tiny", None, [], texts, tmp_path / "reference.npz")


@pytest.mark.slow
def test_bad_checkpoints_are_named(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    checkpoint = checkpoints.make_checkpoint(tmp_path / "tiny")
    out = tmp_path / "reference.npz"
    refusing = "{{ raise_exception('no system here') }}"
    with pytest.raises(TemplateInvalid, match="no system here"):
        reference(checkpoint, None, [QUESTION], [], out, chat_template=refusing)
    weights = checkpoints.qwen2_weights()
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointInvalid, match=r"the weights lack model\.layers\.1\.mlp\.up_proj\.weight"):
        reference(checkpoint, None, [], [ScoredText(QUESTION, "hello")], out)
    (checkpoint / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ToolFailed, match="transformers cannot load the model"):
        reference(checkpoint, None, [], [ScoredText(QUESTION, "hello")], out)
    (checkpoint / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointInvalid, match="transformers cannot load the tokenizer"):
        reference(checkpoint, None, [QUESTION], [], out)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
