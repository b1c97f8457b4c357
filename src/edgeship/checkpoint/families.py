"""The families of models that can be built, one row each: what they are called, who builds them, and what is special.

Whatever config.json or the weights themselves tell is not in it: a layer has a bias where the checkpoint stores one.
"""

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
    centred_norms: they take the mean out, and add a bias where one is stored.
    norm_offset: added to every norm's stored weight.
    head_norm: queries and keys are normalised, each "head" by itself or the whole "row".
    fused: which matrices are stored as one: "attention" queries, keys and values, "mlp" gate and up.
    names: modules of a layer that the family calls otherwise than most do, by our names for them; see `USUAL_NAMES`.
    parallel: the MLP reads what the attention reads, and both are added at once.
    gated: the MLP has a gate beside what goes up.
    windows: which layers can have a sliding window.
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
    defaults: what transformers assumes where config.json is silent.
    """

    genai_type: str
    norms: Norms = "before"
    centred_norms: bool = False
    norm_offset: float = 0.0
    head_norm: Literal["head", "row"] | None = None
    fused: frozenset[Literal["attention", "mlp"]] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)
    parallel: bool = False
    gated: bool = True
    windows: Windows = "never"
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
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """A row of the table.

    title: as people call it. model_type: as config.json does. text_types: what it is called as the text part of a model
    that sees or hears as well.
    uniform: all its layers hold the same tensors, in the shapes that dimensions.py knows.
    genai: onnxruntime-genai's builder makes the right thing of it. olive: Olive does, which runs an older one.
    traits: None where the streaming builder cannot make it.
    """

    title: str
    model_type: str
    uniform: bool = True
    genai: bool = True
    olive: bool = True
    traits: Traits | None = None
    text_types: tuple[str, ...] = ()


_ALL_FUSED: frozenset[Literal["attention", "mlp"]] = frozenset({"attention", "mlp"})
_QWEN_WINDOWS = {"sliding_window": 4096, "max_window_layers": 28}
_WINDOWS_ON = {"use_sliding_window": True}
_GLM = {"rms_norm_eps": 1.5625e-7, "partial_rotary_factor": 0.5, "num_key_value_heads": 2, "head_dim": 128}
_LIKE_GLM: Any = {"fused": frozenset({"mlp"}), "partly_rotated": True, "neighbours_rotate": True}
_GEMMA = {
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "use_sliding_window": True,
}
_GEMMA4 = {
    "hidden_activation": "gelu_pytorch_tanh",
    "attention_multiplier": 1.0,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "global_head_dim": 512,
    "hidden_size_per_layer_input": 256,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    **_WINDOWS_ON,
    "rope_parameters": {
        "full_attention": {"rope_type": "proportional", "rope_theta": 1_000_000.0, "partial_rotary_factor": 0.25},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    },
}

_MAMBA = {"mamba_n_heads": 128, "mamba_n_groups": 1, "mamba_d_conv": 4, "mamba_expand": 2}
_LFM2_NAMES = {
    "attention_norm": "operator_norm",
    "query_norm": "self_attn.q_layernorm",
    "key_norm": "self_attn.k_layernorm",
    "output": "self_attn.out_proj",
    "mlp_norm": "ffn_norm",
    "gate": "feed_forward.w1",
    "up": "feed_forward.w3",
    "down": "feed_forward.w2",
    "last_norm": "embedding_norm",
}
_LFM2 = {"rms_norm_eps": 1e-5, "rope_theta": 1_000_000.0, "num_key_value_heads": 8, "conv_L_cache": 3}

# What `genai` and `olive` say was found with a small random model of each family, built in FP32 and INT4: by builder
# 0.18 with transformers 5.23, and in Olive's environment. For Gemma 3 (nested rope_parameters), GPT-OSS and the Granite
# hybrids the builder has code that fails; what it makes of OLMo 1 is off by 3 to 9 % of the logits' range. Phi and
# Nemotron are off by up to 1 %, which `ship` measures and judges. Olive's older builder is off for those three by 0.4
# to 4 % even in FP32, and agrees to seven digits for the others.
FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": Family("Llama and SmolLM 2", "llama", traits=Traits("llama")),
    "MistralForCausalLM": Family(
        "Mistral", "mistral", traits=Traits("mistral", windows="all layers", defaults={"sliding_window": 4096})
    ),
    "Qwen2ForCausalLM": Family(
        "Qwen 2",
        "qwen2",
        traits=Traits("qwen2", windows="by layer", defaults=_QWEN_WINDOWS),
        text_types=("qwen2_vl_text", "qwen2_5_vl_text"),
    ),
    "Qwen3ForCausalLM": Family(
        "Qwen 3",
        "qwen3",
        traits=Traits("qwen3", windows="by layer", head_norm="head", defaults=_QWEN_WINDOWS),
        text_types=("qwen3_vl_text",),
    ),
    "Qwen3MoeForCausalLM": Family(
        "Qwen 3 MoE",
        "qwen3_moe",
        uniform=False,
        genai=False,
        olive=False,
        traits=Traits(
            "qwen3",
            windows="all layers",
            head_norm="head",
            routing="softmax",
            defaults={
                "num_experts": 128,
                "num_experts_per_tok": 8,
                "num_key_value_heads": 4,
                "sliding_window": 4096,
                "use_sliding_window": False,
            },
        ),
    ),
    "MixtralForCausalLM": Family(
        "Mixtral",
        "mixtral",
        uniform=False,
        genai=False,
        olive=False,
        traits=Traits(
            "mistral",
            windows="all layers",
            routing="softmax",
            names={
                "router": "block_sparse_moe.gate",
                "experts": "block_sparse_moe.experts",
                "expert_gate": "w1",
                "expert_up": "w3",
                "expert_down": "w2",
            },
            defaults={
                "rms_norm_eps": 1e-5,
                "rope_theta": 1_000_000.0,
                "num_key_value_heads": 8,
                "num_local_experts": 8,
                "num_experts_per_tok": 2,
                "norm_topk_prob": True,
            },
        ),
    ),
    "OlmoeForCausalLM": Family(
        "OLMoE",
        "olmoe",
        uniform=False,
        genai=False,
        olive=False,
        traits=Traits(
            "olmo",
            head_norm="row",
            routing="softmax",
            defaults={"rms_norm_eps": 1e-5, "num_experts": 64, "num_experts_per_tok": 8},
        ),
    ),
    "Phi3ForCausalLM": Family(
        "Phi-3 and Phi-4-mini",
        "phi3",
        traits=Traits(
            "phi3", fused=_ALL_FUSED, windows="all layers", partly_rotated=True, defaults={"rms_norm_eps": 1e-5}
        ),
    ),
    "Gemma2ForCausalLM": Family(
        "Gemma 2",
        "gemma2",
        traits=Traits(
            "gemma2",
            norms="around",
            norm_offset=1.0,
            windows="by layer",
            scaled_embedding=True,
            query_scalar=True,
            capped_attention=True,
            defaults=_GEMMA
            | {"sliding_window_pattern": 2, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0},
        ),
    ),
    "Gemma3ForCausalLM": Family(
        "Gemma 3",
        "gemma3_text",
        genai=False,
        olive=False,
        traits=Traits(
            "gemma3_text",
            norms="around",
            norm_offset=1.0,
            head_norm="head",
            windows="by layer",
            scaled_embedding=True,
            query_scalar=True,
            local_rope=True,
            local_theta=10_000.0,
            defaults=_GEMMA | {"sliding_window_pattern": 6, "rope_theta": 1_000_000.0},
        ),
    ),
    "Gemma4ForCausalLM": Family(
        "Gemma 4",
        "gemma4_text",
        uniform=False,
        genai=False,
        olive=False,
        traits=Traits(
            "gemma4_text",
            norms="around",
            head_norm="head",
            value_norm=True,
            windows="by layer",
            scaled_embedding=True,
            local_rope=True,
            local_theta=10_000.0,
            defaults=_GEMMA4,
        ),
    ),
    "SmolLM3ForCausalLM": Family(
        "SmolLM 3",
        "smollm3",
        traits=Traits("smollm3", windows="by layer", defaults={"rope_theta": 2_000_000.0, "no_rope_layer_interval": 4}),
    ),
    "GraniteForCausalLM": Family(
        "Granite 3", "granite", traits=Traits("granite", defaults={"attention_multiplier": 1.0})
    ),
    "Olmo2ForCausalLM": Family(
        "OLMo 2",
        "olmo2",
        genai=False,
        olive=False,
        traits=Traits("olmo", norms="after", head_norm="row", defaults={"rms_norm_eps": 1e-5}),
    ),
    "Olmo3ForCausalLM": Family(
        "OLMo 3",
        "olmo3",
        genai=False,
        olive=False,
        traits=Traits(
            "olmo",
            norms="after",
            head_norm="row",
            windows="by layer",
            local_rope=True,
            defaults={
                "rope_theta": 500_000.0,
                "rms_norm_eps": 1e-5,
                "sliding_window": 4096,
                "sliding_window_pattern": 4,
                **_WINDOWS_ON,
            },
        ),
    ),
    "GemmaForCausalLM": Family(
        "Gemma",
        "gemma",
        traits=Traits(
            "gemma",
            norm_offset=1.0,
            scaled_embedding=True,
            gelu_is_tanh=True,
            defaults={"hidden_act": "gelu_pytorch_tanh", "num_key_value_heads": 16, "head_dim": 256},
        ),
    ),
    "SeedOssForCausalLM": Family(
        "Seed-OSS",
        "seed_oss",
        genai=False,
        olive=False,
        traits=Traits("llama", defaults={"num_key_value_heads": 8, "head_dim": 128}),
    ),
    "ArceeForCausalLM": Family(
        "Arcee",
        "arcee",
        genai=False,
        olive=False,
        traits=Traits("llama", gated=False, defaults={"hidden_act": "relu2", "rms_norm_eps": 1e-5}),
    ),
    "Exaone4ForCausalLM": Family(
        "EXAONE 4",
        "exaone4",
        genai=False,
        olive=False,
        traits=Traits(
            "llama",
            norms="after",
            head_norm="head",
            windows="by layer",
            window_rotates=True,
            defaults={"rms_norm_eps": 1e-5, "sliding_window": 4096, "sliding_window_pattern": 4, **_WINDOWS_ON},
        ),
    ),
    "GlmForCausalLM": Family(
        "GLM", "glm", genai=False, olive=False, traits=Traits("llama", defaults=_GLM, **_LIKE_GLM)
    ),
    "Glm4ForCausalLM": Family(
        "GLM-4",
        "glm4",
        genai=False,
        olive=False,
        traits=Traits(
            "llama",
            norms="around",
            names={
                "attention_post_norm": "post_self_attn_layernorm",
                "mlp_norm": "post_attention_layernorm",
                "mlp_post_norm": "post_mlp_layernorm",
            },
            defaults=_GLM,
            **_LIKE_GLM,
        ),
    ),
    "GraniteMoeHybridForCausalLM": Family(
        "Granite 4",
        "granitemoehybrid",
        uniform=False,
        genai=False,
        olive=False,
        traits=Traits(
            "granite",
            fused=frozenset({"mlp"}),
            names={
                "gate_up": "shared_mlp.input_linear",
                "down": "shared_mlp.output_linear",
                "router": "block_sparse_moe.router.layer",
                "experts_gate_up": "block_sparse_moe.input_linear.weight",
                "experts_down": "block_sparse_moe.output_linear.weight",
            },
            recurrence="mamba",
            routing="softmax",
            mlp_beside=True,
            defaults={
                "attention_multiplier": 1.0,
                "position_embedding_type": "nope",
                "mamba_d_state": 256,
                "num_local_experts": 8,
                "num_experts_per_tok": 2,
                "norm_topk_prob": True,
                **_MAMBA,
            },
        ),
    ),
    "FalconH1ForCausalLM": Family(
        "Falcon-H1",
        "falcon_h1",
        uniform=False,
        genai=False,
        olive=False,
        traits=Traits(
            "llama",
            names={
                "mlp_norm": "pre_ff_layernorm",
                "gate": "feed_forward.gate_proj",
                "up": "feed_forward.up_proj",
                "down": "feed_forward.down_proj",
                "last_norm": "final_layernorm",
            },
            recurrence="mamba",
            recurs_beside=True,
            defaults={
                "rms_norm_eps": 1e-5,
                "num_key_value_heads": 8,
                "mamba_d_ssm": 1024,
                "mamba_d_state": 256,
                "mamba_norm_before_gate": True,
                "mamba_rms_norm": False,
                **_MAMBA,
            },
        ),
    ),
    "Ernie4_5ForCausalLM": Family(
        "ERNIE 4.5",
        "ernie4_5",
        uniform=False,
        traits=Traits(
            "ernie4_5",
            neighbours_rotate=True,
            defaults={
                "rms_norm_eps": 1e-5,
                "rope_theta": 500_000.0,
                "num_key_value_heads": 2,
                "head_dim": 128,
            },
        ),
    ),
    "HunYuanDenseV1ForCausalLM": Family(
        "Hunyuan",
        "hunyuan_v1_dense",
        uniform=False,
        traits=Traits(
            "llama",  # onnxruntime-genai 0.18 builds the family, and does not run it under its own name
            head_norm="head",
            rotated_first=True,
            names={"query_norm": "self_attn.query_layernorm", "key_norm": "self_attn.key_layernorm"},
            defaults={"rms_norm_eps": 1e-5},
        ),
    ),
    "Ministral3ForCausalLM": Family(
        "Ministral 3",
        "ministral3",
        genai=False,
        olive=False,
        traits=Traits(
            "mistral", windows="all layers", defaults={"rms_norm_eps": 1e-5, "num_key_value_heads": 8, "head_dim": 128}
        ),
    ),
    "Qwen3_5ForCausalLM": Family(
        "Qwen 3.5",
        "qwen3_5_text",
        uniform=False,
        genai=False,
        olive=False,
        traits=Traits(
            "qwen3_5_text",
            norm_offset=1.0,
            head_norm="head",
            partly_rotated=True,
            gated_attention=True,
            recurrence="gated_delta",
            defaults={
                "partial_rotary_factor": 0.25,
                "head_dim": 256,
                "num_key_value_heads": 4,
                "full_attention_interval": 4,
                "linear_conv_kernel_dim": 4,
                "linear_key_head_dim": 128,
                "linear_value_head_dim": 128,
                "linear_num_key_heads": 16,
                "linear_num_value_heads": 32,
            },
        ),
    ),
    "Lfm2ForCausalLM": Family(
        "LFM2",
        "lfm2",
        uniform=False,
        traits=Traits("lfm2", head_norm="head", recurrence="short_convolution", names=_LFM2_NAMES, defaults=_LFM2),
    ),
    "Lfm2MoeForCausalLM": Family(
        "LFM2 MoE",
        "lfm2_moe",
        uniform=False,
        olive=False,
        traits=Traits(
            "lfm2",
            head_norm="head",
            recurrence="short_convolution",
            routing="sigmoid",
            names={
                **_LFM2_NAMES,
                "router": "feed_forward.gate",
                "router_offset": "feed_forward.expert_bias",
                "experts": "feed_forward.experts",
                "expert_gate": "w1",
                "expert_up": "w3",
                "expert_down": "w2",
                "experts_gate_up": "feed_forward.experts.gate_up_proj",
                "experts_down": "feed_forward.experts.down_proj",
            },
            defaults={
                "num_experts": 32,
                "num_experts_per_tok": 4,
                "num_dense_layers": 2,
                "norm_topk_prob": True,
                **_LFM2,
            },
        ),
    ),
    "GptOssForCausalLM": Family(
        "GPT-OSS",
        "gpt_oss",
        uniform=False,
        genai=False,
        olive=False,
        traits=Traits(
            "gptoss",
            windows="by layer",
            sinks=True,
            routing="softmax",
            turned_experts=True,
            up_offset=1.0,
            names={"router": "mlp.router"},
            defaults={
                "rms_norm_eps": 1e-5,
                "rope_theta": 150_000.0,
                "num_key_value_heads": 8,
                "head_dim": 64,
                "sliding_window": 128,
                "sliding_window_pattern": 2,
                **_WINDOWS_ON,
                "num_local_experts": 128,
                "num_experts_per_tok": 4,
                "norm_topk_prob": True,
                "swiglu_alpha": 1.702,
                "swiglu_limit": 7.0,
            },
        ),
    ),
    "PhiForCausalLM": Family(
        "Phi-1 and Phi-2",
        "phi",
        uniform=False,
        olive=False,
        traits=Traits(
            "phi",
            centred_norms=True,
            parallel=True,
            gated=False,
            partly_rotated=True,
            names={
                "output": "self_attn.dense",
                "up": "mlp.fc1",
                "down": "mlp.fc2",
                "last_norm": "final_layernorm",
            },
            defaults={"hidden_act": "gelu_new", "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5},
        ),
    ),
    "NemotronForCausalLM": Family(
        "Nemotron",
        "nemotron",
        uniform=False,
        olive=False,
        traits=Traits(
            "nemotron",
            centred_norms=True,
            norm_offset=1.0,
            gated=False,
            partly_rotated=True,
            defaults={"hidden_act": "relu2", "norm_eps": 1e-5, "partial_rotary_factor": 0.5},
        ),
    ),
    "ApertusForCausalLM": Family(
        "Apertus",
        "apertus",
        uniform=False,
        genai=False,
        olive=False,
        traits=Traits(
            "llama",
            head_norm="head",
            gated=False,
            names={"attention_norm": "attention_layernorm", "mlp_norm": "feedforward_layernorm"},
            defaults={
                "hidden_act": "xielu",
                "rms_norm_eps": 1e-5,
                "rope_theta": 12_000_000.0,
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "original_max_position_embeddings": 8192,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                },
            },
        ),
    ),
}
STREAMED = tuple(name for name, family in FAMILIES.items() if family.traits is not None)
BY_GENAI = tuple(name for name, family in FAMILIES.items() if family.genai)
BY_OLIVE = tuple(name for name, family in FAMILIES.items() if family.olive)
UNIFORM = frozenset(
    name for family in FAMILIES.values() if family.uniform for name in (family.model_type, *family.text_types)
)
_BY_TEXT_TYPE = {
    name: family
    for family in FAMILIES.values()
    if family.traits is not None
    for name in (family.model_type, *family.text_types)
}
# Models with vision whose older config.json has the fields of the text part beside the others, and not inside.
_UNNESTED = {"qwen2_vl": "qwen2_vl_text", "qwen2_5_vl": "qwen2_5_vl_text"}


def find_family(config: Mapping[str, Any]) -> Family | None:
    """The family of what config.json describes, or of its text part; None where none is known."""
    family = FAMILIES.get(config["architectures"][0])
    return family or _BY_TEXT_TYPE.get(_text_type(config) or "")


def is_wrapped(config: Mapping[str, Any]) -> bool:
    """Whether the text model is a part of one that sees or hears as well."""
    return config["architectures"][0] not in FAMILIES and find_family(config) is not None


def _text_type(config: Mapping[str, Any]) -> str | None:
    nested = config.get("text_config")
    stated = nested.get("model_type") if isinstance(nested, dict) and nested else _UNNESTED.get(config["model_type"])
    return stated if isinstance(stated, str) else None
