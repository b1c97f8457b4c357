"""Attention as nodes of a graph: every new token looks at the keys and values of those before it.

Shapes: b sequences of s new tokens each, t tokens with those before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeship.builder.nodes import MICROSOFT, Nodes, Value

if TYPE_CHECKING:
    from edgeship.builder.architecture import Architecture, QueryGrowth
    from edgeship.builder.rope import Rope


class Attention:
    """The attention of a graph's layers, which share what they know of positions.

    tokens: what there is for each new token, [b, s, ...]. mask: int64 [b, t].
    """

    def __init__(self, nodes: Nodes, architecture: Architecture, tokens: Value, mask: Value) -> None:
        self._nodes, self._architecture, self._tokens = nodes, architecture, tokens
        self._new_positions: Value = None
        self._growth: Value = None
        self._count(mask)
        self._caches = [self._rotary(rope, index) for index, rope in enumerate(architecture.ropes)]

    def mix(self, normed: Value, index: int, past: Sequence[Value]) -> tuple[Value, list[Value]]:
        """float32 [b, s, d] -> [b, s, heads * head size], and keys and values of all tokens. past: empty for none."""
        architecture, sizes, name = self._architecture, self._architecture.sizes, f"layers.{index}"
        layer = architecture.layers[index]
        packed = self._nodes.linear(normed, f"{name}.qkv")
        query, key, value, gate = packed, None, None, None
        traits, caches = architecture.traits, [None, None] if layer.rope is None else self._caches[layer.rope]
        rotated = traits.rotated_first and layer.rope is not None
        if traits.head_norm or architecture.query_growth or traits.gated_attention:
            queries, keys = sizes.heads * sizes.head_size, sizes.kv_heads * sizes.head_size
            widths = [queries, keys, keys, *([queries] if traits.gated_attention else [])]
            query, key, value, *gates = self._nodes.split(packed, widths)
            gate = gates[0] if gates else None
        if rotated:
            query, key = (self._rotated(values, caches) for values in (query, key))
        if traits.head_norm:
            query = self._head_norm(query, f"{name}.query_norm")
            key = self._head_norm(key, f"{name}.key_norm")
        if architecture.query_growth:
            query = self._nodes.op("Mul", [query, self._query_growth(architecture.query_growth)])
        mixed, *present = self._nodes.ops(
            "GroupQueryAttention",
            [
                query,
                key,
                value,
                *(past or [None, None]),
                self._lengths,
                self._total,
                *([None, None] if rotated else caches),
            ],
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
        if gate is not None:
            mixed = self._nodes.op("Mul", [mixed, self._nodes.op("Sigmoid", [gate])])
        return mixed, present

    def _count(self, mask: Value) -> None:
        """What attention asks for: tokens of each sequence less one, int32 [b]; and the longest's, int32."""
        ones = self._nodes.op("ReduceSum", [mask, self._nodes.integers([1])], keepdims=0)
        self._lengths = self._nodes.cast(self._nodes.op("Sub", [ones, self._nodes.integers([1])]), "INT32")
        longest = self._nodes.op("Gather", [self._nodes.op("Shape", [mask]), self._nodes.integers(1)])
        self._total = self._nodes.cast(longest, "INT32")
        self._total_wide = longest

    def _rotated(self, values: Value, caches: list[Value]) -> Value:
        """Heads side by side, float32 [b, s, heads * head size], by their tokens' positions."""
        sizes = self._architecture.sizes
        heads = self._nodes.op("Reshape", [values, self._nodes.integers([0, 0, -1, sizes.head_size])])
        turned = self._nodes.op("Transpose", [heads], perm=[0, 2, 1, 3])
        turned = self._nodes.op("RotaryEmbedding", [turned, self._positions(), *caches], domain=MICROSOFT)
        back = self._nodes.op("Transpose", [turned], perm=[0, 2, 1, 3])
        return self._nodes.op("Reshape", [back, self._nodes.integers([0, 0, -1])])

    def _positions(self) -> Value:
        """Of the new tokens, int64 [b, s]."""
        if self._new_positions is None:
            new = self._nodes.op("Gather", [self._nodes.op("Shape", [self._tokens]), self._nodes.integers(1)])
            steps = self._nodes.op(
                "Range", [self._nodes.op("Neg", [new]), self._nodes.integers(0), self._nodes.integers(1)]
            )
            last = self._nodes.op("Unsqueeze", [self._nodes.cast(self._lengths, "INT64"), self._nodes.integers([1])])
            self._new_positions = self._nodes.op(
                "Add", [self._nodes.op("Add", [last, self._nodes.integers([1])]), steps]
            )
        return self._new_positions

    def _query_growth(self, growth: QueryGrowth) -> Value:
        """What queries are multiplied by, float32 [b, s, 1]."""
        if self._growth is None:
            positions = self._nodes.cast(self._positions(), "FLOAT")
            turns = self._nodes.op(
                "Floor", [self._nodes.op("Div", [positions, self._nodes.floats(growth.tokens, "number")])]
            )
            one = self._nodes.floats(1.0, "number")
            grown = self._nodes.times(self._nodes.op("Log", [self._nodes.op("Add", [turns, one])]), growth.rate)
            self._growth = self._nodes.op("Unsqueeze", [self._nodes.op("Add", [grown, one]), self._nodes.integers([2])])
        return self._growth

    def _head_norm(self, values: Value, name: str) -> Value:
        """Each head normalised by itself, or all heads of a token together."""
        if self._architecture.traits.head_norm == "row":
            return self._nodes.norm(values, name)
        heads = self._nodes.op(
            "Reshape", [values, self._nodes.integers([0, 0, -1, self._architecture.sizes.head_size])]
        )
        return self._nodes.op("Reshape", [self._nodes.norm(heads, name), self._nodes.integers([0, 0, -1])])

    def _rotary(self, rope: Rope, index: int) -> list[Value]:
        """Cosines and sines, float32 [positions, rotated elements / 2] each.

        Computed from the frequencies: ONNX Runtime folds that once when it opens the model, and the file stays small.
        Where the frequencies depend on the sequence's length they are computed in every step, for the tokens that are
        there.
        """
        frequencies = self._nodes.floats(rope.frequencies, f"rope.{index}.frequencies")
        if rope.long_frequencies is not None:
            positions = self._total_wide
            longer = self._nodes.op("Greater", [positions, self._nodes.integers(rope.switch_tokens)])
            long = self._nodes.floats(rope.long_frequencies, f"rope.{index}.long_frequencies")
            frequencies = self._nodes.op("Where", [longer, long, frequencies])
        else:
            positions = self._nodes.integers(self._architecture.sizes.context_tokens)
        steps = self._nodes.op("Range", [self._nodes.integers(0), positions, self._nodes.integers(1)])
        column = self._nodes.op("Unsqueeze", [self._nodes.cast(steps, "FLOAT"), self._nodes.integers([1])])
        angles = self._nodes.op("Mul", [column, frequencies])
        return [self._nodes.times(self._nodes.op(wave, [angles]), rope.scale) for wave in ("Cos", "Sin")]
