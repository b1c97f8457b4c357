"""What an MLP makes of each number between its matrices."""

from __future__ import annotations

from edgeship.builder.layout import XIELU
from edgeship.builder.nodes import MICROSOFT, Nodes, Value


def activated(nodes: Nodes, kind: str, values: Value, layer: str) -> Value:
    """One of those in `architecture.ACTIVATIONS`, of float32 [...]. layer: whose numbers count, where it has some."""
    if kind == "silu":
        return nodes.op("QuickGelu", [values], domain=MICROSOFT, alpha=1.0)
    if kind == "relu2":
        positive = nodes.op("Relu", [values])
        return nodes.op("Mul", [positive, positive])
    if kind == "xielu":
        return _xielu(nodes, values, *(nodes.constant(f"{layer}.xielu.{part}") for part in XIELU))
    return nodes.op("Gelu", [values], approximate="tanh" if kind == "gelu_tanh" else "none")


def _xielu(nodes: Nodes, values: Value, above: Value, below: Value, slope: Value, most: Value) -> Value:
    """The integral of a linear function above zero, and of an exponential one below (Huang and Schlag 2024).

    Above: x²; below: exp(x) - 1 - x, with x at most `most` in the exponent; `slope` times x is added to both.
    """
    squares = nodes.op("Mul", [nodes.op("Softplus", [above]), nodes.op("Mul", [values, values])])
    bent = nodes.op("Sub", [nodes.op("Elu", [nodes.op("Min", [values, most])]), values])
    bent = nodes.op("Mul", [nodes.op("Add", [slope, nodes.op("Softplus", [below])]), bent])
    positive = nodes.op("Greater", [values, nodes.floats(0.0, "number")])
    curve = nodes.op("Where", [positive, squares, bent])
    return nodes.op("Add", [curve, nodes.op("Mul", [slope, values])])
