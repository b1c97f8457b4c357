"""A built folder run by hand: in ONNX Runtime alone, step by step, and in onnxruntime-genai."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """What one run gives.

    logits: [b, vocabulary] of the last position. past: by input name, keys and values [b, kv heads, tokens, head size],
    or what else a layer keeps of a sequence [b, ...].
    """

    logits: Floats
    past: dict[str, Floats]


class OnnxDecoder:
    """model.onnx in ONNX Runtime; keys, values and states go around through our hands."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a model that small is slower in two threads
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self._inputs = {value.name: value.shape for value in self._session.get_inputs()}
        self._config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]["decoder"]
        self._names = dict(_names(self._config, set(self._inputs)))

    def run(self, tokens: Integers, past: dict[str, Floats] | None = None, mask: Integers | None = None) -> Step:
        """`tokens` [b, s] after `past`. mask: [b, s with what is before], ones where it is left out."""
        past = self._empty(len(tokens)) if past is None else past
        before = next(values for name, values in past.items() if is_by_token(name)).shape[2]
        if mask is None:
            mask = np.ones((len(tokens), before + tokens.shape[1]), np.int64)
        feeds: dict[str, Any] = {"input_ids": tokens, "attention_mask": mask, **past}
        if "position_ids" in self._inputs:
            feeds["position_ids"] = np.maximum(mask.cumsum(1) - 1, 0)[:, before:]
        names = [value.name for value in self._session.get_outputs()]
        found = dict(zip(names, self._session.run(names, feeds), strict=True))
        return Step(found["logits"][:, -1], self._renamed(found))

    def logits(self, tokens: Integers) -> Floats:
        """[vocabulary] after `tokens` [s]."""
        last: Floats = self.run(tokens[None]).logits[0]
        return last

    def greedy(self, tokens: Integers, count: int) -> tuple[int, ...]:
        """The `count` likeliest tokens after `tokens` [s], each from the keys and values of those before."""
        step = self.run(tokens[None])
        found = [int(step.logits[0].argmax())]
        while len(found) < count:
            step = self.run(np.array([found[-1:]], np.int64), step.past)
            found.append(int(step.logits[0].argmax()))
        return tuple(found)

    def _empty(self, rows: int) -> dict[str, Floats]:
        """Nothing of a token, and states of zeros."""
        found = {}
        for name in self._names:
            shape = self._inputs[name][1:]
            if is_by_token(name):
                stated = (self._config["num_key_value_heads"], 0, self._config["head_size"])
                shape = [size if isinstance(size, int) else other for size, other in zip(shape, stated, strict=True)]
                shape[1] = 0
            found[name] = np.zeros((rows, *shape), np.float32)
        return found

    def _renamed(self, found: dict[str, Floats]) -> dict[str, Floats]:
        return {past: found[present] for past, present in self._names.items()}


def is_by_token(name: str) -> bool:
    """Whether an input holds something of each token before, and not a state."""
    return name.startswith("past_key_values.")


def _names(config: dict[str, Any], there: set[str]) -> Iterator[tuple[str, str]]:
    """Each past input that the graph has with the present output that becomes it."""
    for key, pattern in config["inputs"].items():
        if key.startswith("past_"):
            present = config["outputs"][key.replace("past_", "present_")]
            for layer in range(config["num_hidden_layers"]):
                if pattern % layer in there:
                    yield pattern % layer, present % layer


def genai_greedy(folder: Path, tokens: Integers, count: int) -> tuple[int, ...]:
    """The `count` likeliest tokens after `tokens` [s], as onnxruntime-genai finds them."""
    import onnxruntime_genai as og

    return tuple(genai_batch(og.Model(str(folder)), [tokens], count)[0])


def genai_batch(model: Any, prompts: Sequence[Integers], count: int) -> list[list[int]]:
    """The `count` likeliest tokens after each prompt, of equal lengths, in one batch of onnxruntime-genai."""
    import onnxruntime_genai as og

    length = len(prompts[0])
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(do_sample=False, max_length=length + count, batch_size=len(prompts))
    generator = og.Generator(model, parameters)
    generator.append_tokens(np.stack(prompts).astype(np.int32))
    for _ in range(count):
        generator.generate_next_token()
    return [[int(token) for token in generator.get_sequence(row)[length:]] for row in range(len(prompts))]
