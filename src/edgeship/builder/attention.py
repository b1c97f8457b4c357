"""Attention as nodes of a graph: every new token looks at the keys and values of those before it.

Shapes: b sequences of s new tokens each, t tokens with those before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeship.builder import beside
from edgeship.builder.nodes import MICROSOFT, Nodes, Value

if TYPE_CHECKING:
    from edgeship.builder.architecture import Architecture, QueryGrowth
    from edgeship.builder.layer_keys import Keys
    from edgeship.builder.rope import Rope


class Attention:
    """The attention of a graph's layers, which share what they know of positions.

    tokens: what there is for each new token, [b, s, ...]. mask: int64 [b, t].
    """

    def __init__(self, nodes: Nodes, architecture: Architecture, tokens: Value, mask: Value) -> None:
        self._nodes, self._architecture, self._tokens = nodes, architecture, tokens
        self._new_positions: Value = None
        self._growth: Value = None
        self._kept: dict[int | None, list[Value]] = {}
        self._count(mask)
        self._caches = [self._rotary(rope, index) for index, rope in enumerate(architecture.ropes)]

    def lent(self, index: int) -> list[Value]:
        """Keys and values that a layer looks at and has not itself, as inputs of its graph alone."""
        keys = self._architecture.layers[index].keys
        if keys.of_layer is None:
            return []
        shape: list[int | str | None] = ["batch", keys.heads, "total", keys.size]
        self._kept[keys.of_layer] = [self._nodes.input(name, "FLOAT", shape) for name in beside.LENT]
        return self._kept[keys.of_layer]

    def mix(self, normed: Value, index: int, past: Sequence[Value]) -> tuple[Value, list[Value]]:
        """float32 [b, s, d] -> [b, s, heads * head size], and keys and values of all tokens. past: empty for none.

        A layer without keys of its own looks at those that an earlier one made here, and gives none.
        """
        architecture = self._architecture
        layer, traits = architecture.layers[index], architecture.traits
        caches = [None, None] if layer.rope is None else self._caches[layer.rope]
        rotated = traits.rotated_first and layer.rope is not None
        shared = layer.keys.of_layer is not None
        if shared:
            past = self._kept[layer.keys.of_layer]
        heads, gate = self._heads(normed, index, caches if rotated else None)
        mixed, *present = self._nodes.ops(
            "GroupQueryAttention",
            [
                *heads,
                *(past or [None, None]),
                self._lengths,
                self._total,
                *([None, None] if rotated else caches),
                *([None, None, self._nodes.constant(f"layers.{index}.sinks")] if traits.sinks else []),
            ],
            1 if shared else 3,
            domain=MICROSOFT,
            num_heads=architecture.sizes.heads,
            kv_num_heads=layer.keys.heads,
            scale=architecture.attention_scale,
            softcap=architecture.attention_softcap,
            local_window_size=layer.window or -1,
            do_rotary=int(layer.rope is not None and not rotated),
            rotary_interleaved=int(traits.neighbours_rotate),
        )
        self._kept[index] = present
        if gate is not None:
            mixed = self._nodes.op("Mul", [mixed, self._nodes.op("Sigmoid", [gate])])
        return mixed, present

    def _heads(self, normed: Value, index: int, rotated_by: list[Value] | None) -> tuple[list[Value], Value]:
        """Queries, keys and values of the new tokens, as the operator takes them: stacked, where nothing divides them.

        And what is to gate what they find, None for nothing.
        rotated_by: cosines and sines for those that are rotated here.
        """
        architecture, traits, name = self._architecture, self._architecture.traits, f"layers.{index}"
        keys = architecture.layers[index].keys
        packed = self._nodes.linear(normed, f"{name}.qkv")
        if architecture.attention_clip:
            bounds = (-architecture.attention_clip, architecture.attention_clip)
            packed = self._nodes.op("Clip", [packed, *(self._nodes.floats(bound, "bound") for bound in bounds)])
        divided = traits.head_norm or architecture.query_growth or traits.gated_attention
        if not (divided or keys.are_values or keys.of_layer is not None):
            return [packed, None, None], None
        query, *own, gate = self._divided(packed, keys)
        if rotated_by is not None:
            query, own[0] = (self._rotated(values, rotated_by) for values in (query, own[0]))
        if traits.head_norm:
            query = self._head_norm(query, f"{name}.query_norm", keys.size)
            if keys.of_layer is None:
                own[0] = self._head_norm(own[0], f"{name}.key_norm", keys.size)
        if traits.value_norm and keys.of_layer is None:
            own[1] = self._head_norm(own[1], None, keys.size)
        if architecture.query_growth:
            query = self._nodes.op("Mul", [query, self._query_growth(architecture.query_growth)])
        return [query, *own], gate

    def _divided(self, packed: Value, keys: Keys) -> list[Value]:
        """Queries, keys, values and gates, [b, s, width] each. Of no token are keys and values that a layer lacks."""
        width, queries = keys.heads * keys.size, self._architecture.sizes.heads * keys.size
        if keys.of_layer is not None:
            bounds = [[0, 0], [0, width], [1, 2]]
            return [packed, *[self._nodes.op("Slice", [packed, *map(self._nodes.integers, bounds)])] * 2, None]
        gated = self._architecture.traits.gated_attention
        widths = [queries, width, *([] if keys.are_values else [width]), *([queries] if gated else [])]
        query, key, *rest = self._nodes.split(packed, widths)
        value = key if keys.are_values else rest.pop(0)
        return [query, key, value, rest[0] if gated else None]

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

    def _head_norm(self, values: Value, name: str | None, size: int) -> Value:
        """Each head normalised by itself, or all heads of a token together. name: None for a norm without weights."""
        if name is not None and self._architecture.traits.head_norm == "row":
            return self._nodes.norm(values, name)
        heads = self._nodes.op("Reshape", [values, self._nodes.integers([0, 0, -1, size])])
        normed = self._nodes.unit_norm(heads, size) if name is None else self._nodes.norm(heads, name)
        return self._nodes.op("Reshape", [normed, self._nodes.integers([0, 0, -1])])

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
