"""The FP32 build in the place of the original, where PyTorch is not installed: a reference made by onnxruntime-genai.

Token ids come from the checkpoint's own tokenizer.json and chat template, not from the package's copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.checkpoint.dimensions import DAMAGED
from edgeship.engine import opening
from edgeship.engine.answer import collect
from edgeship.engine.api import Limits, Message, Prompt, Sampling
from edgeship.measure.agreement.reference import Reference, Text, do_job, run_child
from edgeship.package import template, tokenizer
from edgeship.progress import Progress, silent
from edgeship.system import worker

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SOURCE = "its FP32 build"


def reference(
    package: Path,
    tokenizer: Path,
    conversations: Sequence[Sequence[Message]],
    texts: Sequence[Text],
    out: Path,
    *,
    chat_template: str,
    special_tokens: Mapping[str, str],
    source: str = SOURCE,
    threads: int | None = None,
    progress: Progress = silent,
) -> Reference:
    """Runs a package, the FP32 one or another, on conversations (prompt ids) and texts (predictions, written to `out`).

    tokenizer: the folder of the checkpoint's tokenizer.json; chat_template, special_tokens: as it states them.
    source: what the package is, in words.
    Raises TemplateInvalid, EngineFailed, MemoryShort, ToolFailed.
    """
    job = {
        "package": str(package.absolute()),
        "checkpoint": str(tokenizer.absolute()),
        "chat_template": chat_template,
        "special_tokens": dict(special_tokens),
        "threads": threads,
    }
    return run_child(
        "edgeship.measure.agreement.reference.of_build",
        (source, "tokenizer.json"),
        job,
        conversations,
        texts,
        out,
        progress,
    )


# --- the child's side ------------------------------------------------------------------------------------------------


def run_job(job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """The work itself, in this process."""
    progress("loading", 0.0)
    model = _BuiltModel(job)
    try:
        return do_job(model, job, progress)
    finally:
        model.close()


class _BuiltModel:
    """The checkpoint's tokenizer and the FP32 package, a ReferenceModel."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._template: str = job["chat_template"]
        self._special_tokens: dict[str, str] = job["special_tokens"]
        self._tokenizer = tokenizer.load(Path(job["checkpoint"]) / tokenizer.FILE_NAME, DAMAGED)
        # One answer at a time, a token a step: what is computed side by side is rounded otherwise.
        self._engine = opening.load(
            Path(job["package"]), threads=job["threads"], limits=Limits(slots=1), speculation=False
        )

    @property
    def context_tokens(self) -> int:
        """Tokens that the model was made for."""
        return self._engine.context_tokens

    def ids(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> list[int]:
        """As the template renders them; it writes the special tokens itself."""
        text = template.render(
            self._template,
            messages,
            special_tokens=self._special_tokens,
            add_generation_prompt=add_generation_prompt,
        )
        return self.answer_ids(text)

    def answer_ids(self, answer: str) -> list[int]:
        """The ids of a text, no special tokens added."""
        return self._tokenizer.encode(answer, special=False)

    def own_answer(self, prompt: Sequence[int], sampling: Sampling) -> list[int]:
        """The ids of the model's answer to a prompt, with the one that ends it."""
        return list(collect(self._engine.stream(Prompt(tuple(prompt)), sampling)).tokens)

    def logits(self, tokens: Sequence[int], first_scored: int) -> npt.NDArray[np.float32]:
        """float32 [len(tokens) - first_scored, vocab_size]; what predicts tokens[first_scored:]."""
        return self._engine.score(tokens[:-1], first_scored - 1)

    def close(self) -> None:
        """Frees the model."""
        self._engine.close()


if __name__ == "__main__":
    worker.serve(run_job)
