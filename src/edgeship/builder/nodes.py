"""The nodes and constants of an ONNX graph, collected one by one, with the weights of a layout as the constants.

Every method adds to the graph and returns the value that it made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from edgeship.builder.layout import Blob, Layout, Matrix, Placed
from edgeship.builder.mixture import Mixture
from edgeship.builder.quantize import Scheme

Model = Any
"""An onnx_ir.Model."""
Value = Any
"""An onnx_ir.Value: what a node makes and others take."""
DATA_NAME = "model.onnx.data"
SEEN, SCORES, MADE = "experts.seen", "experts.scores", "experts.made"
"""Where a graph leaves experts out: what they read [b, s, d] and the router's scores [b * s, experts], as outputs; and
what they make of it [b, s, d], as an input."""
OPSET, MICROSOFT, MICROSOFT_OPSET = 21, "com.microsoft", 1
IR_VERSION = 10


def coarse(name: str) -> str:
    """What a layout calls a matrix that it holds a second time, with fewer bits."""
    return f"{name}@coarse"


class Nodes:
    """See above. The parameters are those of `graph.author` and `graph.author_layer`.

    centred: norms take the mean out. unweighted: how many numbers they normalise without weights; 0 for norms that have
    weights.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        norm_epsilon: float,
        accuracy_level: int,
        centred: bool = False,
        unweighted: int = 0,
        observed: Sequence[str] = (),
        switched: bool = False,
    ) -> None:
        self._layout, self.norm_epsilon, self._accuracy_level = layout, norm_epsilon, accuracy_level
        self._centred, self._unweighted, self._to_observe = centred, unweighted, observed
        self.observed: list[Value] = []
        self.asked: list[Value] = []
        self.given: list[Value] = []
        self._coarse = [name for name in layout.weights if switched and coarse(name) in layout.weights]
        self._switches = self.input("coarse", "BOOL", [len(self._coarse)])
        self._nodes: list[Any] = []
        self._initializers: dict[str, Value] = {}
        self._wide: dict[str, Value] = {}
        self._ordered: dict[tuple[str, str], Value] = {}

    @property
    def switches(self) -> list[Value]:
        """The input that says which matrices are used with fewer bits, if there is a choice."""
        return [self._switches] if self._coarse else []

    def model(self, inputs: list[Value], outputs: list[Value]) -> Model:
        """All that was collected."""
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

    # --- what weights are for ----------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether the layout holds a weight of this name."""
        return name in self._layout.weights

    def constant(self, name: str) -> Value:
        """A vector of the layout, float32."""
        return self.stored(self._layout.weights[name].blobs[0])

    def observe(self, values: Value, name: str) -> None:
        """An output more, if that was asked for: what is multiplied by the matrix of this name."""
        if name not in self._to_observe:
            return
        seen = self.op("Identity", [values])
        seen.name = f"observed.{name}"
        self.observed.append(self.typed(seen, "FLOAT", ["batch", "sequence", None]))

    def rows(self, name: str, indices: Value) -> Value:
        """Rows of a matrix by number, int64 [b, s] -> float32 [b, s, width]."""
        placed = self._layout.weights[name]
        if not isinstance(placed.storage, Scheme):
            return self.op("Gather", [self.plain(placed), indices])
        scheme, matrix = placed.storage, placed.weight
        assert isinstance(matrix, Matrix)
        packed, scales, *zero_points = placed.blobs
        rows, blocks, block_bytes = packed.shape
        # The output layer reads the same bytes in another shape: under a name of its own, ONNX Runtime needs no copy.
        flat = Blob(f"{packed.name}.flat", packed.dtype, (rows, blocks * block_bytes), packed.offset)
        found = self.op(
            "GatherBlockQuantized",
            [self.stored(flat), indices, self.widened(scales), *(self.stored(blob) for blob in zero_points)],
            domain=MICROSOFT,
            bits=scheme.bits,
            block_size=scheme.block_size,
            gather_axis=0,
            quantize_axis=1,
        )
        if blocks * scheme.block_size == matrix.width:
            return found
        return self.op("Slice", [found, self.integers([0]), self.integers([matrix.width]), self.integers([2])])

    def linear(self, values: Value, name: str) -> Value:
        """float32 [..., width] -> [..., rows], with the bias if there is one."""
        self.observe(values, name)
        made = self._multiplied(values, self._layout.weights[name])
        if name in self._coarse:
            made = self._switched(name, self._multiplied(values, self._layout.weights[coarse(name)]), made)
        bias = self._layout.weights.get(f"{name}.bias")
        # MatMulNBits takes a bias itself, but adds it no faster, and at one token rather slower.
        return made if bias is None else self.op("Add", [made, self.stored(bias.blobs[0])])

    def _switched(self, name: str, low: Value, high: Value) -> Value:
        switch = self.op("Gather", [self._switches, self.integers(self._coarse.index(name))])
        return self.op("Where", [switch, low, high])

    def _multiplied(self, values: Value, placed: Placed) -> Value:
        matrix = placed.weight
        assert isinstance(matrix, Matrix)
        if not isinstance(placed.storage, Scheme):
            return self.op("FusedMatMul", [values, self.plain(placed)], domain=MICROSOFT, transB=1)
        packed, scales, *zero_points = placed.blobs
        if placed.storage.order is not None:
            values = self._reordered(values, placed.storage.order)
        return self.op(
            "MatMulNBits",
            [values, self.stored(packed), self.widened(scales), *(self.stored(blob) for blob in zero_points)],
            domain=MICROSOFT,
            K=matrix.width,
            N=matrix.rows,
            bits=placed.storage.bits,
            block_size=placed.storage.block_size,
            accuracy_level=self._accuracy_level,
        )

    def _reordered(self, values: Value, order: bytes) -> Value:
        """The inputs of a matrix as its columns lie: once for all matrices that share inputs and order."""
        import numpy as np
        import onnx_ir

        name = f"order.{hashlib.sha256(order).hexdigest()[:16]}"
        index = self._initializer(name, onnx_ir.tensor(np.frombuffer(order, "<i4"), name=name))
        key = values.name, name
        if key not in self._ordered:
            self._ordered[key] = self.op("Gather", [values, index], axis=-1)
        return self._ordered[key]

    def experts(
        self,
        values: Value,
        scores: Value,
        name: str,
        mixture: Mixture,
    ) -> Value:
        """What experts make of float32 [b, s, width], in the same shape: of each token those of the largest scores.

        name: of what the experts' matrices have in common. scores: [b * s, experts]; softmax of those that are chosen
        are their weights. Where the layout has no such matrices, tokens and scores are outputs (`asked`), and what is
        made of them an input (`given`).
        """
        if not self.has(f"{name}.gate_up"):
            return self._made_elsewhere(values, scores, mixture)
        first, second = (self._layout.weights[f"{name}.{which}"] for which in ("gate_up", "down"))
        how = {
            "k": mixture.chosen,
            "activation_type": "swiglu",
            "activation_alpha": mixture.alpha,
            "activation_beta": mixture.up_offset,
            **({} if mixture.limit is None else {"swiglu_limit": mixture.limit}),
            "swiglu_fusion": 1,  # gate and up by turns
            "normalize_routing_weights": 1,
        }
        names = [f"{placed.weight.name}.bias" for placed in (first, second)]
        biases = [self.constant(bias) if self.has(bias) else None for bias in names]
        if not isinstance(first.storage, Scheme):
            inputs = [values, scores, self.plain(first), biases[0], self.plain(second), biases[1]]
            return self.op("MoE", inputs, domain=MICROSOFT, **how)
        zero_points, inputs = [], [values, scores]
        for placed, bias in zip((first, second), biases, strict=True):
            packed, scales, *zeros = placed.blobs
            inputs += [self.stored(packed), self.widened(scales), bias]
            zero_points += [self.stored(blob) for blob in zeros]
        return self.op(
            "QMoE",
            [*inputs, None, None, None, *zero_points] if zero_points else inputs,
            domain=MICROSOFT,
            expert_weight_bits=first.storage.bits,
            block_size=first.storage.block_size,
            accuracy_level=self._accuracy_level,
            weights_prepacked=0,
            **how,
        )

    def _made_elsewhere(self, values: Value, scores: Value, mixture: Mixture) -> Value:
        seen, chances = self.op("Identity", [values]), self.op("Identity", [scores])
        seen.name, chances.name = SEEN, SCORES
        shape = ["batch", "sequence", None]
        self.asked += [self.typed(seen, "FLOAT", shape), self.typed(chances, "FLOAT", [None, mixture.experts])]
        self.given.append(self.input(MADE, "FLOAT", shape))
        return self.given[-1]

    def convolved(
        self, values: Value, name: str, state: Value | None, *, activation: str = "none"
    ) -> tuple[Value, Value]:
        """Each channel of float32 [b, s, channels] with the tokens before, and the last ones [b, channels, taps - 1].

        state: the last tokens before these, in the same shape; None for none.
        """
        bias = self.constant(f"{name}.bias") if self.has(f"{name}.bias") else None
        turned = self.op("Transpose", [values], perm=[0, 2, 1])
        made, after = self.ops(
            "CausalConvWithState",
            [turned, self.constant(name), bias, state],
            2,
            domain=MICROSOFT,
            activation=activation,
        )
        return self.op("Transpose", [made], perm=[0, 2, 1]), after

    def norm(self, values: Value, name: str) -> Value:
        """By the root of the mean square, or by that of the variance with the mean taken out and the bias added."""
        return self.op(
            "LayerNormalization" if self._centred else "SimplifiedLayerNormalization",
            [values, *self._norm_weights(name)],
            axis=-1,
            epsilon=self.norm_epsilon,
            stash_type=1,
        )

    def _norm_weights(self, name: str) -> list[Value]:
        if self._unweighted:
            return [self.floats((1.0,) * self._unweighted, f"weights.1.0.{self._unweighted}")]
        has_bias = self._centred and self.has(f"{name}.bias")
        return [self.constant(name), *([self.constant(f"{name}.bias")] if has_bias else [])]

    def unit_norm(self, values: Value, size: int, *, weight: float = 1.0, epsilon: float | None = None) -> Value:
        """[..., size] normalised, with one weight for all that is stored nowhere."""
        return self.op(
            "SimplifiedLayerNormalization",
            [values, self.floats((weight,) * size, f"weights.{weight!r}.{size}")],
            axis=-1,
            epsilon=self.norm_epsilon if epsilon is None else epsilon,
            stash_type=1,
        )

    def add_norm(self, residual: Value, branch: Value | None, name: str) -> tuple[Value, Value]:
        """The residual with the branch added, and that normalised where the layout has a norm of this name."""
        if not self._unweighted and not self.has(name):
            added = residual if branch is None else self.op("Add", [residual, branch])
            return added, added
        if branch is None:
            return residual, self.norm(residual, name)
        normed, _, _, added = self.ops(
            "SkipLayerNormalization" if self._centred else "SkipSimplifiedLayerNormalization",
            [residual, branch, *self._norm_weights(name)],
            4,
            domain=MICROSOFT,
            epsilon=self.norm_epsilon,
        )
        return added, normed

    # --- parts of values ---------------------------------------------------------------------------------------------

    def last(self, values: Value, *, only: bool) -> Value:
        """[b, s, width] -> [b, 1, width] where the last position is the only one that goes on."""
        return self.op("Gather", [values, self.integers([-1])], axis=1) if only else values

    def split(self, values: Value, widths: list[int]) -> list[Value]:
        return self.ops("Split", [values, self.integers(widths)], len(widths), axis=-1)

    def times(self, values: Value, factor: float) -> Value:
        return values if factor == 1.0 else self.op("Mul", [values, self.floats(factor, "factor")])

    # --- values ------------------------------------------------------------------------------------------------------

    def op(self, kind: str, inputs: list[Any], *, domain: str = "", **attributes: Any) -> Value:
        return self.ops(kind, inputs, 1, domain=domain, **attributes)[0]

    def ops(self, kind: str, inputs: list[Any], outputs: int, *, domain: str = "", **attributes: Any) -> list[Value]:
        import onnx_ir

        name = f"{kind}.{len(self._nodes)}"
        values = [onnx_ir.Value(name=f"{name}:{index}") for index in range(outputs)]
        self._nodes.append(onnx_ir.node(kind, inputs, attributes=attributes, domain=domain, outputs=values, name=name))
        return values

    def cast(self, values: Value, kind: str) -> Value:
        import onnx_ir

        return self.op("Cast", [values], to=onnx_ir.DataType[kind].value)

    def plain(self, placed: Placed) -> Value:
        """A matrix that is stored as plain numbers, in float32."""
        blob = placed.blobs[0]
        return self.stored(blob) if blob.dtype == "float32" else self.widened(blob)

    def widened(self, blob: Blob) -> Value:
        """A float16 tensor in float32: one Cast for all its readers, folded when the model is opened."""
        if blob.name not in self._wide:
            self._wide[blob.name] = self.cast(self.stored(blob), "FLOAT")
        return self._wide[blob.name]

    def stored(self, blob: Blob) -> Value:
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

    def integers(self, numbers: int | list[int]) -> Value:
        import numpy as np
        import onnx_ir

        name = f"integers.{numbers}".replace(" ", "")
        return self._initializer(name, onnx_ir.tensor(np.asarray(numbers, dtype=np.int64), name=name))

    def floats(self, numbers: float | tuple[float, ...], name: str) -> Value:
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

    def input(self, name: str, kind: str, shape: Sequence[int | str | None]) -> Value:
        import onnx_ir

        return self.typed(onnx_ir.Value(name=name), kind, shape)

    def named(self, name: str, value: Value, shape: Sequence[int | str | None]) -> Value:
        """A value under a name of its own, to be an output: float32 of this shape."""
        value.name = name
        return self.typed(value, "FLOAT", shape)

    def typed(self, value: Value, kind: str, shape: Sequence[int | str | None]) -> Value:
        import onnx_ir

        value.shape = onnx_ir.Shape(shape)
        value.type = onnx_ir.TensorType(onnx_ir.DataType[kind])
        return value
