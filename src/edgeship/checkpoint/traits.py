"""What is special about a family of models: what the streaming builder must know and config.json does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Norms = Literal["before", "after", "around"]
Windows = Literal["never", "all layers", "by layer"]
RecurrenceKind = Literal["gated_delta", "short_convolution", "mamba"]
Routing = Literal["softmax", "sigmoid"]
USUAL_NAMES: Mapping[str, str] = {
    "attention_norm": "input_layernorm",
    "query_norm": "self_attn.q_norm",
    "key_norm": "self_attn.k_norm",
    "output": "self_attn.o_proj",
    "attention_post_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "gate_up": "mlp.gate_up_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "mlp_post_norm": "post_feedforward_layernorm",
    "last_norm": "norm",
    "router": "mlp.gate",
    "experts": "mlp.experts",
    "expert_gate": "gate_proj",
    "expert_up": "up_proj",
    "expert_down": "down_proj",
    "experts_gate_up": "mlp.experts.gate_up_proj",
    "experts_down": "mlp.experts.down_proj",
}
"""What most call the modules of a layer; where only inputs are normalised, `mlp_norm` is post_attention_layernorm.
`last_norm` follows the last layer. Of a mixture, `experts` holds them by number, each with `expert_gate`, `expert_up`
and `expert_down`; or all are stored in two tensors, `experts_gate_up` and `experts_down`."""


@dataclass(frozen=True)
class Traits:
    """What the streaming builder must know and config.json does not say, or says under another name.

    genai_type: what onnxruntime-genai calls the family.
    norms: of each block's input ("before"), of what it adds ("after"), or both ("around").
    centred_norms: they take the mean out, and add a bias where one is stored. unweighted_norms: they have no weights.
    norm_offset: added to every norm's stored weight.
    head_norm: queries and keys are normalised, each "head" by itself or the whole "row".
    fused: which matrices are stored as one: "attention" queries, keys and values, "mlp" gate and up.
    names: modules of a layer that the family calls otherwise than most do, by our names for them; see `USUAL_NAMES`.
    parallel: the MLP reads what the attention reads, and both are added at once.
    gated: the MLP has a gate beside what goes up.
    windows: which layers can have a sliding window. last_sees_all: not the last one, whatever the list of layers says.
    scaled_embedding: multiplied by the square root of the model's width.
    value_norm: values are normalised too, each head by itself and by no weights.
    query_scalar: the attention's scale is the inverse square root of query_pre_attn_scalar.
    capped_attention: attn_logit_softcapping has effect; Gemma 3's configs may state it, and its code leaves it out.
    partly_rotated: partial_rotary_factor has effect.
    neighbours_rotate: each two elements side by side are rotated together, not those half a head apart.
    rotated_first: queries and keys are normalised after they were rotated.
    local_rope: layers with a window rotate by frequencies of their own. local_theta: their base where nothing says it.
    gelu_is_tanh: what it calls gelu is the approximation by tanh.
    window_rotates: where some layers have a window, the others know no positions.
    gated_attention: each query head is stored with a gate after it, which what it finds is multiplied by.
    recurrence: how layers mix tokens that do not attend to all of them. recurs_beside: every layer does both.
    routing: what a router's numbers become, where layers can be mixtures of experts. mlp_beside: those have an MLP too.
    turned_experts: their matrices are stored [in, out], gate and what goes up by turns. up_offset: added to the latter.
    sinks: each head has a number that counts among what attention compares, and that nothing is found at.
    looks_between: the layers that cross_attention_layers names look at pictures, and add nothing to a text.
    beyond_vocabulary: rows of the embedding that stand for pictures, after those of all tokens that can be said.
    sense_adapters: what a model that sees or hears as well calls those of its own that it puts on for that alone.
    defaults: what transformers assumes where config.json is silent. fixed: what it does whatever config.json says.
    """

    genai_type: str
    norms: Norms = "before"
    centred_norms: bool = False
    unweighted_norms: bool = False
    norm_offset: float = 0.0
    head_norm: Literal["head", "row"] | None = None
    fused: frozenset[Literal["attention", "mlp"]] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)
    parallel: bool = False
    gated: bool = True
    windows: Windows = "never"
    last_sees_all: bool = False
    scaled_embedding: bool = False
    value_norm: bool = False
    query_scalar: bool = False
    capped_attention: bool = False
    partly_rotated: bool = False
    neighbours_rotate: bool = False
    rotated_first: bool = False
    local_rope: bool = False
    local_theta: float | None = None
    window_rotates: bool = False
    gelu_is_tanh: bool = False
    gated_attention: bool = False
    recurrence: RecurrenceKind | None = None
    recurs_beside: bool = False
    routing: Routing | None = None
    mlp_beside: bool = False
    turned_experts: bool = False
    up_offset: float = 0.0
    sinks: bool = False
    looks_between: bool = False
    beyond_vocabulary: int = 0
    sense_adapters: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """A row of the table.

    title: as people call it. model_type: as config.json does. text_types: what it is called as the text part of a model
    that sees or hears as well, each with the defaults that are others there.
    uniform: all its layers hold the same tensors, in the shapes that dimensions.py knows.
    genai: onnxruntime-genai's builder makes the right thing of it. olive: Olive does, which runs an older one.
    """

    title: str
    model_type: str
    traits: Traits
    uniform: bool = True
    genai: bool = True
    olive: bool = True
    text_types: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
