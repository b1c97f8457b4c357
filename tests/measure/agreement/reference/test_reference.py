"""References on a made-up model: what is scored, what the budget holds, what comes back from the file."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.api import Message, Prompt, Sampling
from edgeship.errors import DiskShort, ToolFailed
from edgeship.measure.agreement import reference
from edgeship.measure.agreement.predictions import keep, row_bytes
from edgeship.measure.agreement.reference import (
    REPEATED_TOKENS,
    PlainText,
    ScoredText,
    Text,
    do_job,
    read_texts,
    text_ids,
    until_repeated,
)
from edgeship.progress import silent
from edgeship.system import worker
from edgeship.system.child import failure_in

VOCAB = 256


class Bytes:
    """Tokens are bytes; a turn ends with `end`, and each logit is the token's number plus the position."""

    def __init__(self, *, end: str = "\n", context_tokens: int = 100) -> None:
        self.end = end
        self.context_tokens = context_tokens

    def ids(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> list[int]:
        turns = [f"{message['role'][0]}:{message['content']}{self.end}" for message in messages]
        return list("".join([*turns, "a:" * add_generation_prompt]).encode())

    def answer_ids(self, answer: str) -> list[int]:
        return list(answer.encode())

    def own_answer(self, prompt: Sequence[int], sampling: Sampling) -> list[int]:
        assert prompt
        assert sampling.max_tokens
        assert sampling.temperature == 0
        return [*range(min(5, sampling.max_tokens))]

    def logits(self, tokens: Sequence[int], first_scored: int) -> npt.NDArray[np.float32]:
        rows = np.arange(first_scored, len(tokens))
        return (rows[:, None] + np.arange(VOCAB)).astype(np.float32)


def job(out: Path, *texts: Text, budget_bytes: int = 10**6) -> dict[str, Any]:
    orders = list(map(reference._order, texts))
    return {"conversations": [], "texts": orders, "out": str(out), "budget_bytes": budget_bytes}


def text(said: str, answer: str) -> ScoredText:
    return ScoredText([{"role": "user", "content": said}], answer)


def ids_of(model: Any, asked: Text) -> tuple[list[int], int]:
    return text_ids(model, reference._order(asked))


@given(st.text(st.characters(codec="ascii"), max_size=8), st.text(st.characters(codec="ascii"), max_size=8))
def test_the_answer_is_scored_with_the_token_that_ends_it(said: str, answer: str) -> None:
    tokens, first = ids_of(Bytes(), text(said, answer))
    assert bytes(tokens[:first]).decode() == f"u:{said}\na:"
    assert bytes(tokens[first:]).decode() == f"{answer}\n"


def test_a_template_that_does_not_continue_the_prompt_adds_nothing() -> None:
    class Rewriting(Bytes):
        def ids(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> list[int]:
            found = super().ids(messages, add_generation_prompt=add_generation_prompt)
            return found if add_generation_prompt else [0, *found]

    tokens, first = ids_of(Rewriting(), text("x", "y"))
    assert bytes(tokens[first:]) == b"y"


def test_a_prompt_is_answered_by_the_model_itself_and_the_answer_is_scored() -> None:
    assert ids_of(Bytes(), Prompt((7, 8))) == ([7, 8, 0, 1, 2, 3, 4], 2)
    assert ids_of(Bytes(context_tokens=4), Prompt((7, 8))) == ([7, 8, 0, 1], 2)


def test_of_a_text_as_it_is_all_but_the_first_token_is_scored() -> None:
    assert ids_of(Bytes(), PlainText([7, 8, 9])) == ([7, 8, 9], 1)


def test_answers_without_room_are_left_out(tmp_path: Path) -> None:
    out = tmp_path / "reference.npz"
    prompts = [Prompt((7,)), Prompt((7,) * 100), Prompt((7,))]
    assert do_job(Bytes(), job(out, *prompts), silent)["texts_used"] == 2
    assert [text.tokens for text in read_texts(out)] == [(7, 0, 1, 2, 3, 4)] * 2


def test_an_answer_counts_until_it_repeats_itself() -> None:
    said = [*range(20)]
    assert until_repeated(said) == said
    assert until_repeated([*said, *range(5, 5 + REPEATED_TOKENS - 1)]) == [*said, *range(5, 5 + REPEATED_TOKENS - 1)]
    assert until_repeated([*said, *range(5, 20), 3]) == said
    assert until_repeated([1] * 30) == [1]
    assert until_repeated([]) == []


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "reference.npz"
    result = do_job(Bytes(), job(out, text("hello", "yes"), Prompt((7,)), text("x" * 200, "too long")), silent)
    assert result["texts_used"] == 2
    assert result["peak_memory_bytes"] > 0
    answered, own = read_texts(out)
    assert bytes(answered.tokens).decode() == "u:hello\na:yes\n"
    assert (answered.first_scored, own.first_scored) == (10, 1)
    assert answered.predictions.vocab_size == VOCAB
    expected = keep(Bytes().logits(answered.tokens, 10), np.array(answered.tokens[10:]), seed=0)
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(answered.predictions, name), values)
    assert [path.name for path in tmp_path.iterdir()] == ["reference.npz"]


def test_the_budget_ends_the_texts(tmp_path: Path) -> None:
    two_answers = 2 * 4 * row_bytes(VOCAB)
    asked = job(tmp_path / "out.npz", *[text("hello", "yes")] * 3, budget_bytes=two_answers)
    assert do_job(Bytes(), asked, silent)["texts_used"] == 2


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    class Failing(Bytes):
        def logits(self, tokens: Sequence[int], first_scored: int) -> npt.NDArray[np.float32]:
            raise MemoryError(f"{len(tokens) - first_scored} rows")

    with pytest.raises(MemoryError):
        do_job(Failing(), job(tmp_path / "out.npz", text("hello", "yes")), silent)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises((OSError, ValueError)) as caught:  # zipfile says what it makes of it
        do_job(Bytes(), job(tmp_path / "out.npz", text("hello", "yes")), silent)
    told = failure_in(worker.failure(caught.value))
    assert isinstance(told, DiskShort)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04"])
def test_a_damaged_reference(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "reference.npz"
    path.write_bytes(content)
    with pytest.raises(ToolFailed, match="cannot be read") as caught:
        list(reference.read_texts(path))
    assert caught.value.where == str(path)
