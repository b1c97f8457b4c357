"""The FP32 build as a reference: its tokens are the checkpoint's own, its logits those of the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.engine import opening
from edgeship.engine.api import Prompt
from edgeship.errors import EngineFailed, TemplateInvalid
from edgeship.measure.agreement.reference import ANSWER_TOKENS, ReferenceText, ScoredText, Text, of_build, read_texts
from edgeship.progress import silent
from edgeship.system import child
from tests import checkpoints
from tests.scripted import VOCAB_SIZE, ScriptedEngine

QUESTION = [{"role": "user", "content": "hello world"}]


def log_probs(text: ReferenceText) -> Any:
    """Of all tokens, in the vocabulary's order."""
    return np.take_along_axis(text.predictions.log_probs, text.predictions.tokens.argsort(axis=1), axis=1)


class Wide(ScriptedEngine):
    """Has all tokens of the checkpoint."""

    def score(self, tokens: Any, first: int = 0) -> Any:
        found = super().score([token % VOCAB_SIZE for token in tokens], first)
        return np.pad(found, ((0, 0), (0, checkpoints.VOCAB - VOCAB_SIZE)))


def test_the_job_reaches_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parent and child in one process: the child is the module's own run_job."""

    def run(module: str, job: dict[str, Any], **_: Any) -> dict[str, Any]:
        assert module == "edgeship.measure.agreement.reference.of_build"
        return of_build.run_job(job, silent)

    monkeypatch.setattr(child, "run", run)
    monkeypatch.setattr(opening, "load", lambda *_, **__: Wide({}, context_tokens=60))
    checkpoint = checkpoints.make_checkpoint(tmp_path / "tiny")
    found = of_build.reference(
        tmp_path / "package",
        checkpoint,
        [QUESTION],
        [ScoredText(QUESTION, "how"), ScoredText(QUESTION, "x " * 100)],
        tmp_path / "reference.npz",
        chat_template=checkpoints.CHATML + "{{ eos_token }}",
        special_tokens={"eos_token": "<|endoftext|>"},
    )
    assert (found.source, found.reader) == ("its FP32 build", "tokenizer.json")
    assert (found.texts_used, found.texts_skipped) == (1, 1)
    (ids,) = found.conversation_tokens
    # What the template writes as special tokens are single ones: 0 is <|endoftext|>, 1 <|im_start|>, 2 <|im_end|>.
    assert (ids[0], ids[-1], ids.count(2)) == (1, 0, 1)
    (text,) = found.texts()
    expected = Wide({}).score(text.tokens)[text.first_scored - 1 : -1]
    np.testing.assert_array_equal(text.predictions.tokens[:, 0], expected.argmax(axis=1))


def test_a_folder_without_a_model_is_an_error_of_ours(tmp_path: Path) -> None:
    checkpoint = checkpoints.make_checkpoint(tmp_path / "tiny")
    with pytest.raises(EngineFailed, match="no package"):
        of_build.reference(tmp_path, checkpoint, [], [], tmp_path / "out.npz", chat_template="x", special_tokens={})


@pytest.mark.slow
def test_it_says_what_the_original_says(tmp_path: Path, fp32_folder: Path) -> None:
    from edgeship.measure.agreement.reference import of_checkpoint

    checkpoint = checkpoints.make_checkpoint(tmp_path / "tiny")
    own = Prompt(tuple(range(3, 40)))
    texts: list[Text] = [ScoredText(QUESTION, "how are you?"), own, ScoredText(QUESTION, "x " * 600)]
    ours = of_build.reference(
        fp32_folder,
        checkpoint,
        [QUESTION],
        texts,
        tmp_path / "ours.npz",
        chat_template=checkpoints.CHATML,
        special_tokens={"eos_token": "<|im_end|>"},
        threads=1,
    )
    theirs = of_checkpoint.reference(
        checkpoint, None, [QUESTION], texts, tmp_path / "theirs.npz", eos_ids=(0, 2), threads=1
    )
    assert ours.conversation_tokens == theirs.conversation_tokens
    assert (ours.texts_used, ours.texts_skipped) == (theirs.texts_used, theirs.texts_skipped) == (2, 1)
    for our, their in zip(read_texts(ours.path), read_texts(theirs.path), strict=True):
        assert (our.tokens, our.first_scored) == (their.tokens, their.first_scored)
        np.testing.assert_allclose(log_probs(our), log_probs(their), atol=2e-5)
    answer = [*read_texts(ours.path)][1].tokens[len(own.tokens) :]
    assert 0 < len(answer) <= ANSWER_TOKENS
    with pytest.raises(TemplateInvalid, match="no"):
        of_build.reference(
            fp32_folder,
            checkpoint,
            [QUESTION],
            [],
            tmp_path / "out.npz",
            chat_template="{{ raise_exception('no') }}",
            special_tokens={},
        )
