"""The checkpoint as its authors run it (transformers, FP32): the yardstick for everything that is built from it.

It runs in a child process, so that its memory is returned and its libraries stay out of ours. Logits go to an .npz.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship import child
from edgeship.engine.api import Message
from edgeship.errors import (
    AdapterInvalid,
    CheckpointInvalid,
    DependencyMissing,
    EdgeshipError,
    MemoryShort,
    TemplateInvalid,
    ToolFailed,
)
from edgeship.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LOGITS_BUDGET_BYTES = 400_000_000
_LIBRARIES_BYTES = 600_000_000


@dataclass(frozen=True)
class ScoredText:
    """A conversation, and the answer whose tokens are scored; without an answer the conversation's own are."""

    messages: Sequence[Message]
    answer: str | None = None


@dataclass(frozen=True)
class ReferenceText:
    """One text that the original read.

    logits: float32 [len(tokens) - first_scored, vocab_size]; row i is what predicts tokens[first_scored + i].
    """

    tokens: tuple[int, ...]
    first_scored: int
    logits: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """What the original says. The texts are those that the logits' budget held, in the order given; read them lazily.

    conversation_tokens: the prompt's ids of each conversation.
    texts_skipped: longer than the model's context, or past the budget.
    """

    path: Path
    conversation_tokens: tuple[tuple[int, ...], ...]
    texts_used: int
    texts_skipped: int
    peak_memory_bytes: int
    wall_s: float

    def texts(self) -> Iterator[ReferenceText]:
        """The texts, one in memory at a time."""
        return read_texts(self.path)


def predicted_memory_bytes(parameters: int) -> int:
    """Memory that the original needs: weights in FP32, those in the file as they are read, and the libraries.

    Measured on 236 million bf16 parameters: 1.78 GB, of which this predicts 2.02.
    """
    return parameters * (4 + 2) + _LIBRARIES_BYTES


def reference(
    checkpoint: Path,
    adapter: Path | None,
    conversations: Sequence[Sequence[Message]],
    texts: Sequence[ScoredText],
    out: Path,
    *,
    chat_template: str | None = None,
    allow_pickle: bool = False,
    threads: int | None = None,
    progress: Progress = silent,
) -> Reference:
    """Runs the original on conversations (prompt ids only) and texts (logits, written to `out`).

    chat_template: in the place of the checkpoint's own.
    Raises DependencyMissing, TemplateInvalid, CheckpointInvalid, MemoryShort, ToolFailed.
    """
    job = {
        "checkpoint": str(checkpoint.absolute()),
        "adapter": str(adapter.absolute()) if adapter else None,
        "conversations": [[dict(message) for message in messages] for messages in conversations],
        "texts": [{"messages": [dict(message) for message in text.messages], "answer": text.answer} for text in texts],
        "out": str(out.absolute()),
        "chat_template": chat_template,
        "allow_pickle": allow_pickle,
        "threads": threads,
        "budget_bytes": LOGITS_BUDGET_BYTES,
    }
    try:
        result = child.run("edgeship.original", job, progress=progress)
    except child.Died as death:
        raise _death(death, str(checkpoint)) from death
    if not out.is_file():
        raise ToolFailed("the reference run left no logits", where=str(out))
    return Reference(
        path=out,
        conversation_tokens=tuple(tuple(ids) for ids in result["conversation_tokens"]),
        texts_used=result["texts_used"],
        texts_skipped=len(texts) - result["texts_used"],
        peak_memory_bytes=result["peak_memory_bytes"],
        wall_s=result["wall_s"],
    )


def read_texts(path: Path) -> Iterator[ReferenceText]:
    """The texts of a reference file, one in memory at a time. Raises ToolFailed where it cannot be read."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            for index in range(sum(name.startswith("logits_") for name in arrays.files)):
                yield ReferenceText(
                    tuple(arrays[f"tokens_{index}"].tolist()),
                    int(arrays[f"first_scored_{index}"]),
                    arrays[f"logits_{index}"],
                )
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ToolFailed(f"the reference logits cannot be read: {error}", where=str(path)) from error


def _death(death: child.Died, checkpoint: str) -> EdgeshipError:
    if death.killed:
        return MemoryShort(
            "the reference run was killed, most likely for lack of memory",
            where=checkpoint,
            hint="Close other programs, or use a machine with more memory.",
        )
    return ToolFailed(f"the reference run {death.how}: {death.last}", where=checkpoint)


# --- the child's side ------------------------------------------------------------------------------------------------


def run_job(job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """The work itself, in this process; what `reference` returns, as JSON values."""
    start = time.perf_counter()
    progress("loading the original", 0.0)
    original = _Original(job)
    conversations = [original.prompt_ids(messages) for messages in job["conversations"]]
    used = _write_logits(Path(job["out"]), original, job["texts"], job["budget_bytes"], progress)
    return {
        "conversation_tokens": conversations,
        "texts_used": used,
        "peak_memory_bytes": child.peak_memory_bytes(),
        "wall_s": time.perf_counter() - start,
    }


class _Original:
    """The checkpoint in transformers; the model is loaded when it is first asked."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._folder: str = job["checkpoint"]
        self._adapter: str | None = job["adapter"]
        self._template: str | None = job["chat_template"]
        self._allow_pickle: bool = job["allow_pickle"]
        self._threads: int | None = job["threads"]
        transformers = _library("transformers")
        with _failing(CheckpointInvalid, "transformers cannot load the tokenizer", self._folder):
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=False
            )

    def prompt_ids(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """The ids of a conversation that waits for an answer."""
        return self._rendered(messages, add_generation_prompt=True)

    def text_ids(self, messages: list[dict[str, str]], answer: str | None) -> tuple[list[int], int]:
        """All ids of a text and the index of the first that is scored.

        After an answer comes the token that the template ends a turn with, where it continues prompt and answer.
        """
        prompt = self.prompt_ids(messages)
        if answer is None:
            return prompt, 1
        tokens = prompt + list(self._tokenizer.encode(answer, add_special_tokens=False))
        turn = {"role": "assistant", "content": answer}
        whole = self._rendered([*messages, turn], add_generation_prompt=False)
        ends = whole[: len(tokens)] == tokens
        return tokens + whole[len(tokens) : len(tokens) + 1] * ends, len(prompt)

    @functools.cached_property
    def context_tokens(self) -> int:
        """Tokens that the model was made for."""
        text_config = self._model.config.get_text_config()
        return int(getattr(text_config, "max_position_embeddings", None) or sys.maxsize)

    def logits(self, tokens: list[int], first_scored: int) -> npt.NDArray[np.float32]:
        """float32 [len(tokens) - first_scored, vocab_size]; what predicts tokens[first_scored:]."""
        torch = _library("torch")
        rows = len(tokens) - first_scored + 1
        with torch.inference_mode():
            # Where the model can leave out the other rows it does, which saves much memory.
            found = self._model(torch.tensor([tokens]), use_cache=False, **self._keeping(rows)).logits[0]
        kept: npt.NDArray[np.float32] = found[-rows:-1].float().numpy()
        return kept

    @functools.cached_property
    def _model(self) -> Any:
        torch, transformers = _library("torch"), _library("transformers")
        if self._threads:
            torch.set_num_threads(self._threads)
        with _failing(ToolFailed, "transformers cannot load the model", self._folder):
            model, facts = transformers.AutoModelForCausalLM.from_pretrained(
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
                f"the weights lack {sorted(facts['missing_keys'])[0]}", where=self._folder, hint="Copy them again."
            )
        if self._adapter:
            peft = _library("peft")
            with _failing(AdapterInvalid, "peft cannot load the adapter", self._adapter):
                model = peft.PeftModel.from_pretrained(model, self._adapter, local_files_only=True)
        return model.eval()

    def _keeping(self, rows: int) -> dict[str, int]:
        plain = self._model.get_base_model() if self._adapter else self._model
        return {"logits_to_keep": rows} if "logits_to_keep" in inspect.signature(plain.forward).parameters else {}

    def _rendered(self, messages: Sequence[dict[str, str]], *, add_generation_prompt: bool) -> list[int]:
        with _failing(TemplateInvalid, "the chat template does not render", self._folder):
            found = self._tokenizer.apply_chat_template(
                list(messages),
                chat_template=self._template,
                add_generation_prompt=add_generation_prompt,
                tokenize=True,
                return_dict=True,
            )
        return [int(token) for token in found["input_ids"]]


def _write_logits(
    out: Path, original: _Original, texts: Sequence[dict[str, Any]], budget_bytes: int, progress: Progress
) -> int:
    """Writes an .npz array by array, so that memory holds one text's logits; returns the number of texts."""
    import numpy as np

    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    used, left = 0, budget_bytes
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for done, text in enumerate(texts):
                progress(f"original, {done} of {len(texts)} texts", done / len(texts))
                tokens, first_scored = original.text_ids(text["messages"], text["answer"])
                if not first_scored < len(tokens) <= original.context_tokens:
                    continue
                logits = original.logits(tokens, first_scored)
                left -= logits.nbytes
                if left < 0:
                    break
                for name, values in (("tokens", tokens), ("first_scored", first_scored), ("logits", logits)):
                    with archive.open(f"{name}_{used}.npy", "w", force_zip64=True) as stream:
                        np.lib.format.write_array(stream, np.asarray(values), allow_pickle=False)
                used += 1
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return used


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyMissing(
            f"the original needs {name}, which cannot be imported: {error}", hint="pip install 'edgeship[build]'"
        ) from error


@contextmanager
def _failing(kind: type[EdgeshipError], what: str, where: str) -> Iterator[None]:
    try:
        yield
    except EdgeshipError:
        raise
    except Exception as error:  # these libraries raise anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise kind(f"{what}: {lines[0]}", where=where) from error


if __name__ == "__main__":
    child.serve(run_job)
