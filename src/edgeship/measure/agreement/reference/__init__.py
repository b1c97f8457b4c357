"""What packages are held against: prompts' token ids, and predictions of texts, made in a child process.

The predictions are kept in an .npz, in the compact form of predictions.py. Two modules make them: of_checkpoint.py (the
checkpoint in transformers) and of_build.py (its FP32 build, or another package).
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeship.engine.api import Message, Prompt, Sampling
from edgeship.engine.sampling import defaults_of
from edgeship.errors import ToolFailed
from edgeship.package.genai_config import Search
from edgeship.progress import Progress
from edgeship.system import child, memory
from edgeship.system.storage import new_file

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeship.measure.agreement.predictions import Predictions

PREDICTIONS_BUDGET_BYTES = 400_000_000
ANSWER_TOKENS = 32
"""Of an answer that the reference gives itself, at the most."""
OWN_WORDS = defaults_of(Search())
"""How the reference gives its own answers: greedily, as the cases of an evaluation are answered."""
REPEATED_TOKENS = 8
"""So many in a row that were there before are a repetition."""
_ARRAYS = ("tokens", "first_scored", "likeliest", "log_probs", "tail", "next_log_probs", "vocab_size")
"""What is kept of each text: it, and the fields of its Predictions."""


@dataclass(frozen=True)
class ScoredText:
    """A conversation, and the answer whose tokens are scored."""

    messages: Sequence[Message]
    answer: str


@dataclass(frozen=True)
class PlainText:
    """A text as it is, of which every token but the first is scored."""

    tokens: Sequence[int]


Text = ScoredText | PlainText | Prompt
"""What is scored. To a prompt the reference gives its own answer, and the tokens of that are scored."""


@dataclass(frozen=True)
class ReferenceText:
    """One text that the reference read.

    predictions: of tokens[first_scored:], one after the other.
    """

    tokens: tuple[int, ...]
    first_scored: int
    predictions: Predictions


@dataclass(frozen=True)
class Reference:
    """What the reference says. The texts are those that the budget of bytes held, in the order given.

    source: what it is, in words for a report. reader: what made the token ids.
    conversation_tokens: the prompt's ids of each conversation.
    texts_skipped: longer than the model's context, or past the budget.
    """

    source: str
    reader: str
    path: Path
    conversation_tokens: tuple[tuple[int, ...], ...]
    texts_used: int
    texts_skipped: int
    peak_memory_bytes: int
    wall_s: float

    def texts(self) -> Iterator[ReferenceText]:
        """The texts, one in memory at a time."""
        return read_texts(self.path)


class ReferenceModel(Protocol):
    """A tokenizer with its template, and a model in FP32; the model may be loaded when it is first asked."""

    @property
    def context_tokens(self) -> int:
        """Tokens that the model was made for."""
        ...

    def ids(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> list[int]:
        """The ids of a conversation in the chat template. Raises TemplateInvalid."""
        ...

    def answer_ids(self, answer: str) -> list[int]:
        """The ids of an answer's text, no special tokens added."""
        ...

    def own_answer(self, prompt: Sequence[int], sampling: Sampling) -> list[int]:
        """The ids of the model's answer to a prompt, with the one that ends it."""
        ...

    def logits(self, tokens: Sequence[int], first_scored: int) -> npt.NDArray[np.float32]:
        """float32 [len(tokens) - first_scored, vocab_size]; what predicts tokens[first_scored:]."""
        ...


# --- the parent's side -----------------------------------------------------------------------------------------------


def run_child(
    module: str,
    names: tuple[str, str],
    job: Mapping[str, Any],
    conversations: Sequence[Sequence[Message]],
    texts: Sequence[Text],
    out: Path,
    progress: Progress,
) -> Reference:
    """Runs `module` on conversations (prompt ids only) and texts (predictions, written to `out`).

    names: the reference's source and reader. job: what the module needs beyond this, with "checkpoint" in it.
    Raises MemoryShort, ToolFailed, and the errors of ours that the module ends with.
    """
    asked = {
        "conversations": [[dict(message) for message in messages] for messages in conversations],
        "texts": [_order(text) for text in texts],
        "out": str(out.absolute()),
        "budget_bytes": PREDICTIONS_BUDGET_BYTES,
    }
    try:
        result = child.run(module, {**job, **asked}, progress=progress)
    except child.Died as death:
        raise death.as_error(ToolFailed, "the reference run", where=str(job["checkpoint"])) from death
    if not out.is_file():
        raise ToolFailed("the reference run left no predictions", where=str(out))
    return Reference(
        *names,
        path=out,
        conversation_tokens=tuple(tuple(ids) for ids in result["conversation_tokens"]),
        texts_used=result["texts_used"],
        texts_skipped=len(texts) - result["texts_used"],
        peak_memory_bytes=result["peak_memory_bytes"],
        wall_s=result["wall_s"],
    )


def _order(text: Text) -> dict[str, Any]:
    if isinstance(text, Prompt):
        return {"prompt": list(text.tokens)}
    if isinstance(text, PlainText):
        return {"tokens": list(text.tokens)}
    return {"messages": [dict(message) for message in text.messages], "answer": text.answer}


def read_texts(path: Path) -> Iterator[ReferenceText]:
    """The texts of a reference file, one in memory at a time. Raises ToolFailed where it cannot be read."""
    import numpy as np

    from edgeship.measure.agreement.predictions import Predictions

    try:
        with np.load(path, allow_pickle=False) as arrays:
            for index in range(sum(name.startswith("tokens_") for name in arrays.files)):
                found = {name: arrays[f"{name}_{index}"] for name in _ARRAYS}
                parts = found["likeliest"], found["log_probs"], found["tail"], found["next_log_probs"]
                predictions = Predictions(*parts, vocab_size=int(found["vocab_size"]))
                yield ReferenceText(tuple(found["tokens"].tolist()), int(found["first_scored"]), predictions)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ToolFailed(f"the reference's predictions cannot be read: {error}", where=str(path)) from error


# --- the child's side ------------------------------------------------------------------------------------------------


def do_job(model: ReferenceModel, job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The work itself, in this process; what `run_child` returns, as JSON values."""
    start = time.perf_counter()
    conversations = [model.ids(messages, add_generation_prompt=True) for messages in job["conversations"]]
    used = _write_predictions(Path(job["out"]), model, job["texts"], job["budget_bytes"], progress)
    return {
        "conversation_tokens": conversations,
        "texts_used": used,
        "peak_memory_bytes": memory.peak_memory_bytes(),
        "wall_s": time.perf_counter() - start,
    }


def text_ids(
    model: ReferenceModel,
    text: Mapping[str, Any],
) -> tuple[list[int], int]:
    """All ids of a text and the index of the first that is scored.

    After an answer that is given comes the token that the template ends a turn with, where it continues prompt and
    answer. The model's own is empty where the context has no room for one.
    """
    if "tokens" in text:
        return text["tokens"], 1
    if "prompt" in text:
        prompt = text["prompt"]
        return prompt + _own_answer(model, prompt), len(prompt)
    messages, answer = text["messages"], text["answer"]
    prompt = model.ids(messages, add_generation_prompt=True)
    tokens = prompt + model.answer_ids(answer)
    turn = {"role": "assistant", "content": answer}
    whole = model.ids([*messages, turn], add_generation_prompt=False)
    ends = whole[: len(tokens)] == tokens
    return tokens + whole[len(tokens) : len(tokens) + 1] * ends, len(prompt)


def _own_answer(model: ReferenceModel, prompt: Sequence[int]) -> list[int]:
    room = min(ANSWER_TOKENS, model.context_tokens - len(prompt))
    return until_repeated(model.own_answer(prompt, replace(OWN_WORDS, max_tokens=room))) if room > 0 else []


def until_repeated(answer: Sequence[int]) -> list[int]:
    """An answer up to where it says REPEATED_TOKENS once more: all agree on what they repeat."""
    said: set[tuple[int, ...]] = set()
    for end in range(REPEATED_TOKENS, len(answer) + 1):
        last = tuple(answer[end - REPEATED_TOKENS : end])
        if last in said:
            return list(answer[: end - REPEATED_TOKENS])
        said.add(last)
    return list(answer)


def _write_predictions(
    out: Path, model: ReferenceModel, texts: Sequence[Mapping[str, Any]], budget_bytes: int, progress: Progress
) -> int:
    """Writes an .npz array by array, so that memory holds one text's; returns the number of texts."""
    import numpy as np

    from edgeship.measure.agreement.predictions import keep

    used, left = 0, budget_bytes
    with new_file(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for done, text in enumerate(texts):
            progress(f"{done} of {len(texts)} texts", done / len(texts))
            tokens, first_scored = text_ids(model, text)
            if not first_scored < len(tokens) <= model.context_tokens:
                continue
            kept = keep(model.logits(tokens, first_scored), np.array(tokens[first_scored:]), seed=used)
            left -= kept.nbytes
            if left < 0:
                break
            parts = (tokens, first_scored, kept.tokens, kept.log_probs, kept.tail, kept.next_log_probs, kept.vocab_size)
            for name, values in zip(_ARRAYS, parts, strict=True):
                with archive.open(f"{name}_{used}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.asarray(values), allow_pickle=False)
            used += 1
    return used
