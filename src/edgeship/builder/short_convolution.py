"""A gated short convolution as nodes of a graph: each channel sees a few tokens, and gates before and after it.

Shapes: b sequences of s new tokens each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeship.builder.nodes import Nodes, Value

if TYPE_CHECKING:
    from edgeship.builder.recurrence import ShortConvolution


def mix(
    nodes: Nodes, sizes: ShortConvolution, normed: Value, name: str, past: Sequence[Value]
) -> tuple[Value, list[Value]]:
    """float32 [b, s, channels] -> the same, and the state after the last token.

    name: of the layer. past: the state before the first token, none where nothing is before it.
    """
    before, after, values = nodes.split(nodes.linear(normed, f"{name}.inputs"), 3 * [sizes.channels])
    gated = nodes.op("Mul", [before, values])
    mixed, state = nodes.convolved(gated, f"{name}.convolution", past[0] if past else None)
    return nodes.op("Mul", [after, mixed]), [state]
