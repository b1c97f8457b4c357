"""The gated delta rule as nodes of a graph: a state for each head, which every new token corrects a little.

Shapes: b sequences of s new tokens each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeship.builder.nodes import MICROSOFT, Nodes, Value

if TYPE_CHECKING:
    from edgeship.builder.recurrence import GatedDelta

_LENGTH_EPSILON = 1e-6
"""Added to the squared length of queries and keys before they are divided by it."""


def mix(nodes: Nodes, sizes: GatedDelta, normed: Value, name: str, past: Sequence[Value]) -> tuple[Value, list[Value]]:
    """float32 [b, s, d] -> [b, s, value heads * value size], and the states after the last token.

    name: of the layer. past: the states before the first token, none where nothing is before it.
    """
    conv, state = past or (None, None)
    keys, values = sizes.key_heads * sizes.key_size, sizes.value_heads * sizes.value_size
    packed, gate = nodes.split(nodes.linear(normed, f"{name}.inputs"), [sizes.channels, values])
    mixed, conv_after = nodes.convolved(packed, f"{name}.convolution", conv, activation="silu")
    query, key, value = nodes.split(mixed, [keys, keys, values])
    decay_input, update = nodes.split(nodes.linear(normed, f"{name}.rates"), 2 * [sizes.value_heads])
    rate = nodes.op("Neg", [nodes.op("Exp", [nodes.constant(f"{name}.decay")])])
    decay, update = nodes.ops(
        "LinearAttentionGate",
        [decay_input, nodes.constant(f"{name}.decay_bias"), rate, update],
        2,
        domain=MICROSOFT,
    )
    found, state_after = nodes.ops(
        "LinearAttention",
        [
            _of_length_1(nodes, query, sizes.key_size),
            _of_length_1(nodes, key, sizes.key_size),
            value,
            state,
            decay,
            update,
        ],
        2,
        domain=MICROSOFT,
        q_num_heads=sizes.key_heads,
        kv_num_heads=sizes.value_heads,
        update_rule="gated_delta",
        scale=sizes.key_size**-0.5,
    )
    normed = nodes.op(
        "GatedRMSNorm",
        [found, nodes.constant(f"{name}.gated_norm"), gate],
        domain=MICROSOFT,
        epsilon=nodes.norm_epsilon,
        activation="silu",
    )
    return normed, [conv_after, state_after]


def _of_length_1(nodes: Nodes, values: Value, size: int) -> Value:
    """Each head of [b, s, heads * size] divided by its length: what a norm makes, over the root of the size."""
    heads = nodes.op("Reshape", [values, nodes.integers([0, 0, -1, size])])
    normed = nodes.unit_norm(heads, size, weight=size**-0.5, epsilon=_LENGTH_EPSILON / size)
    return nodes.op("Reshape", [normed, nodes.integers([0, 0, -1])])
