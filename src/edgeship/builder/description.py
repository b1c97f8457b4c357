"""What layers a model has, and how many of its parameters work on each token, as far as the table of families tells."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeship.builder import stream
from edgeship.builder.architecture import read_architecture
from edgeship.builder.layout import Matrix, Vector
from edgeship.builder.listing import list_weights
from edgeship.builder.weights import open_weights
from edgeship.checkpoint.traits import RecurrenceKind
from edgeship.errors import EdgeshipError

if TYPE_CHECKING:
    from edgeship.builder.architecture import Architecture, Layer
    from edgeship.builder.mixture import Mixture
    from edgeship.checkpoint import Checkpoint

RECURRENCES: Mapping[RecurrenceKind, str] = {
    "gated_delta": "gated delta rule",
    "short_convolution": "short convolution",
    "mamba": "Mamba-2",
}
"""What people call the ways in which layers keep a state."""


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Plain values for JSON: how many layers there are of each kind; of mixtures of experts, who works on a token.

    Nothing for a checkpoint that the streaming builder cannot make.
    """
    try:
        return _described(checkpoint)
    except EdgeshipError:  # another builder may do with it, and says so otherwise
        return {}


def _described(checkpoint: Checkpoint) -> dict[str, Any]:
    stream.require_weights(checkpoint)
    weights = open_weights(checkpoint)
    architecture = read_architecture(checkpoint, tied=weights.tied)
    found: dict[str, Any] = {"layer_kinds": layer_kinds(architecture)}
    if architecture.mixture is None:
        return found
    listed = list_weights(architecture, weights.shapes, str(checkpoint.folder))
    return found | {
        "expert_layers": sum(layer.mixed for layer in architecture.layers),
        "experts": architecture.mixture.experts,
        "experts_per_token": architecture.mixture.chosen,
        "parameters_active": checkpoint.parameters - _idle(listed, architecture.mixture),
    }


def layer_kinds(architecture: Architecture) -> dict[str, int]:
    """How many layers mix tokens in each way, the most frequent first."""
    windows = any(layer.window for layer in architecture.layers)
    kinds = Counter(_kind(layer, architecture, windows=windows) for layer in architecture.layers)
    return dict(kinds.most_common())


def _kind(layer: Layer, architecture: Architecture, *, windows: bool) -> str:
    """windows: whether some layers have one, so that it is said of the others that they see everything."""
    attention = "full attention" if windows else "attention"
    if layer.window:
        attention = f"attention to the last {layer.window:,} tokens"
    if not layer.recurs or architecture.recurrence is None:
        return attention
    recurrence = RECURRENCES[architecture.recurrence.kind]
    return f"{attention} beside {recurrence}" if layer.attends else recurrence


def _idle(listed: Sequence[Matrix | Vector], mixture: Mixture) -> int:
    """Parameters of the experts that are not chosen for a token."""
    matrices = sum(each.rows * each.width for each in listed if isinstance(each, Matrix) and each.stack)
    biases = sum(
        each.size * math.prod(each.item) for each in listed if isinstance(each, Vector) and ".experts." in each.name
    )
    return (matrices + biases) * (mixture.experts - mixture.chosen) // mixture.experts
