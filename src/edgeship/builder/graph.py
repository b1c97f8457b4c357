"""A decoder as an ONNX graph, authored node by node, in the operators that ONNX Runtime has fast kernels for.

Shapes: b sequences of s new tokens each, t tokens with those before; d the model's width. The graph takes what
onnxruntime-genai gives a decoder (token ids [b, s], attention mask [b, t], keys and values of the tokens before) and
gives logits of the last position [b, 1, vocabulary] and the keys and values of all. Whatever follows the last layer's
attention is computed for the last position alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeship.builder.layout import EMBEDDING, Blob, Layout, Matrix, Placed, output_name
from edgeship.builder.quantize import Scheme

if TYPE_CHECKING:
    from edgeship.builder.architecture import Architecture, Layer, QueryGrowth
    from edgeship.builder.rope import Rope

Model = Any
"""An onnx_ir.Model."""
Value = Any
"""An onnx_ir.Value: what a node makes and others take."""
DATA_NAME = "model.onnx.data"
OPSET, MICROSOFT, MICROSOFT_OPSET = 21, "com.microsoft", 1
IR_VERSION = 10


def author(architecture: Architecture, layout: Layout, *, accuracy_level: int) -> Model:
    """The graph over a data file that is laid out so. accuracy_level: 4 multiplies in int8, 1 in float32."""
    return _Author(architecture, layout, accuracy_level).model()


def author_layer(
    architecture: Architecture, layout: Layout, index: int, observed: Sequence[str] = (), *, switched: bool = False
) -> Model:
    """One layer alone, in float32: "states" float32 [b, s, d] and "attention_mask" to "states_after".

    observed: matrices whose inputs are outputs too, float32 [b, s, width] called "observed.NAME". The output layer's,
    under the name that its matrix has in the layout of the whole, are those of the last layer's graph.

    switched: for a layout that holds matrices twice, the second time under `coarse(name)`. There is one more input
    "coarse", bool [matrices that are there twice, in the layout's order]: those that are true use the second.
    """
    return _Author(architecture, layout, 1, observed, switched=switched).layer(index)


def author_output(architecture: Architecture, layout: Layout) -> Model:
    """The last norm and the output layer, which the layout holds twice: "states" and "coarse" to "logits" [b, s, v]."""
    return _Author(architecture, layout, 4, switched=True).output()


def coarse(name: str) -> str:
    """What a layout calls a matrix that it holds a second time, with fewer bits."""
    return f"{name}@coarse"


class _Author:
    """Collects nodes and initializers. Every method adds to the graph and returns the value that it made."""

    def __init__(
        self,
        architecture: Architecture,
        layout: Layout,
        accuracy_level: int,
        observed: Sequence[str] = (),
        *,
        switched: bool = False,
    ) -> None:
        self._architecture, self._layout, self._accuracy_level = architecture, layout, accuracy_level
        self._to_observe = observed
        self._observed: list[Value] = []
        self._coarse = [name for name in layout.weights if switched and coarse(name) in layout.weights]
        self._switches = self._input("coarse", "BOOL", [len(self._coarse)])
        self._nodes: list[Any] = []
        self._initializers: dict[str, Value] = {}
        self._wide: dict[str, Value] = {}
        self._tokens: Value = None  # or what stands for them: [b, s, ...]
        self._new_positions: Value = None
        self._growth: Value = None

    def model(self) -> Model:
        architecture, sizes = self._architecture, self._architecture.sizes
        tokens = self._input("input_ids", "INT64", ["batch", "sequence"])
        mask = self._input("attention_mask", "INT64", ["batch", "total"])
        inputs, outputs = [tokens, mask], []
        self._tokens = tokens
        self._count(mask)
        self._caches = [self._rotary(rope, index) for index, rope in enumerate(architecture.ropes)]

        residual, branch = self._embed(tokens), None
        for index in range(sizes.layers):
            past = [
                self._input(
                    f"past_key_values.{index}.{kind}", "FLOAT", ["batch", sizes.kv_heads, "past", sizes.head_size]
                )
                for kind in ("key", "value")
            ]
            inputs += past
            only_last = index == sizes.layers - 1
            residual, branch, present = self._layer(residual, branch, index, past, only_last=only_last)
            outputs += self._cached(present, index)
        _, normed = self._add_norm(residual, branch, "norm")
        logits = self._logits(normed)
        logits.name = "logits"
        self._typed(logits, "FLOAT", ["batch", 1, sizes.vocab_size])
        return self._made(inputs, [logits, *outputs])

    def layer(self, index: int) -> Model:
        architecture, sizes = self._architecture, self._architecture.sizes
        shape: Sequence[int | str | None] = ["batch", "sequence", sizes.hidden_size]
        states = self._input("states", "FLOAT", shape)
        mask = self._input("attention_mask", "INT64", ["batch", "total"])
        self._tokens = states
        self._count(mask)
        self._caches = [self._rotary(rope, number) for number, rope in enumerate(architecture.ropes)]
        residual, branch, _ = self._layer(states, None, index, [None, None])
        after, normed = self._add_norm(residual, branch, "norm")
        output = output_name(architecture)
        if output in self._to_observe:
            self._observe(normed, output)
        after.name = "states_after"
        return self._made([states, mask, *self._switch()], [self._typed(after, "FLOAT", shape), *self._observed])

    def output(self) -> Model:
        sizes = self._architecture.sizes
        states = self._input("states", "FLOAT", ["batch", "sequence", sizes.hidden_size])
        logits = self._logits(self._norm(states, "norm"))
        logits.name = "logits"
        return self._made(
            [states, *self._switch()], [self._typed(logits, "FLOAT", ["batch", "sequence", sizes.vocab_size])]
        )

    def _switch(self) -> list[Value]:
        """The input that says which matrices are used with fewer bits, if there is a choice."""
        return [self._switches] if self._coarse else []

    def _made(self, inputs: list[Value], outputs: list[Value]) -> Model:
        import onnx_ir

        graph = onnx_ir.Graph(
            inputs,
            outputs,
            nodes=self._nodes,
            initializers=list(self._initializers.values()),
            opset_imports={"": OPSET, MICROSOFT: MICROSOFT_OPSET},
            name="decoder",
        )
        return onnx_ir.Model(graph, ir_version=IR_VERSION, producer_name="edgeship")

    # --- the parts of a decoder --------------------------------------------------------------------------------------

    def _count(self, mask: Value) -> None:
        """What attention asks for: tokens of each sequence less one, int32 [b]; and the longest's, int32."""
        ones = self._op("ReduceSum", [mask, self._integers([1])], keepdims=0)
        self._lengths = self._cast(self._op("Sub", [ones, self._integers([1])]), "INT32")
        longest = self._op("Gather", [self._op("Shape", [mask]), self._integers(1)])
        self._total = self._cast(longest, "INT32")
        self._total_wide = longest

    def _layer(
        self, residual: Value, branch: Value | None, index: int, past: list[Value], *, only_last: bool = False
    ) -> tuple[Value, Value, list[Value]]:
        """The residual, what is to be added to it, and the keys and values of all tokens."""
        layer, name = self._architecture.layers[index], f"layers.{index}"
        residual, normed = self._add_norm(residual, branch, f"{name}.attention_norm")
        mixed, present = self._attention(normed, index, layer, past)
        if only_last:
            residual, mixed = self._last(residual), self._last(mixed)
        branch = self._added(self._linear(mixed, f"{name}.output"), f"{name}.attention_post_norm")
        residual, normed = self._add_norm(residual, branch, f"{name}.mlp_norm")
        return residual, self._added(self._mlp(normed, index), f"{name}.mlp_post_norm"), present

    def _cached(self, present: list[Value], index: int) -> list[Value]:
        """Keys and values of a layer as outputs."""
        sizes = self._architecture.sizes
        for kind, made in zip(("key", "value"), present, strict=True):
            made.name = f"present.{index}.{kind}"
            self._typed(made, "FLOAT", ["batch", sizes.kv_heads, "total", sizes.head_size])
        return present

    def _embed(self, tokens: Value) -> Value:
        """int64 [b, s] -> float32 [b, s, d]."""
        placed = self._layout.weights[EMBEDDING]
        if isinstance(placed.storage, Scheme):
            found = self._gather_blocks(placed, tokens)
        else:
            found = self._op("Gather", [self._plain(placed), tokens])
        return self._times(found, self._architecture.embedding_scale)

    def _gather_blocks(self, placed: Placed, tokens: Value) -> Value:
        scheme = placed.storage
        assert isinstance(scheme, Scheme)
        packed, scales, *zero_points = placed.blobs
        rows, blocks, block_bytes = packed.shape
        # The output layer reads the same bytes in another shape: under a name of its own, ONNX Runtime needs no copy.
        flat = Blob(f"{packed.name}.flat", packed.dtype, (rows, blocks * block_bytes), packed.offset)
        found = self._op(
            "GatherBlockQuantized",
            [self._stored(flat), tokens, self._widened(scales), *(self._stored(blob) for blob in zero_points)],
            domain=MICROSOFT,
            bits=scheme.bits,
            block_size=scheme.block_size,
            gather_axis=0,
            quantize_axis=1,
        )
        width = self._architecture.sizes.hidden_size
        if blocks * scheme.block_size == width:
            return found
        return self._op("Slice", [found, self._integers([0]), self._integers([width]), self._integers([2])])

    def _attention(self, normed: Value, index: int, layer: Layer, past: list[Value]) -> tuple[Value, list[Value]]:
        """float32 [b, s, d] -> [b, s, heads * head size], and the keys and values of all tokens."""
        architecture, sizes, name = self._architecture, self._architecture.sizes, f"layers.{index}"
        packed = self._linear(normed, f"{name}.qkv")
        query, key, value = (packed, None, None)
        traits, caches = architecture.traits, [None, None] if layer.rope is None else self._caches[layer.rope]
        rotated = traits.rotated_first and layer.rope is not None
        if traits.head_norm or architecture.query_growth:
            widths = [sizes.heads * sizes.head_size] + 2 * [sizes.kv_heads * sizes.head_size]
            query, key, value = self._split(packed, widths)
        if rotated:
            query, key = (self._rotated(values, caches) for values in (query, key))
        if traits.head_norm:
            query = self._head_norm(query, f"{name}.query_norm")
            key = self._head_norm(key, f"{name}.key_norm")
        if architecture.query_growth:
            query = self._op("Mul", [query, self._query_growth(architecture.query_growth)])
        mixed, *present = self._ops(
            "GroupQueryAttention",
            [query, key, value, *past, self._lengths, self._total, *([None, None] if rotated else caches)],
            3,
            domain=MICROSOFT,
            num_heads=sizes.heads,
            kv_num_heads=sizes.kv_heads,
            scale=architecture.attention_scale,
            softcap=architecture.attention_softcap,
            local_window_size=layer.window or -1,
            do_rotary=int(layer.rope is not None and not rotated),
            rotary_interleaved=int(traits.neighbours_rotate),
        )
        return mixed, present

    def _rotated(self, values: Value, caches: list[Value]) -> Value:
        """Heads side by side, float32 [b, s, heads * head size], by their tokens' positions."""
        sizes = self._architecture.sizes
        heads = self._op("Reshape", [values, self._integers([0, 0, -1, sizes.head_size])])
        turned = self._op("Transpose", [heads], perm=[0, 2, 1, 3])
        turned = self._op("RotaryEmbedding", [turned, self._positions(), *caches], domain=MICROSOFT)
        back = self._op("Transpose", [turned], perm=[0, 2, 1, 3])
        return self._op("Reshape", [back, self._integers([0, 0, -1])])

    def _positions(self) -> Value:
        """Of the new tokens, int64 [b, s]."""
        if self._new_positions is None:
            new = self._op("Gather", [self._op("Shape", [self._tokens]), self._integers(1)])
            steps = self._op("Range", [self._op("Neg", [new]), self._integers(0), self._integers(1)])
            last = self._op("Unsqueeze", [self._cast(self._lengths, "INT64"), self._integers([1])])
            self._new_positions = self._op("Add", [self._op("Add", [last, self._integers([1])]), steps])
        return self._new_positions

    def _query_growth(self, growth: QueryGrowth) -> Value:
        """What queries are multiplied by, float32 [b, s, 1]."""
        if self._growth is None:
            positions = self._cast(self._positions(), "FLOAT")
            turns = self._op("Floor", [self._op("Div", [positions, self._floats(growth.tokens, "number")])])
            one = self._floats(1.0, "number")
            grown = self._times(self._op("Log", [self._op("Add", [turns, one])]), growth.rate)
            self._growth = self._op("Unsqueeze", [self._op("Add", [grown, one]), self._integers([2])])
        return self._growth

    def _head_norm(self, values: Value, name: str) -> Value:
        """Each head normalised by itself, or all heads of a token together."""
        if self._architecture.traits.head_norm == "row":
            return self._norm(values, name)
        heads = self._op("Reshape", [values, self._integers([0, 0, -1, self._architecture.sizes.head_size])])
        return self._op("Reshape", [self._norm(heads, name), self._integers([0, 0, -1])])

    def _mlp(self, normed: Value, index: int) -> Value:
        """float32 [b, s, d] -> [b, s, d]."""
        name = f"layers.{index}"
        if not self._architecture.traits.gated:
            return self._linear(self._activated(self._linear(normed, f"{name}.up")), f"{name}.down")
        gate, up = (self._linear(normed, f"{name}.{half}") for half in ("gate", "up"))
        return self._linear(self._op("Mul", [self._activated(gate), up]), f"{name}.down")

    def _activated(self, gate: Value) -> Value:
        if self._architecture.activation == "silu":
            return self._op("QuickGelu", [gate], domain=MICROSOFT, alpha=1.0)
        if self._architecture.activation == "relu2":
            positive = self._op("Relu", [gate])
            return self._op("Mul", [positive, positive])
        approximate = "tanh" if self._architecture.activation == "gelu_tanh" else "none"
        return self._op("Gelu", [gate], approximate=approximate)

    def _logits(self, normed: Value) -> Value:
        logits = self._linear(normed, output_name(self._architecture))
        logits = self._times(logits, self._architecture.logit_scale)
        cap = self._architecture.logit_softcap
        if cap:
            logits = self._times(self._op("Tanh", [self._times(logits, 1 / cap)]), cap)
        return logits

    def _rotary(self, rope: Rope, index: int) -> list[Value]:
        """Cosines and sines, float32 [positions, rotated elements / 2] each.

        Computed from the frequencies: ONNX Runtime folds that once when it opens the model, and the file stays small.
        Where the frequencies depend on the sequence's length they are computed in every step, for the tokens that are
        there.
        """
        frequencies = self._floats(rope.frequencies, f"rope.{index}.frequencies")
        if rope.long_frequencies is not None:
            positions = self._total_wide
            longer = self._op("Greater", [positions, self._integers(rope.switch_tokens)])
            long = self._floats(rope.long_frequencies, f"rope.{index}.long_frequencies")
            frequencies = self._op("Where", [longer, long, frequencies])
        else:
            positions = self._integers(self._architecture.sizes.context_tokens)
        steps = self._op("Range", [self._integers(0), positions, self._integers(1)])
        column = self._op("Unsqueeze", [self._cast(steps, "FLOAT"), self._integers([1])])
        angles = self._op("Mul", [column, frequencies])
        return [self._times(self._op(wave, [angles]), rope.scale) for wave in ("Cos", "Sin")]

    def _observe(self, values: Value, name: str) -> None:
        seen = self._op("Identity", [values])
        seen.name = f"observed.{name}"
        self._observed.append(self._typed(seen, "FLOAT", ["batch", "sequence", None]))

    # --- layers of one operator --------------------------------------------------------------------------------------

    def _linear(self, values: Value, name: str) -> Value:
        """float32 [..., width] -> [..., rows], with the bias if there is one."""
        if name in self._to_observe:
            self._observe(values, name)
        made = self._multiplied(values, self._layout.weights[name])
        if name in self._coarse:
            made = self._switched(name, self._multiplied(values, self._layout.weights[coarse(name)]), made)
        bias = self._layout.weights.get(f"{name}.bias")
        # MatMulNBits takes a bias itself, but adds it no faster, and at one token rather slower.
        return made if bias is None else self._op("Add", [made, self._stored(bias.blobs[0])])

    def _switched(self, name: str, low: Value, high: Value) -> Value:
        switch = self._op("Gather", [self._switches, self._integers(self._coarse.index(name))])
        return self._op("Where", [switch, low, high])

    def _multiplied(self, values: Value, placed: Placed) -> Value:
        matrix = placed.weight
        assert isinstance(matrix, Matrix)
        if not isinstance(placed.storage, Scheme):
            return self._op("FusedMatMul", [values, self._plain(placed)], domain=MICROSOFT, transB=1)
        packed, scales, *zero_points = placed.blobs
        return self._op(
            "MatMulNBits",
            [values, self._stored(packed), self._widened(scales), *(self._stored(blob) for blob in zero_points)],
            domain=MICROSOFT,
            K=matrix.width,
            N=matrix.rows,
            bits=placed.storage.bits,
            block_size=placed.storage.block_size,
            accuracy_level=self._accuracy_level,
        )

    def _norm(self, values: Value, name: str) -> Value:
        weight = self._stored(self._layout.weights[name].blobs[0])
        return self._op(
            "SimplifiedLayerNormalization",
            [values, weight],
            axis=-1,
            epsilon=self._architecture.norm_epsilon,
            stash_type=1,
        )

    def _add_norm(self, residual: Value, branch: Value | None, name: str) -> tuple[Value, Value]:
        """The residual with the branch added, and that normalised where the layout has a norm of this name."""
        if name not in self._layout.weights:
            added = residual if branch is None else self._op("Add", [residual, branch])
            return added, added
        if branch is None:
            return residual, self._norm(residual, name)
        weight = self._stored(self._layout.weights[name].blobs[0])
        normed, _, _, added = self._ops(
            "SkipSimplifiedLayerNormalization",
            [residual, branch, weight],
            4,
            domain=MICROSOFT,
            epsilon=self._architecture.norm_epsilon,
        )
        return added, normed

    def _added(self, branch: Value, post_norm: str) -> Value:
        """What a block adds to the residual."""
        if post_norm in self._layout.weights:
            branch = self._norm(branch, post_norm)
        return self._times(branch, self._architecture.residual_scale)

    def _last(self, values: Value) -> Value:
        """[b, s, width] -> [b, 1, width]."""
        return self._op("Gather", [values, self._integers([-1])], axis=1)

    def _split(self, values: Value, widths: list[int]) -> list[Value]:
        return self._ops("Split", [values, self._integers(widths)], len(widths), axis=-1)

    def _times(self, values: Value, factor: float) -> Value:
        return values if factor == 1.0 else self._op("Mul", [values, self._floats(factor, "factor")])

    # --- values ------------------------------------------------------------------------------------------------------

    def _op(self, kind: str, inputs: list[Any], *, domain: str = "", **attributes: Any) -> Value:
        return self._ops(kind, inputs, 1, domain=domain, **attributes)[0]

    def _ops(self, kind: str, inputs: list[Any], outputs: int, *, domain: str = "", **attributes: Any) -> list[Value]:
        import onnx_ir

        name = f"{kind}.{len(self._nodes)}"
        values = [onnx_ir.Value(name=f"{name}:{index}") for index in range(outputs)]
        self._nodes.append(onnx_ir.node(kind, inputs, attributes=attributes, domain=domain, outputs=values, name=name))
        return values

    def _cast(self, values: Value, kind: str) -> Value:
        import onnx_ir

        return self._op("Cast", [values], to=onnx_ir.DataType[kind].value)

    def _plain(self, placed: Placed) -> Value:
        """A matrix that is stored as plain numbers, in float32."""
        blob = placed.blobs[0]
        return self._stored(blob) if blob.dtype == "float32" else self._widened(blob)

    def _widened(self, blob: Blob) -> Value:
        """A float16 tensor in float32: one Cast for all its readers, folded when the model is opened."""
        if blob.name not in self._wide:
            self._wide[blob.name] = self._cast(self._stored(blob), "FLOAT")
        return self._wide[blob.name]

    def _stored(self, blob: Blob) -> Value:
        import onnx_ir

        tensor = onnx_ir.ExternalTensor(
            DATA_NAME,
            blob.offset,
            blob.nbytes,
            onnx_ir.DataType[{"float32": "FLOAT", "float16": "FLOAT16", "uint8": "UINT8"}[blob.dtype]],
            shape=onnx_ir.Shape(blob.shape),
            name=blob.name,
        )
        return self._initializer(blob.name, tensor)

    def _integers(self, numbers: int | list[int]) -> Value:
        import numpy as np
        import onnx_ir

        name = f"integers.{numbers}".replace(" ", "")
        return self._initializer(name, onnx_ir.tensor(np.asarray(numbers, dtype=np.int64), name=name))

    def _floats(self, numbers: float | tuple[float, ...], name: str) -> Value:
        import numpy as np
        import onnx_ir

        if not isinstance(numbers, tuple):
            name = f"{name}.{numbers!r}"
        return self._initializer(name, onnx_ir.tensor(np.asarray(numbers, dtype=np.float32), name=name))

    def _initializer(self, name: str, tensor: Any) -> Value:
        import onnx_ir

        if name not in self._initializers:
            self._initializers[name] = onnx_ir.Value(
                name=name, shape=tensor.shape, type=onnx_ir.TensorType(tensor.dtype), const_value=tensor
            )
        return self._initializers[name]

    def _input(self, name: str, kind: str, shape: Sequence[int | str | None]) -> Value:
        import onnx_ir

        return self._typed(onnx_ir.Value(name=name), kind, shape)

    def _typed(self, value: Value, kind: str, shape: Sequence[int | str | None]) -> Value:
        import onnx_ir

        value.shape = onnx_ir.Shape(shape)
        value.type = onnx_ir.TensorType(onnx_ir.DataType[kind])
        return value
