"""The checkpoint as its authors run it (transformers, FP32): a reference for everything that is built from it.

It runs in a child process, so that its memory is returned and its libraries stay out of ours.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.engine.api import Message, Sampling
from edgeship.engine.sampling import Sampler
from edgeship.errors import (
    AdapterInvalid,
    CheckpointInvalid,
    DependencyMissing,
    EdgeshipError,
    TemplateInvalid,
    ToolFailed,
)
from edgeship.measure.agreement.reference import Reference, Text, do_job, run_child
from edgeship.progress import Progress, silent
from edgeship.system import worker
from edgeship.system.shell import our_install

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SOURCE = "the checkpoint in transformers"
_LIBRARIES_BYTES = 600_000_000


def is_installed(*, adapter: bool = False) -> bool:
    """Whether all that it needs can be imported; imports none of it."""
    needed = ("transformers", "torch", "peft") if adapter else ("transformers", "torch")
    return all(_is_found(name) for name in needed)


def _is_found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def predicted_memory_bytes(parameters: int) -> int:
    """Memory that the original needs: weights in FP32, those in the file as they are read, and the libraries.

    Measured on 236 million bf16 parameters: 1.78 GB, of which this predicts 2.02.
    """
    return parameters * (4 + 2) + _LIBRARIES_BYTES


def reference(
    checkpoint: Path,
    adapter: Path | None,
    conversations: Sequence[Sequence[Message]],
    texts: Sequence[Text],
    out: Path,
    *,
    architecture: str | None = None,
    eos_ids: Sequence[int] = (),
    tokenizer: Path | None = None,
    vocab_size: int | None = None,
    chat_template: str | None = None,
    allow_pickle: bool = False,
    threads: int | None = None,
    progress: Progress = silent,
) -> Reference:
    """Runs the original on conversations (prompt ids only) and texts (predictions, written to `out`).

    architecture: the class that reads it, where a model for texts is a part of it; None for the one that transformers
    chooses.
    eos_ids: what ends the original's own answers.
    tokenizer, vocab_size: the tokenizer's folder and the embedding's rows, where an adapter brings its own.
    chat_template: in the place of the checkpoint's own.
    Raises DependencyMissing, TemplateInvalid, CheckpointInvalid, MemoryShort, ToolFailed.
    """
    job = {
        "checkpoint": str(checkpoint.absolute()),
        "adapter": str(adapter.absolute()) if adapter else None,
        "architecture": architecture,
        "eos_ids": list(eos_ids),
        "tokenizer": str((tokenizer or checkpoint).absolute()),
        "vocab_size": vocab_size,
        "chat_template": chat_template,
        "allow_pickle": allow_pickle,
        "threads": threads,
    }
    return run_child(
        "edgeship.measure.agreement.reference.of_checkpoint",
        (SOURCE, "transformers"),
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
    return do_job(_Original(job), job, progress)


class _Original:
    """The checkpoint in transformers, a ReferenceModel; the model is loaded when it is first asked."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._folder: str = job["checkpoint"]
        self._adapter: str | None = job["adapter"]
        self._architecture: str | None = job["architecture"]
        self._eos_ids: list[int] = job["eos_ids"]
        self._vocab_size: int | None = job["vocab_size"]
        self._template: str | None = job["chat_template"]
        self._allow_pickle: bool = job["allow_pickle"]
        self._threads: int | None = job["threads"]
        transformers = _library("transformers")
        with _failing(CheckpointInvalid, "transformers cannot load the tokenizer", self._folder):
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                job["tokenizer"], local_files_only=True, trust_remote_code=False
            )

    def ids(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> list[int]:
        """As apply_chat_template has them."""
        with _failing(TemplateInvalid, "the chat template does not render", self._folder):
            found = self._tokenizer.apply_chat_template(
                list(messages),
                chat_template=self._template,
                add_generation_prompt=add_generation_prompt,
                tokenize=True,
                return_dict=True,
            )
        return [int(token) for token in found["input_ids"]]

    def answer_ids(self, answer: str) -> list[int]:
        """The ids of an answer's text."""
        with _failing(CheckpointInvalid, "transformers cannot use the tokenizer", self._folder):
            return list(self._tokenizer.encode(answer, add_special_tokens=False))

    @functools.cached_property
    def context_tokens(self) -> int:
        """Tokens that the model was made for."""
        text_config = self._model.config.get_text_config()
        return int(getattr(text_config, "max_position_embeddings", None) or sys.maxsize)

    def own_answer(self, prompt: Sequence[int], sampling: Sampling) -> list[int]:
        """The ids of the model's answer to a prompt, with the one that ends it."""
        torch = _library("torch")
        answer: list[int] = []
        sampler, read, cache = Sampler(sampling, prompt, sys.maxsize), list(prompt), None
        with torch.inference_mode(), _failing(ToolFailed, "transformers cannot run the model", self._folder):
            while len(answer) < (sampling.max_tokens or 0) and (not answer or answer[-1] not in self._eos_ids):
                found = self._model(torch.tensor([read]), past_key_values=cache, use_cache=True, **self._keeping(1))
                answer.append(sampler.choose(found.logits[0, -1].float().numpy()))
                cache = found.past_key_values
                read = [*prompt, *answer] if cache is None else answer[-1:]
        return answer

    def logits(self, tokens: Sequence[int], first_scored: int) -> npt.NDArray[np.float32]:
        """float32 [len(tokens) - first_scored, vocab_size]; what predicts tokens[first_scored:]."""
        torch = _library("torch")
        rows = len(tokens) - first_scored + 1
        # Where the model can leave out the other rows it does, which saves much memory.
        keeping = self._keeping(rows)
        with torch.inference_mode(), _failing(ToolFailed, "transformers cannot run the model", self._folder):
            found = self._model(torch.tensor([tokens]), use_cache=False, **keeping).logits[0]
        kept: npt.NDArray[np.float32] = found[-rows:-1].float().numpy()
        return kept

    @functools.cached_property
    def _model(self) -> Any:
        torch, transformers = _library("torch"), _library("transformers")
        if self._threads:
            torch.set_num_threads(self._threads)
        with _failing(ToolFailed, "transformers cannot load the model", self._folder):
            # For a part of a model transformers chooses none, or one that takes tied weights for untied.
            named = getattr(transformers, self._architecture or "", None)
            model, facts = (named or transformers.AutoModelForCausalLM).from_pretrained(
                self._folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=None if self._allow_pickle else True,
                output_loading_info=True,
            )
        # transformers fills what is missing with random numbers and goes on.
        if facts["missing_keys"]:
            raise CheckpointInvalid(
                f"the weights lack {sorted(facts['missing_keys'])[0]}, as transformers reads them",
                where=self._folder,
                hint="Copy them again, or take the FP32 build for the reference: --reference fp32.",
            )
        if self._adapter:
            peft = _library("peft")
            with _failing(AdapterInvalid, "peft cannot load the adapter", self._adapter):
                if self._vocab_size not in (None, model.get_input_embeddings().num_embeddings):
                    model.resize_token_embeddings(self._vocab_size, mean_resizing=False)
                model = peft.PeftModel.from_pretrained(model, self._adapter, local_files_only=True)
        return model.eval()

    def _keeping(self, rows: int) -> dict[str, int]:
        plain = self._model.get_base_model() if self._adapter else self._model
        return {"logits_to_keep": rows} if "logits_to_keep" in inspect.signature(plain.forward).parameters else {}


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyMissing(
            f"the original needs {name}, which cannot be imported: {error}",
            hint=f"Take the FP32 build for it with --reference fp32, or run: {our_install('original')}",
        ) from error


@contextmanager
def _failing(kind: type[EdgeshipError], what: str, where: str) -> Iterator[None]:
    try:
        yield
    except (EdgeshipError, MemoryError):
        raise
    except Exception as error:  # these libraries raise anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise kind(f"{what}: {lines[0]}", where=where) from error


if __name__ == "__main__":
    worker.serve(run_job)
