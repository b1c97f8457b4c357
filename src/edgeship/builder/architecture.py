"""What config.json and the table of families say of a model, as one `Architecture` that a graph is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeship.builder import recurrence
from edgeship.builder.layer_keys import Keys, read_keys
from edgeship.builder.mixture import COUNTS, Mixture, mixed_layers, read_mixture
from edgeship.builder.recurrence import Recurrence
from edgeship.builder.rope import Rope, make_rope
from edgeship.checkpoint.contradictions import LAYER_TYPES, rope_part, rope_type, window_pattern
from edgeship.checkpoint.dimensions import Dimensions, config_fields, read_dimensions, text_part
from edgeship.checkpoint.families import FAMILIES, find_family
from edgeship.checkpoint.traits import Traits
from edgeship.errors import ArchitectureUnknown
from edgeship.system.fields import Fields, shown

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint

ROTATED_PAIRS = 8
"""ONNX Runtime's attention rotates elements of a head in groups of so many pairs."""
_NOT_BUILT = ("chunked_attention", "conv", "linear_attention", "mamba", "recurrent")
"""Kinds of layers that transformers knows, and that are made in families alone whose recurrence they are."""
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu2": "relu2",
    "xielu": "xielu",
}
# Fields that only some families look at; a family that goes by such a rule has a default for it.
_RULES = {
    "sliding_window_pattern": ("sliding_window_pattern",),
    "max_window_layers": ("max_window_layers",),
    "no_rope_layer_interval": ("no_rope_layer_interval", "no_rope_layers"),
    "global_head_dim": (
        "attention_k_eq_v",
        "global_head_dim",
        "num_global_key_value_heads",
        "num_kv_shared_layers",
        "per_layer_config",
    ),
    "hidden_size_per_layer_input": ("hidden_size_per_layer_input",),
    "layer_norm_eps": ("layer_norm_eps",),
    "norm_eps": ("norm_eps",),
    "hidden_activation": ("hidden_activation",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "attention_multiplier": ("attention_multiplier",),
    "embedding_multiplier": ("embedding_multiplier",),
    "residual_multiplier": ("logits_scaling", "residual_multiplier"),
    "lm_head_multiplier": (
        "attention_in_multiplier",
        "attention_out_multiplier",
        "key_multiplier",
        "lm_head_multiplier",
        "mlp_multipliers",
        "ssm_in_multiplier",
        "ssm_multipliers",
        "ssm_out_multiplier",
    ),
    "mamba_rms_norm": ("mamba_d_ssm", "mamba_norm_before_gate", "mamba_rms_norm"),
    "norm_topk_prob": ("norm_topk_prob",),
    "routed_scaling_factor": ("routed_scaling_factor",),
    "decoder_sparse_step": ("decoder_sparse_step", "mlp_only_layers"),
    "num_dense_layers": ("num_dense_layers",),
    "swiglu_limit": ("swiglu_alpha", "swiglu_limit"),
}
_SWITCHED_OFF_BY_NULL = ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping", "mamba_d_ssm")


@dataclass(frozen=True)
class Layer:
    """rope: index into the architecture's, None where a layer knows no positions. window: tokens seen, None for all.

    attends: keeps keys and values of each token. recurs: keeps a state, as the architecture's recurrence says.
    mixed: has experts, as the architecture's mixture says.
    """

    rope: int | None
    window: int | None
    keys: Keys
    attends: bool = True
    recurs: bool = False
    mixed: bool = False


@dataclass(frozen=True)
class QueryGrowth:
    """Queries at position p are multiplied by 1 + rate * log(1 + floor(p / tokens)), as Llama 4's are."""

    rate: float
    tokens: float


@dataclass(frozen=True)
class Factors:
    """What some models multiply by: what goes into attention, recurrence and the gate, and what comes out of a part."""

    attention_in: float = 1.0
    attention_out: float = 1.0
    recurrence_in: float = 1.0
    recurrence_out: float = 1.0
    gate: float = 1.0
    down: float = 1.0


@dataclass(frozen=True)
class Architecture:
    """Everything that a graph is made from but the weights.

    attention_softcap, logit_softcap: 0 for none. logit_scale: logits are multiplied by it.
    attention_clip: the largest size of queries, keys and values; 0 for none.
    query_growth: queries grow with their position, None where they do not.
    recurrence: what layers do that do not attend; None where all attend.
    mixture: what layers have instead of an MLP, or beside one; None where none has.
    per_layer_width: of what each token brings for every layer, 0 for nothing.
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
    attention_clip: float = 0.0
    query_growth: QueryGrowth | None = None
    recurrence: Recurrence | None = None
    mixture: Mixture | None = None
    factors: Factors = Factors()
    per_layer_width: int = 0


def kept_bytes(architecture: Architecture, tokens: int) -> int:
    """Keys, values and states of one sequence of so many tokens, in FP32."""
    recurrence = architecture.recurrence
    states = sum(map(math.prod, recurrence.states.values())) if recurrence else 0
    return 4 * sum(layer.attends * layer.keys.numbers * tokens + layer.recurs * states for layer in architecture.layers)


def read_architecture(checkpoint: Checkpoint, *, tied: bool | None = None) -> Architecture:
    """The architecture that a checkpoint's config.json describes. `tied`: where an adapter changed that.

    Raises ArchitectureUnknown for a family that is not in the table, CheckpointInvalid naming the field for a rope type
    or an activation that cannot be converted.
    """
    path = checkpoint.folder / "config.json"
    family = find_family(checkpoint.config)
    if family is None:
        raise ArchitectureUnknown(
            f"the streaming builder does not know the architecture {checkpoint.architecture}",
            where=str(path),
            hint=f"Known: {', '.join(FAMILIES)}.",
        )
    traits = family.traits
    stated = text_part(config_fields(checkpoint.config, path))
    config = replace(stated, values={**traits.defaults, **_stated(stated.values, traits), **traits.fixed})
    # An adapter may have brought more rows for the vocabulary than config.json says.
    sizes = replace(read_dimensions(config_fields(checkpoint.config, path)), vocab_size=checkpoint.vocab_size)
    _refuse_unknown_parts(config, traits)
    ropes, layers = _positions(traits, config, sizes)
    return Architecture(
        traits=traits,
        sizes=sizes,
        tied=checkpoint.tied_embeddings if tied is None else tied,
        norm_epsilon=_epsilon(config),
        activation=_activation(traits, config),
        attention_scale=_attention_scale(traits, config, sizes),
        attention_softcap=(config.number("attn_logit_softcapping", above=0) or 0.0) if traits.capped_attention else 0.0,
        logit_softcap=config.number("final_logit_softcapping", above=0) or 0.0,
        logit_scale=_factor(config, "lm_head_multiplier") / _factor(config, "logits_scaling"),
        embedding_scale=math.sqrt(sizes.hidden_size)
        if traits.scaled_embedding
        else _factor(config, "embedding_multiplier"),
        residual_scale=_factor(config, "residual_multiplier"),
        ropes=ropes,
        layers=layers,
        attention_clip=config.number("clip_qkv", above=0) or 0.0,
        query_growth=_query_growth(config),
        recurrence=recurrence.read_recurrence(traits, config, sizes.hidden_size)
        if any(layer.recurs for layer in layers)
        else None,
        mixture=read_mixture(traits, config, _activation(traits, config)),
        factors=_factors(config),
        per_layer_width=config.count("hidden_size_per_layer_input", least=0) or 0,
    )


def _refuse_unknown_parts(config: Fields, traits: Traits) -> None:
    """Raises CheckpointInvalid for layers of kinds, or a mixture of experts, that no graph is made of."""
    built = () if traits.recurrence is None else recurrence.LAYER_TYPES[traits.recurrence]
    for place, kind in enumerate(config.texts("layer_types")):
        if kind in _NOT_BUILT and kind not in built:
            raise config.refuse(f"has layer_types[{place}] {shown(kind)}, a kind of layer that is not built yet")
    for name in () if traits.routing else COUNTS:
        if experts := config.count(name, least=0):
            raise config.refuse(f"has {name} {experts}, and mixtures of experts are not built for this family")
    if config.number("clip_qkv") and "clip_qkv" not in traits.defaults:
        raise config.refuse(f"has clip_qkv {shown(config.values['clip_qkv'])}, and clipping is not built")
    if config.flag("qk_layernorm"):
        raise config.refuse("has qk_layernorm true, and norms of queries and keys are not built for this family")
    if config.flag("enable_moe_block"):
        raise config.refuse("has enable_moe_block true, and mixtures of experts are not built yet")


def _query_growth(config: Fields) -> QueryGrowth | None:
    rope = rope_part(config, "full_attention")
    rate = rope.number("llama_4_scaling_beta")
    return None if not rate else QueryGrowth(rate, rope.required_number("original_max_position_embeddings", above=0))


def _stated(config: Mapping[str, Any], traits: Traits) -> dict[str, Any]:
    """What config.json says. A null is silence, but for what it switches off; so are the rules of other families."""
    of_others = {field for rule, fields in _RULES.items() if rule not in traits.defaults for field in fields}
    return {
        key: value
        for key, value in config.items()
        if key not in of_others and (value is not None or key in _SWITCHED_OFF_BY_NULL)
    }


def _activation(traits: Traits, config: Fields) -> str:
    key = "hidden_activation" if config.values.get("hidden_activation") is not None else "hidden_act"
    found = ACTIVATIONS[config.text(key, tuple(ACTIVATIONS)) or "silu"]
    return "gelu_tanh" if traits.gelu_is_tanh and found == "gelu" else found


def _factors(config: Fields) -> Factors:
    gate, down = config.required_numbers("mlp_multipliers", 2) if config.items("mlp_multipliers") else (1.0, 1.0)
    return Factors(
        attention_in=_factor(config, "attention_in_multiplier"),
        attention_out=_factor(config, "attention_out_multiplier"),
        recurrence_in=_factor(config, "ssm_in_multiplier"),
        recurrence_out=_factor(config, "ssm_out_multiplier"),
        gate=gate,
        down=down,
    )


def _epsilon(config: Fields) -> float:
    """What norms add to the mean square."""
    names = ("layer_norm_eps", "norm_eps", "rms_norm_eps")
    return next((found for name in names if (found := config.number(name, above=0))), 1e-6)


def _factor(config: Fields, key: str) -> float:
    return config.number(key, above=0) or 1.0


def _attention_scale(traits: Traits, config: Fields, sizes: Dimensions) -> float:
    if traits.query_scalar:
        return 1.0 / math.sqrt(config.required_number("query_pre_attn_scalar", above=0))
    scale = config.number("attention_multiplier", above=0) or sizes.head_size**-0.5
    return scale * _factor(config, "key_multiplier")


def _positions(traits: Traits, config: Fields, sizes: Dimensions) -> tuple[tuple[Rope, ...], tuple[Layer, ...]]:
    """The rotary embeddings, and what each layer uses of them and sees."""
    both_ways = config.values.get("use_bidirectional_attention")
    if both_ways not in (None, False, "vision"):  # "vision": among the parts of a picture
        raise config.refuse(f"has use_bidirectional_attention {shown(both_ways)}, which cannot be converted")
    sliding = _sliding(traits, config, sizes.layers)
    keys = read_keys(config, sizes, sliding)
    window = config.count("sliding_window") if any(sliding) else None
    rotates = _rotates(traits, config, sliding)
    recurs = recurrence.recurrent_layers(traits, config, sizes.layers)
    mixed = mixed_layers(traits, config, sizes.layers)
    kinds = ["full_attention"]
    if traits.local_rope:
        kinds.append("sliding_attention")
    head_sizes = [_head_size(keys, sliding, kind) or sizes.head_size for kind in kinds]
    ropes = tuple(
        make_rope(_rope_parameters(traits, config, kind, sizes), size, sizes.context_tokens)
        for kind, size in zip(kinds, head_sizes, strict=True)
    )
    for rope, size in zip(ropes, head_sizes, strict=True):
        if len(rope.frequencies) % ROTATED_PAIRS or size % (2 * ROTATED_PAIRS):
            raise config.refuse(
                f"makes {2 * len(rope.frequencies)} elements of each head of {size} rotate, and ONNX Runtime rotates "
                f"multiples of {2 * ROTATED_PAIRS} only, in heads of such a size: --builder genai may do"
            )
    layers = tuple(
        Layer(
            rope=(1 if slides and len(ropes) > 1 else 0) if rotates[index] else None,
            # A window as wide as the context hides nothing.
            window=window if slides and window is not None and window < sizes.context_tokens else None,
            keys=keys[index],
            attends=traits.recurs_beside or not recurs[index],
            recurs=recurs[index],
            mixed=mixed[index],
        )
        for index, slides in enumerate(sliding)
    )
    return ropes, layers


def _head_size(keys: Sequence[Keys], sliding: Sequence[bool], kind: str) -> int | None:
    """Of the layers of one kind; None where there are none."""
    wanted = kind == "sliding_attention"
    return next((of.size for of, slides in zip(keys, sliding, strict=True) if slides == wanted), None)


def _sliding(traits: Traits, config: Fields, layers: int) -> list[bool]:
    """Whether each layer has a window."""
    if traits.windows == "never":
        return [False] * layers
    window = config.count("sliding_window")
    if traits.windows == "all layers":
        on = config.flag("use_sliding_window") if "use_sliding_window" in traits.defaults else True
        return [bool(on) and window is not None] * layers
    types = [kind == "sliding_attention" for kind in _layer_types(config)]
    pattern, last = window_pattern(config), config.count("max_window_layers", least=0)
    if not config.flag("use_sliding_window") or window is None:
        if any(types):
            off = "sliding_window null" if window is None else "use_sliding_window false"
            raise config.refuse(f"has layer_types with sliding_attention, and {off}")
        return [False] * layers
    if types:
        return [*types[:-1], types[-1] and not traits.last_sees_all]
    if pattern is not None:
        return [(index + 1) % pattern != 0 for index in range(layers)]
    if config.count("no_rope_layer_interval") is not None:
        return [not rotates for rotates in _listed_rotates(config, layers)]
    return [index >= (layers if last is None else last) for index in range(layers)]


def _layer_types(config: Fields) -> list[str]:
    """One for each layer, or none at all."""
    types = config.texts("layer_types")
    for place, kind in enumerate(types):
        if kind not in LAYER_TYPES:
            raise config.wrong(f"layer_types[{place}]", kind, f"one of {', '.join(LAYER_TYPES)}")
    return types


def _rotates(traits: Traits, config: Fields, sliding: list[bool]) -> list[bool]:
    """Whether each layer knows positions."""
    if "position_embedding_type" in traits.defaults and config.text("position_embedding_type") != "rope":
        return [False] * len(sliding)
    if traits.window_rotates and config.values.get("sliding_window") is not None:
        return sliding
    return _listed_rotates(config, len(sliding))


def _listed_rotates(config: Fields, layers: int) -> list[bool]:
    """SmolLM3 leaves positions out of some layers; its list has a 1 for each layer that has them."""
    stated, interval = config.items("no_rope_layers"), config.count("no_rope_layer_interval")
    if stated:
        if len(stated) != layers or any(flag not in (0, 1) for flag in stated):
            raise config.wrong("no_rope_layers", stated, f"a list of {layers} numbers 0 or 1")
        return [bool(flag) for flag in stated]
    return [not interval or (index + 1) % interval != 0 for index in range(layers)]


def _rope_parameters(traits: Traits, config: Fields, kind: str, sizes: Dimensions) -> Fields:
    """One flat object out of the places where configs of different ages keep these fields."""
    stated = rope_part(config, kind)
    if not stated.values and "rope_parameters" in traits.defaults:
        raise config.missing(f"rope_parameters.{kind}", "an object")
    local = kind == "sliding_attention"
    scaling = {} if local else config.part("rope_scaling").values
    theta = config.number("rope_local_base_freq") or traits.local_theta if local else None
    theta = theta or config.number("rope_theta")
    outer = {"rope_theta": theta or 10_000.0, "original_max_position_embeddings": sizes.context_tokens}
    inside = {**scaling, **_present(stated.values)}
    parameters: dict[str, Any] = {**outer, **inside}
    for name in ("partial_rotary_factor", "original_max_position_embeddings"):
        # A family's default is among the outer ones, and counts for less than what is said inside.
        if config.values.get(name) is not None and inside.get(name) is None:
            parameters[name] = config.values[name]
    merged = Fields(parameters, config.refuse, "rope_scaling." if scaling and not stated.values else stated.name)
    part = merged.values.get("partial_rotary_factor")
    if part not in (None, 1) and not traits.partly_rotated and rope_type(merged) != "proportional":
        raise merged.wrong("partial_rotary_factor", part, "1: models of this family rotate whole heads")
    # Early Phi-3 called it by other names.
    if "attention" in traits.fused and rope_type(merged) == "yarn":
        return replace(merged, values={**parameters, "rope_type": "longrope", "type": None})
    return merged


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
