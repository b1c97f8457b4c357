"""A package of random weights whose layers keep different things: states, keys and values, a convolution's past.

Its layers are those of hybrid models: gated delta rule with a short convolution, attention, a short convolution alone.
The last attention has larger heads than the one before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.checkpoints import VOCAB, make_tokenizer, write_json

Floats = npt.NDArray[np.float32]

ALIKE = ("linear_attention", "full_attention", "linear_attention", "full_attention")
"""What onnxruntime-genai can run: states, keys and values have the same shapes in all layers that keep them."""
LAYERS = ("linear_attention", "full_attention", "conv", "linear_attention", "full_attention")
CONTEXT_TOKENS = 160
WIDTH, HEADS, KV_HEADS, HEAD_SIZE = 32, 2, 1, 16
KEY_HEADS, VALUE_HEADS, KEY_SIZE, VALUE_SIZE, KERNEL = 2, 2, 8, 4, 4
CHANNELS = 2 * KEY_HEADS * KEY_SIZE + VALUE_HEADS * VALUE_SIZE
STATE_FLOATS = 2 * (CHANNELS * (KERNEL - 1) + VALUE_HEADS * KEY_SIZE * VALUE_SIZE) + WIDTH * (KERNEL - 1)
TOKEN_FLOATS = 2 * KV_HEADS * (HEAD_SIZE + 2 * HEAD_SIZE)


def make_hybrid(folder: Path, layers: tuple[str, ...] = LAYERS) -> Path:
    """The package in `folder`."""
    import onnx

    folder.mkdir(parents=True, exist_ok=True)
    make_tokenizer(folder)
    onnx.save_model(_Author(layers).model(), folder / "model.onnx")
    decoder = {
        "filename": "model.onnx",
        "session_options": {"provider_options": []},
        "num_hidden_layers": len(layers),
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_size": HEAD_SIZE,
        "hidden_size": WIDTH,
        "layer_types": list(layers),
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
            "past_conv_names": "past.%d.conv",
            "past_recurrent_names": "past.%d.recurrent",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
            "present_conv_names": "present.%d.conv",
            "present_recurrent_names": "present.%d.recurrent",
        },
    }
    model = {
        "type": "qwen3_5_text",
        "context_length": CONTEXT_TOKENS,
        "vocab_size": VOCAB,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "decoder": decoder,
    }
    write_json(folder / "genai_config.json", {"model": model, "search": {"do_sample": False}})
    return folder


class Plain:
    """The package's own graph, each text read whole from its first token: what every other way must agree with."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self._past = {
            value.name: np.zeros(_first_sizes(value.shape), np.float32)
            for value in self._session.get_inputs()
            if value.name.startswith("past")
        }

    def logits(self, tokens: list[int]) -> Floats:
        """[vocabulary] after the last token."""
        ids = np.array([tokens], np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), **self._past}
        [logits] = self._session.run(["logits"], feeds)
        last: Floats = logits[0, -1]
        return last

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        """The `count` likeliest tokens after a prompt."""
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(self.logits(tokens).argmax()))
        return tokens[len(prompt) :]


def _first_sizes(shape: list[Any]) -> list[int]:
    """Before the first token: a batch of 1, and no tokens where their number is open."""
    return [size if isinstance(size, int) else int(place == 0) for place, size in enumerate(shape)]


class _Author:
    """Collects the nodes of the graph. Every method gives the name of the value that it made."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        self._layers = layers
        self._random = np.random.default_rng(7)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def model(self) -> Any:
        from onnx import TensorProto, helper

        self._input("input_ids", ["b", "s"], TensorProto.INT64)
        self._input("attention_mask", ["b", "t"], TensorProto.INT64)
        counted = self._op("ReduceSum", ["attention_mask", self._ints([1])], keepdims=0)
        lengths = self._op("Cast", [self._op("Sub", [counted, self._ints(1)])], to=TensorProto.INT32)
        widths = self._op("Gather", [self._op("Shape", ["attention_mask"]), self._ints(1)])
        total = self._op("Cast", [widths], to=TensorProto.INT32)
        states = self._op("Gather", [self._weight((VOCAB, WIDTH), 1.0), "input_ids"])
        for layer, kind in enumerate(self._layers):
            normed = self._norm(states)
            if kind == "linear_attention":
                mixed = self._linear_attention(normed, layer)
            elif kind == "conv":
                mixed = self._convolution(normed, layer, WIDTH)
            else:
                mixed = self._attention(normed, layer, lengths, total)
            states = self._op("Add", [states, mixed])
        self._ops("MatMul", [self._norm(states), self._weight((WIDTH, VOCAB), 0.4)], 0, also=["logits"])
        self._output("logits", ["b", "s", VOCAB])
        graph = helper.make_graph(self._nodes, "hybrid", self._inputs, self._outputs, self._weights)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def _linear_attention(self, normed: str, layer: int) -> str:
        mixed = self._convolution(self._matmul(normed, WIDTH, CHANNELS), layer, CHANNELS, activation="silu")
        widths = self._ints([KEY_HEADS * KEY_SIZE, KEY_HEADS * KEY_SIZE, VALUE_HEADS * VALUE_SIZE])
        query, key, value = self._ops("Split", [mixed, widths], 3, axis=-1)
        decay = self._op("Neg", [self._op("Softplus", [self._matmul(normed, WIDTH, VALUE_HEADS)])])
        beta = self._op("Sigmoid", [self._matmul(normed, WIDTH, VALUE_HEADS)])
        shape = ["b", VALUE_HEADS, KEY_SIZE, VALUE_SIZE]
        past, present = self._kept(f"past.{layer}.recurrent", f"present.{layer}.recurrent", shape, shape)
        [found] = self._ops(
            "LinearAttention",
            [query, self._unit(key), value, past, decay, beta],
            1,
            also=[present],
            domain="com.microsoft",
            update_rule="gated_delta",
            q_num_heads=KEY_HEADS,
            kv_num_heads=VALUE_HEADS,
        )
        return self._matmul(found, VALUE_HEADS * VALUE_SIZE, WIDTH)

    def _convolution(self, values: str, layer: int, channels: int, activation: str = "none") -> str:
        shape = ["b", channels, KERNEL - 1]
        past, present = self._kept(f"past.{layer}.conv", f"present.{layer}.conv", shape, shape)
        turned = self._op("Transpose", [values], perm=[0, 2, 1])
        [found] = self._ops(
            "CausalConvWithState",
            [turned, self._weight((channels, 1, KERNEL), 0.6), self._weight((channels,), 0.1), past],
            1,
            also=[present],
            domain="com.microsoft",
            activation=activation,
        )
        return self._op("Transpose", [found], perm=[0, 2, 1])

    def _attention(self, normed: str, layer: int, lengths: str, total: str) -> str:
        larger = self._layers == LAYERS and layer > LAYERS.index("full_attention")
        size = 2 * HEAD_SIZE if larger else HEAD_SIZE
        parts = [self._matmul(normed, WIDTH, heads * size) for heads in (HEADS, KV_HEADS, KV_HEADS)]
        kept = [
            self._kept(
                f"past_key_values.{layer}.{kind}",
                f"present.{layer}.{kind}",
                ["b", KV_HEADS, "p", size],
                ["b", KV_HEADS, "t", size],
            )
            for kind in ("key", "value")
        ]
        angles = np.arange(CONTEXT_TOKENS)[:, None] / 100.0 ** (2 * np.arange(size // 2) / size)
        tables = [self._constant(table(angles).astype(np.float32)) for table in (np.cos, np.sin)]
        [found] = self._ops(
            "GroupQueryAttention",
            [*parts, *(past for past, _ in kept), lengths, total, *tables],
            1,
            also=[present for _, present in kept],
            domain="com.microsoft",
            num_heads=HEADS,
            kv_num_heads=KV_HEADS,
            do_rotary=1,
        )
        return self._matmul(found, HEADS * size, WIDTH)

    def _unit(self, key: str) -> str:
        """Keys of length 1, as the delta rule wants them."""
        heads = self._op("Reshape", [key, self._ints([0, 0, -1, KEY_SIZE])])
        return self._op("Reshape", [self._op("LpNormalization", [heads], axis=-1, p=2), self._ints([0, 0, -1])])

    def _norm(self, values: str) -> str:
        scale = self._constant(np.ones(WIDTH, np.float32))
        return self._op("SimplifiedLayerNormalization", [values, scale], axis=-1, epsilon=1e-6, stash_type=1)

    def _matmul(self, values: str, rows: int, columns: int) -> str:
        return self._op("MatMul", [values, self._weight((rows, columns), 1.2 / rows**0.5)])

    def _weight(self, shape: tuple[int, ...], scale: float) -> str:
        return self._constant((scale * self._random.normal(size=shape)).astype(np.float32))

    def _ints(self, values: Any) -> str:
        return self._constant(np.array(values, np.int64))

    def _constant(self, values: Any) -> str:
        from onnx import numpy_helper

        name = f"constant.{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def _kept(self, past: str, present: str, before: list[Any], after: list[Any]) -> tuple[str, str]:
        self._input(past, before)
        self._output(present, after)
        return past, present

    def _input(self, name: str, shape: list[Any], kind: int = 1) -> None:
        from onnx import helper

        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))

    def _output(self, name: str, shape: list[Any]) -> None:
        from onnx import helper

        self._outputs.append(helper.make_tensor_value_info(name, 1, shape))

    def _op(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        return self._ops(kind, inputs, 1, **attributes)[0]

    def _ops(self, kind: str, inputs: list[str], count: int, also: Sequence[str] = (), **attributes: Any) -> list[str]:
        """`count` values. also: outputs after them that have their names already."""
        from onnx import helper

        names = [*(f"value.{len(self._nodes)}.{place}" for place in range(count)), *also]
        self._nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[:count]
