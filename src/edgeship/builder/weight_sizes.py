"""How large each weight of a decoder's graph is by config.json, to hold a checkpoint's tensors against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgeship.builder.architecture import Architecture
from edgeship.builder.layout import HEAD, PER_LAYER, XIELU, Matrix, Shapes, Vector
from edgeship.builder.recurrence import GatedDelta, Recurrence, ShortConvolution
from edgeship.errors import CheckpointInvalid

OTHER_MODEL = "config.json and the weights are of different models: take both from the same one."
Sizes = Mapping[str, tuple[int, ...]]
"""By a weight's name: [rows, width] of a matrix, and [elements] of a vector."""


def check_sizes(architecture: Architecture, weights: Iterable[Matrix | Vector], shapes: Shapes, where: str) -> None:
    """Raises CheckpointInvalid for a weight whose tensors, of `shapes`, have other sizes than config.json gives it.

    What an MLP or an expert makes inside may be as wide as the tensors make it, as long as its matrices agree. The
    matrices of the embedding and the output layer are left to checkpoint/dimensions.py.
    """
    by_name = {weight.name: weight for weight in weights}
    found = {name: _size(weight) for name, weight in by_name.items()}
    expected = _expected(architecture, found)
    for name, weight in by_name.items():
        if name not in expected:
            continue
        tensors = dict.fromkeys(part.tensor for part in weight.parts)
        nested = isinstance(weight, Vector) and not weight.item and any(len(shapes[tensor]) > 1 for tensor in tensors)
        if found[name] != expected[name] or nested:
            stored = ", ".join(f"{tensor} {list(shapes[tensor])}" for tensor in tensors)
            raise CheckpointInvalid(
                f"the weights have {stored}, but {name} is {list(expected[name])} by config.json and the other weights",
                where=where,
                hint=OTHER_MODEL,
            )


def _size(weight: Matrix | Vector) -> tuple[int, ...]:
    if isinstance(weight, Vector):
        return weight.size, *weight.item
    return weight.rows, weight.width


def _expected(architecture: Architecture, found: Sizes) -> Sizes:
    """Of every weight of which config.json says it. found: the sizes of those that the checkpoint has."""
    sizes = architecture.sizes
    expected = {"norm": (sizes.hidden_size,), **_per_layer_sizes(architecture, found)}
    for index in range(len(architecture.layers)):
        prefix = f"layers.{index}."
        of_layer = {name.removeprefix(prefix): size for name, size in found.items() if name.startswith(prefix)}
        expected |= {f"{prefix}{role}": size for role, size in _layer_sizes(architecture, index, of_layer).items()}
    # A norm's bias has its size, and a matrix's an element for each row.
    biases = {f"{name}.bias": (rows,) for name, (rows, *_) in expected.items()}
    return {**biases, f"{HEAD}.bias": (sizes.vocab_size,), **expected}


def _layer_sizes(architecture: Architecture, index: int, found: Sizes) -> dict[str, tuple[int, ...]]:
    layer, traits, hidden = architecture.layers[index], architecture.traits, architecture.sizes.hidden_size
    expected: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("attention_norm", "attention_post_norm", "mlp_norm", "mlp_post_norm"), (hidden,)),
        **_mlp_sizes(hidden, found),
        **{f"xielu.{part}": (1,) for part in XIELU},
        "scale": (1,),
    }
    if layer.attends:
        queries, keys = architecture.sizes.heads * layer.keys.size, layer.keys.heads * layer.keys.size
        own = 0 if layer.keys.of_layer is not None else keys if layer.keys.are_values else 2 * keys
        by_row = traits.head_norm == "row"
        expected |= {
            "qkv": (queries * (2 if traits.gated_attention else 1) + own, hidden),
            "query_norm": (queries if by_row else layer.keys.size,),
            "key_norm": (keys if by_row else layer.keys.size,),
            "sinks": (architecture.sizes.heads,),
            "output": (hidden, queries),
        }
    if layer.recurs and architecture.recurrence is not None:
        expected |= _recurrence_sizes(architecture.recurrence, hidden)
    if width := architecture.per_layer_width:
        expected |= {
            f"{PER_LAYER}gate": (width, hidden),
            f"{PER_LAYER}output": (hidden, width),
            f"{PER_LAYER}norm": (hidden,),
        }
    if architecture.mixture is not None:
        experts = architecture.mixture.experts
        expected |= {"router": (experts, hidden), "router_offset": (experts,)}
        for role in ("experts.gate_up", "experts.down"):
            if role in found:
                expected[f"{role}.bias"] = (experts, found[role][0] // experts)
    return expected


def _mlp_sizes(hidden: int, found: Sizes) -> dict[str, tuple[int, ...]]:
    """An MLP, as wide inside as its first matrix makes it. That of experts is held together as it is listed."""
    if "up" not in found:
        return {}
    inner = found["up"][0]
    return {"gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner)}


def _recurrence_sizes(sizes: Recurrence, hidden: int) -> dict[str, tuple[int, ...]]:
    if isinstance(sizes, ShortConvolution):
        return {
            "inputs": (3 * sizes.channels, hidden),
            "convolution": (sizes.channels, 1, sizes.taps),
            "recurrent_output": (hidden, sizes.channels),
        }
    if isinstance(sizes, GatedDelta):
        heads, width = sizes.value_heads, sizes.value_heads * sizes.value_size
        rates = {"rates": (2 * heads, hidden), "decay_bias": (heads,), "gated_norm": (sizes.value_size,)}
    else:
        heads, width = sizes.heads, sizes.width
        rates = {"rates": (heads, hidden), "step_bias": (heads,), "passed": (heads,), "gated_norm": (width,)}
    return rates | {
        "inputs": (sizes.channels + width, hidden),
        "convolution": (sizes.channels, 1, sizes.taps),
        "decay": (heads,),
        "recurrent_output": (hidden, width),
    }


def _per_layer_sizes(architecture: Architecture, found: Sizes) -> dict[str, tuple[int, ...]]:
    """Of the weights that make of a token what it brings for all layers, of every token at least."""
    width = architecture.per_layer_width
    if not width:
        return {}
    every, (tokens, *_) = width * len(architecture.layers), found[f"{PER_LAYER}embedding"]
    return {
        f"{PER_LAYER}embedding": (max(tokens, architecture.sizes.vocab_size), every),
        f"{PER_LAYER}projection": (every, architecture.sizes.hidden_size),
        f"{PER_LAYER}norm": (width,),
    }
