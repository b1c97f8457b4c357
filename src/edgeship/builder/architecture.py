"""What config.json and the table of families say of a model, as one `Architecture` that a graph is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeship.builder.rope import Rope, make_rope
from edgeship.checkpoint.dimensions import Dimensions, read_dimensions
from edgeship.checkpoint.families import FAMILIES, STREAMED, Traits
from edgeship.errors import ArchitectureUnknown, CheckpointInvalid

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint

ROTATED_PAIRS = 8
"""ONNX Runtime's attention rotates elements of a head in groups of so many pairs."""
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_SWITCHED_OFF_BY_NULL = ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping")


@dataclass(frozen=True)
class Layer:
    """rope: index into the architecture's, None where a layer knows no positions. window: tokens seen, None for all."""

    rope: int | None
    window: int | None


@dataclass(frozen=True)
class Architecture:
    """Everything that a graph is made from but the weights.

    attention_softcap, logit_softcap: 0 for none. logit_scale: logits are multiplied by it.
    """

    traits: Traits
    sizes: Dimensions
    tied: bool
    norm_epsilon: float
    activation: str
    attention_scale: float
    attention_softcap: float
    logit_softcap: float
    logit_scale: float
    embedding_scale: float
    residual_scale: float
    ropes: tuple[Rope, ...]
    layers: tuple[Layer, ...]


def read_architecture(checkpoint: Checkpoint, *, tied: bool | None = None) -> Architecture:
    """The architecture that a checkpoint's config.json describes. `tied`: where an adapter changed that.

    Raises ArchitectureUnknown for a family that is not in the table, CheckpointInvalid naming the field for a rope type
    or an activation that cannot be converted.
    """
    where = str(checkpoint.folder / "config.json")
    family = FAMILIES.get(checkpoint.architecture)
    if family is None or family.traits is None:
        raise ArchitectureUnknown(
            f"the streaming builder does not know the architecture {checkpoint.architecture}",
            where=where,
            hint=f"Known: {', '.join(STREAMED)}.",
        )
    traits = family.traits
    config: Mapping[str, Any] = {**traits.defaults, **_stated(checkpoint.config)}
    # An adapter may have brought more rows for the vocabulary than config.json says.
    sizes = replace(read_dimensions(checkpoint.config, where), vocab_size=checkpoint.vocab_size)
    ropes, layers = _positions(traits, config, sizes, where)
    return Architecture(
        traits=traits,
        sizes=sizes,
        tied=checkpoint.tied_embeddings if tied is None else tied,
        norm_epsilon=float(config.get("rms_norm_eps", 1e-6)),
        activation=_activation(config, where),
        attention_scale=_attention_scale(traits, config, sizes),
        attention_softcap=float(config.get("attn_logit_softcapping") or 0.0) if traits.capped_attention else 0.0,
        logit_softcap=float(config.get("final_logit_softcapping") or 0.0),
        logit_scale=1.0 / float(config.get("logits_scaling") or 1.0),
        embedding_scale=math.sqrt(sizes.hidden_size)
        if traits.scaled_embedding
        else float(config.get("embedding_multiplier") or 1.0),
        residual_scale=float(config.get("residual_multiplier") or 1.0),
        ropes=ropes,
        layers=layers,
    )


def _stated(config: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says. A null is silence, but for what it switches off."""
    return {key: value for key, value in config.items() if value is not None or key in _SWITCHED_OFF_BY_NULL}


def _activation(config: Mapping[str, Any], where: str) -> str:
    name = config.get("hidden_activation") or config.get("hidden_act") or "silu"
    if name not in ACTIVATIONS:
        raise CheckpointInvalid(
            f"hidden_act is {name!r}, which cannot be converted", where=where, hint=f"Known: {', '.join(ACTIVATIONS)}."
        )
    return ACTIVATIONS[name]


def _attention_scale(traits: Traits, config: Mapping[str, Any], sizes: Dimensions) -> float:
    if traits.query_scalar:
        return 1.0 / math.sqrt(config["query_pre_attn_scalar"])
    return float(config.get("attention_multiplier") or sizes.head_size**-0.5)


def _positions(
    traits: Traits, config: Mapping[str, Any], sizes: Dimensions, where: str
) -> tuple[tuple[Rope, ...], tuple[Layer, ...]]:
    """The rotary embeddings, and what each layer uses of them and sees."""
    if config.get("use_bidirectional_attention"):
        raise CheckpointInvalid("use_bidirectional_attention is true, which cannot be converted", where=where)
    sliding = _sliding(traits, config, sizes.layers)
    window = config.get("sliding_window")
    rotates = _rotates(config, sizes.layers)
    kinds = ["full_attention"]
    if traits.local_theta is not None:
        kinds.append("sliding_attention")
    ropes = tuple(
        make_rope(_rope_parameters(traits, config, kind, sizes), sizes.head_size, sizes.context_tokens, where)
        for kind in kinds
    )
    for rope in ropes:
        if len(rope.frequencies) % ROTATED_PAIRS:
            raise CheckpointInvalid(
                f"{2 * len(rope.frequencies)} elements of each head of {sizes.head_size} rotate, "
                f"and ONNX Runtime rotates multiples of {2 * ROTATED_PAIRS} only",
                where=where,
                hint="Add --builder genai.",
            )
    layers = tuple(
        Layer(
            rope=(1 if slides and len(ropes) > 1 else 0) if rotates[index] else None,
            # A window as wide as the context hides nothing.
            window=window if slides and isinstance(window, int) and window < sizes.context_tokens else None,
        )
        for index, slides in enumerate(sliding)
    )
    return ropes, layers


def _sliding(traits: Traits, config: Mapping[str, Any], layers: int) -> list[bool]:
    if traits.windows == "never" or config.get("sliding_window") is None:
        return [False] * layers
    if traits.windows == "all layers":
        return [True] * layers
    if not config.get("use_sliding_window"):
        return [False] * layers
    types, pattern = config.get("layer_types"), config.get("sliding_window_pattern")
    if isinstance(types, list):
        return [kind == "sliding_attention" for kind in types]
    if isinstance(pattern, int):
        return [(index + 1) % pattern != 0 for index in range(layers)]
    if "no_rope_layer_interval" in config:
        return [not rotates for rotates in _rotates(config, layers)]
    return [index >= config["max_window_layers"] for index in range(layers)]


def _rotates(config: Mapping[str, Any], layers: int) -> list[bool]:
    """SmolLM3 leaves positions out of some layers; its list has a 1 for each layer that has them."""
    stated, interval = config.get("no_rope_layers"), config.get("no_rope_layer_interval")
    if isinstance(stated, list) and len(stated) >= layers:
        return [bool(flag) for flag in stated[:layers]]
    return [not interval or (index + 1) % interval != 0 for index in range(layers)]


def _rope_parameters(traits: Traits, config: Mapping[str, Any], kind: str, sizes: Dimensions) -> dict[str, Any]:
    """One flat dictionary out of the places where configs of different ages keep these fields."""
    stated = config.get("rope_parameters") or {}
    local = kind == "sliding_attention"
    if isinstance(stated.get(kind), dict):
        stated = stated[kind]
    elif local:
        stated = {}
    scaling = {} if local else config.get("rope_scaling") or {}
    theta = config.get("rope_local_base_freq", traits.local_theta) if local else config.get("rope_theta", 10_000.0)
    outer = {"rope_theta": theta, "original_max_position_embeddings": sizes.context_tokens}
    parameters: dict[str, Any] = {**outer, **scaling, **stated}
    for name in ("partial_rotary_factor", "original_max_position_embeddings"):
        if config.get(name) is not None:
            parameters[name] = config[name]
    # Early Phi-3 called it by other names.
    if traits.fused and parameters.get("rope_type", parameters.get("type")) in ("su", "yarn"):
        parameters["rope_type"] = "longrope"
    return parameters
