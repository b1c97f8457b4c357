"""What an MLP makes of each number between its matrices."""

from __future__ import annotations

from edgeship.builder.nodes import MICROSOFT, Nodes, Value


def activated(nodes: Nodes, kind: str, values: Value) -> Value:
    """One of those in `architecture.ACTIVATIONS`, of float32 [...]."""
    if kind == "silu":
        return nodes.op("QuickGelu", [values], domain=MICROSOFT, alpha=1.0)
    if kind == "relu2":
        positive = nodes.op("Relu", [values])
        return nodes.op("Mul", [positive, positive])
    return nodes.op("Gelu", [values], approximate="tanh" if kind == "gelu_tanh" else "none")
