"""A mixture of experts as nodes of a graph: the router's choice for each token, and what its experts make of it.

Shapes: b sequences of s new tokens each, d the model's width; n = b * s tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeship.builder.nodes import Nodes, Value

if TYPE_CHECKING:
    from edgeship.builder.mixture import Mixture

_NEVER = -1e9
"""The logarithm of a weight that is as good as zero."""
_ADDED = 1e-6
"""To a sum of weights that others are divided by."""


def mix(nodes: Nodes, mixture: Mixture, normed: Value, name: str) -> Value:
    """float32 [b, s, d] -> [b, s, d]. name: of the layer.

    The operator's weights add up to 1, so where a token's weights add up to something else, what comes out is
    multiplied by that.
    """
    scores = nodes.op("Reshape", [nodes.linear(normed, f"{name}.router"), nodes.integers([-1, mixture.experts])])
    total = None
    if mixture.routing == "sigmoid":
        scores, total = _by_sigmoid(nodes, mixture, scores, f"{name}.router_offset")
        if mixture.normalised:
            total = nodes.op("Div", [total, nodes.op("Add", [total, nodes.floats(_ADDED, "number")])])
    elif not mixture.normalised:
        total = _largest(nodes, mixture, nodes.op("Softmax", [scores], axis=1))
    mixed = nodes.times(nodes.experts(normed, scores, f"{name}.experts", mixture), mixture.scale)
    if total is None:
        return mixed
    shape = nodes.op("Concat", [nodes.op("Shape", [normed], end=2), nodes.integers([1])], axis=0)
    # An engine may give no token at all, and a length of zero is to be one.
    return nodes.op("Mul", [mixed, nodes.op("Reshape", [total, shape], allowzero=1)])


def _largest(nodes: Nodes, mixture: Mixture, chances: Value) -> Value:
    """The sum of each token's largest, as many as it has experts: [n, experts] -> [n, 1]."""
    values, _ = nodes.ops("TopK", [chances, nodes.integers([mixture.chosen])], 2, axis=1)
    return nodes.op("ReduceSum", [values, nodes.integers([1])], keepdims=1)


def _by_sigmoid(nodes: Nodes, mixture: Mixture, scores: Value, offset: str) -> tuple[Value, Value]:
    """Logarithms of the experts' weights, [n, experts], and the sum of each token's weights, [n, 1].

    The operator knows softmax alone, and softmax of logarithms is the weights divided by their sum. Experts are chosen
    by their sigmoid and an offset, which their weights are without.
    """
    chances = nodes.op("Sigmoid", [scores])
    ranks = nodes.op("Add", [chances, nodes.constant(offset)]) if nodes.has(offset) else chances
    _, chosen = nodes.ops("TopK", [ranks, nodes.integers([mixture.chosen])], 2, axis=1)
    own = nodes.op("GatherElements", [scores, chosen], axis=1)
    logarithms = nodes.op("Neg", [nodes.op("Softplus", [nodes.op("Neg", [own])])])
    never = nodes.op("Expand", [nodes.floats(_NEVER, "number"), nodes.op("Shape", [scores])])
    total = nodes.op("ReduceSum", [nodes.op("Sigmoid", [own]), nodes.integers([1])], keepdims=1)
    return nodes.op("ScatterElements", [never, chosen, logarithms], axis=1), total
