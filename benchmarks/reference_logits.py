"""What a checkpoint predicts, kept in the form that llama.cpp's perplexity tool reads, and others held against it.

A window is CONTEXT token ids; as in llama.cpp's tool, the predictions of its second half are scored. One file serves
llama.cpp and everything else, so that all are compared with the same numbers. A position takes 16 bits a token there:
262,144 tokens over 40 windows are 5 GB, which pass through memory a few positions at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeship.measure.agreement.fidelity import LIKELIEST, Scores, joined
from edgeship.system.storage import new_file

CONTEXT = 512
FIRST_SCORED = CONTEXT // 2
SCORED = range(FIRST_SCORED, CONTEXT - 1)
"""Positions; the last token of a window predicts nothing that is there."""
_CUT_NATS = 16  # what lies further under the likeliest token is not told apart, and by llama.cpp not counted
_CHUNK_VALUES = 2**22

Tokens = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Steps = npt.NDArray[np.uint16]


class Reference:
    """The file as it lies on disk."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            if stream.read(8) != b"_logits_":
                raise ValueError(f"{path} holds no log-probabilities of llama.cpp's")
            context, self.vocabulary, count = (int(number) for number in np.fromfile(stream, np.int32, 3))
            self.tokens: Tokens = np.fromfile(stream, np.int32, count * context).reshape(count, context)
            shape = (count, len(SCORED), _row_length(self.vocabulary))
            self._rows: Steps = np.memmap(path, np.uint16, "r", stream.tell(), shape)

    def score(self, window: int, logits: Floats) -> Scores:
        """A candidate's logits of a window's scored positions, float32 [positions, vocabulary], by llama.cpp's rule."""
        following = self.tokens[window, FIRST_SCORED + 1 :]
        step = max(1, _CHUNK_VALUES // self.vocabulary)
        parts = [slice(at, at + step) for at in range(0, len(SCORED), step)]
        return joined([self._score(self._rows[window, part], logits[part], following[part]) for part in parts])

    def _score(self, rows: Steps, logits: Floats, following: Tokens) -> Scores:
        scale, least = rows[:, :4].copy().view(np.float32).T
        expected = rows[:, 4 : 4 + self.vocabulary] * scale[:, None] + least[:, None]
        found = logits - _log_sum(logits)[:, None]
        weights = np.where(expected > -_CUT_NATS, np.exp(expected), 0)
        each = np.arange(len(rows)), following
        likeliest = [np.argpartition(values, -LIKELIEST, axis=1)[:, -LIKELIEST:] for values in (expected, logits)]
        return Scores(
            shared=(likeliest[0][:, :, None] == likeliest[1][:, None, :]).any(axis=2).mean(axis=1),
            kld_nats=(weights * (expected - found)).sum(axis=1, dtype=np.float64),
            agrees=expected.argmax(axis=1) == logits.argmax(axis=1),
            reference_nll_nats=-expected[each].astype(np.float64),
            candidate_nll_nats=-found[each].astype(np.float64),
        )


def windows(tokenizer_file: Path, text: str, count: int) -> Tokens:
    """int32 [count, CONTEXT]: the text from its beginning, with what the tokenizer puts before a text in each."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    before = tokenizer.encode("").ids
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    length = CONTEXT - len(before)
    if len(ids) < count * length:
        raise ValueError(f"the text has {len(ids)} tokens, and {count} windows take {count * length}")
    return np.array([before + ids[at * length : (at + 1) * length] for at in range(count)], np.int32)


def write(path: Path, tokens: Tokens, logits: Iterable[Floats]) -> None:
    """The file for windows. logits: of each one's scored positions, float32 [positions, vocabulary]."""
    count, context = tokens.shape
    with new_file(path) as temporary, temporary.open("wb") as stream:
        for at, window in enumerate(logits):
            vocabulary = window.shape[1]
            if at == 0:
                head = np.array([context, vocabulary, count], np.int32)
                stream.write(b"_logits_" + head.tobytes() + tokens.tobytes())
            step = max(1, _CHUNK_VALUES // vocabulary)
            for row in range(0, len(window), step):
                stream.write(_encoded(window[row : row + step]).tobytes())


def of_checkpoint(checkpoint: Path, tokens: Tokens) -> Iterator[Floats]:
    """Logits of each window's scored positions, computed by transformers in float32."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, local_files_only=True)
    with torch.inference_mode():
        for window in tokens.astype(np.int64):
            yield model(torch.from_numpy(window[None]), logits_to_keep=torch.tensor(SCORED)).logits[0].numpy()


def _encoded(logits: Floats) -> Steps:
    """A position is scale and least log-probability, both float32, then steps above that; an even number of values."""
    top = logits.max(axis=1, keepdims=True)
    least = np.maximum(logits.min(axis=1, keepdims=True), top - _CUT_NATS)
    scale = (top - least) / np.float32(65535)
    steps = np.rint((np.maximum(logits, least) - least) / np.where(scale, scale, 1)).clip(0, 65535)
    out = np.zeros((len(logits), _row_length(logits.shape[1])), np.uint16)
    out[:, :4] = np.hstack([scale, least - _log_sum(logits)[:, None]]).view(np.uint16)
    out[:, 4 : 4 + logits.shape[1]] = steps
    return out


def _log_sum(logits: Floats) -> Floats:
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1, dtype=np.float64)), np.float32)


def _row_length(vocabulary: int) -> int:
    return 4 + vocabulary + vocabulary % 2
