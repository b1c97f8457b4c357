"""What each token brings for every layer of its own, beside the embedding that goes through all of them (Gemma 4).

Shapes: b sequences of s new tokens each; d the model's width, p that of what a token brings for one layer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgeship.builder.activation import activated
from edgeship.builder.layout import PER_LAYER
from edgeship.builder.nodes import Nodes, Value

if TYPE_CHECKING:
    from edgeship.builder.architecture import Architecture


def brought(nodes: Nodes, architecture: Architecture, tokens: Value, embedded: Value) -> list[Value]:
    """float32 [b, s, p] for each layer: of the token itself, and of its embedding [b, s, d], to equal parts."""
    layers, width = architecture.sizes.layers, architecture.per_layer_width
    of_token = nodes.times(nodes.rows(f"{PER_LAYER}embedding", tokens), math.sqrt(width))
    made = nodes.times(nodes.linear(embedded, f"{PER_LAYER}projection"), architecture.sizes.hidden_size**-0.5)
    each = nodes.op("Reshape", [made, nodes.integers([0, 0, layers, width])])
    normed = nodes.op("Reshape", [nodes.norm(each, f"{PER_LAYER}norm"), nodes.integers([0, 0, layers * width])])
    both = nodes.times(nodes.op("Add", [normed, of_token]), math.sqrt(0.5))
    return nodes.split(both, [width] * layers)


def added(nodes: Nodes, architecture: Architecture, states: Value, own: Value, layer: str) -> Value:
    """The states [b, s, d] with what the token brings for this layer."""
    gate = activated(nodes, architecture.activation, nodes.linear(states, f"{layer}.{PER_LAYER}gate"), layer)
    made = nodes.linear(nodes.op("Mul", [gate, own]), f"{layer}.{PER_LAYER}output")
    return nodes.op("Add", [states, nodes.norm(made, f"{layer}.{PER_LAYER}norm")])
