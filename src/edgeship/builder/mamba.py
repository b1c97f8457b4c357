"""Mamba-2 as nodes of a graph: each head has a state that fades, and that every new token adds to.

Shapes: b sequences of s new tokens each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeship.builder.nodes import MICROSOFT, Nodes, Value

if TYPE_CHECKING:
    from edgeship.builder.recurrence import Mamba


def mix(nodes: Nodes, sizes: Mamba, normed: Value, name: str, past: Sequence[Value]) -> tuple[Value, list[Value]]:
    """float32 [b, s, d] -> [b, s, heads * head size], and the states after the last token.

    name: of the layer. past: the states before the first token, none where nothing is before it.
    """
    conv, state = past or (None, None)
    grouped = sizes.groups * sizes.state_size
    of_gate, of_values, of_written, of_read, of_steps = sizes.factors
    gate, packed = nodes.split(nodes.linear(normed, f"{name}.inputs"), [sizes.width, sizes.channels])
    gate = nodes.times(gate, of_gate)
    if {of_values, of_written, of_read} != {1.0}:
        each = (of_values,) * sizes.width + (of_written,) * grouped + (of_read,) * grouped
        packed = nodes.op("Mul", [packed, nodes.floats(each, "mamba.factors")])
    step = nodes.times(nodes.linear(normed, f"{name}.rates"), of_steps)
    step = nodes.op("Add", [step, nodes.constant(f"{name}.step_bias")])
    step = nodes.op("Softplus", [step])
    mixed, conv_after = nodes.convolved(packed, f"{name}.convolution", conv, activation="silu")
    values, written, read = nodes.split(mixed, [sizes.width, grouped, grouped])
    heads = nodes.op("Reshape", [values, nodes.integers([0, 0, sizes.heads, sizes.head_size])])
    stepped = nodes.op("Mul", [heads, nodes.op("Unsqueeze", [step, nodes.integers([3])])])
    rate = nodes.op("Neg", [nodes.op("Exp", [nodes.constant(f"{name}.decay")])])
    found, state_after = nodes.ops(
        "LinearAttention",
        [read, written, _flat(nodes, stepped), state, nodes.op("Mul", [step, rate])],
        2,
        domain=MICROSOFT,
        q_num_heads=sizes.groups,
        kv_num_heads=sizes.heads,
        update_rule="gated",
        scale=1.0,
    )
    passed = nodes.op("Unsqueeze", [nodes.constant(f"{name}.passed"), nodes.integers([1])])
    found = nodes.op("Add", [found, _flat(nodes, nodes.op("Mul", [heads, passed]))])
    opened = nodes.op("QuickGelu", [gate], domain=MICROSOFT, alpha=1.0)
    if sizes.norm == "before":
        found = _normed(nodes, sizes, found, name)
    found = nodes.op("Mul", [found, opened])
    if sizes.norm == "after":
        found = _normed(nodes, sizes, found, name)
    return found, [conv_after, state_after]


def _normed(nodes: Nodes, sizes: Mamba, values: Value, name: str) -> Value:
    """Each group of heads normalised by itself."""
    if sizes.groups == 1:
        return nodes.norm(values, f"{name}.gated_norm")
    size = sizes.width // sizes.groups
    parts = nodes.op("Reshape", [values, nodes.integers([0, 0, sizes.groups, size])])
    even = nodes.unit_norm(parts, size)
    return nodes.op("Mul", [_flat(nodes, even), nodes.constant(f"{name}.gated_norm")])


def _flat(nodes: Nodes, heads: Value) -> Value:
    """[b, s, heads, size] -> [b, s, heads * size]."""
    return nodes.op("Reshape", [heads, nodes.integers([0, 0, -1])])
